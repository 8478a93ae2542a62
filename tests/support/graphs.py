"""Small ONNX graphs for tests, and the models that others trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

#: models trained by others, with onnxruntime's answers in golden/
MODELS = Path(os.environ.get("EDGEPROP_MODELS", Path(__file__).resolve().parents[3] / "shared" / "models"))

node = helper.make_node


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    out_dtype: int | None = None,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
) -> onnx.ModelProto:
    """A model of `nodes`; `shapes` of outputs where they matter."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, out_dtype or dtype, list(shapes[name]) if shapes else None)
            for name in outputs
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def qdq(name: str, scale: float, zero_point: int, dtype: Any = np.int8) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """QuantizeLinear and DequantizeLinear behind value `name` (to `name.dq`), and their constants."""
    constants = {f"{name}.scale": np.float32(scale), f"{name}.zero": np.asarray(zero_point, dtype)}
    pair = [
        node("QuantizeLinear", [name, f"{name}.scale", f"{name}.zero"], [f"{name}.q"], name=f"{name}.Q"),
        node("DequantizeLinear", [f"{name}.q", f"{name}.scale", f"{name}.zero"], [f"{name}.dq"], name=f"{name}.DQ"),
    ]
    return pair, constants


def shared(path: str) -> Path:
    """A model of others; the test is skipped where it is not there."""
    found = MODELS / path
    if not found.exists():
        pytest.skip(f"{found} is not there (set EDGEPROP_MODELS)")
    return found


def golden(path: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and onnxruntime's outputs of a model of others, by the names the graph has, `/` written as `_`."""
    arrays = np.load(shared(f"golden/{path[:-5].replace('/', '__')}.npz"))
    inputs = {name[4:]: arrays[name] for name in arrays.files if name.startswith("in__")}
    return inputs, {name[5:]: arrays[name] for name in arrays.files if name.startswith("out__")}
