"""Compute losses, numbers to make small, and their gradients. One row of `LOSSES` each."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ._common import Array, Shape, lookup, require_number, unmasked
from .layers.elementwise import sigmoid


class Loss:
    """A loss: `check` targets once, then `forward` and `backward` per batch.

    Attributes
    ----------
    metric_name : str
        What `metric` measures.
    higher_is_better : bool
        Which way that metric should go.
    applies : tuple of str
        Kinds of layers that the loss applies itself: where a network ends in one, `fit` and `evaluate` give the loss
        what that layer is given. It is said of the `forward` beside it: a class with a `forward` of its own and no
        `applies` of its own takes what the network gives.
    """

    kind: ClassVar[str] = "loss"
    metric_name: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    applies: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._saved: Any = None

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return the targets of n samples in the form `forward` takes, for outputs of shape (n, *out_shape).

        Raises
        ------
        ValueError
            If they do not fit; the message says what is wrong and the cure.
        """
        return check_like_output(target, n, out_shape, dtype)

    def forward(self, scores: Array, target: Array) -> float:
        """Return the loss, averaged as the class says."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def backward(self) -> Array:
        """Return dscores, shaped like scores."""
        raise TypeError(f"{type(self).__name__} defines no backward")

    def samples(self, scores: Array, target: Array) -> Array:
        """Return the loss of each sample (N,), as if it were alone."""
        return np.array([self.forward(scores[i : i + 1], target[i : i + 1]) for i in range(len(scores))])

    def metric(self, scores: Array, target: Array) -> float:
        """Return how good the scores (N, K) are: the share of samples whose largest score is the target's."""
        labels = target if target.ndim == 1 else target.argmax(axis=1)
        return np.count_nonzero(scores.argmax(axis=1) == labels) / len(labels)


