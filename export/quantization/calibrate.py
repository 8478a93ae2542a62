"""Calibrate: run the float model on samples, observe every activation, choose the range that int8 covers.

    ranges = calibrate(model, samples, method="mse")     # {value name: Range(low, high)}
    scale, zero_point = ranges["conv1.output"].affine()

Samples stream through onnxruntime in batches and leave only a minimum, a maximum and, for the methods that clip, one
histogram per value, so memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort

from ..._arrays import cure
from ..errors import of_libraries
from ..graph.apart import Session
from ..graph.finite import causes
from ..graph.importer import find_batch
from ..graph.reference import unoptimized

Array = np.ndarray[Any, np.dtype[Any]]

QMIN, QMAX = -128, 127
BINS = 2048
#: a range narrower than this is no signal but rounding noise, and its scale would leave float32's normal numbers
SMALLEST = 1e-20


class CalibrationError(ValueError):
    """Calibration samples that do not fit the model or do not give usable ranges."""


class NotFinite(CalibrationError):
    """Something that is NaN or infinite: `what`, and why or what to do."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what


class Affine(NamedTuple):
    """Parameters of int8 codes: real = scale * (q - zero_point), q in -128 .. 127; scale is a float32 value."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Range:
    """Real values a tensor takes, `low` <= `high`."""

    low: float
    high: float

    def clipped(self, low: float, high: float) -> Range:
        """What is left of it after an activation that clips to low .. high."""
        return Range(min(max(self.low, low), high), min(max(self.high, low), high))

    def affine(self, low: float = -np.inf, high: float = np.inf) -> Affine:
        """Asymmetric int8 parameters that cover the range and 0.0, which gets a code of its own exactly.

        A range without extent gets that of 0 .. 1. With bounds (of a fused Clip), no code stands for a value outside
        them, so that saturation does the clipping.
        """
        bottom, top = min(self.low, 0.0), max(self.high, 0.0)
        if top - bottom < SMALLEST:
            bottom, top = (-1.0, 0.0) if high <= 0 else (0.0, 1.0)
        scale = (top - bottom) / (QMAX - QMIN)
        zero_point = int(np.clip(np.rint(QMIN - bottom / scale), QMIN, QMAX))
        if low < 0 and zero_point > QMIN:
            scale = min(scale, low / (QMIN - zero_point))
        if high > 0 and zero_point < QMAX:
            scale = min(scale, high / (QMAX - zero_point))
        return Affine(float(np.float32(scale)), zero_point)


# ---- Methods --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Histogram:
    """How often values fell into equal bins of low .. high; counts (BINS,)."""

    low: float
    high: float
    counts: Array

    @property
    def edges(self) -> Array:
        """(BINS + 1,) float64."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


def percentile_range(histogram: Histogram, percentile: float) -> Range:
    """The range that `percentile` per cent of the values lie in, the same share cut off at both ends."""
    share = np.concatenate([[0.0], np.cumsum(histogram.counts)]) / histogram.counts.sum()
    cut = (1.0 - percentile / 100.0) / 2
    edges = histogram.edges
    first = int(np.searchsorted(share, cut, side="right")) - 1
    last = int(np.searchsorted(share, 1.0 - cut, side="left"))
    return Range(float(edges[first]), float(edges[min(last, len(edges) - 1)]))


def mse_range(histogram: Histogram, percentile: float) -> Range:
    """The range whose int8 codes give the smallest mean squared error over the histogram, clipping included.

    Both ends are searched on a grid, coarse then fine (the "MSE" range setting of Nagel et al. 2021, "A White Paper on
    Neural Network Quantization", section 3.1). `percentile` is not used.
    """
    used = histogram.counts > 0
    centres = ((histogram.edges[:-1] + histogram.edges[1:]) / 2)[used]
    weights = histogram.counts[used].astype(np.float64)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    best, width, middle = np.inf, 0.9, (0.55, 0.55)
    chosen = Range(low, high)
    for steps in (13, 9, 9):
        centre = middle
        for a in np.linspace(centre[0] - width / 2, centre[0] + width / 2, steps if low < 0 else 1):
            for b in np.linspace(centre[1] - width / 2, centre[1] + width / 2, steps if high > 0 else 1):
                tried = Range(low * min(a, 1.0), high * min(b, 1.0))
                error = quantization_error(centres, weights, tried)
                if error < best:
                    best, chosen, middle = error, tried, (float(a), float(b))
        width /= 5
    return chosen


