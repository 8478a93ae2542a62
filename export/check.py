"""Compare a model on the C runtime with onnxruntime, layer by layer: `check` takes any ONNX file.

>>> from edgeprop.export.check import check
>>> print(check("kws.onnx"))
ok: 0 of 48 output elements differ; largest difference 0 (0 of the largest)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .. import Error
from .errors import NotTakenError, UnsupportedError, first_cause
from .graph import reference
from .graph.exact import exact_outputs
from .graph.importer import Imported, load
from .graph.samples import random_inputs, shapes
from .lower import lower, lower_with_values
from .lower.context import Context
from .lower.layout import Value, permute_array
from .marks import metadata
from .program.plan import traits
from .program.program import Program
from .quantization.accuracy import Accuracy
from .quantization.analysis import quantize_inputs
from .quantization.calibrate import fill_states
from .quantization.quantize import Asked
from .quantization.sensitivity import worth_float
from .quantization.told import Told, quantize_and_tell

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = dict[str, Array]
#: runs a program on inputs by name: outputs by name in ONNX layout, and tensors (n, ...) by name in device layout
Device = Callable[[Program, Mapping[str, Array]], tuple[Mapping[str, Array], Mapping[str, Array]]]

#: a float output differs where it is off by more than this part of the largest value of that output
TOLERANCE = 1e-5
#: integer ops whose last bit depends on the CPU in onnxruntime (docs/arithmetic.md): they may be one step apart
ONE_STEP = frozenset({"add_s8", "add_broadcast_s8", "mul_s8", "global_average_pool_s8"})
_ROWS = 4
#: multiply-accumulates that are repeated in float64 where a float output differs
_MOST_WORK = 20_000_000
#: samples whose layers are looked at, of those whose outputs differ
_SAMPLES_LOOKED_AT = 32


@dataclass
class LayerResult:
    """How one tensor inside compares, for the first sample and those whose outputs differ.

    Attributes
    ----------
    name, op, kind : of the ONNX value, of the layer that wrote it, and of the device's op
    max_abs_error, max_rel_error, mismatches, elements : against onnxruntime from the input on, errors before included
    alone : mismatches where onnxruntime gets the device's inputs of this layer: what this layer itself does otherwise
    one_step : how many of these are off by one code
    excused : it is one of the ops that may be off by one, and none of `alone` is off by more
    snr : of int8 against float32, in dB; None where that was not asked for
    """

    name: str
    op: str
    max_abs_error: float
    max_rel_error: float
    mismatches: int
    elements: int
    kind: str = ""
    alone: int = 0
    one_step: int = 0
    excused: bool = False
    snr: float | None = None

    @property
    def rank(self) -> tuple[float, ...]:
        """Worst first: what it does wrong itself, then what arrives wrong, then what int8 costs."""
        own = 0 if self.excused else self.alone / self.elements
        noise = inf if self.snr is None or isnan(self.snr) else self.snr
        return (-own, -self.alone / self.elements, -self.mismatches / self.elements, noise)

    def __str__(self) -> str:
        noise = "" if self.snr is None else f"{self.snr:.1f}"
        counts = f"{self.mismatches:>8} {self.alone:>8} {self.elements:>8}"
        return f"{self.op:<28} {self.kind:<24} {counts} {self.max_abs_error:>9.3g} {noise:>7}".rstrip()


@dataclass
class CheckResult:
    """What `check` found.

    Attributes
    ----------
    status : `ok`; `differs`: some output does; `unsupported`: the device cannot run the graph; `error`: the model or
        the inputs are not valid
    max_abs_error : largest |device - onnxruntime| over all outputs; in steps where they are integers
    max_rel_error : the same as a part of the largest |onnxruntime| of that output
    mismatches, elements : outputs that differ, and all of them
    message : one line for people, or what was wrong
    layers : the tensors inside, in the order they are computed; empty where they were not compared
    output_snr : of int8 against float32 at the outputs, in dB; None where that was not asked for
    keep_float : layers worth leaving in float32, with the dB at the outputs that each gains after those before it
    accuracy : by output, what int8 costs it; empty where that was not asked for
    ruined : a sentence for each output whose answers int8 changes; `message` begins with them
    notes : what of the model was left out or is given otherwise, and which options had no effect, a sentence each
    """

    status: str
    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    mismatches: int = 0
    elements: int = 0
    message: str = ""
    layers: list[LayerResult] = field(default_factory=list)
    output_snr: float | None = None
    keep_float: list[tuple[str, float]] = field(default_factory=list)
    accuracy: Accuracy = field(default_factory=dict)
    ruined: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def worst_first(self) -> list[LayerResult]:
        """The layers, worst first."""
        return sorted(self.layers, key=lambda layer: layer.rank)

    def details(self, most: int = 0) -> Iterator[str]:
        """Lines for people: the layers, the `most` worst (0: all), what int8 costs, and what to leave in float32."""
        layers = self.worst_first()
        if layers:
            yield f"{'layer':<28} {'op':<24} {'differ':>8} {'alone':>8} {'of':>8} {'largest':>9} {'SNR dB':>7}"
        yield from map(str, layers[: most or None])
        if most and len(layers) > most:
            yield f"and {len(layers) - most} more that are no worse"
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"output {name!r}: {output}" for name, output in self.accuracy.items())
        if self.output_snr is not None:
            yield f"int8 against float32: {self.output_snr:.1f} dB at the outputs"
        if self.keep_float:
            gains = ", ".join(f"{name} (+{gain:.1f} dB)" for name, gain in self.keep_float)
            yield f"worth leaving in float32: {gains}: edgeprop export --float {' '.join(n for n, _ in self.keep_float)}"
        elif self.output_snr is not None:
            yield "no single layer is worth leaving in float32"

    def __str__(self) -> str:
        return "\n".join([f"{self.status}: {self.message}", *(f"note: {note}" for note in self.notes)])


def check(
    model: onnx.ModelProto | bytes | str | Path,
    inputs: Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    device: Device | None = None,
) -> CheckResult:
    """Run a model through the C runtime and through onnxruntime, and compare.

    An integer output must be equal. A float output mismatches where |device - onnxruntime| > 1e-5 * max |onnxruntime|,
    the maximum being over that output.

    Parameters
    ----------
    model : any ONNX model, as it is: a path, the bytes, or a ModelProto
    inputs : arrays by the graph's input names, in its layout, (n, ...) where the batch axis may vary; random ones where
        not given: floats in [0, 1), codes over their full range, indices within
        the smallest table, 4 samples where the batch may vary
    seed : of the random inputs
    device : what runs the program, for tests; the C runtime where not given

    Returns
    -------
    CheckResult; invalid models and inputs give status `error`, nothing is raised
    """
    try:
        imported = load(model)
        program, ctx = lower_with_values(imported, states={})
        arrays = _given(imported, inputs) if inputs is not None else random_inputs(imported.proto.graph, seed, _ROWS)
        arrays, expected = _expect(imported, arrays, can_shrink=inputs is None)
        run = device or run_on_device
        outputs, tensors = run(program, arrays)
    except Exception as error:
        return _failed(error)
    result = _compare(outputs, expected)
    if result.mismatches and imported.batch is not None and _work(program, arrays) <= _MOST_WORK:
        result = _judged(result, outputs, expected, exact_outputs(imported.proto, arrays))
    result.notes = [*imported.notes, *program.notes, *reference.notes(imported.given or imported.proto)]
    try:
        result.layers = _layers(ctx, program, imported, arrays, tensors)
    except Exception:  # onnxruntime refuses an index outside a table that an operator became, the device reads zeros
        return result
    apart = _samples_apart(outputs, expected) if result.layers and imported.batch == 0 else []
    for sample in apart[:_SAMPLES_LOOKED_AT]:
        if sample:  # the first is there
            one = {name: array[sample : sample + 1] for name, array in arrays.items()}
            _merge(result.layers, _layers(ctx, program, imported, one, run(program, one)[1]))
    _excuse(result, all_seen=len(apart) <= _SAMPLES_LOOKED_AT)
    return result


def _failed(error: Exception) -> CheckResult:
    """The result of a check that could not be made; errors of the libraries come with their names."""
    if isinstance(error, UnsupportedError):
        return CheckResult("unsupported", message=str(error))
    if isinstance(error, ValueError | OSError | Error):
        return CheckResult("error", message=str(error))
    return CheckResult("error", message=f"the model cannot be checked: {type(error).__name__}: {first_cause(error)}")


def _device_refuses(proto: onnx.ModelProto) -> UnsupportedError | None:
    """What of a model the device lacks, which says more than that onnxruntime does not take it."""
    try:
        lower(proto)
    except UnsupportedError as error:
        return error
    except Exception:
        return None
    return None


def run_on_device(program: Program, inputs: Mapping[str, Array]) -> tuple[Arrays, Arrays]:
    """Write a program's image in memory, and run that through the C runtime."""
    from .. import Model
    from .writers.image import refusal, to_image

    image = to_image(program)
    try:
        model = Model(image, max_memory=None)
    except Error as error:
        raise ValueError(refusal(program, image) or str(error)) from error
    arrays = [np.asarray(inputs[port.name]).reshape((-1, *port.shape[1:])) for port in program.inputs]
    results = model.run(*arrays)
    outputs = {port.name: y for port, y in zip(program.outputs, results, strict=True)}
    return outputs, model.trace(arrays[0][:1]) if len(arrays) == 1 else {}


