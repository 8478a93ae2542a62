"""One bad graph for every refusal of the lowering: each is said, at its node, and no program comes out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeprop.export import errors
from edgeprop.export.lower import UnsupportedError, lower
from tests.support.graphs import model, node

f32, i8, u8, i32, i64 = np.float32, np.int8, np.uint8, np.int32, np.int64
MS = "com.microsoft"


def ones(*shape: int, dtype: Any = f32) -> Any:
    return np.ones(shape, dtype)


def one(
    op: str,
    shape: Sequence[int | str],
    *constants: Any,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    read: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
    out_dtype: int | None = None,
    before: Sequence[onnx.NodeProto] = (),
    x: str = "x",
    **attributes: Any,
) -> onnx.ModelProto:
    """A graph of one node of x and constants; None leaves an input out, a text is a value."""
    names = ["" if c is None else c if isinstance(c, str) else f"c{i}" for i, c in enumerate(constants)]
    arrays = {n: np.asarray(c) for n, c in zip(names, constants, strict=True) if n and not isinstance(c, str)}
    last = node(op, [x, *names], list(outputs), name="bad", **attributes)
    return domains(
        model([*before, last], {"x": shape}, list(read), arrays, opset=opset, dtype=dtype, out_dtype=out_dtype)
    )


def domains(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same, with Microsoft's operators allowed where they stand."""
    if any(n.domain == MS for n in proto.graph.node):
        proto.opset_import.append(helper.make_opsetid(MS, 1))
    return proto


def nodes(*rows: onnx.NodeProto, x: Sequence[int | str] = ("N", 4), y: str = "y", **constants: Any) -> onnx.ModelProto:
    """A graph of several nodes of x."""
    return domains(model(rows, {"x": x}, [y], constants))


def two(op: str, a: Sequence[int | str], b: Sequence[int | str], **attributes: Any) -> onnx.ModelProto:
    """A node of two inputs."""
    return model([node(op, ["a", "b"], ["y"], name="bad", **attributes)], {"a": a, "b": b}, ["y"])


def quantized(op: str, *rest: Any, shape: Sequence[int | str] = ("N", 2, 4, 4), **attributes: Any) -> onnx.ModelProto:
    """A node whose first input are the codes of x; s, z: a scale and zero point; the rest as given."""
    names = [r if isinstance(r, str) else f"c{i}" for i, r in enumerate(rest)]
    arrays = {n: np.asarray(r) for n, r in zip(names, rest, strict=True) if not isinstance(r, str)}
    first = node("QuantizeLinear", ["x", "s", "z"], ["q"], name="Q")
    bad = node(op, ["q", *names], ["y"], name="bad", **attributes)
    constants = {"s": f32(0.1), "z": i8(3), "us": f32(0.1), "uz": u8(3), **arrays}
    return domains(model([first, bad], {"x": shape}, ["y"], constants, out_dtype=TensorProto.INT8))


def recurrent(op: str = "GRU", gates: int = 3, more: Sequence[Any] = (), **attributes: Any) -> onnx.ModelProto:
    """A cell of 3 units over (4 steps, 1 sample, 2 values)."""
    attributes = {"hidden_size": 3, **attributes}
    weights = [ones(1, gates * 3, 2), ones(1, gates * 3, 3)]
    return one(op, (4, 1, 2), *weights, *more, **attributes)


def dynamic(*after: onnx.NodeProto, y: str = "y", **constants: Any) -> onnx.ModelProto:
    """Codes made at run time, and what comes behind."""
    first = node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dql")
    return nodes(first, *after, y=y, w=ones(4, 3, dtype=i8), wz=i8(0), ws=f32(0.1), **constants)


Case = tuple[Callable[[], onnx.ModelProto], str]
IMAGE = ("N", 2, 4, 4)
MATMUL = node("MatMulInteger", ["q", "w", "z", "wz"], ["i"], name="bad")
CAST, MUL = node("Cast", ["i"], ["f"], to=1, name="c"), node("Mul", ["f", "ss"], ["y"], name="m")
SCALES = node("Mul", ["s", "ws"], ["ss"], name="ms")

