"""Write a built network as an ONNX model. What each layer becomes stands in its own `to_onnx`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .onnx_builder import IR_VERSION, OPSET, GraphBuilder

if TYPE_CHECKING:
    import onnx


class Network(Protocol):
    """What is asked of a network: its ends, and that it writes its nodes into a builder."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    in_shapes: tuple[Any, ...]
    out_shape: Any

    def to_onnx(self, graph: GraphBuilder | None = None, *inputs: str) -> Any: ...


def to_model(net: Network) -> onnx.ModelProto:
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
