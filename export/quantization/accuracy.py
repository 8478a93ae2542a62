"""What int8 does to the answers: each output of the int8 model beside the float one, and whether they still hold.

One ratio over everything hides much: an output of small values behind one of large ones, a column of small values in
a table, all the ordinary samples behind one that is a thousand times larger. So every output is judged by itself, by
its columns, by the worst tenth of the samples, and, where it names a class, by how often that stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

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
#: columns that are judged one by one; of more, such as pixels or an embedding, one alone says little
MOST_COLUMNS = 32
#: a column that varies by less than this part of the largest value is constant
CONSTANT = 1e-6
#: samples that answers are compared on
ACCURACY_SAMPLES = 1024


@dataclass(frozen=True)
class OutputAccuracy:
    """How an output of the int8 model compares with the float model's on the calibration samples.

    Attributes
    ----------
    snr_db : signal-to-noise ratio over all samples and elements, in dB; infinity where nothing differs
    worst_tenth_db : a tenth of the samples, each by itself, is at this or below
    columns_db : of a table (n, columns) of at most 32, the ratio of each column, its signal measured about its mean;
        infinity for one that does not vary
    agreement : share of the samples that keep their class (largest score, or side of the threshold); None where the
        output has no classes
    classes : the output is known to name classes: labels, a loss, or a Softmax or Sigmoid at its end tell
    centred_db : of a table that may be scores, the ratio once each row's mean is taken off, of the values and of the rounded
        ones: what all scores have in common hides the noise of their differences; infinity for any other output
    """

    snr_db: float
    worst_tenth_db: float
    columns_db: tuple[float, ...] = ()
    agreement: float | None = None
    classes: bool = False
    centred_db: float = float("inf")

    def faults(self) -> list[str]:
        """What is ruined, a few words each; none where the answers hold."""
        found = []
        if self.agreement is not None and self.agreement < AGREEMENT:
            changed = f"{100 * (1 - self.agreement):.0f}% of the samples get another class"
            if self.classes:
                found.append(changed)
            elif min(self.snr_db, self.centred_db) < LITTLE_NOISE:
                found.append(f"if these are scores, {changed}")
        if self.snr_db < RUINED:
            found.append(f"its signal-to-noise ratio is {_db(self.snr_db)}")
        elif self.worst_tenth_db < RUINED:
            found.append(f"a tenth of the samples is at {_db(self.worst_tenth_db)} or below")
        bad = [i for i, value in enumerate(self.columns_db) if value < RUINED]
        if bad and not self.classes and self.snr_db >= RUINED:
            worst = min(self.columns_db)
            found.append(f"column{'s' * (len(bad) > 1)} {_numbers(bad)} at {_db(worst)} or below")
        return found

    def quality(self) -> float:
        """dB of the worst of what is judged, to compare two ways of quantizing."""
        columns = () if self.classes else self.columns_db
        return min(self.snr_db, self.worst_tenth_db, self.centred_db, *columns)

    def __str__(self) -> str:
        same = "" if self.agreement is None else f", {100 * self.agreement:.1f}% of the samples keep their class"
        return f"{_db(self.snr_db)}, the worst tenth of the samples at {_db(self.worst_tenth_db)} or below{same}"


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
    """Sums over the samples of one output; rows: its signal and noise by sample; columns: by column, where it has any;
    centred: as rows, about each row's mean, of a table of scores."""

    scores: bool = False
    decide: Any = None
    rows: list[tuple[Array, Array]] = field(default_factory=list)
    centred: list[tuple[Array, Array]] = field(default_factory=list)
    columns: list[Array] = field(default_factory=list)
    same: list[Array] = field(default_factory=list)

    def add(self, real: Array, rounded: Array) -> None:
        exact, noise = real.astype(np.float64), real.astype(np.float64) - rounded
        flat, off = exact.reshape(len(exact), -1), noise.reshape(len(noise), -1)
        self.rows.append((np.square(flat).sum(1), np.square(off).sum(1)))
        if self.scores and exact.ndim == 2 and exact.shape[1] > 1:
            self.centred.append((exact.var(1) * exact.shape[1], noise.var(1) * exact.shape[1]))
        if exact.ndim == 2 and exact.shape[1] <= MOST_COLUMNS:
            self.columns.append(np.stack([exact.sum(0), np.square(exact).sum(0), np.square(noise).sum(0)]))
        if self.decide is not None:
            kept = self.decide(real) == self.decide(rounded)
            self.same.append(kept.reshape(len(kept), -1).mean(1))

    def result(self, count: int, classes: bool, is_probability: bool) -> OutputAccuracy:
        signal, noise = (np.concatenate(part)[:count] for part in zip(*self.rows, strict=True))
        whole = decibels(signal.sum(), noise.sum())
        return OutputAccuracy(
            snr_db=whole,
            # small probabilities are as good as none: only their side of the threshold counts
            worst_tenth_db=whole if is_probability else _worst_tenth(signal, noise),
            columns_db=self._columns(len(np.concatenate([s for s, _ in self.rows]))),
            agreement=float(np.concatenate(self.same)[:count].mean()) if self.same else None,
            classes=classes,
            centred_db=self._centred(count, signal.sum()),
        )

    def _centred(self, count: int, whole: float) -> float:
        if not self.centred:
            return float("inf")
        signal, noise = (np.concatenate(part)[:count].sum() for part in zip(*self.centred, strict=True))
        return decibels(signal, noise) if signal > CONSTANT**2 * whole else float("inf")

    def _columns(self, count: int) -> tuple[float, ...]:
        if not self.columns:
            return ()
        total, squares, noise = np.sum(self.columns, 0)
        about_mean = np.maximum(squares - total**2 / count, 0)
        floor = CONSTANT**2 * squares.max(initial=0)
        return tuple(decibels(s, n) if s > floor else float("inf") for s, n in zip(about_mean, noise, strict=True))