#: what is wrong, the graph, and what of the message tells it
CASES: dict[str, Case] = {
    "no such operator": (lambda: one("Det", ("N", 2, 2)), "the device has no such operator"),
    "nothing left": (lambda: one("Slice", ("N", 4), [2], [2], [1]), "it takes nothing"),
    "cast": (lambda: one("Cast", ("N", 4), to=TensorProto.DOUBLE, out_dtype=TensorProto.DOUBLE), "it casts"),
    "cast to integers": (lambda: one("Cast", ("N", 4), to=6, out_dtype=TensorProto.INT32), "it casts"),
    "joins samples": (lambda: one("Concat", ("N", 4), "x", axis=0), "the batch axis"),
    "joins what differs": (lambda: one("Concat", ("N", 4, 3), ones(1, 2, 5), axis=1), "it joins|do not fit"),
    "computed weights": (lambda: two("Conv", ("N", 2, 4, 4), (3, 2, 3, 3)), "its weight is not constant"),
    "a scale below 0": (
        lambda: nodes(
            node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("Relu", ["d"], ["r"]), node("QuantizeLinear", ["r", "s", "z"], ["p"]),
            node("DequantizeLinear", ["p", "s", "z"], ["y"]), s=f32(-0.1), z=i8(0)),
        "its scale is -0.1"),
    "too many products of codes": (
        lambda: nodes(
            node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "s", "z"], ["v"]), node("MatMul", ["d", "v"], ["m"]),
            node("QuantizeLinear", ["m", "s", "z"], ["p"]), node("DequantizeLinear", ["p", "s", "z"], ["y"]),
            x=("N", 140000), w=ones(140000, 1, dtype=i8), s=f32(0.1), z=i8(0)),
        "may pass 32 bits"),
    "transposes of many axes": (lambda: _many_axes(), "more than 6 axes"),
    "codes are an output": (
        lambda: dynamic(SCALES, MATMUL, CAST, MUL, y="q"), "its codes are an output"),
    "codes go elsewhere": (
        lambda: dynamic(node("Cast", ["q"], ["y"], to=1, name="bad")), "its codes go to a Cast"),
    "codes without scales": (lambda: dynamic(MATMUL, node("Cast", ["i"], ["y"], to=1, name="c")), "its codes go to a"),
    "too many products": (
        lambda: nodes(
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), SCALES, MATMUL, CAST, MUL,
            x=("N", 70000), w=ones(70000, 1, dtype=i8), wz=i8(0), ws=f32(0.1)),
        "may pass 32 bits"),
    "integers that are not dynamic": (
        lambda: quantized("MatMulInteger", ones(4, 3, dtype=i8), shape=("N", 4)), "not scaled as|not quantized dyn"),
    "elu": (lambda: one("Selu", ("N", 4), alpha=-1.0), "not positive"),
    "gelu with a bias": (lambda: one("FastGelu", ("N", 4), ones(4), domain=MS), "it adds a bias"),
    "powers that differ": (lambda: one("Pow", ("N", 2), f32([2, 3])), "differ from element to element"),
    "slopes": (lambda: one("PRelu", ("N", 4), ones(3)), "do not broadcast"),
    "broadcast over many axes": (
        lambda: two("Add", ("N", 2, 1, 2, 1, 2, 1, 2, 1), ("N", 1, 2, 1, 2, 1, 2, 1, 2)), "more than 6 axes"),
    "values that do not broadcast": (lambda: two("Mul", ("N", 3), ("N", 2)), "broadcast|do not fit"),
    "a constant of samples": (lambda: one("Sub", ("N", 3), ones(5, 3), before=(), x="x"), ""),
    "a power of samples": (lambda: one("Max", ("N", 3), ones(5, 3)), "from sample to sample|broadcast"),
    "integers": (
        lambda: one("Relu", ("N", 4), dtype=TensorProto.INT32, opset=17), "integers|the device|onnxruntime"),
    "weights of a conv": (lambda: one("Conv", IMAGE, ones(3, 5, 3, 3)), "do not fit"),
    "weights of a dense layer": (lambda: one("MatMul", ("N", 4), ones(5, 3)), "do not fit"),
    "transA": (lambda: one("Gemm", (4, 1), ones(4, 3), transA=1), "transA"),
    "training mode": (
        lambda: one("BatchNormalization", IMAGE, *[ones(2)] * 4, training_mode=1, outputs=("y", "m", "v")),
        "training mode"),
    "a divisor that does not broadcast": (lambda: one("Div", ("N", 4), f32([1, 2, 3])), "does not broadcast|broadcast"),
    "softmax over samples": (lambda: one("Softmax", ("N", 4), axis=0), "over the batch axis"),
    "mean without axes": (lambda: one("ReduceMean", ("N", 4), opset=18, noop_with_empty_axes=1), "it has no axes"),
    "squares without axes": (
        lambda: one("ReduceSumSquare", ("N", 4), opset=18, noop_with_empty_axes=1), "it has no axes"),
    "sizes without axes": (lambda: one("ReduceL1", ("N", 4), opset=18, noop_with_empty_axes=1), "it has no axes"),
    "roots without axes": (lambda: one("ReduceL2", ("N", 4), opset=18, noop_with_empty_axes=1), "it has no axes"),
    "statistics": (
        lambda: nodes(node("BatchNormalization", ["x", "w", "w", "w", "w"], ["h", "m", "v"], name="bad"),
                      node("Add", ["h", "m"], ["y"]), w=ones(4)),
        "statistics are read"),
    "an output beyond its windows": (
        lambda: one("ConvTranspose", IMAGE, ones(2, 3, 3, 3), output_shape=[40, 40]), "is more than the"),
    "training mode of old": (
        lambda: one("BatchNormalization", IMAGE, *[ones(2)] * 4, opset=9, outputs=("y", "m", "v", "sm", "sv")),
        "training mode"),
    "mean of samples": (lambda: one("ReduceMean", ("N", 4), axes=[0]), "over the batch axis"),
    "scales of channels": (
        lambda: one("QuantizeLinear", ("N", 2), f32([0.1, 0.2]), i8([0, 0]), axis=1, out_dtype=3), "per channel"),
    "codes of 32 bits": (
        lambda: one("QuantizeLinear", ("N", 2), f32(0.1), np.int16(0), opset=21, out_dtype=5), "its codes are int16"),
    "scales for channels": (
        lambda: quantized("QLinearMatMul", "s", "z", ones(4, 3, dtype=i8), f32([0.1, 0.2]), i8([0, 0]), "s", "z",
                          shape=("N", 4)),
        "2 scales for 3 channels"),
    "transA of codes": (
        lambda: quantized("QGemm", "s", "z", ones(4, 3, dtype=i8), f32(0.1), i8(0), i32([0, 0, 0]), "s", "z",
                          shape=("N", 4), domain=MS, alpha=2.0),
        "transA or alpha"),
    "codes of a stack": (
        lambda: quantized("QLinearMatMul", "s", "z", ones(1, 4, 3, dtype=i8), f32(0.1), i8(0), "s", "z",
                          shape=("N", 2, 4)),
        "no matrix"),
    "a bias of codes by row": (
        lambda: quantized("QGemm", "s", "z", ones(4, 3, dtype=i8), f32(0.1), i8(0), i32([0, 0]), "s", "z",
                          shape=("N", 4), domain=MS),
        "differs from row to row"),
    "channels last": (
        lambda: quantized("QLinearAveragePool", "s", "z", "s", "z", kernel_shape=[2, 2], channels_last=1, domain=MS),
        "channels-last"),
    "pad of samples": (lambda: one("Pad", ("N", 4), i64([1, 0, 0, 0])), "the batch axis"),
    "boxes of many axes": (lambda: _many_boxes(), "more than 6 axes"),
    "step of 0": (lambda: one("Slice", ("N", 4), [0], [4], [1], [0]), "step of 0|onnx"),
    "split": (lambda: one("Split", ("N", 4), i64([1, 2]), axis=1, outputs=("y", "z"), read=("y", "z")), "it splits"),
    "expand": (lambda: one("Expand", ("N", 4), i64([2, 3, 1, 4])), "before the batch axis"),
    "expand to what does not fit": (lambda: one("Expand", ("N", 4), i64([1, 3])), "it makes|broadcast"),
    "tile": (lambda: one("Tile", ("N", 4), i64([1, 0])), "it repeats"),
    "pads": (lambda: one("Pad", ("N", 4), i64([0, 0, 0])), "pads for"),
    "crops all": (lambda: one("Pad", ("N", 4), i64([0, -2, 0, -2])), "crops away all"),
    "crops all, at the edge": (lambda: one("Pad", ("N", 4), i64([0, -2, 0, -2]), mode="edge"), "crops away all"),
    "mode of a pad": (lambda: one("Pad", ("N", 4), i64([0, 1, 0, 1]), mode="mirror"), "its mode is"),
    "reflects too much": (lambda: one("Pad", ("N", 4), i64([0, 4, 0, 0]), mode="reflect"), "more than there is"),
    "gathers by what is computed": (
        lambda: nodes(
            node("Cast", ["x"], ["i"], to=7), node("Gather", ["x", "i"], ["y"], axis=1, name="bad")),
        "both computed|it casts"),
    "gathers beyond": (lambda: one("Gather", ("N", 4), i64([4]), axis=1), "not within 4"),
    "blocks": (lambda: one("DepthToSpace", ("N", 3, 2, 2), blocksize=2), "no multiple of 4"),
    "blocks of an image": (lambda: one("SpaceToDepth", ("N", 3, 3, 3), blocksize=2), "no multiple of 2"),
    "blocks of a line": (lambda: one("SpaceToDepth", ("N", 4, 4), blocksize=2), "3 axes"),
    "variance is read": (
        lambda: one("LayerNormalization", ("N", 4), ones(4), outputs=("y", "m"), read=("y", "m")), "is read"),
    "normalizes samples": (lambda: one("LayerNormalization", ("N", 4), ones(4), axis=0), "batch axis|broadcast"),
    "scale of a norm": (lambda: one("LayerNormalization", ("N", 4), ones(3)), "does not broadcast"),
    "groups": (
        lambda: one("GroupNormalization", ("N", 5, 3), ones(2), ones(2), num_groups=2, opset=18), "no multiple of 2"),
    "scale of groups": (
        lambda: one("GroupNormalization", ("N", 6, 3), ones(4), ones(4), num_groups=2, opset=18), "fits neither"),
    "instance norm of rows": (lambda: one("InstanceNormalization", ("N", 4), ones(4), ones(4)), "2 axes"),
    "norm of samples": (lambda: one("LpNormalization", ("N", 4), axis=0), "batch axis"),
    "a constant of three axes": (lambda: one("MatMul", ("N", 2, 4), ones(3, 4, 2)), "no matrix"),
    "products of shapes": (lambda: two("MatMul", ("N", 2, 3), ("N", 4, 5)), "it multiplies"),
    "weights of a transposed conv": (lambda: one("ConvTranspose", IMAGE, ones(3, 2, 3, 3)), "do not fit"),
    "a cell of samples": (lambda: one("GRU", ("N", 4, 2), ones(1, 9, 2), ones(1, 9, 3), hidden_size=3), "its steps"),
    "weights of a cell": (lambda: one("GRU", (4, 1, 2), ones(1, 9, 2), ones(1, 8, 3), hidden_size=3), "do not fit"),
    "input_forget": (lambda: recurrent("LSTM", 4, input_forget=1), "input_forget"),
    "clips": (lambda: recurrent(clip=1.0), "it clips"),
    "lengths": (lambda: recurrent(more=(None, i32([4]))), "sequence_lens"),
    "peepholes": (lambda: recurrent("LSTM", 4, (None, None, None, None, ones(1, 9))), "peepholes"),
    "activations": (lambda: recurrent(activations=["Relu", "Tanh"]), "its activations are"),
    "state of a cell": (
        lambda: model(
            [node("GRU", ["x", "w", "r", "", "", "h"], ["y"], name="bad", hidden_size=3)],
            {"x": (4, 1, 2), "h": (1, 1, 4)}, ["y"], {"w": ones(1, 9, 2), "r": ones(1, 9, 3)}),
        "its state is"),
    "crop and resize": (
        lambda: one("Resize", IMAGE, f32([0, 0, 0, 0, 1, 1, 1, 1]), None, i64([1, 2, 2, 2]), opset=13,
                    coordinate_transformation_mode="tf_crop_and_resize"),
        "it crops"),
    "aspect ratio": (
        lambda: one("Resize", IMAGE, None, None, i64([1, 2, 2, 3]), opset=18,
                    keep_aspect_ratio_policy="not_larger"),
        "keep_aspect_ratio_policy"),
    "resizes to nothing": (lambda: one("Resize", IMAGE, None, f32([1, 1, 0.1, 1]), opset=13), "leaves nothing"),
    "drops values": (
        lambda: one("Dropout", ("N", 4), f32(0.5), np.bool_(True)), "it drops values"),
    "moves samples": (lambda: one("Transpose", ("N", 4), perm=[1, 0]), "batch axis"),
    "shape": (lambda: one("Reshape", ("N", 4), i64([-1, 3])), "it makes|onnx"),
    "pool of rows": (lambda: one("AveragePool", ("N", 4), kernel_shape=[2]), "2 axes"),
    "a large kernel": (lambda: one("Conv", IMAGE, ones(3, 2, 5, 5)), "larger than its input"),
    "no elements": (lambda: one("Relu", ("N", 0)), ""),
    "no batch axis": (lambda: one("Reshape", ("N", 4), i64([-1])), ""),
    "a cell of a constant": (
        lambda: model(
            [node("GRU", ["c", "w", "r", "", "", "h"], ["y"], name="bad", hidden_size=3)],
            {"h": (1, 1, 3)}, ["y"], {"c": ones(4, 1, 2), "w": ones(1, 9, 2), "r": ones(1, 9, 3)}),
        "its input 0 is constant"),
    "another zero point": (
        lambda: nodes(
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), SCALES,
            node("ConvInteger", ["q", "w", "other", "wz"], ["i"], name="bad"), CAST, MUL,
            x=IMAGE, w=ones(3, 2, 3, 3, dtype=u8), wz=u8(0), ws=f32(0.1), other=u8(1)),
        "another zero point"),
    "reshaped apart": (
        lambda: nodes(
            node("Conv", ["x", "w"], ["a"], kernel_shape=[2, 2]), node("Conv", ["x", "v"], ["b"], kernel_shape=[3, 2]),
            node("Reshape", ["a", "s"], ["c"]), node("Reshape", ["b", "s"], ["d"]),
            node("Add", ["c", "d"], ["y"], name="bad"),
            x=IMAGE, w=ones(4, 2, 2, 2), v=ones(6, 2, 3, 2), s=i64([-1, 36])),
        "reshaped in ways"),
    "indices of a pool": (
        lambda: nodes(
            node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], name="bad"), node("Cast", ["i"], ["f"], to=1),
            node("Add", ["p", "f"], ["y"]), x=IMAGE),
        "its second output"),
    "statistics of channels": (lambda: one("BatchNormalization", IMAGE, *[ones(3)] * 4), "broadcast|do not fit"),
    "a large bias": (
        lambda: quantized(
            "QGemm", "s", "z", ones(4, 3, dtype=i8) * i8(-127), f32(0.1), i8(0), i32([2**31 - 1, 0, 0]), "s", "z",
            shape=("N", 4), domain=MS),
        "does not fit int32"),
    "embeds along another axis": (
        lambda: model([node("Gather", ["t", "x"], ["y"], name="bad", axis=1)], {"x": ("N", 2)}, ["y"],
                      {"t": ones(3, 4)}, dtype=TensorProto.INT32, out_dtype=TensorProto.FLOAT),
        "another axis than the first"),
    "a table of integers": (
        lambda: model([node("Gather", ["t", "x"], ["y"], name="bad")], {"x": ("N", 2)}, ["y"],
                      {"t": ones(3, 4, dtype=i32)}, dtype=TensorProto.INT32),
        "its table is int32"),
    "a transposed conv of nothing": (
        lambda: one("ConvTranspose", IMAGE, ones(2, 2, 1, 1), pads=[2, 2, 2, 2]), "output would have size 0"),
    "interpolates codes": (
        lambda: quantized("Resize", "", "", i64([1, 2, 8, 8]), mode="linear"), "it interpolates codes"),
    "a conv of samples": (
        lambda: nodes(
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), node("Conv", ["t", "w"], ["y"], name="bad"),
            x=(3, 2, 5), w=ones(4, 3, 2)),
        "not the batch"),
    "many products of codes": (lambda: _many_products(), "16384 at most|it sums"),
    "negative pads": (lambda: one("Conv", IMAGE, ones(3, 2, 3, 3), pads=[-1, 0, 0, 0]), "it crops"),
}  # fmt: skip


