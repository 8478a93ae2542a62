"""Judge what int8 does to the answers: each output of the int8 model beside the float one.

One ratio over everything hides much: an output of small values behind one of large ones, a column of small values in
a table, all the ordinary samples behind one that is a thousand times larger. So every output is judged by itself, by
its columns or channels, by the worst tenth of the samples, and, where it names a class, by how often that stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx

from ..graph.operators import ELEMENTWISE
from ..marks import metadata
from .analysis import decibels, quantize_inputs
from .calibrate import Array, Runner

#: dB below which answers are others: the error is a third of the value
RUINED = 10.0
#: dB from which on noise is little, a tenth of the value: scores that far apart from their noise rarely change places
LITTLE_NOISE = 20.0
#: share of the samples that keep their class: int8 costs a net that bears it less than a hundredth (docs/accuracy.md)
AGREEMENT = 0.98
#: share of the samples that may be worse than the rest without being told of by themselves
WORST = 0.1
#: columns that are judged one by one; of more, such as pixels or an embedding, one alone says little, a tenth much
MOST_COLUMNS = 32
#: a column that varies by less than this part of the largest value is constant
CONSTANT = 1e-6
#: samples that answers are compared on
ACCURACY_SAMPLES = 1024


@dataclass(frozen=True)
class OutputAccuracy:
    """How an output of the int8 model compares with the float model's on the calibration samples.

    Columns are those of a table (n, columns), or the channels of an output of more axes; the signal of one is measured
    about its mean.

    Attributes
    ----------
    snr_db : signal-to-noise ratio over all samples and elements, in dB; infinity where nothing differs
    worst_tenth_db : a tenth of the samples, each by itself, is at this or below
    columns_db : of at most 32 columns, the ratio of each; infinity for one that does not vary
    agreement : share of the samples that keep their class (largest score, or side of the threshold); None where the
        output has no classes
    classes : the output is known to name classes: labels, a loss, or a Softmax or Sigmoid at its end tell
    centred_db : of a table that may be scores, the ratio once each row's mean is taken off, of the values and of the rounded
        ones: what all scores have in common hides the noise of their differences; infinity for any other output
    columns_tenth_db : of more than 32 columns, a tenth of those that vary is at this or below; else infinity
    worst_column, worst_column_db : number of the column of the lowest ratio, and that ratio; None, infinity where none varies
    """

    snr_db: float
    worst_tenth_db: float
    columns_db: tuple[float, ...] = ()
    agreement: float | None = None
    classes: bool = False
    centred_db: float = float("inf")
    columns_tenth_db: float = float("inf")
    worst_column: int | None = None
    worst_column_db: float = float("inf")

    def faults(self) -> list[str]:
        """What is ruined, a few words each; none where the answers hold."""
        found = self._changed_classes()
        if self.snr_db < RUINED:
            found.append(f"its signal-to-noise ratio is {_db(self.snr_db)}")
        elif self.worst_tenth_db < RUINED:
            found.append(f"a tenth of the samples is at {_db(self.worst_tenth_db)} or below")
        if not self.classes and self.snr_db >= RUINED:
            found += self._bad_columns()
        return found

    def _changed_classes(self) -> list[str]:
        if self.agreement is None or self.agreement >= AGREEMENT:
            return []
        changed = f"{100 * (1 - self.agreement):.0f}% of the samples get another class"
        if self.classes:
            return [changed]
        noisy = min(self.snr_db, self.centred_db) < LITTLE_NOISE
        return [f"if these are scores, {changed} ({_db(self.snr_db)})"] if noisy else []

    def _bad_columns(self) -> list[str]:
        bad = [i for i, value in enumerate(self.columns_db) if value < RUINED]
        if bad:
            return [f"column{'s' * (len(bad) > 1)} {_numbers(bad)} at {_db(min(self.columns_db))} or below"]
        if self.columns_tenth_db < RUINED:
            worst = f"column {self.worst_column} the worst at {_db(self.worst_column_db)}"
            return [f"a tenth of its columns is at {_db(self.columns_tenth_db)} or below, {worst}"]
        return []

    def quality(self) -> float:
        """dB of the worst of what is judged, to compare two ways of quantizing."""
        columns = () if self.classes else (*self.columns_db, self.columns_tenth_db)
        return min(self.snr_db, self.worst_tenth_db, self.centred_db, *columns)

    def __str__(self) -> str:
        text = f"{_db(self.snr_db)}, the worst tenth of the samples at {_db(self.worst_tenth_db)} or below"
        if self.classes:
            return (
                text
                if self.agreement is None
                else f"{text}, {100 * self.agreement:.1f}% of the samples keep their class"
            )
        if self.worst_column is None or len(self.columns_db) == 1:
            return text
        return f"{text}, column {self.worst_column} the worst at {_db(self.worst_column_db)}"


Accuracy = dict[str, OutputAccuracy]


def _db(value: float) -> str:
    if np.isfinite(value):
        return f"{value:.1f} dB"
    return "no noise" if value > 0 else "no signal"


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:4]))
    return shown if len(numbers) <= 4 else f"{shown} and {len(numbers) - 4} more"


def faults(accuracy: Mapping[str, OutputAccuracy]) -> list[str]:
    """A sentence for each output that int8 ruins."""
    found = {name: output.faults() for name, output in accuracy.items()}
    return [f"int8 changes the answers of output {name!r}: {'; '.join(why)}" for name, why in found.items() if why]


def is_good(accuracy: Mapping[str, OutputAccuracy]) -> bool:
    """Whether there is little noise in every output, and classes stay as they are."""
    changed = any(o.classes and o.agreement is not None and o.agreement < AGREEMENT for o in accuracy.values())
    return not changed and quality(accuracy) >= LITTLE_NOISE


def quality(accuracy: Mapping[str, OutputAccuracy]) -> float:
    """dB of the worst of what is judged in any output."""
    return min((output.quality() for output in accuracy.values()), default=float("inf"))


def is_better(after: Mapping[str, OutputAccuracy], before: Mapping[str, OutputAccuracy], gain: float) -> bool:
    """Whether another way of quantizing heals, or gains so many dB, and leaves no output worse judged than before."""
    if not all(_holds(after[name], output) for name, output in before.items()):
        return False
    heals = bool(faults(before)) and not faults(after)
    return heals or quality(after) >= quality(before) + gain


def _holds(after: OutputAccuracy, before: OutputAccuracy) -> bool:
    """Whether an output is no more ruined, and keeps as many classes."""
    if after.faults() and not before.faults():
        return False
    if after.agreement is None or before.agreement is None:
        return True
    return after.agreement >= (before.agreement if before.classes else min(before.agreement, AGREEMENT))


def spread(samples: Mapping[str, Array], most: int) -> dict[str, Array]:
    """At most so many samples, evenly from all of them: files are often sorted by class."""
    total = len(next(iter(samples.values())))
    if total <= most:
        return dict(samples)
    places = np.linspace(0, total - 1, most).round().astype(int)
    return {name: array[places] for name, array in samples.items()}


# ---- Measuring -------------------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """Sums over the samples of one output; rows: its signal and noise by sample; centred: the same about each row's mean, of
    a table of scores; columns: (3, columns) of values, their squares and the noise's; each: values in one column."""

    end: _End
    rows: list[tuple[Array, Array]] = field(default_factory=list)
    centred: list[tuple[Array, Array]] = field(default_factory=list)
    columns: Array | None = None
    each: int = 0
    same: list[Array] = field(default_factory=list)

    def add(self, real: Array, rounded: Array) -> None:
        exact, noise = real.astype(np.float64), real.astype(np.float64) - rounded
        flat, off = exact.reshape(len(exact), -1), noise.reshape(len(noise), -1)
        self.rows.append((np.square(flat).sum(1), np.square(off).sum(1)))
        if self.end.scores and exact.ndim == 2 and exact.shape[1] > 1:
            self.centred.append((exact.var(1) * exact.shape[1], noise.var(1) * exact.shape[1]))
        self._add_columns(exact, noise)
        decide = self.end.decision(real)
        if decide is not None:
            kept = decide(real) == decide(rounded)
            self.same.append(kept.reshape(len(kept), -1).mean(1))

    def _add_columns(self, exact: Array, noise: Array) -> None:
        axis = self.end.channel_axis(exact.ndim)
        if axis is None:
            return
        others = tuple(a for a in range(exact.ndim) if a != axis)
        sums = np.stack([exact.sum(others), np.square(exact).sum(others), np.square(noise).sum(others)])
        self.columns = sums if self.columns is None else self.columns + sums
        self.each += exact.size // max(exact.shape[axis], 1)

    def result(self, count: int) -> OutputAccuracy:
        signal, noise = (np.concatenate(part)[:count] for part in zip(*self.rows, strict=True))
        whole = decibels(signal.sum(), noise.sum())
        columns = self._columns()
        alive = np.sort(columns[np.isfinite(columns)])
        many = len(columns) > MOST_COLUMNS
        worst = int(columns.argmin()) if alive.size else None
        return OutputAccuracy(
            snr_db=whole,
            # small probabilities are as good as none: only their side of the threshold counts
            worst_tenth_db=whole if self.end.sigmoid else _worst_tenth(signal, noise),
            columns_db=() if many else tuple(map(float, columns)),
            agreement=float(np.concatenate(self.same)[:count].mean()) if self.same else None,
            classes=self.end.classes,
            centred_db=self._centred(count, signal.sum()),
            columns_tenth_db=float(alive[_tenth(len(alive))]) if many and alive.size else float("inf"),
            worst_column=worst,
            worst_column_db=float("inf") if worst is None else float(columns[worst]),
        )

    def _centred(self, count: int, whole: float) -> float:
        if not self.centred:
            return float("inf")
        signal, noise = (np.concatenate(part)[:count].sum() for part in zip(*self.centred, strict=True))
        return decibels(signal, noise) if signal > CONSTANT**2 * whole else float("inf")

    def _columns(self) -> Array:
        """dB of each column."""
        if self.columns is None:
            return np.empty(0)
        total, squares, noise = self.columns
        about_mean = np.maximum(squares - total**2 / self.each, 0)
        floor = CONSTANT**2 * squares.max(initial=0)
        ratios = [decibels(s, n) if s > floor else np.inf for s, n in zip(about_mean, noise, strict=True)]
        return np.array(ratios)