def quantization_error(values: Array, weights: Array, tried: Range) -> float:
    """Mean squared error of values (n,) with weights (n,) after a round trip through int8."""
    scale, zero_point = tried.affine()
    codes = np.clip(np.rint(values / scale) + zero_point, QMIN, QMAX)
    return float(np.average((scale * (codes - zero_point) - values) ** 2, weights=weights))


#: how a range follows from a histogram; None: the smallest and largest value seen, which needs none
METHODS: dict[str, Callable[[Histogram, float], Range] | None] = {
    "minmax": None,
    "percentile": percentile_range,
    "mse": mse_range,
}


# ---- Running --------------------------------------------------------------------------------------------------------


def calibrate(
    model: onnx.ModelProto,
    samples: Array | Mapping[str, Array],
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    values: Sequence[str] | None = None,
    batch_size: int = 32,
) -> dict[str, Range]:
    """Find the range of every float value of a model.

    Parameters
    ----------
    model : float32 model, with inputs of known shape but for the batch axis
    samples : (n, ...) in the input's ONNX layout and in units as the device will see them; a dict by name for several
    method : "minmax"; "percentile", which cuts off outliers; "mse", which trades clipping against rounding
    percentile : per cent of the values that lie inside, for that method
    values : names to look at; default all: inputs and what nodes compute
    batch_size : samples at a time

    Returns
    -------
    dict of value name to Range, of real values

    Raises
    ------
    CalibrationError : the method is unknown, there are no samples or they do not fit the inputs, or a value becomes
        NaN or infinite (named)
    """
    if method not in METHODS:
        raise CalibrationError(f"method={method!r} is unknown: choose one of {', '.join(METHODS)}")
    if not 50.0 < percentile <= 100.0:
        raise CalibrationError(f"percentile={percentile}: give a number above 50 and up to 100")
    with of_libraries():
        runner = Runner(model, values, batch_size)
    feeds = runner.check(samples)
    ranges = observe_ranges(runner, feeds)
    choose = METHODS[method]
    if choose is None:
        return ranges
    histograms = observe_histograms(runner, feeds, ranges)
    return {name: choose(h, percentile) if h.high > h.low else ranges[name] for name, h in histograms.items()}


def candidates(
    model: onnx.ModelProto, samples: Array | Mapping[str, Array], percentile: float = 99.99, batch_size: int = 32
) -> dict[str, dict[str, Range]]:
    """What every method chooses, by its name: `calibrate` for all of METHODS over one pass of the samples.

    Raises
    ------
    CalibrationError : as `calibrate`
    """
    runner = Runner(model, None, batch_size)
    feeds = runner.check(samples)
    ranges = observe_ranges(runner, feeds)
    histograms = observe_histograms(runner, feeds, ranges)
    return {
        method: {
            name: choose(h, percentile) if choose is not None and h.high > h.low else ranges[name]
            for name, h in histograms.items()
        }
        for method, choose in METHODS.items()
    }


def observe_ranges(runner: Runner, feeds: Mapping[str, Array]) -> dict[str, Range]:
    """Smallest and largest value of everything the runner yields."""
    ranges: dict[str, Range] = {}
    for batch in runner.run(feeds):
        for name, array in batch.items():
            low, high = float(array.min(initial=np.inf)), float(array.max(initial=-np.inf))
            if not np.isfinite([low, high]).all():
                cure = causes(runner.model) or "check the samples' units and the model"
                raise NotFinite(f"value {name!r} holds NaN or infinity on the calibration samples", cure)
            old = ranges.get(name, Range(low, high))
            ranges[name] = Range(min(low, old.low), max(high, old.high))
    return ranges


def observe_histograms(runner: Runner, feeds: Mapping[str, Array], ranges: Mapping[str, Range]) -> dict[str, Histogram]:
    """Histograms over the ranges found before."""
    counts = {name: np.zeros(BINS, np.int64) for name in ranges}
    for batch in runner.run(feeds):
        for name, array in batch.items():
            low, high = ranges[name].low, ranges[name].high
            if high > low:
                counts[name] += np.histogram(array, BINS, (low, high))[0]
    return {name: Histogram(ranges[name].low, ranges[name].high, count) for name, count in counts.items()}