def _many_axes() -> onnx.ModelProto:
    shape = [-1, 2, 2, 2, 2, 2, 2, 2, 2]
    perm = [0, 8, 7, 6, 5, 4, 3, 2, 1]
    rows = [node("Reshape", ["x", "s"], ["r"]), node("Transpose", ["r"], ["t"], perm=perm, name="bad")]
    return nodes(*rows, node("Flatten", ["t"], ["y"]), x=("N", 256), s=i64(shape))


def _many_boxes() -> onnx.ModelProto:
    rows = [node("Reshape", ["x", "s"], ["r"]), node("Pad", ["r", "p"], ["t"], name="bad")]
    pads = [0, *[1] * 8, 0, *[0] * 8]
    return nodes(*rows, node("Flatten", ["t"], ["y"]), x=("N", 256), s=i64([-1, *[2] * 8]), p=i64(pads))


def _many_products() -> onnx.ModelProto:
    rows = []
    for name in ("a", "b"):
        rows.append(node("QuantizeLinear", [name, "s", "z"], [f"{name}q"]))
        rows.append(node("DequantizeLinear", [f"{name}q", "s", "z"], [f"{name}d"]))
    rows += [node("MatMul", ["ad", "bd"], ["m"], name="bad"), node("QuantizeLinear", ["m", "s", "z"], ["mq"])]
    rows.append(node("DequantizeLinear", ["mq", "s", "z"], ["y"]))
    inputs = {"a": ("N", 1, 16385), "b": ("N", 16385, 1)}
    return model(rows, inputs, ["y"], {"s": f32(0.1), "z": i8(3)})


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    build, says = CASES[name]
    with pytest.raises(UnsupportedError, match=says):
        lower(build())


