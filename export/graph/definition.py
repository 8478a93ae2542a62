"""Rewrite operators that onnxruntime computes otherwise than ONNX defines them into forms that it computes right.

The device does what ONNX says; what it is compared with must, too (docs/arithmetic.md lists the places).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .tidy import tidy

Array = np.ndarray[Any, np.dtype[Any]]

#: pools, and the input that is the zero point of their codes
_POOLS = {"AveragePool": None, "QLinearAveragePool": 2}
#: coordinates that depend on the resized length, which onnxruntime rounds first
_OF_LENGTH = ("align_corners", "pytorch_half_pixel")
#: weights of a resized axis that ONNX's reference works out in seconds
MOST_WEIGHTS = 1 << 17
#: a length that is nearer to a whole number than this is one, told in float32
_WHOLE = 1e-3


def as_defined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy of it with the same inputs and outputs in which onnxruntime computes what ONNX defines.

    - AveragePool and QLinearAveragePool with count_include_pad and ceil_mode, whose last windows hang over the padding:
      onnxruntime's kernel for codes (and for float32 in older versions) counts taps beyond it. The padding becomes a Pad.
    - Resize by scales that give no whole length: onnxruntime rounds the length before it aligns corners by it. The
      resampling becomes a product with a matrix, or a Gather, worked out by ONNX's reference.
    - What `with_plain_biases` and `tidy` do.
    """
    model = with_plain_biases(tidy(model))
    parts = [node for node in model.graph.node if _counts_too_many(node) or _rounds_length(node)]
    if not parts:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = _constants(copy.graph)
    shapes = _shapes(copy)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        made: list[onnx.NodeProto] | None = None
        if _counts_too_many(node):
            made = _padded_pool(copy.graph, node, constants, shapes)
        elif _rounds_length(node):
            made = _resampled(copy.graph, node, constants, shapes)
        copy.graph.node.extend(made or [node])
    return copy


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _text(value: Any, default: str) -> str:
    return default if value is None else value.decode() if isinstance(value, bytes) else str(value)


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Sizes of the axes by value, 0 where one may vary."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    typed = [value for value in bare.graph.output if value.type.HasField("tensor_type")]
    del bare.graph.output[:]  # one without a type would keep what is inferred of it to itself
    bare.graph.output.extend(typed)
    known = onnx.shape_inference.infer_shapes(bare).graph
    values = [*known.input, *known.value_info, *known.output]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def _store(graph: onnx.GraphProto, name: str, array: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


# ---- Biases of integer layers ----------------------------------------------------------------------------------------

#: a bias whose scale is off by less than this is meant to have the product of the scales of input and weight
_SAME_SCALE = 1e-6


def with_plain_biases(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which a quantized layer's int32 bias has the scale of its sums.

    onnxruntime adds the bias's integers to the sums of codes as they are, whatever scale their DequantizeLinear has.
    """
    if not any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return model
    constants = _constants(model.graph)
    makers = {output: node for node in model.graph.node for output in node.output}
    found = {
        node.output[0]: fixed
        for node in model.graph.node
        if (fixed := _plain_bias(node, constants, makers)) is not None
    }
    if not found:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for index, node in enumerate(list(copy.graph.node)):
        if (fixed := found.get(node.output[0])) is not None:
            place, codes, scale = fixed
            _give_bias(copy.graph, index + len(copy.graph.node) - len(model.graph.node), place, codes, scale)
    return copy


def _give_bias(graph: onnx.GraphProto, index: int, place: int, codes: Array, scale: Array) -> None:
    """A bias of these codes for the node at `index`, by a DequantizeLinear of its own before it."""
    node = graph.node[index]
    name = f"{node.output[0]}.{node.input[place]}"
    inputs = [_store(graph, f"{name}.codes", codes), _store(graph, f"{name}.scale", scale)]
    real = helper.make_node("DequantizeLinear", inputs, [f"{name}.real"], name=name)
    if scale.ndim:
        real.attribute.append(helper.make_attribute("axis", 0))
    graph.node.insert(index, real)
    graph.node[index + 1].input[place] = f"{name}.real"


def _plain_bias(
    node: onnx.NodeProto, constants: Mapping[str, Array], makers: Mapping[str, onnx.NodeProto]
) -> tuple[int, Array, Array] | None:
    """Where a layer's bias stands, and its codes and scale in units of the sums; None where there is nothing to change."""
    layer, place = node, 2
    if node.op_type == "Add":
        sides = [makers.get(name) for name in node.input]
        at = next((i for i, side in enumerate(sides) if side is not None and side.op_type == "MatMul"), None)
        if at is None:
            return None
        layer, place = sides[at], 1 - at  # type: ignore[assignment]
    elif node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
        return None
    x, w, b = (_dequantized(makers.get(name), constants) for name in (*layer.input[:2], node.input[place]))
    if x is None or w is None or b is None or b[0] is None or b[0].dtype != np.int32 or b[0].ndim != 1:
        return None
    unit = np.float32(x[1]) * w[1]
    unit = unit.reshape(-1) if unit.ndim else unit
    if unit.ndim and unit.shape != b[0].shape:
        return None
    if np.allclose(np.broadcast_to(b[1], b[0].shape), unit, rtol=_SAME_SCALE, atol=0):
        return None
    codes = np.rint(b[0].astype(np.float64) * b[1].astype(np.float64) / unit.astype(np.float64))
    return place, np.clip(codes, -(2**31) + 1, 2**31 - 1).astype(np.int32), unit.astype(np.float32)


def _dequantized(node: onnx.NodeProto | None, constants: Mapping[str, Array]) -> tuple[Array | None, Array] | None:
    """Codes, where they are constant, and scale of a DequantizeLinear."""
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in constants:
        return None
    return constants.get(node.input[0]), constants[node.input[1]]


# ---- AveragePool -----------------------------------------------------------------------------------------------------


def _counts_too_many(node: onnx.NodeProto) -> bool:
    """Whether a pool may have windows that hang over padding that counts."""
    if node.op_type not in _POOLS:
        return False
    given = _attributes(node)
    padded = _text(given.get("auto_pad"), "NOTSET") in ("NOTSET", "VALID")
    dilated = any(d != 1 for d in given.get("dilations", ()))
    return bool(given.get("count_include_pad", 0) and given.get("ceil_mode", 0) and padded and not dilated)


def _padded_pool(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, Array], shapes: Mapping[str, Sequence[int]]
) -> list[onnx.NodeProto] | None:
    """A Pad, and the pool of what it gives, all of whose taps inside count; None where the sizes are not known."""
    given = _attributes(node)
    rank = len(given["kernel_shape"])
    valid = _text(given.get("auto_pad"), "NOTSET") == "VALID"
    pads = [0] * (2 * rank) if valid else list(given.get("pads") or [0] * (2 * rank))
    sizes = list(shapes.get(node.input[0], ()))[2:]
    if any(pads[rank:]):
        if len(sizes) != rank or not all(sizes):
            return None
        strides = given.get("strides") or [1] * rank
        ends = zip(sizes, given["kernel_shape"], strides, pads[:rank], pads[rank:], strict=True)
        pads[rank:] = [_padding_seen(*axis) for axis in ends]
    pool = onnx.NodeProto()
    pool.CopyFrom(node)
    del pool.attribute[:]
    kept = {k: v for k, v in given.items() if k not in ("count_include_pad", "pads", "auto_pad")}
    pool.attribute.extend(helper.make_attribute(k, v) for k, v in kept.items())
    if not any(pads):
        return [pool]
    name = f"{node.output[0]}.padded"
    amounts = np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]], np.int64)
    zero_at = _POOLS[node.op_type]
    zero = constants.get(node.input[zero_at]) if zero_at and len(node.input) > zero_at else None
    value = [] if zero is None else [_store(graph, f"{name}.value", zero.reshape(()))]
    pool.input[0] = name
    inputs = [node.input[0], _store(graph, f"{name}.amounts", amounts), *value]
    return [helper.make_node("Pad", inputs, [name], name=name), pool]