class Runner:
    """Runs a model over samples in batches and yields the values asked for.

    Parameters
    ----------
    model : any ONNX model onnxruntime takes
    values : names of values to yield; None: every float32 value
    batch_size : samples at a time; a model with a fixed batch axis keeps its own, and one whose inputs have no batch axis in
        common (time first, a state of other axes) takes one sample, the whole of its inputs, at a time: `stacked`
    """

    def __init__(self, model: onnx.ModelProto, values: Sequence[str] | None = None, batch_size: int = 32) -> None:
        self.model = model
        self.values = float_values(model.graph) if values is None else list(values)
        self.inputs = {value.name: value for value in model.graph.input}
        batch = find_batch(model.graph)
        self.stacked = batch is None
        self.fixed = batch or 0
        self.batch_size = 1 if self.stacked else self.fixed or batch_size
        self.session = open_session(model, self.values)

    def check(self, samples: Array | Mapping[str, Array]) -> dict[str, Array]:
        """Samples by input name, as arrays of the inputs' types.

        Raises
        ------
        CalibrationError : they do not fit
        """
        names = list(self.inputs)
        if not isinstance(samples, Mapping):
            if len(names) != 1:
                raise CalibrationError(f"the model has inputs {', '.join(names)}: give samples as a dict by name")
            samples = {names[0]: samples}
        if set(samples) != set(names):
            raise CalibrationError(f"samples for {', '.join(samples)} given, the model's inputs are {', '.join(names)}")
        feeds = {name: self.as_input(name, samples[name]) for name in names}
        counts = {len(array) for array in feeds.values()}
        if len(counts) != 1 or 0 in counts:
            raise CalibrationError(f"the inputs have {sorted(counts)} samples: give equally many of each, at least one")
        return feeds

    def as_input(self, name: str, array: Any) -> Array:
        """The samples of one input; raises CalibrationError where they do not fit."""
        kind = self.inputs[name].type.tensor_type
        wanted = [d.dim_value for d in kind.shape.dim]
        result = _as_numbers(name, array, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))
        if self.stacked:
            result = stack_inputs(name, result, tuple(wanted))
        elif self.fixed and result.shape[1:] == tuple(wanted):  # whole inputs, one behind the other
            result = result.reshape(-1, *wanted[1:])
        elif result.shape[1:] != tuple(wanted[1:]):
            takes = ", ".join(["n", *map(str, wanted[1:])])
            what = f"samples for {name!r} have shape {result.shape}, the model takes ({takes})"
            raise CalibrationError(f"{what}; {cure(result.shape, tuple(wanted[1:]), 'x')}")
        if result.dtype.kind == "f" and not np.isfinite(result).all():
            raise CalibrationError(f"the samples for {name!r} hold NaN or infinity: remove those")
        return result

    def run(self, feeds: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """Yield the values (batch, ...) of each batch; the last batch of a fixed size repeats its last sample."""
        total, start = len(next(iter(feeds.values()))), 0
        while start < total:
            part = {name: array[start : start + self.batch_size] for name, array in feeds.items()}
            if self.stacked:
                part = {name: array[0] for name, array in part.items()}
            try:
                yield self._step(part)
            except _ORT_ERRORS as error:
                if self.batch_size == 1 or self.fixed:
                    raise CalibrationError(f"onnxruntime cannot run the model on the samples: {error}") from error
                self.batch_size = 1  # a batch axis that claims to vary, and a Reshape inside that says 1
                continue
            start += self.batch_size

    def _step(self, part: dict[str, Array]) -> dict[str, Array]:
        if self.fixed:
            part = {name: np.concatenate([a, *[a[-1:]] * (self.fixed - len(a))]) for name, a in part.items()}
        outputs = [name for name in self.values if name not in part]
        found = self.session.run(outputs, part) if outputs else []
        seen = {name: array for name, array in part.items() if name in self.values}
        return {**seen, **dict(zip(outputs, found, strict=True))}


def stack_inputs(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """Samples of an input that has no batch axis, one behind the other: (n, *shape).

    Taken are such arrays, those that leave out a first axis of 1, one sample alone, and, of shape (steps, 1, ...), samples
    along the axis of 1, as recurrent layers have them.

    Raises
    ------
    CalibrationError : the array is none of these
    """
    if array.shape[1:] == shape:
        return array
    if shape[:1] == (1,) and array.shape[1:] == shape[1:]:
        return array[:, None]
    if array.shape == shape:
        return array[None]
    if shape[1:2] == (1,) and array.shape[:1] + array.shape[2:] == shape[:1] + shape[2:]:
        return np.moveaxis(array, 1, 0)[:, :, None]
    takes = ", ".join(["n", *map(str, shape)])
    why = "no axis of its inputs is the batch, so samples stand one behind the other"
    cure = "numpy.stack() of whole inputs makes that; --float (quantized=False) needs no samples"
    raise CalibrationError(f"samples for {name!r} have shape {array.shape}, the model takes ({takes}): {why}; {cure}")


def fill_states(
    model: onnx.ModelProto, samples: Array | Mapping[str, Array], states: Mapping[str, str]
) -> Array | Mapping[str, Array]:
    """Samples with those of the states that are not given: what these become when the samples are one stream.

    Parameters
    ----------
    samples : (n, ...) in the order of the stream; a dict by name for several inputs that are no states
    states : inputs that are states, with the output that takes the place of each; they begin with zeros

    Raises
    ------
    CalibrationError : the samples do not fit, or onnxruntime cannot run the model on them
    """
    if not states:
        return samples
    try:
        runner = Runner(model, list(states.values()), 1)
    except _ORT_ERRORS as error:
        raise CalibrationError(f"onnxruntime cannot run the model on the samples: {error}") from error
    given = samples if isinstance(samples, Mapping) else {n: samples for n in runner.inputs if n not in states}
    missing = [name for name in states if name not in given]
    if not missing or len(given) + len(missing) != len(runner.inputs):
        return samples
    shapes = {name: [d.dim_value or 1 for d in runner.inputs[name].type.tensor_type.shape.dim] for name in missing}
    seen = {name: [np.zeros(shape, np.float32)] for name, shape in shapes.items()}
    feeds = {name: runner.as_input(name, array) for name, array in given.items()}
    for i in range(min(map(len, feeds.values())) - 1):
        part = {name: array[i] if runner.stacked else array[i : i + 1] for name, array in feeds.items()}
        found = runner.session.run([states[name] for name in missing], part | {n: seen[n][-1] for n in missing})
        for name, array in zip(missing, found, strict=True):
            seen[name].append(array)
    joined = {name: np.stack(arrays) if runner.stacked else np.concatenate(arrays) for name, arrays in seen.items()}
    return {**given, **joined}


#: what sessions raise: a session in a process of its own, RuntimeError
_ORT_ERRORS: tuple[type[BaseException], ...] = (
    RuntimeError,
    *(getattr(ort.capi.onnxruntime_pybind11_state, name) for name in ("Fail", "InvalidArgument", "RuntimeException")),
)


def float_values(graph: onnx.GraphProto) -> list[str]:
    """Names of inputs and computed values; non-float ones are dropped by the shapes of `open_session`."""
    inputs = [value.name for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    return inputs + [name for node in graph.node for name in node.output if name]


def open_session(model: onnx.ModelProto, values: list[str]) -> ort.InferenceSession | Session:
    """A session that gives `values` as outputs; values that are not float32 are removed from the list."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inputs = {value.name for value in copy.graph.input}
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values if name not in inputs)
    if not copy.graph.output:
        copy.graph.output.extend(model.graph.output)
    session = unoptimized(copy, threads=0)
    floats = {output.name for output in session.get_outputs() if output.type == "tensor(float)"} | inputs
    values[:] = [name for name in values if name in floats]
    return session


def _as_numbers(name: str, samples: Any, dtype: np.dtype[Any]) -> Array:
    """Samples in the type of their input, where nothing is lost by that; raises CalibrationError."""
    if isinstance(samples, np.ma.MaskedArray) and np.ma.getmaskarray(samples).any():
        raise CalibrationError(f"the samples for {name!r} have masked values: fill them, or leave such samples out")
    try:
        given = np.asarray(samples)
        if given.dtype.kind == "O":
            given = given.astype(float)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"the samples for {name!r} are not an array of numbers: {error}") from None
    if given.dtype.kind not in "biuf":
        raise CalibrationError(f"the samples for {name!r} are {given.dtype}, the model takes {dtype}: give numbers")
    with np.errstate(all="ignore"):
        result = np.ascontiguousarray(given, dtype)
    if dtype.kind in "iu" and not np.array_equal(result, given):
        raise CalibrationError(f"the samples for {name!r} do not fit {dtype}: give whole numbers within its range")
    return result
