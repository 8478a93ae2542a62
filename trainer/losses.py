"""Losses: a number to make small, and its gradient with respect to the network's output. One row of `LOSSES` each."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ._common import Array, Shape, lookup
from .layers.activations import sigmoid


class Loss:
    """A loss: `check` targets once, then `forward` and `backward` per batch.

    Attributes
    ----------
    metric_name : str
        What `metric` measures.
    higher_is_better : bool
        Which way that metric should go.
    """

    kind: ClassVar[str] = "loss"
    metric_name: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

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

    def metric(self, scores: Array, target: Array) -> float:
        """Return how good the scores (N, K) are: the share of samples whose largest score is the target's."""
        labels = target if target.ndim == 1 else target.argmax(axis=1)
        return np.count_nonzero(scores.argmax(axis=1) == labels) / len(labels)


class SoftmaxCrossEntropy(Loss):
    """Mean over the batch of ``-sum_k p_k log softmax(scores)_k``.

    scores (N, K) are logits; targets are labels (N,), integers in [0, K), or probabilities (N, K) with rows of sum 1.
    """

    kind = "softmax_cross_entropy"

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return labels (n,) as intp or probabilities (n, K)."""
        if np.ndim(target) == 1:
            return check_labels(target, n, out_shape)
        p = check_like_output(target, n, out_shape, dtype)
        if p.ndim != 2 or (p < 0).any() or not np.allclose(p.sum(axis=1), 1, atol=1e-4):
            raise ValueError("targets must be integer labels (N,), or probabilities (N, K), rows >= 0 with sum 1")
        return p

    def forward(self, scores: Array, target: Array) -> float:
        """Return the mean loss of scores (N, K)."""
        shifted = scores - scores.max(axis=1, keepdims=True)
        e = np.exp(shifted)
        total = e.sum(axis=1, keepdims=True)
        self._saved = (e / total, target)
        log_p = shifted - np.log(total)
        if target.ndim == 1:
            return float(-log_p[np.arange(len(scores)), target].mean())
        return float(-(target * log_p).sum(axis=1).mean())

    def backward(self) -> Array:
        """Return dscores (N, K)."""
        p, target = self._saved
        dscores: Array = p.copy()
        if target.ndim == 1:
            dscores[np.arange(len(p)), target] -= 1
        else:
            dscores = p * target.sum(axis=1, keepdims=True) - target
        dscores /= len(p)
        return dscores


class SigmoidCrossEntropy(Loss):
    """Mean over batch and outputs of ``-t log s - (1 - t) log(1 - s)``, s = sigmoid(scores).

    scores are logits of any shape (N, ...); targets have the same shape and values in [0, 1].
    """

    kind = "sigmoid_cross_entropy"

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return targets (n, ...) of the outputs' shape."""
        t = check_like_output(target, n, out_shape, dtype)
        if t.size and (t.min() < 0 or t.max() > 1):
            raise ValueError(f"targets of sigmoid cross-entropy must lie in [0, 1], got [{t.min():g}, {t.max():g}]")
        return t

    def forward(self, scores: Array, target: Array) -> float:
        """Return the mean loss."""
        self._saved = (scores, target)
        # log(1 + exp(s)) - t s, written so that exp never overflows
        return float(np.mean(np.maximum(scores, 0) - scores * target + np.log1p(np.exp(-np.abs(scores)))))

    def backward(self) -> Array:
        """Return dscores."""
        scores, target = self._saved
        return np.asarray((sigmoid(scores) - target) / scores.size)

    def metric(self, scores: Array, target: Array) -> float:
        """Return the share of outputs on the right side of 0."""
        return float(np.mean((scores > 0) == (target > 0.5)))


class MeanSquaredError(Loss):
    """Mean over batch and outputs of ``(scores - target)**2``; any shape. Its metric is the mean absolute error."""

    kind = "mse"
    metric_name = "mae"
    higher_is_better = False

    def forward(self, scores: Array, target: Array) -> float:
        """Return the mean loss."""
        difference = scores - target
        self._saved = difference
        return float(np.mean(np.square(difference)))

    def backward(self) -> Array:
        """Return dscores."""
        difference: Array = self._saved
        return np.asarray(difference * difference.dtype.type(2 / difference.size))

    def metric(self, scores: Array, target: Array) -> float:
        """Return the mean absolute error."""
        return float(np.mean(np.abs(scores - target)))


class Hinge(Loss):
    """Multiclass hinge: mean over the batch of ``sum over j != y of max(0, 1 + s_j - s_y)`` (Weston & Watkins 1999).

    scores (N, K), targets labels (N,), integers in [0, K). The gradient at a margin of exactly 1 is 0.
    """

    kind = "hinge"

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return labels (n,) as intp."""
        return check_labels(target, n, out_shape)

    def forward(self, scores: Array, target: Array) -> float:
        """Return the mean loss."""
        rows = np.arange(len(scores))
        margins = np.maximum(0, 1 + scores - scores[rows, target][:, None])
        margins[rows, target] = 0
        self._saved = (margins, target)
        return float(margins.sum(axis=1).mean())

    def backward(self) -> Array:
        """Return dscores (N, K)."""
        margins, target = self._saved
        dscores: Array = (margins > 0).astype(margins.dtype)
        dscores[np.arange(len(margins)), target] = -dscores.sum(axis=1)
        dscores /= len(margins)
        return dscores


LOSSES: dict[str, type[Loss]] = {
    loss.kind: loss for loss in (SoftmaxCrossEntropy, SigmoidCrossEntropy, MeanSquaredError, Hinge)
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
    labels = np.asarray(target)
    if labels.shape != (n,):
        raise ValueError(f"labels have shape {labels.shape}, x has {n} samples: give one label each, shape ({n},)")
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels must be integers, got {labels.dtype}: use y.astype(int), or a dictionary for names")
    if n and (labels.min() < 0 or labels.max() >= out_shape[0]):
        raise ValueError(
            f"labels lie in [{labels.min()}, {labels.max()}], the network has {out_shape[0]} outputs: "
            f"labels must lie in [0, {out_shape[0] - 1}]"
        )
    return labels.astype(np.intp)


def check_like_output(target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
    """Return targets as finite numbers of shape (n, *out_shape); else raise ValueError."""
    try:
        t = np.asarray(target, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"targets are not an array of numbers: {error}") from None
    if t.shape != (n, *out_shape):
        raise ValueError(f"targets have shape {t.shape}, outputs {(n, *out_shape)}: both must be the same; reshape y")
    if not np.isfinite(t).all():
        raise ValueError("targets hold NaN or infinity: remove those samples")
    return t


def softmax(scores: Array) -> Array:
    """Return probabilities from logits (..., K), rows of sum 1."""
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