def _padding_seen(size: int, kernel: int, stride: int, before: int, behind: int) -> int:
    """How much of the padding behind an axis its windows see: none begins there."""
    count = -(-(size + before + behind - kernel) // stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return max(min(behind, (count - 1) * stride + kernel - size - before), 0)


# ---- Resize ----------------------------------------------------------------------------------------------------------


def _rounds_length(node: onnx.NodeProto) -> bool:
    """Whether a Resize is by scales, with coordinates that depend on the resized length."""
    if node.op_type != "Resize" or len(node.input) < 3 or not node.input[2]:
        return False
    return _text(_attributes(node).get("coordinate_transformation_mode"), "half_pixel") in _OF_LENGTH


def _resampled(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, Array], shapes: Mapping[str, Sequence[int]]
) -> list[onnx.NodeProto] | None:
    """Products or gathers, axis by axis; None where all lengths are whole or are not known."""
    scales, shape = constants.get(node.input[2]), shapes.get(node.input[0])
    if scales is None or not scales.size or not shape:
        return None
    given = _attributes(node)
    axes = [axis % len(shape) for axis in given.get("axes") or range(len(shape))]
    factors = {axis: scale for axis, scale in zip(axes, scales.astype(np.float32), strict=True) if scale != 1}
    lengths = [float(scale) * shape[axis] for axis, scale in factors.items()]
    if not all(lengths) or all(abs(length - round(length)) < _WHOLE for length in lengths):
        return None
    nodes: list[onnx.NodeProto] = []
    value = node.input[0]
    for count, (axis, scale) in enumerate(factors.items()):
        last = count == len(factors) - 1
        output = node.output[0] if last else f"{node.output[0]}.axis{axis}"
        nodes += _along(graph, value, output, axis, len(shape), resize_matrix(node, shape[axis], scale))
        value = output
    return nodes