# ---- Inputs ----------------------------------------------------------------------------------------------------------


def _given(imported: Imported, inputs: Mapping[str, Any]) -> Arrays:
    """The inputs given, checked against the graph. Raises ValueError naming the first that does not fit."""
    wanted = shapes(imported.proto.graph)
    for name in inputs:
        if name not in wanted:
            raise ValueError(f"input '{name}' is none of the model's: {', '.join(wanted)}")
    arrays = {name: _fit(name, inputs, dtype, shape) for name, (dtype, shape) in wanted.items()}
    rows = {name: len(arrays[name]) for name, (_, shape) in wanted.items() if shape and shape[0] == 0}
    if len(set(rows.values())) > 1:
        raise ValueError(f"inputs differ in their number of samples: {rows}")
    return arrays


def _fit(name: str, inputs: Mapping[str, Any], dtype: np.dtype[Any], shape: list[int]) -> Array:
    if name not in inputs:
        raise ValueError(f"input '{name}' is missing; the model takes it as {dtype} {shape}")
    try:
        array = np.asarray(inputs[name])
    except ValueError as error:
        raise ValueError(f"input '{name}' is not an array: {error}") from error
    if array.dtype != dtype and not (dtype == np.float32 and array.dtype.kind in "fiu"):
        raise ValueError(f"input '{name}' is {array.dtype}, the model takes {dtype}")
    fits = array.ndim == len(shape) and all(want in (0, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.size == 0:
        raise ValueError(f"input '{name}' has shape {list(array.shape)}, the model takes {shape} (0: any number)")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"input '{name}' holds NaN or infinity")
    return array.astype(dtype, copy=False)


def _expect(imported: Imported, arrays: Arrays, can_shrink: bool) -> tuple[Arrays, Arrays]:
    """Inputs and onnxruntime's outputs; random inputs shrink to one sample where the graph takes just one after all."""
    given = imported.given or imported.proto
    one_by_one = imported.batch == 0 and any(node.op_type.startswith("Dynamic") for node in given.graph.node)
    try:
        found = _run_samples(given, arrays) if one_by_one else reference.run(given, arrays)
        return arrays, {value.name: _as_array(found[value.name]) for value in imported.proto.graph.output}
    except Exception as error:
        if not can_shrink or imported.batch != 0:
            raise ValueError(f"onnxruntime does not run the model: {error}") from error
    return _expect(imported, {name: array[:1] for name, array in arrays.items()}, can_shrink=False)


def _run_samples(model: onnx.ModelProto, arrays: Arrays) -> Arrays:
    """onnxruntime's outputs of every sample alone: a dynamic scale is that of all it is given, the device's of one."""
    opened = reference.session(model)
    names = [output.name for output in opened.get_outputs()]
    rows = max(len(array) for array in arrays.values())
    found = [opened.run(names, {name: array[i : i + 1] for name, array in arrays.items()}) for i in range(rows)]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*found, strict=True), strict=True)}


