"""Train a network: `fit`, `partial_fit`, `evaluate`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._common import Array, require_int, require_number, shape_cure
from .callbacks import Callback, EarlyStopping
from .graph import Graph, check_finite
from .history import History
from .joint_loss import loss_for
from .logits import logits_of
from .losses import Loss
from .optimizers import Optimizer, add_penalty, clip_gradients, get_optimizer
from .selective import SelectiveBackprop


class DivergedError(FloatingPointError):
    """The loss or a weight became NaN or infinite; the weights are those of the last good epoch."""


class Evaluation(NamedTuple):
    """Loss and metric on some data."""

    loss: float
    metric: float


def fit(
    net: Graph,
    x: Any,
    y: Any,
    *,
    loss: str | Loss | Sequence[str | Loss] = "softmax_cross_entropy",
    optimizer: str | Optimizer = "adam",
    epochs: int = 10,
    batch_size: int = 32,
    validation: tuple[Any, Any] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    early_stopping: EarlyStopping | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    selective_backprop: SelectiveBackprop | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
) -> History:
    """Train a network in place.

    Parameters
    ----------
    net : Graph
        Built for x with `seed` if that has not happened yet.
    x : array (N, ...)
        Inputs, NCHW for images. A tuple for a network of several inputs.
    y : array
        Targets as the loss wants them: integer labels (N,), or an array shaped like the output. A tuple for a network
        of several outputs.
    loss : str or Loss
        A name in `LOSSES` or an object. For several outputs one for all of them, a tuple, or a `JointLoss`. A loss that
        applies the network's last layer itself (softmax, sigmoid) looks at what that layer is given, as on the device;
        `predict` gives probabilities nevertheless.
    optimizer : str or Optimizer
        A name in `OPTIMIZERS` or an object; an object keeps its state for the next call.
    epochs, batch_size : int
        Passes over the data; samples per step. A last batch of a single sample joins the one before it.
    validation : (x, y), optional
        Measured after each epoch.
    shuffle : bool
        Whether each epoch has an order of its own.
    seed : int
        Of initial weights (if unbuilt), order and dropout: same seed, same bits.
    early_stopping : EarlyStopping, optional
        When to stop; keeps the best weights.
    clip_norm, clip_value : float, optional
        Gradient clipping, see `clip_gradients`.
    l1, l2 : float
        Penalties on weights (not on biases, scales and shifts), see `add_penalty`; the losses reported leave them out.
    selective_backprop : SelectiveBackprop, optional
        Skips the backward pass of samples whose loss is small.
    callbacks : sequence of callable
        Each is called as ``callback(net, history)`` after each epoch; a true answer ends training.
    progress : bool, optional
        Whether to show a bar (needs tqdm). By default on a terminal only.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If data or settings are unusable; the weights are as they were.
    DivergedError
        If the loss or a weight became NaN or infinite; the weights are those after the last good epoch.
    """
    trainer = Trainer(net, loss, optimizer, clip_norm, clip_value, l1, l2)
    require_int(epochs, "epochs", 0), require_int(batch_size, "batch_size"), require_int(seed, "seed", 0)
    x, y, held_out = trainer.check_data(x, y, validation, seed)
    stoppers: list[Any] = [*callbacks, *([early_stopping] if early_stopping else [])]
    for stopper in stoppers:
        if isinstance(stopper, EarlyStopping):
            stopper.start(trainer.loss.higher_is_better)
    history = History(trainer.loss.metric_name)
    order_seed, choice_seed = np.random.SeedSequence(seed).spawn(2)
    order_rng = np.random.default_rng(order_seed)
    trainer.select_by(selective_backprop, np.random.default_rng(choice_seed))
    net.reseed(np.random.SeedSequence([seed, 1]))
    with Progress(progress, epochs) as bar:
        for epoch in range(epochs):
            order = order_rng.permutation(len(x[0])) if shuffle else np.arange(len(x[0]))
            trainer.run_epoch(x, y, order, batch_size, epoch, held_out, history)
            bar.advance(history)
            stops = [bool(stopper(net, history)) for stopper in stoppers]  # each must be called
            if any(stops):
                history.stopped_early = epoch + 1 < epochs
                break
    for stopper in stoppers:
        getattr(stopper, "finish", lambda net: None)(net)
    return history


def partial_fit(
    net: Graph,
    x: Any,
    y: Any,
    *,
    loss: str | Loss | Sequence[str | Loss] = "softmax_cross_entropy",
    optimizer: Optimizer,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
) -> float:
    """Take one step on one batch, x (N, ...) and y as in `fit`, and return the loss before it.

    The optimizer must be an object, since it carries its state from call to call; its rate stays where `fit` left it.
    Stateful layers go on from the batch before.

    Raises
    ------
    ValueError
        If data or settings are unusable; the weights are as they were.
    DivergedError
        If the loss or a weight became NaN or infinite; the weights are as they were.
    """
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer={optimizer!r}: give partial_fit an object, such as SGD(0.01), to carry its state")
    trainer = Trainer(net, loss, optimizer, clip_norm, clip_value, l1, l2)
    x, y, _ = trainer.check_data(x, y, None, 0)
    with trainer.all_or_nothing("in this step"):
        value, _ = trainer.step(x, y)
        trainer.check_progress(value)
    return value


def evaluate(
    net: Graph,
    x: Any,
    y: Any,
    *,
    loss: str | Loss | Sequence[str | Loss] = "softmax_cross_entropy",
    batch_size: int = 256,
) -> Evaluation:
    """Return (loss, metric) of the network on x (N, ...) and y, as in `fit`, in inference mode.

    Raises
    ------
    ValueError
        If the data are unusable.
    """
    loss = loss_for(loss, len(net.outputs))
    xs = as_inputs(net, x)
    with logits_of(net, loss):
        scores = net.predict(*xs, batch_size=batch_size)
    target = loss.check(y, require_samples(np.asarray(xs[0])), net.out_shape, net.dtype)
    return Evaluation(loss.forward(scores, target), loss.metric(scores, target))


def as_inputs(net: Graph, x: Any, name: str = "x") -> tuple[Any, ...]:
    """Return x as a tuple with one thing per input of the network.

    Raises
    ------
    ValueError
        If the network has several inputs and x is not a tuple of as many.
    """
    if len(net.inputs) == 1:
        return (x,)
    if not isinstance(x, (tuple, list)) or len(x) != len(net.inputs):
        raise ValueError(
            f"the network takes {', '.join(net.inputs)}: give a tuple of {len(net.inputs)} arrays as {name}"
        )
    return tuple(x)


def take(data: Any, chosen: Array) -> Any:
    """Return the chosen samples of an array, or of each array in a tuple."""
    return tuple(part[chosen] for part in data) if isinstance(data, tuple) else data[chosen]


class Trainer:
    """One training: a network, a loss, an optimizer and clipping."""

    def __init__(
        self,
        net: Graph,
        loss: str | Loss | Sequence[str | Loss],
        optimizer: str | Optimizer,
        clip_norm: float | None,
        clip_value: float | None,
        l1: float,
        l2: float,
    ) -> None:
        if not isinstance(net, Graph):
            raise ValueError(f"{net!r} is not a network: put it in Sequential(...)")
        self.net, self.optimizer = net, get_optimizer(optimizer)
        self.loss = loss_for(loss, len(net.outputs))
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None:
                require_number(value, name, open_low=True)
        self.clip = {"clip_norm": clip_norm, "clip_value": clip_value}
        self.penalty = {"l1": require_number(l1, "l1"), "l2": require_number(l2, "l2")}
        self.selective: SelectiveBackprop | None = None
        self.chosen: list[int] = []  # samples that wait for their backward pass
        self.went_back = 0  # samples that had one in this epoch

    def select_by(self, selective: SelectiveBackprop | None, rng: np.random.Generator) -> None:
        """Choose by `selective`, if given, which samples go back."""
        if selective is None:
            return
        if not isinstance(selective, SelectiveBackprop):
            raise ValueError(f"selective_backprop={selective!r}: give an object, SelectiveBackprop(beta=1.0)")
        if any(getattr(layer, "stateful", False) for layer in self.net.leaves()):
            raise ValueError("selective_backprop takes samples out of their order, which stateful layers need")
        selective.start(rng)
        self.selective = selective

    def check_data(self, x: Any, y: Any, validation: Any, seed: int) -> tuple[tuple[Array, ...], Any, Any]:
        """Return x (an array per input), y and a pair of validation data as fit the network, building it if need be."""
        was_built = self.net.built
        try:
            x, y = self._check_pair(x, y, "x", seed)
            if validation is not None and not isinstance(validation, (tuple, list)):
                raise ValueError(f"validation is a {type(validation).__name__}: give a pair (x, y) that is held out")
            if validation is not None and len(validation) != 2:
                raise ValueError(f"validation holds {len(validation)} things: give a pair (x, y)")
            held_out = validation and self._check_pair(validation[0], validation[1], "validation x", seed)
            with logits_of(self.net, self.loss):
                pass  # refuses what it cannot look behind
        except ValueError:
            self.net.built = was_built  # so that the next call builds with its own seed
            raise
        if not self.net.learns:
            raise ValueError("nothing to train: every layer with weights has trainable = False")
        self.optimizer.bind(self.net)
        return x, y, held_out

    def _check_pair(self, x: Any, y: Any, name: str, seed: int) -> tuple[tuple[Array, ...], Any]:
        xs = tuple(check_finite(part, self.net.dtype, name) for part in as_inputs(self.net, x, name))
        n = require_samples(xs[0])
        if {len(part) for part in xs} != {n}:
            raise ValueError(f"{name} has {' and '.join(str(len(part)) for part in xs)} samples: give as many of each")
        shapes = tuple(part.shape[1:] for part in xs)
        if not self.net.built:
            self.net.build(*shapes, seed=seed)
        if shapes != self.net.in_shapes:
            wanted, given = (" and ".join(map(str, each)) for each in (self.net.in_shapes, shapes))
            cure = (
                shape_cure(xs[0].shape, self.net.in_shapes[0], name)
                if len(shapes) == 1
                else "give samples of these shapes"
            )
            raise ValueError(f"{name} has samples of shape {given}, the network takes {wanted}: {cure}")
        return xs, self.loss.check(y, n, self.net.out_shape, self.net.dtype)

    def step(self, x: tuple[Array, ...], y: Any) -> tuple[float, float]:
        """Forward, backward, update on one batch; return its loss and metric before the update."""
        net = self.net
        net.need_dx = False
        try:
            with logits_of(net, self.loss):
                scores = net.forward(*x, training=True)
                value = self.loss.forward(scores, y)
                net.backward(self.loss.backward())
        finally:
            net.need_dx = True
        parameters = net.parameters(trainable_only=True)
        self.went_back += len(x[0])
        if any(self.penalty.values()):
            add_penalty(parameters, **self.penalty)
        if any(limit is not None for limit in self.clip.values()):
            clip_gradients(parameters, **self.clip)
        if math.isfinite(value):
            self.optimizer.step(parameters)
        return value, self.loss.metric(scores, y)

    def run_batch(self, x: tuple[Array, ...], y: Any, rows: Array, batch_size: int) -> tuple[float, float]:
        """Train on those rows, or choose from them what to train on; return their loss and metric before that."""
        if self.selective is None:
            return self.step(take(x, rows), take(y, rows))
        with logits_of(self.net, self.loss):
            scores, target = self.net.forward(*take(x, rows)), take(y, rows)
        losses = self.loss.samples(scores, target)
        self.chosen += rows[self.selective.choose(losses)].tolist()
        while len(self.chosen) >= batch_size:
            self.train_on_chosen(x, y, batch_size)
        return float(losses.mean()), self.loss.metric(scores, target)

    def train_on_chosen(self, x: tuple[Array, ...], y: Any, count: int) -> None:
        """Take a step on the first `count` samples that wait."""
        rows, self.chosen = np.array(self.chosen[:count]), self.chosen[count:]
        value, _ = self.step(take(x, rows), take(y, rows))
        if not math.isfinite(value):
            self.check_progress(value)

    def run_epoch(
        self,
        x: tuple[Array, ...],
        y: Any,
        order: Array,
        batch_size: int,
        epoch: int,
        held_out: Any,
        history: History,
    ) -> None:
        """Train on all batches once and add the epoch to the history."""
        start, rate = time.perf_counter(), 0.0
        totals, self.chosen, self.went_back = np.zeros(2), [], 0
        with self.all_or_nothing(f"in epoch {epoch + 1}"):
            for batch in batches(order, batch_size):
                done, length = np.array([batch.start, batch.stop - batch.start]) / len(order)
                self.optimizer.rate = self.optimizer.schedule(epoch + float(done), float(length))
                rate = rate or self.optimizer.rate
                rows = order[batch]
                value, metric = self.run_batch(x, y, rows, batch_size)
                if not math.isfinite(value):
                    self.check_progress(value)
                totals += len(rows) * value, len(rows) * metric
            if len(self.chosen) > 1:  # batch norm needs company
                self.train_on_chosen(x, y, len(self.chosen))
            self.check_progress(totals[0])
        loss, metric = totals / len(order)
        val = self.validate(held_out)
        history.skipped.append(len(order) - self.went_back)
        history.append(
            train_loss=loss,
            train_metric=metric,
            val_loss=val.loss,
            val_metric=val.metric,
            learning_rate=rate,
            seconds=time.perf_counter() - start,
        )

    def validate(self, held_out: Any) -> Evaluation:
        """Return loss and metric on validation data, NaN without any; stateful layers start it and what follows from zeros."""
        self.net.reset_state()
        if held_out is None:
            return Evaluation(math.nan, math.nan)
        held_x, held_y = held_out
        val = evaluate(self.net, held_x if len(held_x) > 1 else held_x[0], held_y, loss=self.loss)
        self.net.reset_state()
        return val

    def check_progress(self, value: float) -> None:
        """Raise DivergedError if the loss or a weight is not finite."""
        if not math.isfinite(value):
            raise DivergedError(f"the loss became {value}")
        for name, array in self.net.state_dict().items():
            if not np.isfinite(array).all():
                raise DivergedError(f"{name} became NaN or infinite")

    def all_or_nothing(self, when: str) -> AllOrNothing:
        """Guard a block: if training diverges in it, the network gets its weights back."""
        return AllOrNothing(self.net, self.optimizer, when)


class AllOrNothing:
    """Restores weights if the block raises, and says what to do if training diverged."""

    def __init__(self, net: Graph, optimizer: Optimizer, when: str) -> None:
        self.net, self.optimizer, self.when = net, optimizer, when
        self.state = net.state_dict()
        self.silence = np.errstate(over="ignore", invalid="ignore", divide="ignore")

    def __enter__(self) -> None:
        self.silence.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.silence.__exit__(kind, error, trace)
        if isinstance(error, Exception):
            self.net.load_state_dict(self.state)
            self.optimizer.reset()
        if isinstance(error, DivergedError):
            raise DivergedError(
                f"{error} {self.when}; the weights are those before it. "
                "Use a lower learning rate, clip_norm=1.0, or inputs scaled to about [-1, 1]"
            ) from None


def batches(order: Array, batch_size: int) -> Iterator[slice]:
    """Yield slices of `order`; a last batch of one joins the one before it, for batch norm needs company."""
    n, start = len(order), 0
    while start < n:
        stop = start + batch_size
        if stop + 1 >= n and batch_size > 1:
            stop = n
        yield slice(start, min(stop, n))
        start = stop


def require_samples(x: Array) -> int:
    """Return the number of samples, at least one, else raise ValueError."""
    if len(x) == 0:
        raise ValueError("there are no samples: x has shape " + str(x.shape))
    return len(x)


class Progress:
    """A bar over epochs where tqdm is installed and somebody watches; otherwise nothing."""

    def __init__(self, wanted: bool | None, epochs: int) -> None:
        self.bar: Any = None
        if wanted if wanted is not None else sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(total=epochs, unit="epoch", file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, history: History) -> None:
        """Show one more epoch."""
        if self.bar is not None:
            self.bar.set_postfix_str(str(history), refresh=False)
            self.bar.update(1)
