"""Networks as ONNX models. What each layer becomes stands in its own `to_onnx`; onnx is imported here, when needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._common import Array

if TYPE_CHECKING:
    import onnx

    from .graph import Graph
    from .layers import Layer
    from .layers.windows import Windows

OPSET = 17
IR_VERSION = 8  # the oldest that goes with the opset, so that older runtimes read it too


class GraphBuilder:
    """Collects nodes and initializers while layers write themselves into it."""

    def __init__(self) -> None:
        self.onnx = import_onnx()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, layer: Layer, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node named after the layer and return the name of its output value."""
        output = f"{layer.name}.output"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [output], name=layer.name, **attributes))
        return output

    def constant(self, name: str, value: Array | float) -> str:
        """Add a float32 initializer and return its name."""
        array = np.ascontiguousarray(value, np.float32).reshape(np.shape(value))
        self.initializers.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def params(self, layer: Layer) -> list[str]:
        """Add the layer's parameters, in the order of `add_param`, and return their names."""
        return [self.constant(f"{layer.name}.{key}", value) for key, value in layer.params.items()]

    def buffers(self, layer: Layer) -> list[str]:
        """Add the layer's buffers and return their names."""
        return [self.constant(f"{layer.name}.{key}", value) for key, value in layer.buffers.items()]

    @staticmethod
    def window_attributes(windows: Windows) -> dict[str, list[int]]:
        """Return kernel_shape, strides and pads."""
        return {"kernel_shape": [*windows.kernel], "strides": [*windows.stride], "pads": [*windows.pads]}


def to_model(net: Graph) -> onnx.ModelProto:
    """Return a built network as a checked ONNX model, float32, batch size dynamic."""
    graph = GraphBuilder()
    helper = graph.onnx.helper
    names = ["input"] if len(net.inputs) == 1 else list(net.inputs)
    result = net.to_onnx(graph, *names)
    name_output(graph, result, names)
    inputs = [value_info(helper, name, shape) for name, shape in zip(names, net.in_shapes, strict=True)]
    outputs = [value_info(helper, "output", net.out_shape)]
    proto = helper.make_graph(graph.nodes, net.name, inputs, outputs, graph.initializers)
    opset = [helper.make_opsetid("", OPSET)]
    model: onnx.ModelProto = helper.make_model(proto, opset_imports=opset, producer_name="edgeprop")
    model.ir_version = IR_VERSION
    graph.onnx.checker.check_model(model, full_check=True)
    return model


def name_output(graph: GraphBuilder, result: str, inputs: Sequence[str]) -> None:
    """Rename value `result` to "output", or copy an input to it if no node made it."""
    if result in inputs:
        graph.nodes.append(graph.onnx.helper.make_node("Identity", [result], ["output"], name="output"))
        return
    for node in graph.nodes:
        for values in (node.input, node.output):
            values[:] = ["output" if value == result else value for value in values]


def value_info(helper: Any, name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    """Describe a float32 value of shape ("batch", ...)."""
    return helper.make_tensor_value_info(name, 1, ["batch", *shape])  # type: ignore[no-any-return]


def import_onnx() -> Any:
    """Return the onnx package.

    Raises
    ------
    ImportError
        If it is missing; the message says how to get it.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError("writing ONNX needs the onnx package: pip install edgeprop[export]") from error
    return onnx