# ---- All of them -----------------------------------------------------------------------------------------------------


#: refusals that no graph of the table reaches, by what they say, and why
CHECKER, ORT = "onnx's checker refuses it first", "onnxruntime, which fuses codes, refuses it first"
UNREACHED: dict[str, str] = {
    "its output has no elements": "of every operator that could make such an output, a refusal of its own comes first",
    "it does not depend on the inputs": "tests/export/test_importer.py: constant outputs",
    "its inputs are constant": "a sum of constants is folded before",
    "its inputs are of different types": CHECKER,
    "its bias {bias.shape} differs from row to row": CHECKER,
    "its operands {a.shape} and {b.shape} differ in shape": "both callers broadcast first",
    "it works on 32-bit integers": "float operators are asked for float32 before they come here",
    "weights {weight.shape} do not fit input {value.shape}": ORT,
    "it is dilated, which onnxruntime ignores": ORT,
    "its input is not quantized": ORT,
    "its input is quantized already": CHECKER,
    "its mode is {mode}": "SpaceToDepth has no mode in ONNX; onnx's checker knows",
    "its p is 1": "tests/export/test_norms.py: spelled out before, as a division by a sum",
    "its mean or variance is read": "LayerNormalization has a refusal of its own, the others have one output",
    "it multiplies a constant with the batch axis": "a model of one batch alone, which has no axis that varies",
    "its input is {value.shape}": CHECKER,
    "onnxruntime does not resize with these attributes: {error}": "onnxruntime's folding, which is asked first, gives up",
    "its mask is read": "a Dropout outside of training is removed before",
    "it removes the batch axis": CHECKER,
    "'{following}' does not depend on the inputs": "tests/export/test_streaming.py",
    "its axes are cut otherwise than those of '{following}'": "tests/export/test_streaming.py",
    "what": "tests/export/test_streaming.py",
    "its stride leaves out elements, and {mode} does not say which": "onnx's shapes are asked before",
}