class SoftmaxCrossEntropy(Loss):
    """Mean over the batch of ``-sum_k p_k log softmax(scores)_k``.

    scores (N, K) are logits; targets are labels (N,), integers in [0, K), or probabilities (N, K) with rows of sum 1.

    Parameters
    ----------
    label_smoothing : float
        e, at least 0 and below 1: p becomes ``(1 - e) p + e / K`` (Szegedy et al. 2016).
    class_weights : array (K,), optional
        Multiplies each class's term of the sum; a batch of labels is divided by the weights of its labels instead of N
        (PyTorch's convention). `balanced_class_weights` makes them from labels.
    """

    kind = "softmax_cross_entropy"
    applies = ("softmax", "log_softmax")

    def __init__(self, *, label_smoothing: float = 0.0, class_weights: Any = None) -> None:
        super().__init__()
        self.label_smoothing = require_number(label_smoothing, "label_smoothing", 0.0, 1.0)
        self.class_weights = check_weights(class_weights, "class_weights")

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return labels (n,) as intp or probabilities (n, K)."""
        require_one_each(self.class_weights, "class_weights", out_shape)
        if np.ndim(target) == 1:
            return check_labels(target, n, out_shape)
        if np.shape(target) == (n, 1) and out_shape != (1,):
            raise ValueError(f"labels have shape ({n}, 1): give one label each, np.ravel(y)")
        p = check_like_output(target, n, out_shape, dtype)
        if p.ndim != 2 or (p < 0).any() or not np.allclose(p.sum(axis=1), 1, atol=1e-4):
            raise ValueError("targets must be integer labels (N,), or probabilities (N, K), rows >= 0 with sum 1")
        return p

    def forward(self, scores: Array, target: Array) -> float:
        return float(self.samples(scores, target).sum() / self._divisor(target))

    def samples(self, scores: Array, target: Array) -> Array:
        """Return the loss of each sample (N,), times the weights of its classes."""
        shifted = scores - scores.max(axis=1, keepdims=True)
        e = np.exp(shifted)
        total = e.sum(axis=1, keepdims=True)
        p, log_p = e / total, shifted - np.log(total)
        if target.ndim == 1 and not self.label_smoothing and self.class_weights is None:
            self._saved = (p, target, None)
            return np.asarray(-log_p[np.arange(len(scores)), target])
        wanted = self._wanted(target, scores)
        self._saved = (p, target, wanted)
        return np.asarray(-(wanted * log_p).sum(axis=1))

    def _wanted(self, target: Array, scores: Array) -> Array:
        """Return what multiplies ``-log p``, (N, K)."""
        k = scores.shape[1]
        p = np.eye(k, dtype=scores.dtype)[target] if target.ndim == 1 else target
        if self.label_smoothing:
            p = p * (1 - self.label_smoothing) + self.label_smoothing / k
        return p if self.class_weights is None else p * self.class_weights.astype(scores.dtype)

    def _divisor(self, target: Array) -> Any:
        if self.class_weights is None or target.ndim == 2:
            return len(target)
        return max(float(self.class_weights[target].sum()), np.finfo(np.float32).tiny)

    def backward(self) -> Array:
        p, target, wanted = self._saved
        if wanted is None:
            dscores: Array = p.copy()
            dscores[np.arange(len(p)), target] -= 1
        else:
            dscores = p * wanted.sum(axis=1, keepdims=True) - wanted
        dscores /= self._divisor(target)
        return dscores


class _ElementLoss(Loss):
    """The mean over batch and outputs of a loss of each output, which `_elements` returns; any shape."""

    def forward(self, scores: Array, target: Array) -> float:
        return float(np.mean(self._elements(scores, target)))

    def samples(self, scores: Array, target: Array) -> Array:
        each = self._elements(scores, target)
        return np.asarray(each.reshape(len(each), -1).mean(axis=1))

    def _elements(self, scores: Array, target: Array) -> Array:
        """Return the loss of each output, and keep what `backward` needs."""
        raise NotImplementedError


class SigmoidCrossEntropy(_ElementLoss):
    """Mean over batch and outputs of ``-t log s - (1 - t) log(1 - s)``, s = sigmoid(scores).

    scores are logits of any shape (N, ...); targets have the same shape and values in [0, 1].

    Parameters
    ----------
    class_weights : array (K,), optional
        Multiplies each output's loss (of the last axis).
    positive_weights : float or array (K,), optional
        Multiplies the first term: above 1 it makes up for rare positives.
    """

    kind = "sigmoid_cross_entropy"
    applies = ("sigmoid",)

    def __init__(self, *, class_weights: Any = None, positive_weights: Any = None) -> None:
        super().__init__()
        self.class_weights = check_weights(class_weights, "class_weights")
        self.positive_weights = check_weights(positive_weights, "positive_weights")

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return targets (n, ...) of the outputs' shape."""
        require_one_each(self.class_weights, "class_weights", out_shape)
        require_one_each(self.positive_weights, "positive_weights", out_shape)
        t = check_like_output(target, n, out_shape, dtype)
        if t.size and (t.min() < 0 or t.max() > 1):
            raise ValueError(f"targets of sigmoid cross-entropy must lie in [0, 1], got [{t.min():g}, {t.max():g}]")
        return t

    def _elements(self, scores: Array, target: Array) -> Array:
        self._saved = (scores, target)
        softplus = np.log1p(np.exp(-np.abs(scores)))  # the log(1 + exp(s)) - t s below never overflows
        if self.positive_weights is None:
            each = np.maximum(scores, 0) - scores * target + softplus
        else:
            each = (1 - target) * scores + self._pull(target) * (softplus + np.maximum(-scores, 0))
        return np.asarray(each if self.class_weights is None else each * self.class_weights.astype(scores.dtype))

    def _pull(self, target: Array) -> Array:
        """Return what multiplies ``log(1 + exp(-s))``."""
        assert self.positive_weights is not None
        return np.asarray(1 + (self.positive_weights.astype(target.dtype) - 1) * target)

    def backward(self) -> Array:
        scores, target = self._saved
        each = sigmoid(scores) - target
        if self.positive_weights is not None:
            each = (1 - target) - self._pull(target) * sigmoid(-scores)
        if self.class_weights is not None:
            each = each * self.class_weights.astype(scores.dtype)
        return np.asarray(each / scores.size)

    def metric(self, scores: Array, target: Array) -> float:
        """Return the share of outputs on the right side of 0."""
        return float(np.mean((scores > 0) == (target > 0.5)))


class _Regression(_ElementLoss):
    """A loss of numbers, with the mean absolute error as its metric."""

    metric_name = "mae"
    higher_is_better = False

    def metric(self, scores: Array, target: Array) -> float:
        """Return the mean absolute error."""
        return float(np.mean(np.abs(scores - target)))


class MeanSquaredError(_Regression):
    """Mean over batch and outputs of ``(scores - target)**2``; any shape. Its metric is the mean absolute error."""

    kind = "mse"

    def _elements(self, scores: Array, target: Array) -> Array:
        self._saved = scores - target
        return np.asarray(np.square(self._saved))

    def backward(self) -> Array:
        difference: Array = self._saved
        return np.asarray(difference * difference.dtype.type(2 / difference.size))


