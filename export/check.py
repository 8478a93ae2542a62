"""Does a model compute on the device what onnxruntime computes? `check` answers for any ONNX file.

>>> from edgeprop.export.check import check
>>> print(check("kws.onnx"))
ok: 0 of 48 output elements differ; largest difference 0 (0 of the largest)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from . import reference
from .errors import UnsupportedError
from .importer import Imported, load
from .layout import permute_array
from .lower import lower_with_values
from .lower.context import Context
from .program import Program

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = dict[str, Array]
#: runs a program on inputs by name: outputs by name in ONNX layout, and tensors (n, ...) by name in device layout
Device = Callable[[Program, Mapping[str, Array]], tuple[Mapping[str, Array], Mapping[str, Array]]]

#: a float output differs where it is off by more than this part of the largest value of that output
TOLERANCE = 1e-5
_ROWS = 4
_NUMPY = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}


@dataclass
class LayerResult:
    """How one tensor inside compares, for the first sample. `name`: of the ONNX value; `op`: what wrote it."""

    name: str
    op: str
    max_abs_error: float
    max_rel_error: float
    mismatches: int
    elements: int


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
    """

    status: str
    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    mismatches: int = 0
    elements: int = 0
    message: str = ""
    layers: list[LayerResult] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


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
        program, ctx = lower_with_values(imported)
        arrays = _given(imported, inputs) if inputs is not None else _random(imported, seed)
        arrays, expected = _expect(imported, arrays, can_shrink=inputs is None)
    except UnsupportedError as error:
        return CheckResult("unsupported", message=str(error))
    except (ValueError, OSError) as error:
        return CheckResult("error", message=str(error))
    outputs, tensors = (device or run_on_device)(program, arrays)
    result = _compare(outputs, expected)
    result.layers = _layers(ctx, program, imported, arrays, tensors)
    return result


def run_on_device(program: Program, inputs: Mapping[str, Array]) -> tuple[Arrays, Arrays]:
    """Write a program's image in memory, and run that through the C runtime."""
    from .. import Model
    from .image import to_image

    model = Model(to_image(program))
    arrays = [np.asarray(inputs[port.name]).reshape((-1, *port.shape[1:])) for port in program.inputs]
    results = model.run(*arrays)
    outputs = {port.name: y for port, y in zip(program.outputs, results, strict=True)}
    return outputs, model.trace(arrays[0][:1]) if len(arrays) == 1 else {}


# ---- Inputs ----------------------------------------------------------------------------------------------------------


def _shapes(imported: Imported) -> dict[str, tuple[np.dtype[Any], list[int]]]:
    """Type and shape of each graph input, 0 for a batch axis that may vary."""
    return {
        value.name: (
            np.dtype(_NUMPY[value.type.tensor_type.elem_type]),
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in imported.proto.graph.input
    }


def _random(imported: Imported, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    arrays: Arrays = {}
    for name, (dtype, shape) in _shapes(imported).items():
        size = [axis or _ROWS for axis in shape]
        if dtype == np.float32:
            arrays[name] = random.random(size).astype(dtype)
        elif dtype.itemsize > 1:
            arrays[name] = random.integers(0, _vocabulary(imported.proto.graph), size).astype(dtype)
        else:
            info = np.iinfo(dtype)
            arrays[name] = random.integers(info.min, info.max + 1, size).astype(dtype)
    return arrays


def _vocabulary(graph: onnx.GraphProto) -> int:
    """Rows of the smallest constant table that the graph gathers from: what every index may be below."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    return min((rows[n.input[0]] for n in graph.node if n.op_type == "Gather" and n.input[0] in rows), default=2)


def _given(imported: Imported, inputs: Mapping[str, Any]) -> Arrays:
    """The inputs given, checked against the graph. Raises ValueError naming the first that does not fit."""
    wanted = _shapes(imported)
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
    try:
        return arrays, reference.run(imported.proto, arrays)
    except Exception as error:
        if not can_shrink or imported.batch != 0:
            raise ValueError(f"onnxruntime does not run the model: {error}") from error
    return _expect(imported, {name: array[:1] for name, array in arrays.items()}, can_shrink=False)


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
    first = {name: array if imported.batch is None else array[:1] for name, array in arrays.items()}
    expected = reference.intermediates(ctx.normal.proto, first, list(held))
    results = []
    for op in program.ops:
        for name in set(op.outputs) & set(held):
            known, want = held[name], expected[name]
            got = np.asarray(tensors[name])[:1].reshape(-1)
            if known.dtype == "u8":
                got = (got.astype(np.int32) + 128).astype(np.uint8)
            flat = permute_array(want, known.dims, known.storage.order.settled())
            results.append(LayerResult(name, op.name, *_difference(got, flat), flat.size))
    return results
