"""Limit what a model may ask for: a small file can be a graph of 2^40 nodes, or a constant of terabytes once it is folded.

All of it is seen before anything is computed, and refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from ..errors import UnsupportedError, UnsupportedNode, shortened
from .uses import all_nodes

#: of a graph, with those of the graphs inside nodes and of functions: far more than networks for devices have
MOST_NODES = 10000
#: of an input or of a value inside: what can be run on the way to a device, which has far less memory
MOST_ELEMENTS = 1 << 28
#: of a value that is computed when the model is exported
MOST_FOLDED = 1 << 26
#: inputs, and outputs, of a graph
MOST_ENDS = 1024
#: of a name
MOST_LETTERS = 4096
#: operators that run a graph as often as their inputs say
LOOPS = {"Loop", "Scan"}
#: axes of a value
MOST_AXES = 32


def check_counts(proto: onnx.ModelProto) -> None:
    """Refuse a model of too many nodes, inputs or outputs, functions inlined; before these are.

    Raises
    ------
    ValueError : it has more than a device can run, or its functions call one another in a circle
    """
    for what, values in (("inputs", proto.graph.input), ("outputs", proto.graph.output)):
        known = {tensor.name for tensor in proto.graph.initializer} if what == "inputs" else set()
        count = len({value.name for value in values} - known)
        if count > MOST_ENDS:
            raise ValueError(f"the model has {count:,} {what}, at most {MOST_ENDS:,} fit a device: split it")
    for node in all_nodes(proto.graph.node):
        _check_node(node)
    count = _count_nodes(proto)
    if count > MOST_NODES:
        functions = " with its functions inlined" if proto.functions else ""
        cure = "simplify it (onnxsim, onnxslim), or split it"
        raise ValueError(f"the graph has {_told(count)} nodes{functions}, at most {MOST_NODES:,} fit a device: {cure}")


def _check_node(node: onnx.NodeProto) -> None:
    """Refuse names as long as files, and a Split of more parts than outputs, for all of which onnx would make room."""
    longest = max((node.name, node.op_type, node.domain, *node.input, *node.output), key=len)
    if len(longest) > MOST_LETTERS:
        told = f"the name '{longest[:40]}...' has {len(longest):,} letters"
        raise ValueError(f"{told}, at most {MOST_LETTERS:,} are taken")
    parts = max((a.i for a in node.attribute if a.name == "num_outputs"), default=0)
    if parts > len(node.output):
        name = node.name or next(iter(node.output), "")
        raise ValueError(f"{node.op_type} '{name}' asks for {parts:,} parts and has {len(node.output)} outputs")


def _told(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "more than 10^15"


def _count_nodes(proto: onnx.ModelProto) -> int:
    """Nodes of a model, those of functions once for every call."""
    bodies = {(f.domain, f.name): list(all_nodes(f.node)) for f in proto.functions}
    calls = {key: [(n.domain, n.op_type) for n in nodes] for key, nodes in bodies.items()}
    counts: dict[tuple[str, str], int] = {}
    for start in calls:
        todo = [start]
        while todo:
            key = todo[-1]
            unknown = [called for called in calls[key] if called in calls and called not in counts]
            if not unknown:
                counts[key] = sum(counts.get(called, 1) for called in calls[key])
                todo.pop()
            elif unknown[0] in todo:
                raise ValueError(
                    f"the model's functions call one another in a circle: {shortened('.'.join(unknown[0]))}"
                )
            else:
                todo.append(unknown[0])
            if len(todo) > MOST_AXES:
                raise ValueError(f"the model's functions call one another more than {MOST_AXES} deep: inline them")
    return sum(counts.get((node.domain, node.op_type), 1) for node in all_nodes(proto.graph.node))


def check_ranges(proto: onnx.ModelProto) -> None:
    """Refuse a Range of constant ends that counts too far, which onnx writes out where it infers shapes.

    Raises
    ------
    UnsupportedError : naming the nodes
    """
    ranges = [node for node in all_nodes(proto.graph.node) if node.op_type == "Range"]
    if not ranges:
        return
    constants = {t.name: t for t in proto.graph.initializer}
    for node in all_nodes(proto.graph.node):
        for given in node.attribute if node.op_type == "Constant" else ():
            constants[node.output[0]] = given.t
    bad = []
    for node in ranges:
        ends = {name: numpy_helper.to_array(constants[name]) for name in node.input if name in constants}
        if is_endless(node, ends):
            count = folded_elements(node, {}, ends) or 0
            why = f"its output has {_told(count)} elements"
            bad.append(UnsupportedNode(node.name or node.output[0], "Range", why, f"at most {MOST_FOLDED:,}"))
    if bad:
        raise UnsupportedError(bad)


def check_sizes(inferred: onnx.ModelProto) -> None:
    """Refuse values of more elements or axes than can be run, or of fewer than none.

    Parameters
    ----------
    inferred : the model, with shapes as far as they are known

    Raises
    ------
    UnsupportedError : naming the nodes that make them
    """
    makers = {output: node for node in inferred.graph.node for output in node.output}
    bad = []
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        dims = value.type.tensor_type.shape.dim
        refused = _refused([d.dim_value if d.HasField("dim_value") else 1 for d in dims])
        node = makers.get(value.name)
        if refused is not None and node is not None:
            bad.append(UnsupportedNode(node.name or value.name, node.op_type, *refused))
    if bad:
        raise UnsupportedError(bad)


def _refused(sizes: list[int]) -> tuple[str, str] | None:
    if min(sizes, default=0) < 0:
        return f"its output has the shape {sizes}", "no axis has fewer than 0 elements"
    if len(sizes) > MOST_AXES:
        return f"its output has {len(sizes)} axes", f"at most {MOST_AXES}"
    count = prod(size for size in sizes if size > 0)
    return (f"its output has {_told(count)} elements", f"at most {MOST_ELEMENTS:,}") if count > MOST_ELEMENTS else None


# ---- Constants -------------------------------------------------------------------------------------------------------


def folded_elements(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], small: Mapping[str, np.ndarray]
) -> int | None:
    """Elements of what a node makes of constants, found without computing it; None where that is not known.

    Parameters
    ----------
    shapes : of its inputs, by name
    small : those of its inputs that are few integers, such as sizes, or a range's ends
    """
    inputs = list(node.input)
    rule = _RULES.get(node.op_type)
    try:
        if rule is not None:
            return rule(inputs, shapes, small)
        if node.op_type in ("MatMul", "Gemm"):
            return prod(shapes[inputs[0]][:-1]) * prod(shapes[inputs[1]][1:] if len(shapes[inputs[1]]) > 1 else ())
        return max(prod(_broadcast(shapes[name] for name in inputs if name)), sum(prod(shapes[n]) for n in inputs if n))
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, ZeroDivisionError):
        return None


def _broadcast(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The largest size of each axis, counted from the last."""
    found: list[int] = []
    for shape in shapes:
        found += [1] * (len(shape) - len(found))
        for i, size in enumerate(reversed(shape)):
            found[i] = max(found[i], size)
    return tuple(found)