class Huber(_Regression):
    """Mean over batch and outputs of ``d**2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta / 2)`` (Huber 1964).

    d is scores - target, of any shape: squares near the target, and outliers pull no harder than delta. Its metric is
    the mean absolute error.

    Parameters
    ----------
    delta : float
        Where the square turns into a line.
    """

    kind = "huber"

    def __init__(self, *, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = require_number(delta, "Huber delta", open_low=True)

    def _elements(self, scores: Array, target: Array) -> Array:
        difference = scores - target
        clipped = np.clip(difference, -self.delta, self.delta)
        self._saved = clipped
        return np.asarray(clipped * (difference - clipped / 2))

    def backward(self) -> Array:
        clipped: Array = self._saved
        return np.asarray(clipped / clipped.size)


class Hinge(Loss):
    """Multiclass hinge: mean over the batch of ``sum over j != y of max(0, 1 + s_j - s_y)`` (Weston & Watkins 1999).

    scores (N, K), targets labels (N,), integers in [0, K). The gradient at a margin of exactly 1 is 0.
    """

    kind = "hinge"

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        return check_labels(target, n, out_shape)

    def forward(self, scores: Array, target: Array) -> float:
        return float(self.samples(scores, target).mean())

    def samples(self, scores: Array, target: Array) -> Array:
        rows = np.arange(len(scores))
        margins = np.maximum(0, 1 + scores - scores[rows, target][:, None])
        margins[rows, target] = 0
        self._saved = (margins, target)
        return np.asarray(margins.sum(axis=1))

    def backward(self) -> Array:
        margins, target = self._saved
        dscores: Array = (margins > 0).astype(margins.dtype)
        dscores[np.arange(len(margins)), target] = -dscores.sum(axis=1)
        dscores /= len(margins)
        return dscores


LOSSES: dict[str, type[Loss]] = {
    loss.kind: loss for loss in (SoftmaxCrossEntropy, SigmoidCrossEntropy, MeanSquaredError, Hinge, Huber)
}


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss of that name, or `loss` itself if it is one.

    Raises
    ------
    ValueError
        If the name is not in `LOSSES`.
    """
    return loss if isinstance(loss, Loss) else lookup(LOSSES, loss, "loss")()


def check_labels(target: Any, n: int, out_shape: Shape) -> Array:
    """Return integer labels (n,) in [0, K) as intp, for outputs (n, K); else raise ValueError."""
    if len(out_shape) != 1:
        got = str(("N", *out_shape)).replace("'", "")
        raise ValueError(f"labels need outputs of shape (N, classes), got {got}: end with Flatten() and Dense(classes)")
    labels = np.asarray(unmasked(target, "y"))
    if labels.shape != (n,):
        raise ValueError(f"labels have shape {labels.shape}, x has {n} samples: give one label each, shape ({n},)")
    if labels.dtype.kind not in "iub":
        whole = labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.floor(labels)).all()
        cure = "use y.astype(int)" if whole else "give each class its number, 0 and up, and leave out what has none"
        raise ValueError(f"labels must be integers, got {labels.dtype}: {cure}")
    if n and (labels.min() < 0 or labels.max() >= out_shape[0]):
        raise ValueError(
            f"labels lie in [{labels.min()}, {labels.max()}], the network has {out_shape[0]} outputs: "
            f"labels must lie in [0, {out_shape[0] - 1}]"
        )
    return labels.astype(np.intp)


def check_like_output(target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
    """Return targets as finite numbers of shape (n, *out_shape); else raise ValueError."""
    target = unmasked(target, "y")
    try:
        given = np.asarray(target)
        if given.dtype.kind not in "biufO":
            raise TypeError(f"they are {given.dtype}")
        t = given.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"targets are not an array of numbers: {error}") from None
    if t.shape != (n, *out_shape):
        cure = _cure(t.shape, (n, *out_shape))
        raise ValueError(f"targets have shape {t.shape}, outputs {(n, *out_shape)}: both must be the same; {cure}")
    if not np.isfinite(t).all():
        raise ValueError("targets hold NaN or infinity: remove those samples")
    return t


def _cure(given: Shape, wanted: Shape) -> str:
    """What makes targets of one shape those of another; to reshape scrambles axes that only stand in another order."""
    plain = tuple(size for size in given if size != 1)
    if plain == tuple(size for size in wanted if size != 1):
        return "reshape y"
    if given[::-1] == wanted:
        return "give y.T"
    return "give one target for each output of each sample"


def check_weights(weights: Any, what: str) -> Array | None:
    """Return weights as an array of finite numbers >= 0, not all 0 (None stays None); else raise ValueError."""
    if weights is None:
        return None
    try:
        array = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what}={weights!r}: give one number per class") from None
    if array.ndim > 1 or not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise ValueError(f"{what}={weights!r}: give finite numbers >= 0, one per class, not all 0")
    return array


def require_one_each(weights: Array | None, what: str, out_shape: Shape) -> None:
    """Raise ValueError unless the weights are as many as the output's last axis, or a single one."""
    if weights is not None and weights.ndim and (not out_shape or len(weights) != out_shape[-1]):
        raise ValueError(f"{len(weights)} {what} for outputs of shape {out_shape}: give {out_shape[-1:]}")


def balanced_class_weights(labels: Any, classes: int) -> Array:
    """Return weights (classes,) with which each class of `labels` (N,) counts as much as every other.

    Raises
    ------
    ValueError
        If a class has no label.
    """
    counts = np.bincount(np.asarray(labels), minlength=classes)
    if len(counts) > classes or (counts == 0).any():
        raise ValueError(f"labels of classes {np.flatnonzero(counts).tolist()}, not of each in [0, {classes - 1}]")
    return np.asarray(counts.sum() / (classes * counts))


def softmax(scores: Array) -> Array:
    """Return probabilities from logits (..., K), rows of sum 1."""
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