def _worst_tenth(signal: Array, noise: Array) -> float:
    """dB that a tenth of the samples is at or below; one that happens to be near 0 counts as the tenth smallest."""
    alive = signal[signal > 0]
    if not alive.size:
        return decibels(0.0, float(noise.max(initial=0)))
    floor = np.quantile(alive, WORST)
    ratios = [decibels(max(s, floor), n) for s, n in zip(signal, noise, strict=True)]
    return float(sorted(ratios)[_tenth(len(ratios))])


def _tenth(count: int) -> int:
    """Of so many in order, the place up to which the first tenth goes."""
    return int(WORST * (count - 1))


def measure(
    normal: onnx.ModelProto,
    quantized: onnx.ModelProto,
    samples: Mapping[str, Array],
    loss: str | None = None,
    labels: Sequence[Any] | None = None,
) -> Accuracy:
    """Compare the float outputs of two models.

    Parameters
    ----------
    normal : the float32 model
    quantized : the int8 one, whose outputs have the same names
    samples : (n, ...) by input name; at most ACCURACY_SAMPLES of them are looked at, evenly chosen
    loss, labels : where they are known, else what the model's metadata says; of the output that its `edgeprop.loss_output`
        names, else of the first that has as many columns as there are labels

    Returns
    -------
    OutputAccuracy by output, in the order of the graph
    """
    names = [output.name for output in normal.graph.output]
    exact, rounded = Runner(normal, list(names)), Runner(quantized, list(names))
    feeds = exact.check(spread(dict(samples), ACCURACY_SAMPLES))
    ends = _ends(normal, loss, labels)
    tallies = {name: _Tally(ends[name]) for name in names if name in exact.values and name in rounded.values}
    next(iter(exact.run(feeds)), None)  # which finds the batch size that the model really takes
    rounded.batch_size = exact.batch_size
    runs = zip(exact.run(feeds), rounded.run(quantize_inputs(quantized, feeds)), strict=True)
    for real, approximate in runs:
        for name, tally in tallies.items():
            tally.add(*(_rows(array, exact.stacked) for array in (real[name], approximate[name])))
    count = len(next(iter(feeds.values())))
    return {name: tally.result(count) for name, tally in tallies.items()}