def _as_array(value: Any) -> Array:
    """An output; of ZipMap, a list of dictionaries, the values as a table."""
    return np.array([list(row.values()) for row in value]) if isinstance(value, list) else np.asarray(value)


# ---- Comparison ------------------------------------------------------------------------------------------------------


def _difference(got: Array, expected: Array) -> tuple[float, float, int]:
    """Largest absolute and relative difference, number of mismatches."""
    if not expected.size:
        return 0.0, 0.0, 0
    have, want = got.astype(np.float64).reshape(-1), expected.astype(np.float64).reshape(-1)
    with np.errstate(invalid="ignore"):
        same = (have == want) | (np.isnan(have) & np.isnan(want))
        apart = np.where(same, 0.0, np.abs(have - want))
    apart = np.where(np.isnan(apart), np.inf, apart)
    finite = np.abs(want[np.isfinite(want)])
    largest = float(finite.max()) if finite.size else 0.0
    limit = TOLERANCE * largest if expected.dtype.kind == "f" else 0.0
    worst = float(apart.max())
    return worst, worst / largest if largest else float(worst > 0), int((apart > limit).sum())


def _compare(outputs: Mapping[str, Array], expected: Mapping[str, Array]) -> CheckResult:
    result = CheckResult("ok")
    for name, want in expected.items():
        if outputs[name].size != want.size:
            message = f"output '{name}' has shape {outputs[name].shape}, onnxruntime's {want.shape}"
            return CheckResult("differs", message=message, mismatches=want.size, elements=want.size)
        absolute, relative, mismatches = _difference(outputs[name], want)
        result.max_abs_error = max(result.max_abs_error, absolute)
        result.max_rel_error = max(result.max_rel_error, relative)
        result.mismatches += mismatches
        result.elements += want.size
    result.status = "differs" if result.mismatches else "ok"
    found = f"{result.mismatches} of {result.elements} output elements differ"
    result.message = (
        f"{found}; largest difference {result.max_abs_error:.3g} ({result.max_rel_error:.2g} of the largest)"
    )
    return result


