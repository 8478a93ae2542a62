"""Lower Resize and Upsample."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import Refusal
from ..graph import reference
from .context import Context, proto_of
from .layout import Value
from .movement import Array, by_tables, keep_batch, memory_axes
from .operator import Operator, operator


def resize(ctx: Context, node: ir.Node) -> None:
    """Resize and Upsample: nearest of float32 or codes, linear and cubic of float32, axis by axis.

    What an output element takes from the input is asked of onnxruntime, axis by axis, so all of its coordinate and
    rounding modes are there.
    """
    value = ctx.value(node)
    mode = node.attributes.get_string("mode", "nearest") or "nearest"
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Refusal("it crops (tf_crop_and_resize)", "Slice and Resize")
    if policy != "stretch":
        raise Refusal(f"its keep_aspect_ratio_policy is {policy}", "stretch, with the sizes it comes to")
    factors = _resize_factors(ctx, node, value)
    axes = [axis for axis, (scale, size) in factors.items() if size != value.shape[axis] or scale not in (None, 1)]
    keep_batch(ctx, 0 in axes, "resizes")
    matrices = {axis: _resize_matrix(ctx, node, value.shape[axis], factors[axis]) for axis in axes}
    picks = {
        axis: m.argmax(1) for axis, m in matrices.items() if ((m == 1).sum(1) == 1).all() and (m != 0).sum() == len(m)
    }
    if len(picks) == len(matrices):
        by_tables(ctx, node, value, picks)
    elif value.dtype != "f32":
        raise Refusal(
            f"it interpolates codes ({mode})",
            "nearest, or a float32 Resize between DequantizeLinear and QuantizeLinear",
        )
    else:
        _by_matrices(ctx, node, value, matrices)


def _resize_factors(ctx: Context, node: ir.Node, value: Value) -> dict[int, tuple[float | None, int]]:
    """Scale (None: from the sizes) and output size by axis."""
    rank = len(value.shape)
    axes = [axis % rank for axis in node.attributes.get_ints("axes") or range(rank)]
    if node.op_type == "Upsample" or ctx.opset < 11:
        given = node.attributes.get_floats("scales", None)
        scales = np.asarray(given, np.float32) if given is not None else ctx.needed(node, 1, "scales")
        sizes = None
    else:
        at = {
            name: i for i, name in ((2, "scales"), (3, "sizes")) if len(node.inputs) > i and node.inputs[i] is not None
        }
        scales = ctx.needed(node, 2, "scales") if "scales" in at else np.zeros(0)
        sizes = ctx.needed(node, 3, "sizes") if "sizes" in at and not scales.size else None
    if sizes is not None:
        return {axis: (None, int(size)) for axis, size in zip(axes, sizes.ravel(), strict=True)}
    return {
        axis: (float(scale), int(np.floor(np.float32(value.shape[axis]) * np.float32(scale))))
        for axis, scale in zip(axes, scales.ravel(), strict=True)
    }


def _resize_matrix(ctx: Context, node: ir.Node, size: int, factor: tuple[float | None, int]) -> Array:
    """(out, in): what each output element along one axis is made of, by onnxruntime resizing an identity matrix."""
    scale, out = factor
    if out < 1:
        raise Refusal("it leaves nothing of an axis", "a larger scale")
    old = node.op_type == "Upsample" or ctx.opset < 11
    proto = proto_of(node)
    kept = [a for a in proto.attribute if a.name not in ("scales", "axes", "keep_aspect_ratio_policy")]
    eye = np.eye(size, dtype=np.float32).reshape(1, size, 1, size)
    constants = {"scales": np.array([1, 1, 1, 1 if scale is None else scale], np.float32)}
    inputs = ["x", "scales"] if old else ["x", "", "scales"]
    if scale is None:
        constants, inputs = {"sizes": np.array([1, size, 1, out], np.int64)}, ["x", "", "", "sizes"]
    if not old and ctx.opset < 13:  # where it could not be left out
        constants["roi"], inputs[1] = np.zeros(0, np.float32), "roi"
        if scale is None:
            constants["none"], inputs[2] = np.zeros(0, np.float32), "none"
    one = onnx.helper.make_node(node.op_type, inputs, ["y"])
    one.attribute.extend(kept)
    if old and node.attributes.get_floats("scales", None) is not None:
        one.attribute.append(onnx.helper.make_attribute("scales", constants.pop("scales").tolist()))
        del one.input[1:]
    opsets = dict(ctx.normal.model.graph.opset_imports)
    try:
        found = reference.run_nodes([one], constants, {"x": eye}, "y", opsets)
    except Exception as error:
        raise Refusal(f"onnxruntime does not resize with these attributes: {error}", "nearest or linear") from error
    return np.asarray(found.reshape(size, -1).T)


def _by_matrices(ctx: Context, node: ir.Node, value: Value, matrices: dict[int, Array]) -> None:
    """Emit a resample_f32 for every axis, the one that shrinks most first."""
    order = memory_axes(ctx, value)
    tensor = ctx.ordered(value, order)
    shape = list(value.shape)
    for axis in sorted(matrices, key=lambda a: len(matrices[a]) / shape[a]):
        at, matrix = order.index(axis), matrices[axis]
        label = f"{node.name or node.outputs[0].name}"
        index, weight = _taps(matrix)
        names = [ctx.const(f"{label}.index", index, "i32"), ctx.const(f"{label}.weight", weight, "f32")]
        before, behind = (prod(shape[i] for i in part) for part in (order[:at], order[at + 1 :]))
        sizes = {"outer": before, "in": shape[axis], "out": len(matrix), "inner": behind, "taps": index.shape[1]}
        shape[axis] = len(matrix)
        output = ctx.activation(node.outputs[0].name, [shape[i] for i in order])
        ctx.emit("resample_f32", node, [tensor, *names], output, **sizes)
        tensor = output
    ctx.result(node.outputs[0], shape, order, tensor)


def _taps(matrix: Array) -> tuple[Array, Array]:
    """Indices and weights (out, taps) of the elements of each row that are not 0."""
    taps = max(int((matrix != 0).sum(1).max()), 1)
    index = np.sort(np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps], axis=1)
    return index, np.take_along_axis(matrix, index, 1)


OPERATORS: dict[str, Operator] = {
    "Resize": operator(resize, "gather", "resample_f32"),
    "Upsample": operator(resize, "gather", "resample_f32"),
}
