"""Evaluate a float graph in float64, to arbitrate where onnxruntime and the device differ.

onnxruntime's Sigmoid, Tanh, Exp and others are polynomials that are exact to some 1e-7 of 1, which is much where all values
are small. numpy's float64 knows which of two float32 results is the better.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from .uses import RANDOM, all_nodes

_TO_DOUBLE = {TensorProto.FLOAT: TensorProto.DOUBLE}


def exact_outputs(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Outputs by name, computed in float64 by numpy; None where that cannot be, as of quantized graphs.

    Parameters
    ----------
    model : float32, not changed; numpy computes its convolutions slowly
    inputs : by name, in ONNX layout
    """
    if any(_is_apart(node) for node in all_nodes(model.graph.node)):
        return None
    feeds = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in inputs.items()}
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(_in_float64(model)).run(None, feeds)
    except Exception:  # onnx's reference code knows less than onnxruntime, and raises of all kinds
        return None
    names = [value.name for value in model.graph.output]
    arrays = dict(zip(names, found, strict=True))
    doubles = all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in arrays.values())
    return arrays if doubles else None


def _is_apart(node: onnx.NodeProto) -> bool:
    """Whether a node computes with codes, by chance, or is not ONNX's own."""
    codes = "Quantize" in node.op_type or node.op_type.startswith("QLinear") or node.op_type.endswith("Integer")
    return codes or node.op_type in RANDOM or node.domain not in ("", "ai.onnx")


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float64 in the place of float32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        kind.elem_type = _TO_DOUBLE.get(kind.elem_type, kind.elem_type)
    for node in all_nodes(graph.node):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if node.op_type in ("Cast", "EyeLike", "SequenceEmpty") and attribute.name in ("to", "dtype"):
                attribute.i = _TO_DOUBLE.get(attribute.i, attribute.i)
    return copy


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