def _worst_tenth(signal: Array, noise: Array) -> float:
    """dB that a tenth of the samples is at or below; one that happens to be near 0 counts as the tenth smallest."""
    alive = signal[signal > 0]
    if not alive.size:
        return decibels(0.0, float(noise.max(initial=0)))
    floor = np.quantile(alive, WORST)
    ratios = [decibels(max(s, floor), n) for s, n in zip(signal, noise, strict=True)]
    return float(sorted(ratios)[int(WORST * (len(ratios) - 1))])


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
    loss, labels : where they are known, of the output that the model's `edgeprop.loss_output` names, else of the first

    Returns
    -------
    OutputAccuracy by output, in the order of the graph
    """
    names = [output.name for output in normal.graph.output]
    exact, rounded = Runner(normal, list(names)), Runner(quantized, list(names))
    feeds = exact.check(spread(dict(samples), ACCURACY_SAMPLES))
    judged = next((prop.value for prop in normal.metadata_props if prop.key == "edgeprop.loss_output"), names[0])
    ends = {name: _End.of(normal, name, *((loss, labels) if name == judged else (None, None))) for name in names}
    both = [name for name in names if name in exact.values and name in rounded.values]
    tallies = {name: _Tally(ends[name].scores) for name in both}
    next(iter(exact.run(feeds)), None)  # which finds the batch size that the model really takes
    rounded.batch_size = exact.batch_size
    runs = zip(exact.run(feeds), rounded.run(quantize_inputs(quantized, feeds)), strict=True)
    for real, approximate in runs:
        for name, tally in tallies.items():
            exactly, rounding = (_rows(array, exact.stacked) for array in (real[name], approximate[name]))
            tally.decide = ends[name].decision(exactly)
            tally.add(exactly, rounding)
    count = len(next(iter(feeds.values())))
    return {name: t.result(count, ends[name].classes, ends[name].sigmoid) for name, t in tallies.items()}


def _rows(array: Array, alone: bool) -> Array:
    """An output with the samples in front; alone: it is that of one sample, which may have no such axis."""
    return array[None] if array.ndim == 0 or (alone and len(array) != 1) else array


@dataclass(frozen=True)
class _End:
    """What an output stands for. axis: of the scores; sigmoid: probabilities of their own; logits: scores beside 0;
    scores: it may be scores, the largest of which counts; numbers: it is what a loss other than of classes looks at."""

    classes: bool
    axis: int | None = None
    sigmoid: bool = False
    logits: bool = False
    scores: bool = False
    numbers: bool = False

    @classmethod
    def of(cls, model: onnx.ModelProto, name: str, loss: str | None, labels: Sequence[Any] | None) -> _End:
        last = _last(model, name)
        if last is not None and last.op_type in ("Softmax", "LogSoftmax"):
            given = next((a.i for a in last.attribute if a.name == "axis"), None)
            return cls(True, given if last.output[0] == name else None)
        if (last is not None and last.op_type in ("Sigmoid", "HardSigmoid")) or loss == "sigmoid_cross_entropy":
            is_probability = last is not None and last.op_type in ("Sigmoid", "HardSigmoid")
            return cls(True, sigmoid=is_probability, logits=not is_probability)
        classes = bool(labels) or loss == "softmax_cross_entropy"
        numbers = loss == "mse" and not classes
        return cls(classes, scores=not numbers, numbers=numbers)

    def decision(self, real: Array) -> Any:
        """What makes of an array of outputs the classes they mean; None where that cannot be told."""
        if self.sigmoid or self.logits:
            return lambda array: array > (0.5 if self.sigmoid else 0.0)
        if self.numbers or real.ndim < 2 or (real.ndim > 2 and not self.classes):
            return None
        axis = self.axis if self.axis is not None else 1 if real.ndim == 4 else -1
        if real.shape[axis] == 1:
            return (lambda array: array > 0) if self.classes else None
        return lambda array: array.argmax(axis)


_PASSES_ON = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Transpose")


def _last(model: onnx.ModelProto, name: str) -> onnx.NodeProto | None:
    """The node that computes an output, behind what only moves it."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in _PASSES_ON:
        node = makers.get(node.input[0])
    return node