def resize_matrix(node: onnx.NodeProto, size: int, scale: np.float32) -> Array:
    """(out, in): what each output element along one axis is made of, by ONNX's reference."""
    from onnx.reference import ReferenceEvaluator

    kept = {k: v for k, v in _attributes(node).items() if k not in ("axes", "keep_aspect_ratio_policy")}
    one = helper.make_node("Resize", ["x", "", "scales"], ["y"], **kept)
    if size * size * float(scale) > MOST_WEIGHTS:
        raise ValueError(
            f"Resize {node.name!r}: {size} elements times {scale:g} is no whole length: give sizes instead"
        )
    evaluator: Any = ReferenceEvaluator(one)
    scales = np.array([scale], np.float32)
    columns = [evaluator.run(None, {"x": row, "scales": scales})[0] for row in np.eye(size, dtype=np.float32)]
    return np.stack(columns, 1).astype(np.float32)


def _along(
    graph: onnx.GraphProto, source: str, output: str, axis: int, rank: int, matrix: Array
) -> list[onnx.NodeProto]:
    """The nodes that apply a matrix along one axis: a Gather where it only picks, else a product with that axis last."""
    if ((matrix == 1).sum(1) == 1).all() and (matrix != 0).sum() == len(matrix):
        places = _store(graph, f"{output}.places", matrix.argmax(1).astype(np.int64))
        return [helper.make_node("Gather", [source, places], [output], name=output, axis=axis)]
    weights = _store(graph, f"{output}.matrix", np.ascontiguousarray(matrix.T))
    order = [a for a in range(rank) if a != axis] + [axis]
    back = [order.index(a) for a in range(rank)]
    return [
        helper.make_node("Transpose", [source], [f"{output}.last"], name=f"{output}.last", perm=order),
        helper.make_node("MatMul", [f"{output}.last", weights], [f"{output}.product"], name=f"{output}.product"),
        helper.make_node("Transpose", [f"{output}.product"], [output], name=output, perm=back),
    ]
