"""Draw random inputs that a model can take."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, np.dtype[Any]]

_NUMPY = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}


def shapes(graph: onnx.GraphProto) -> dict[str, tuple[np.dtype[Any], list[int]]]:
    """Type and shape of each graph input, 0 for an axis that may vary.

    Raises
    ------
    ValueError : an input of a type that the device does not take
    """
    found = {}
    for value in graph.input:
        kind = value.type.tensor_type
        if kind.elem_type not in _NUMPY:
            raise ValueError(f"input '{value.name}' is {onnx.TensorProto.DataType.Name(kind.elem_type)}")
        found[value.name] = (np.dtype(_NUMPY[kind.elem_type]), [dim.dim_value for dim in kind.shape.dim])
    return found


def random_inputs(graph: onnx.GraphProto, seed: int, rows: int) -> dict[str, Array]:
    """Arrays by input name: floats in [0, 1), codes over their full range, indices within the smallest table.

    Parameters
    ----------
    rows : size of axes that may vary
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for name, (dtype, shape) in shapes(graph).items():
        size = [axis or rows for axis in shape]
        if dtype == np.float32:
            arrays[name] = random.random(size).astype(dtype)
        elif dtype.itemsize > 1:
            arrays[name] = random.integers(0, _vocabulary(graph), size).astype(dtype)
        else:
            info = np.iinfo(dtype)
            arrays[name] = random.integers(info.min, info.max + 1, size).astype(dtype)
    return arrays


def _vocabulary(graph: onnx.GraphProto) -> int:
    """Rows of the smallest constant table that the graph gathers from: what every index may be below."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    return min((rows[n.input[0]] for n in graph.node if n.op_type == "Gather" and n.input[0] in rows), default=2)
