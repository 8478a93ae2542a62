"""Networks as ONNX models. What each layer becomes stands in its own `to_onnx`; onnx is imported here, when needed."""

from __future__ import annotations

import json
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
        self.states: dict[str, tuple[str, Sequence[Any]]] = {}
        self.truncate: dict[str, int] = {}

    def node(
        self,
        op: str,
        layer: Layer,
        inputs: Sequence[str],
        *,
        part: str = "",
        outputs: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Add a node named after the layer and return the name of its first output value.

        A layer of several nodes tells them apart by `part`; the last one has none. `outputs`: names of the values, where
        one of the usual name is not enough.
        """
        name = f"{layer.name}.{part}" if part else layer.name
        values = list(outputs) or [f"{name}.output"]
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), values, name=name, **attributes))
        return values[0]

    def constant(self, name: str, value: Array | float) -> str:
        """Add a float32 initializer and return its name."""
        array = np.ascontiguousarray(value, np.float32).reshape(np.shape(value))
        self.initializers.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add an int64 initializer (n,), such as axes or a shape, and return its name."""
        self.initializers.append(self.onnx.numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def params(self, layer: Layer) -> list[str]:
        """Add the layer's parameters, in the order of `add_param`, and return their names."""
        return [self.constant(f"{layer.name}.{key}", value) for key, value in layer.params.items()]

    def buffers(self, layer: Layer) -> list[str]:
        """Add the layer's buffers and return their names."""
        return [self.constant(f"{layer.name}.{key}", value) for key, value in layer.buffers.items()]

    def state(self, name: str, shape: Sequence[Any]) -> str:
        """Add a state that goes from run to run: a graph input of that name, and the output ``<name>_next``."""
        self.states[name] = (f"{name}_next", shape)
        return name

    @staticmethod
    def window_attributes(windows: Windows, rank: int = 2) -> dict[str, Any]:
        """Return kernel_shape, strides and pads of the last `rank` axes, and dilations where there are any."""
        first, last = windows.pads[2 - rank : 2], windows.pads[4 - rank :]
        attributes = {
            "kernel_shape": [*windows.kernel[-rank:]],
            "strides": [*windows.stride[-rank:]],
            "pads": [*first, *last],
        }
        if windows.dilation != (1, 1):
            attributes["dilations"] = [*windows.dilation[-rank:]]
        return attributes


def to_model(net: Graph) -> onnx.ModelProto:
    """Return a built network as a checked ONNX model, float32, batch size dynamic."""
    graph = GraphBuilder()
    helper = graph.onnx.helper
    names = ["input"] if len(net.inputs) == 1 else list(net.inputs)
    results, shapes = net.to_onnx(graph, *names), net.out_shape
    if len(net.outputs) == 1:
        results, shapes = (results,), (shapes,)
    out_names = ["output"] if len(net.outputs) == 1 else list(net.outputs)
    name_outputs(graph, results, out_names, names)
    integers = integer_inputs(graph, names)
    inputs = [
        value_info(helper, name, shape, name in integers) for name, shape in zip(names, net.in_shapes, strict=True)
    ]
    outputs = [value_info(helper, name, shape) for name, shape in zip(out_names, shapes, strict=True)]
    for name, (following, shape) in graph.states.items():
        inputs.append(helper.make_tensor_value_info(name, 1, shape))
        outputs.append(helper.make_tensor_value_info(following, 1, shape))
    proto = helper.make_graph(graph.nodes, net.name, inputs, outputs, graph.initializers)
    opset = [helper.make_opsetid("", OPSET)]
    model: onnx.ModelProto = helper.make_model(proto, opset_imports=opset, producer_name="edgeprop")
    model.ir_version = IR_VERSION
    said: dict[str, dict[str, Any]] = {}  # what the device does and ONNX has no place for
    if graph.states:
        said["edgeprop.states"] = {name: following for name, (following, _) in graph.states.items()}
    if graph.truncate:
        said["edgeprop.truncate"] = graph.truncate
    if said:
        helper.set_model_props(model, {key: json.dumps(value) for key, value in said.items()})
    graph.onnx.checker.check_model(model, full_check=True)
    return model


def name_outputs(graph: GraphBuilder, results: Sequence[str], outputs: Sequence[str], inputs: Sequence[str]) -> None:
    """Rename the values `results` to `outputs`; copy what no node made (an input), or what is an output already."""
    new: dict[str, str] = {}
    copies = []
    for result, output in zip(results, outputs, strict=True):
        if result in inputs or result in new:
            copies.append(graph.onnx.helper.make_node("Identity", [result], [output], name=output))
        else:
            new[result] = output
    graph.nodes += copies
    for node in graph.nodes:
        for values in (node.input, node.output):
            values[:] = [new.get(value, value) for value in values]


def integer_inputs(graph: GraphBuilder, inputs: Sequence[str]) -> set[str]:
    """Return the inputs that are only ever cast to int64 (for an Embedding), having taken out those casts."""
    found = set()
    for name in inputs:
        users = [node for node in graph.nodes if name in node.input]
        if users and all(node.op_type == "Cast" for node in users):
            found.add(name)
            whole = {node.output[0] for node in users}
            graph.nodes = [node for node in graph.nodes if node not in users]
            for node in graph.nodes:
                node.input[:] = [name if value in whole else value for value in node.input]
    return found


def value_info(helper: Any, name: str, shape: Sequence[int], integer: bool = False) -> onnx.ValueInfoProto:
    """Describe a value of shape ("batch", ...), float32 or int64."""
    return helper.make_tensor_value_info(name, 7 if integer else 1, ["batch", *shape])  # type: ignore[no-any-return]


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