def _work(program: Program, arrays: Arrays) -> int:
    """Multiply-accumulates of the check."""
    return sum(traits(op).macs(op.attrs) for op in program.ops) * max(map(len, arrays.values()), default=1)


def _judged(result: CheckResult, outputs: Mapping[str, Array], expected: Arrays, exact: Arrays | None) -> CheckResult:
    """What was compared, again with what the outputs really are: where onnxruntime is off and the device is not, nothing
    differs."""
    if exact is None:
        return result
    again = _compare(outputs, {name: exact[name].astype(np.float32) for name in expected})
    theirs = _compare(expected, exact)
    if again.mismatches or not theirs.mismatches:
        return result
    again.message += f" from float64; onnxruntime itself is off by {theirs.max_abs_error:.3g}"
    return again


def _samples_apart(outputs: Mapping[str, Array], expected: Arrays) -> list[int]:
    """Numbers of the samples that have outputs which differ."""
    found: set[int] = set()
    for name, want in expected.items():
        if want.ndim and outputs[name].size == want.size:
            pairs = zip(outputs[name].reshape(want.shape), want, strict=True)
            limit = TOLERANCE * float(np.abs(want, dtype=np.float64).max(initial=0)) if want.dtype.kind == "f" else 0.0
            found.update(i for i, (a, b) in enumerate(pairs) if not _is_near(a, b, limit))
    return sorted(found)


def _is_near(a: Array, b: Array, limit: float) -> bool:
    return bool(np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=0, atol=limit, equal_nan=True))


def _merge(layers: list[LayerResult], others: list[LayerResult]) -> None:
    """Add what another sample showed of the same layers."""
    by_name = {other.name: other for other in others}
    for layer in layers:
        other = by_name[layer.name]
        layer.max_abs_error = max(layer.max_abs_error, other.max_abs_error)
        layer.max_rel_error = max(layer.max_rel_error, other.max_rel_error)
        layer.excused = layer.excused and other.excused
        layer.mismatches += other.mismatches
        layer.elements += other.elements
        layer.alone += other.alone
        layer.one_step += other.one_step


def _layers(
    ctx: Context, program: Program, imported: Imported, arrays: Arrays, tensors: Mapping[str, Array]
) -> list[LayerResult]:
    """Compare the tensors of the first sample with onnxruntime's, by ONNX value."""
    writers = {output: op for op in program.ops for output in op.outputs}
    held = {
        str(value.name): known
        for value, known in ctx.values.items()
        if value.name == known.storage.tensor and value.name in writers and value.name in tensors
    }
    if not held:
        return []
    rows = {v.name: v.type.tensor_type.shape.dim[:1] for v in ctx.normal.proto.graph.input}
    first = {name: array[: rows[name][0].dim_value] if rows[name] else array for name, array in arrays.items()}
    expected = reference.intermediates(ctx.normal.proto, first, list(held))
    found = {name: _as_onnx(tensors[name], known, expected[name]) for name, known in held.items()}
    alone = _alone(ctx.normal.proto, first, found) or expected
    makers = {output: node.op_type for node in ctx.normal.proto.graph.node for output in node.output}
    results = []
    for op in program.ops:
        for name in (output for output in op.outputs if output in held):
            layer = LayerResult(name, op.name, *_difference(found[name], expected[name]), found[name].size, op.kind)
            layer.alone = _difference(found[name], alone[name])[2]
            if expected[name].dtype.kind in "iu":
                apart = np.abs(found[name].astype(np.int32) - alone[name].astype(np.int32))
                layer.one_step = int((apart == 1).sum())
                taken_up = makers.get(name) == "QuantizeLinear" and op.kind.endswith("_s8") and op.kind != "lut_s8"
                layer.excused = (op.kind in ONE_STEP or taken_up) and layer.one_step == layer.alone
            results.append(layer)
    return results


