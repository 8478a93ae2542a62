"""Small QDQ graphs, and the ONNX Runtime session they are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

#: Session options that make ONNX Runtime's answer well defined on every x86, by the type of the activations
REFERENCE = {
    np.dtype(np.int8): {"session.qdqisint8allowed": "1"},
    np.dtype(np.uint8): {"session.x64quantprecision": "1"},
}


def session(model: bytes, dtype: Any = np.int8, optimized: str | None = None) -> ort.InferenceSession:
    """A CPU session with the reference options; `optimized` is a path to write the fused graph to."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    for key, value in REFERENCE[np.dtype(dtype)].items():
        options.add_session_config_entry(key, value)
    if optimized is not None:
        options.optimized_model_filepath = optimized
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Graph:
    """Builds a graph node by node; values are names."""

    def __init__(self, opset: int = 13) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: dict[str, np.ndarray[Any, Any]] = {}

    def feed(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """A graph input with the value it will get."""
        self.inputs[name] = value
        return name

    def constant(self, value: Any) -> str:
        """An initializer."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        """A node of one output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attrs))
        return name

    def dequantize(self, x: str, scale: Any, zero_point: Any = None, **attrs: Any) -> str:
        """DequantizeLinear; `zero_point` is a NumPy scalar or array of the codes' type."""
        zero = [] if zero_point is None else [self.constant(zero_point)]
        return self.op("DequantizeLinear", x, self.constant(np.asarray(scale, np.float32)), *zero, **attrs)

    def quantize(self, x: str, scale: Any, zero_point: Any) -> str:
        """QuantizeLinear."""
        return self.op("QuantizeLinear", x, self.constant(np.float32(scale)), self.constant(zero_point))

    def model(self, output: str, dtype: Any) -> bytes:
        """The serialized model with one output."""
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in self.inputs.items()
        ]
        outputs = [helper.make_tensor_value_info(output, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)]
        graph = helper.make_graph(self.nodes, "test", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return bytes(model.SerializeToString())

    def run(self, output: str, dtype: Any = np.int8, optimized: str | None = None) -> np.ndarray[Any, Any]:
        """The output's value, in a reference session for activations of this type."""
        found = session(self.model(output, dtype), dtype, optimized).run(None, self.inputs)[0]
        assert isinstance(found, np.ndarray)
        return found
