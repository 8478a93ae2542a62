"""Try options that help where int8 ruins the answers.

Trials are few, in the order in which they are likely to help, on some of the samples; only what helps there is tried on
all. How many there are depends on the model alone, so that a report is the same on every machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx_ir as ir

from . import features
from .accuracy import Accuracy, faults, is_better, measure, quality, spread
from .calibrate import METHODS, Array, Histogram, Range, Runner, observe_histograms, observe_ranges
from .corrections import equalizable, equalize
from .quantize import Asked, Build, Quantized, quantize_normal
from .rules import RULES
from .selection import choose_nodes, find_nodes, is_layer

#: samples that cures are tried on, beside those of the largest values
TRIED_ON = 64
#: layers that lose most, which are left in float32
SUSPECTS = 3
#: a value has rare large elements where its largest is so many times its root mean square; of so many values
TAIL, MOST_TAILS = 8.0, 24
#: elements that histograms are made of
HISTOGRAM_ELEMENTS = 10_000_000
#: trials on all samples
MOST_CONFIRMED = 2
#: a sample with values this many times those of most is an outlier; so many of them are few
FAR, FEW = 20.0, 0.05
#: dB that a cure must gain where it does not heal, and another layer in float32 beside the others
HELPS, GAIN = 3.0, 1.5
#: no signal-to-noise ratio says more than this
_CLEAN = 100.0


@dataclass
class Patient:
    """A quantization whose answers are ruined, and what its cures are tried with.

    accuracy : of it, on all samples
    snr : dB by layer
    """

    found: Quantized
    asked: Asked
    accuracy: Accuracy
    snr: Mapping[str, float] = field(default_factory=dict)
    loss: str | None = None
    labels: Sequence[Any] | None = None

    @cached_property
    def few(self) -> dict[str, Array]:
        """Samples evenly chosen, and those of the largest values, which make the ranges."""
        feeds = self.found.feeds
        total = len(next(iter(feeds.values())))
        places = set(np.linspace(0, total - 1, min(total, TRIED_ON)).round().astype(int).tolist())
        for array in feeds.values():
            if array.dtype.kind == "f":
                flat = array.reshape(total, -1)
                places |= {int(flat.max(1).argmax()), int(flat.min(1).argmin())}
        chosen = sorted(places)
        return {name: array[chosen] for name, array in feeds.items()}

    def with_other(self, asked: Asked, feeds: Mapping[str, Array]) -> Accuracy:
        """How accurate it is with other options."""
        normal, trainable = self.found.reference, self.found.trainable
        if asked.equalization and not self.asked.equalization:
            normal = equalize(normal, fixed=trainable, samples=feeds)
        other = quantize_normal(normal, feeds, trainable, asked, self.loss, self.labels)
        return other.measured or self.judge(other, feeds)

    def rebuilt(
        self, keep_float: str | Sequence[str], ranges: Mapping[str, Range], feeds: Mapping[str, Array]
    ) -> Accuracy:
        """How accurate it is with other ranges or layers in float32, all else as it was found."""
        found, asked = self.found, self.asked
        build = Build(
            found.normal, feeds, found.trainable, keep_float, asked.per_channel, asked.bias_correction, found.shifts
        )
        return self.judge(replace(found, comparable=build(ranges)), feeds)

    def judge(self, other: Quantized, feeds: Mapping[str, Array]) -> Accuracy:
        """Another quantization beside the float model."""
        return measure(self.found.reference, other.comparable, feeds, self.loss, self.labels)


@dataclass
class Trial:
    """A cure: the words for it, how accurate it is on given samples, and the same in short where there is a shorter way.

    after : what came of it on few samples
    """

    words: str
    try_it: Callable[[Mapping[str, Array]], Accuracy]
    in_short: Callable[[Mapping[str, Array]], Accuracy] | None = None
    after: Accuracy = field(default_factory=dict)


def cure(patient: Patient) -> str:
    """What to do, in the words of `save` and of the command line; what is said to help has been tried."""
    helpful: list[Trial] = []
    confirmed = 0
    before = measure(patient.found.reference, patient.found.comparable, patient.few, patient.loss, patient.labels)
    for trial in _trials(patient):
        trial.after = (trial.in_short or trial.try_it)(patient.few)
        if not faults(trial.after) and confirmed < MOST_CONFIRMED:
            confirmed += 1
            if not faults(trial.try_it(patient.found.feeds)):
                return f"cure: {trial.words}"
        elif is_better(trial.after, before, HELPS):
            helpful.append(trial)
    everything = "leave all of it in float32 (quantized=False, --float)"
    best = max(helpful, key=lambda trial: quality(trial.after), default=None)
    if best is not None and is_better(best.try_it(patient.found.feeds), patient.accuracy, HELPS):
        return f"cure: {best.words} helps some; {everything}"
    return f"cure: {everything}"


def _trials(patient: Patient) -> Iterator[Trial]:
    """Those that are likely to help first."""
    yield from _other_ends(patient)
    yield from _other_methods(patient)  # which cost the device nothing
    yield from _without(patient)
    yield from _float_layers(patient)
    yield from _other_options(patient)


def _with(patient: Patient, words: str, **options: Any) -> Trial:
    """Other options, from the beginning."""
    asked = replace(patient.asked, **options)
    return Trial(words, lambda feeds: patient.with_other(asked, feeds))


def _other_ends(patient: Patient) -> Iterator[Trial]:
    """An int8 input has one scale for all features; a float32 one is scaled behind."""
    found = patient.found
    badly = features.unscalable(found.reference, found.feeds) or features.keep_front(found.normal, found.trainable)
    if patient.asked.io == "int8" and badly:
        options = {"io": "float", "scale_inputs": "auto"}
        yield _with(patient, "io='float', or inputs scaled to alike ranges before they become int8", **options)


def _other_methods(patient: Patient) -> Iterator[Trial]:
    """Each of the other ways to choose ranges, where some value has rare large elements, which these may cut."""
    asked, found = patient.asked, patient.found
    tails = _tails(patient) if asked.method in METHODS else []
    if not tails:
        return
    histograms = _histograms(patient, tails)
    for method, choose in METHODS.items():
        if method != asked.method:
            trial = _with(patient, f"method={method!r} (--method {method})", method=method)
            others = {
                name: Range(h.low, h.high) if choose is None else choose(h, asked.percentile)
                for name, h in histograms.items()
            }
            trial.in_short = partial(patient.rebuilt, asked.keep_float, {**found.ranges, **others})
            yield trial


def _tails(patient: Patient) -> list[str]:
    """Values the largest elements of which are many times their root mean square, and how many elements."""
    squares: dict[str, float] = {}
    largest: dict[str, float] = {}
    sizes: dict[str, int] = {}
    runner = Runner(patient.found.normal)
    for batch in runner.run(patient.few):
        for name, array in batch.items():
            squares[name] = squares.get(name, 0.0) + float(np.square(array, dtype=np.float64).sum())
            largest[name] = max(largest.get(name, 0.0), float(np.abs(array).max(initial=0)))
            sizes[name] = sizes.get(name, 0) + array.size
    found = [name for name in squares if largest[name] ** 2 * sizes[name] > TAIL**2 * squares[name] > 0]
    return sorted(found, key=lambda name: largest[name] ** 2 * sizes[name] / squares[name], reverse=True)[:MOST_TAILS]


def _histograms(patient: Patient, names: list[str]) -> dict[str, Histogram]:
    """How often the elements of values are how large, over as many samples as take no longer than the export."""
    runner = Runner(patient.found.normal, list(names))
    total = len(next(iter(patient.few.values())))
    elements = sum(array.size for batch in runner.run(patient.few) for array in batch.values())
    most = max(TRIED_ON, HISTOGRAM_ELEMENTS * total // max(elements, 1))
    feeds = spread(patient.found.feeds, most)
    return observe_histograms(runner, feeds, observe_ranges(runner, feeds))


def _other_options(patient: Patient) -> Iterator[Trial]:
    """What was switched off, or could be switched on."""
    asked, found = patient.asked, patient.found
    if asked.scale_inputs != "auto" and asked.io == "float":
        yield _with(patient, "scale_inputs='auto' (--scale-inputs auto)", scale_inputs="auto")
    if not asked.per_channel:
        yield _with(patient, "per_channel=True", per_channel=True)
    if not asked.bias_correction:
        yield _with(patient, "bias_correction=True", bias_correction=True)
    if not asked.equalization and equalizable(found.reference, found.trainable):
        yield _with(patient, "equalization=True (--equalize)", equalization=True)


def _outliers(feeds: Mapping[str, Array]) -> Array:
    """(n,) which samples have values far beyond those of most, where these are few."""
    total = len(next(iter(feeds.values())))
    found = np.zeros(total, bool)
    for array in feeds.values():
        if array.dtype.kind == "f" and array.ndim > 1:
            reach = np.abs(array.reshape(total, -1)).max(1)
            found |= reach > FAR * np.median(reach)
    return found if found.sum() <= max(1, FEW * total) else np.zeros(total, bool)


def _without(patient: Patient) -> Iterator[Trial]:
    """The calibration without a few samples."""
    far = _outliers(patient.found.feeds)
    if not far.any():
        return
    feeds = {name: array[~far] for name, array in patient.found.feeds.items()}
    numbers = ", ".join(map(str, np.flatnonzero(far)[:4])) + (", ..." if far.sum() > 4 else "")
    words = f"a few samples are far larger than the rest (number {numbers}): leave them out of the calibration"
    yield Trial(
        words,
        lambda _: patient.with_other(patient.asked, feeds),
        lambda _: patient.with_other(patient.asked, spread(feeds, TRIED_ON)),
    )


# ---- Layers in float32 -----------------------------------------------------------------------------------------------


def _float_layers(patient: Patient) -> Iterator[Trial]:
    """Layers that lose most in float32: each alone, then the best two, and three."""
    suspects = _suspects(patient)
    alone = [_in_float(patient, names) for names in suspects]
    yield from alone
    order = sorted(range(len(alone)), key=lambda i: quality(alone[i].after), reverse=True)
    now = quality(alone[order[0]].after) if order else 0.0
    for count in range(2, len(order) + 1):
        some = sorted(order[:count])
        trial = _in_float(patient, [name for i in some for name in suspects[i]])
        yield trial
        if quality(trial.after) < now + GAIN:
            return
        now = quality(trial.after)


def _spelled(keep: Sequence[str]) -> str:
    """The option `--float` of the command line; a name that begins with a dash would be an option of its own."""
    apart = [name for name in keep if name.startswith("-")]
    together = [name for name in keep if name not in apart]
    options = [f"--float {shlex.join(together)}"] if together else []
    return " ".join([*options, *(shlex.quote(f"--float={name}") for name in apart)])


def _in_float(patient: Patient, names: list[str]) -> Trial:
    """Layers in float32 beside those that are so already; in short with the ranges that were found."""
    asked = patient.asked
    before = [asked.keep_float] if isinstance(asked.keep_float, str) else list(asked.keep_float)
    keep = [*before, *names]
    words = f"{', '.join(names)} in float32 (keep_float={keep!r}, {_spelled(keep)})"
    trial = _with(patient, words, keep_float=keep)
    trial.in_short = partial(patient.rebuilt, keep, patient.found.ranges)
    if patient.found.normal is patient.found.reference and asked.method in METHODS:
        trial.try_it = trial.in_short  # which is the same then
    return trial


def _suspects(patient: Patient) -> list[list[str]]:
    """Layers with the Add that is their bias, by how much the signal-to-noise ratio falls in them; not if they are all."""
    graph = ir.from_proto(patient.found.normal).graph
    chosen = choose_nodes(graph, patient.found.trainable, find_nodes(graph, patient.asked.keep_float))
    ratio: dict[ir.Value, float] = {}
    falls: dict[ir.Node, float] = {}
    for node in graph:
        before = min((ratio[value] for value in node.inputs if value is not None and value in ratio), default=_CLEAN)
        add = chosen.biases.get(node)
        names = [str(each.name) for each in (node, add) if each is not None]
        now = min([before, *(patient.snr[name] for name in names if name in patient.snr)])
        ratio.update(dict.fromkeys(node.outputs, now))
        falls[node] = before - now
    layers = [
        node for node in graph if node in chosen.nodes and _can_stay_float(node) and node not in chosen.biases.values()
    ]
    most = sorted(layers, key=falls.__getitem__, reverse=True)[:SUSPECTS]
    biases = {node: [str(add.name)] for node, add in chosen.biases.items()}
    return [[str(node.name), *biases.get(node, [])] for node in most] if len(layers) > 1 else []


def _can_stay_float(node: ir.Node) -> bool:
    return is_layer(node) or node.op_type not in RULES or not RULES[node.op_type].moves