def _as_onnx(tensor: Array, known: Value, like: Array) -> Array:
    """The first sample of a device tensor, in ONNX layout and type."""
    flat = np.asarray(tensor)[:1].reshape(-1)
    if known.dtype == "u8":
        flat = (flat.astype(np.int32) + 128).astype(np.uint8)
    places = permute_array(np.arange(like.size), known.dims, known.storage.order.settled())
    result: Array = np.empty_like(like)
    np.put(result, places, flat)
    return result


def _alone(proto: onnx.ModelProto, inputs: Arrays, found: Arrays) -> Arrays | None:
    """What onnxruntime makes of each layer from the device's values before it; None where it takes no such graph."""
    graph = onnx.ModelProto()
    graph.CopyFrom(proto)
    feeds = dict(inputs)
    for node in graph.graph.node:
        for index, name in enumerate(node.input):
            if name in found:
                node.input[index] = f"{name}@device"
                feeds[f"{name}@device"] = found[name]
    for name in feeds.keys() - inputs.keys():
        kind = onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype)
        graph.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, feeds[name].shape))
    try:
        return reference.intermediates(graph, feeds, list(found))
    except Exception:
        return None


def _excuse(result: CheckResult, all_seen: bool) -> None:
    """Tell of ops that are one step apart by nature; where nothing else differs in any sample, that is no fault."""
    off = [layer for layer in result.layers if layer.alone]
    excused = [layer for layer in off if layer.excused]
    if not excused:
        return
    steps, of = sum(layer.one_step for layer in excused), sum(layer.elements for layer in excused)
    kinds = ", ".join(sorted({layer.kind for layer in excused}))
    result.message += f"; {steps} of {of} elements of {kinds} are one step off, as they may be (docs/arithmetic.md)"
    if all_seen and len(excused) == len(off) and result.status == "differs":
        result.status = "ok"


# ---- int8 against float32 --------------------------------------------------------------------------------------------


def check_quantized(
    model: onnx.ModelProto | bytes | str | Path,
    calibration: Array | Mapping[str, Array],
    *,
    device: Device | None = None,
    suggest: bool = True,
    **options: Any,
) -> CheckResult:
    """Quantize a float32 model, check that, and tell what int8 costs layer by layer.

    Parameters
    ----------
    model : float32
    calibration : (n, ...) samples, or a dict by name of several inputs
    device : as of `check`
    suggest : also find layers worth leaving in float32, which quantizes the model once for every layer
    options : of `quantize`

    Returns
    -------
    CheckResult with the layers' `snr`, `output_snr` and `keep_float`; status `error` where `quantize` refuses
    """
    given = {key: value for key, value in options.items() if key not in ("loss", "labels")}
    known = {key: options.get(key) for key in ("loss", "labels")}
    try:
        imported = load(model)
        proto = imported.proto
        calibration = fill_states(proto, calibration, metadata(proto).get("states", {}))
        told = quantize_and_tell(proto, calibration, Asked(**given), **known, find_cure=suggest)
    except NotTakenError as error:
        return _failed(_device_refuses(proto) or error)
    except Exception as error:
        return _failed(error)
    found = told.found
    few = _few(found.feeds, imported.batch)
    result = check(found.model, quantize_inputs(found.model, few), device=device)
    compare_with_float(result, told)
    result.notes = [*imported.notes, *result.notes]
    if suggest:
        some = {key: value for key, value in options.items() if key in _OPTIONS}
        result.keep_float = worth_float(found.normal, found.trainable, found.feeds, **some)
    return result


def _few(feeds: Mapping[str, Array], batch: int | None) -> Arrays:
    """Some of the calibration samples, as many as the model takes at a time."""
    if batch is None:  # whole inputs, one behind the other
        return {name: array[0] for name, array in feeds.items()}
    rows = {
        name: np.arange(batch) % len(array) if batch else np.arange(min(_ROWS, len(array)))
        for name, array in feeds.items()
    }
    return {name: array[rows[name]] for name, array in feeds.items()}


def compare_with_float(result: CheckResult, told: Told) -> None:
    """Fill in what int8 costs the layers and outputs of `result`, what it ruins first."""
    result.output_snr = min((output.snr_db for output in told.accuracy.values()), default=inf)
    result.accuracy, result.ruined, result.notes = told.accuracy, told.ruined, [*result.notes, *told.notes]
    result.message = "; ".join([*told.ruined, result.message])
    for layer in result.layers:
        layer.snr = told.snr.get(layer.op)


_OPTIONS = ("method", "percentile", "keep_float", "per_channel", "bias_correction")