def _ints(array: np.ndarray) -> list[int]:
    return [int(value) for value in array.ravel().tolist()]


_Rule = Callable[[list[str], Mapping[str, tuple[int, ...]], Mapping[str, np.ndarray]], int]
#: operator -> elements of its output, from its inputs' names, shapes and small arrays
_RULES: dict[str, _Rule] = {
    "ConstantOfShape": lambda inputs, shapes, small: prod(_ints(small[inputs[0]])),
    "Expand": lambda inputs, shapes, small: prod(_broadcast([shapes[inputs[0]], tuple(_ints(small[inputs[1]]))])),
    "Tile": lambda inputs, shapes, small: prod(shapes[inputs[0]]) * prod(_ints(small[inputs[1]])),
    "Range": lambda inputs, shapes, small: int(
        (float(small[inputs[1]].item()) - float(small[inputs[0]].item())) / float(small[inputs[2]].item())
    ),
    "OneHot": lambda inputs, shapes, small: prod(shapes[inputs[0]]) * _ints(small[inputs[1]])[0],
    "Pad": lambda inputs, shapes, small: prod(
        size + before + behind
        for size, before, behind in zip(
            shapes[inputs[0]],
            _ints(small[inputs[1]])[: len(shapes[inputs[0]])],
            _ints(small[inputs[1]])[len(shapes[inputs[0]]) :],
            strict=False,
        )
    ),
    "Gather": lambda inputs, shapes, small: prod(shapes[inputs[0]]) * prod(shapes[inputs[1]]),
    "Resize": lambda inputs, shapes, small: (
        prod(_ints(small[inputs[3]]))
        if len(inputs) > 3 and inputs[3]
        else int(prod(shapes[inputs[0]]) * float(np.prod(small[inputs[2]].astype(np.float64))))
    ),
}


def make_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with shapes inferred, by what constants say of sizes too.

    Raises
    ------
    onnx.shape_inference.InferenceError : types or shapes do not fit one another
    """
    return onnx.shape_inference.infer_shapes(proto, check_type=True, data_prop=True)


def is_endless(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a node of constants is not to be computed: a loop, which may take any time, or more elements than are folded."""
    small = {name: array for name, array in arrays.items() if array.size <= MOST_AXES}
    count = folded_elements(node, {name: array.shape for name, array in arrays.items()}, small)
    return node.op_type in LOOPS or (count is not None and count > MOST_FOLDED)