def sources() -> list[Path]:
    return sorted(Path(errors.__file__).parent.glob("lower/*.py"))


def refusals(path: Path) -> dict[int, str]:
    """Lines of the statements that refuse, and what they say."""
    raised = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)
    ]
    return {n.lineno: _says(n.exc.args[0]) for n in raised if ast.unparse(n.exc.func) == "Refusal"}  # type: ignore[union-attr]


def _says(text: ast.expr) -> str:
    """The message as the source has it."""
    if isinstance(text, ast.JoinedStr):
        return ast.unparse(text)[2:-1]
    return str(text.value) if isinstance(text, ast.Constant) else ast.unparse(text)


def test_every_refusal_has_a_bad_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that is added needs a graph in the table, or a reason why there is none."""
    reached: set[tuple[str, int]] = set()

    def note(self: errors.Refusal, why: str, nearest: str) -> None:
        frame = sys._getframe(1)
        reached.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        self.why, self.nearest = why, nearest

    monkeypatch.setattr(errors.Refusal, "__init__", note)
    for build, _ in CASES.values():
        with pytest.raises(UnsupportedError):
            lower(build())
    missing = [
        f"{path.name}:{line} {says}"
        for path in sources()
        for line, says in refusals(path).items()
        if not any((path.name, line + k) in reached for k in range(5)) and says not in UNREACHED
    ]
    assert not missing, "\n".join(missing)