def _rows(array: Array, alone: bool) -> Array:
    """An output with the samples in front; alone: it is that of one sample, which may have no such axis."""
    return array[None] if array.ndim == 0 or (alone and len(array) != 1) else array


# ---- What an output stands for ---------------------------------------------------------------------------------------


def _ends(model: onnx.ModelProto, loss: str | None, labels: Sequence[Any] | None) -> dict[str, _End]:
    """What each output stands for, by what is known of the one that the loss looks at."""
    known = metadata(model)
    loss = known.get("loss") if loss is None else loss
    labels = known.get("labels") if labels is None else labels
    names = [output.name for output in model.graph.output]
    fitting = [name for name in names if not labels or _width(model, name) in (None, len(labels), 1)]
    judged = known.get("loss_output") or next(iter(fitting), names[0])
    return {name: _End.of(model, name, *((loss, labels) if name == judged else (None, None))) for name in names}


def _shape(values: Iterable[onnx.ValueInfoProto], name: str) -> list[int] | None:
    """Sizes of the axes behind the first, 0 where one may vary; None where the rank is unknown."""
    for value in values:
        if value.name == name and value.type.tensor_type.HasField("shape"):
            return [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
    return None


def _width(model: onnx.ModelProto, name: str) -> int | None:
    shape = _shape(model.graph.output, name)
    return shape[-1] or None if shape else None


def _rebuilds(model: onnx.ModelProto, name: str) -> bool:
    """Whether an output is an input made anew, as an autoencoder or a filter does: an image of the same shape, or a row of
    as many numbers behind fewer."""
    shape = _shape(model.graph.output, name)
    if not shape or not any(_shape([i], i.name) == shape for i in model.graph.input):
        return False
    return len(shape) > 1 or any(0 < size < shape[0] for size in _sizes_before(model, name))


def _sizes_before(model: onnx.ModelProto, name: str) -> list[int]:
    """How many numbers the rows have from which an output is computed."""
    makers, waiting, found = _makers(model), [name], []
    shapes = {value.name: _shape([value], value.name) for value in model.graph.value_info}
    while waiting:
        node = makers.pop(waiting.pop(), None)
        if node is not None:
            waiting += node.input
            found += [prod(shape) for value in node.input if (shape := shapes.get(value))]
    return found


#: at their end stands a probability; what stands at the end of numbers
_SIGMOIDS = ("Sigmoid", "HardSigmoid")
_OF_NUMBERS = (
    *("Abs", "Celu", "Clip", "Elu", "Exp", "Gelu", "HardSwish", "LeakyRelu", "LpNormalization", "LayerNormalization"),
    *("Mish", "PRelu", "Relu", "Selu", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh"),
)


@dataclass(frozen=True)
class _End:
    """What an output stands for. axis: of the scores; sigmoid: probabilities of their own; logits: scores beside 0;
    scores: it may be scores, the largest of which counts; channels: the axis that counts them, None for the usual one."""

    classes: bool
    axis: int | None = None
    sigmoid: bool = False
    logits: bool = False
    scores: bool = False
    channels: int | None = None

    @classmethod
    def of(cls, model: onnx.ModelProto, name: str, loss: str | None, labels: Sequence[Any] | None) -> _End:
        last = _last(model, name)
        op = "" if last is None else last.op_type
        channels = _channels(model, name)
        if last is not None and op in ("Softmax", "LogSoftmax"):
            given = next((a.i for a in last.attribute if a.name == "axis"), None)
            return cls(True, given if last.output[0] == name else None, channels=channels)
        classes = bool(labels) or loss in ("softmax_cross_entropy", "sigmoid_cross_entropy", "hinge")
        if not classes and (loss == "mse" or _rebuilds(model, name) or op in _OF_NUMBERS):
            return cls(False, channels=channels)
        if op in _SIGMOIDS or loss == "sigmoid_cross_entropy":
            return cls(True, sigmoid=op in _SIGMOIDS, logits=op not in _SIGMOIDS, channels=channels)
        return cls(classes, scores=True, channels=channels)

    def decision(self, real: Array) -> Callable[[Array], Array] | None:
        """What makes of an array of outputs the classes they mean; None where there are none."""
        if self.sigmoid or self.logits:
            return lambda array: array > (0.5 if self.sigmoid else 0.0)
        axis = self.axis if self.axis is not None else self.channel_axis(real.ndim)
        if not (self.classes or (self.scores and real.ndim == 2)) or axis is None:
            return None
        if real.shape[axis] == 1:
            return (lambda array: array > 0) if self.classes else None
        return lambda array: array.argmax(axis)

    def channel_axis(self, rank: int) -> int | None:
        """The axis that counts columns or channels; None where there is none but that of the samples."""
        if rank < 2:
            return None
        if self.channels is not None and 0 < self.channels < rank:
            return self.channels
        return 1 if rank == 4 else rank - 1


_MOVES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
_PASSES_ON = (*_MOVES, "Identity", "Transpose")


def _makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def _last(model: onnx.ModelProto, name: str) -> onnx.NodeProto | None:
    """The node that computes an output, behind what only moves it."""
    makers = _makers(model)
    node = makers.get(name)
    while node is not None and node.op_type in _PASSES_ON:
        node = makers.get(node.input[0])
    return node


#: layers whose channels are the second axis
_SECOND = frozenset(
    {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool"}
    | {"GroupNormalization", "InstanceNormalization", "MaxPool"}
)
#: what hands channels on where they are
_KEEPS = frozenset(ELEMENTWISE) | {
    "Cast",
    "Concat",
    "Identity",
    "LogSoftmax",
    "Pad",
    "PRelu",
    "Resize",
    "Slice",
    "Softmax",
}


def _channels(model: onnx.ModelProto, name: str) -> int | None:
    """The axis of an output that counts a convolution's channels, wherever it has moved; None: the usual one."""
    makers, orders = _makers(model), []
    node = makers.get(name)
    while node is not None and (node.op_type in _KEEPS or node.op_type == "Transpose"):
        orders += [list(a.ints) for a in node.attribute if a.name == "perm" and node.op_type == "Transpose"]
        node = next((makers[value] for value in node.input if value in makers), None)
    if node is None or node.op_type not in _SECOND:
        return None
    axis = 1
    for order in reversed(orders):
        axis = order.index(axis)
    return axis
