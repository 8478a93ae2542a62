"""Edges of what the lowering takes: the last that passes beside the first that is refused, and each condition of a refusal
alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgeprop.export.check import check
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.lower.int8_ops import PRODUCT_MAX
from tests.export.test_lower_refusals import IMAGE, MS, dynamic, f32, i8, i32, i64, node, nodes, one, ones, quantized
from tests.export.test_movement import between, same
from tests.support.graphs import model

LAST = 2**31 - 1


def slice_of(axis: int, start: int, end: int, step: int = 1) -> onnx.ModelProto:
    return one("Slice", ("N", 5), [start], [end], [axis], [step])


def split_of(*sizes: int, outputs: int | None = None) -> onnx.ModelProto:
    names = [f"y{i}" for i in range(outputs or len(sizes))]
    return one("Split", ("N", 4), i64(sizes), axis=1, outputs=names, read=names)


def pad_of(*pads: int, mode: str = "constant", opset: int = 19) -> onnx.ModelProto:
    return one("Pad", ("N", 4), i64(pads), mode=mode, opset=opset)


def gather_of(*indices: int, axis: int = 1) -> onnx.ModelProto:
    return one("Gather", ("N", 4), i64(indices), axis=axis)


def products(count: int) -> onnx.ModelProto:
    """Codes made at run time times weights: so many products are added up."""
    return nodes(
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("Mul", ["s", "ws"], ["ss"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["i"], name="bad"),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["f", "ss"], ["y"]),
        x=("N", count), w=ones(count, 1, dtype=i8), wz=i8(0), ws=f32(0.1),
    )  # fmt: skip


def computed_products(count: int) -> onnx.ModelProto:
    """Codes times codes."""
    rows = []
    for name in ("a", "b"):
        rows.append(node("QuantizeLinear", [name, "s", "z"], [f"{name}q"]))
        rows.append(node("DequantizeLinear", [f"{name}q", "s", "z"], [f"{name}d"]))
    rows += [node("MatMul", ["ad", "bd"], ["m"], name="bad"), node("QuantizeLinear", ["m", "s", "z"], ["mq"])]
    rows.append(node("DequantizeLinear", ["mq", "s", "z"], ["y"]))
    return model(rows, {"a": ("N", 1, count), "b": ("N", count, 1)}, ["y"], {"s": f32(0.1), "z": i8(3)})


def turned(axes: int) -> onnx.ModelProto:
    """A transpose of so many axes of 2, none of which stays beside its neighbour."""
    rows = [
        node("Reshape", ["x", "s"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, *range(axes, 0, -1)], name="bad"),
    ]
    return nodes(*rows, node("Flatten", ["t"], ["y"]), x=("N", 2**axes), s=i64([-1, *[2] * axes]))


def boxed(axes: int) -> onnx.ModelProto:
    """A pad of so many axes."""
    rows = [node("Reshape", ["x", "s"], ["r"]), node("Pad", ["r", "p"], ["t"], name="bad")]
    pads = [0, *[1] * axes, 0, *[0] * axes]
    return nodes(*rows, node("Flatten", ["t"], ["y"]), x=("N", 2**axes), s=i64([-1, *[2] * axes]), p=i64(pads))


def spread(axes: int) -> onnx.ModelProto:
    """A product of two values that broadcast against each other along so many axes in turn."""
    a, b = [2, 1] * (axes // 2), [1, 2] * (axes // 2)
    return model([node("Mul", ["a", "b"], ["y"], name="bad")], {"a": ("N", *a), "b": ("N", *b)}, ["y"])


def cell(
    op: str = "GRU", gates: int = 3, weight: tuple[int, ...] = (), state: tuple[int, ...] = (), **attributes: Any
) -> Any:
    hidden = attributes.pop("hidden_size", 3)
    w = ones(*(weight or (1, gates * 3, 2)))
    constants = [w, ones(*(state or (1, gates * 3, 3)))]
    return one(op, (4, 1, 2), *constants, hidden_size=hidden, **attributes)


def resize_of(*scales: float) -> onnx.ModelProto:
    return one("Resize", IMAGE, None, f32(scales), opset=13)


def bias_of(value: int) -> onnx.ModelProto:
    """A dense layer of codes whose weights take 4 * 127 * 3 from the bias."""
    weight = np.full((4, 3), -127, i8)
    return quantized(
        "QGemm", "s", "z", weight, f32(0.1), i8(0), i32([value, 0, 0]), "s", "z", shape=("N", 4), domain=MS
    )


def _layer() -> list[onnx.NodeProto]:
    return [
        node("Mul", ["s", "ws"], ["ss"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["i"], name="bad"),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["f", "ss"], ["y"]),
    ]


Build = Callable[[], onnx.ModelProto]
#: what is refused, what of the message tells it, and the nearest that is not
EDGES: dict[str, tuple[list[Build], str, list[Build]]] = {
    "samples sliced": (
        [lambda: slice_of(0, 1, LAST), lambda: slice_of(0, 0, LAST, 2)],
        "slices the batch axis",
        [lambda: slice_of(0, 0, LAST), lambda: slice_of(1, 1, 4, 2)]),
    "nothing taken": (
        [lambda: slice_of(1, 2, 2), lambda: slice_of(1, 3, 2)], "it takes nothing|leaves nothing|no elements|empty",
        [lambda: slice_of(1, 2, 3), lambda: slice_of(1, 3, 2, -1)]),
    "parts": (
        [lambda: split_of(0, 4), lambda: split_of(1, 2), lambda: split_of(2, 3)], "it splits|onnx|batch",
        [lambda: split_of(1, 3), lambda: split_of(1, 1, 2), lambda: split_of(4)]),
    "samples padded": (
        [lambda: pad_of(1, 0, 0, 0), lambda: pad_of(0, 0, 1, 0), lambda: pad_of(0, 0, 1, 0, mode="edge")],
        "pads the batch axis", [lambda: pad_of(0, 1, 0, 0), lambda: pad_of(0, 0, 0, 1)]),
    "all cropped": (
        [lambda: pad_of(0, -2, 0, -2), lambda: pad_of(0, -4, 0, 0), lambda: pad_of(0, 0, 0, -4)],
        "crops away all|no elements|empty",
        [lambda: pad_of(0, -2, 0, -1), lambda: pad_of(0, -1, 0, -2), lambda: pad_of(0, -3, 0, 0)]),
    "all cropped, mirrored": (
        [lambda: pad_of(0, -2, 0, -2, mode="edge"), lambda: pad_of(0, -4, 0, 1, mode="reflect")],
        "crops away all|onnx", [lambda: pad_of(0, -2, 0, -1, mode="edge"), lambda: pad_of(0, -3, 0, 0, mode="reflect")]),
    "mirrored further than there is": (
        [lambda: pad_of(0, 4, 0, 0, mode="reflect"), lambda: pad_of(0, 0, 0, 4, mode="reflect"),
         lambda: pad_of(0, 5, 0, 0, mode="wrap"), lambda: pad_of(0, 0, 0, 5, mode="wrap")],
        "more than there is to",
        [lambda: pad_of(0, 3, 0, 0, mode="reflect"), lambda: pad_of(0, 0, 0, 3, mode="reflect"),
         lambda: pad_of(0, 4, 0, 4, mode="wrap"), lambda: pad_of(0, 9, 0, 9, mode="edge")]),
    "picked beyond": (
        [lambda: gather_of(4), lambda: gather_of(-5), lambda: gather_of(0, 2, 4)], "not within 4|onnx",
        [lambda: gather_of(3), lambda: gather_of(-4), lambda: gather_of(0, 2, 3)]),
    "samples picked": ([lambda: gather_of(0, axis=0)], "picks from the batch axis", [lambda: gather_of(0, axis=-1)]),
    "products of codes made at run time": ([lambda: products(32896)], "may pass 32 bits", [lambda: products(32895)]),
    "products of two codes": (
        [lambda: computed_products(16385)], "it sums 16385 products", [lambda: computed_products(16384)]),
    "axes of a transpose": ([lambda: turned(7)], "more than 6 axes", [lambda: turned(6)]),
    "axes of a box": ([lambda: boxed(7)], "more than 6 axes", [lambda: boxed(6), lambda: boxed(5)]),
    "axes of a broadcast": ([lambda: spread(8)], "more than 6 axes", [lambda: spread(6)]),
    "weights of a cell": (
        [lambda: cell(weight=(1, 8, 2)), lambda: cell(weight=(2, 9, 2)), lambda: cell(state=(1, 8, 3)),
         lambda: cell(state=(2, 9, 3)), lambda: cell(hidden_size=4)],
        "do not fit|onnx", [lambda: cell(), lambda: cell("LSTM", 4), lambda: cell("RNN", 1)]),
    "activations of a cell": (
        [lambda: cell(activations=["Tanh", "Sigmoid"]), lambda: cell("RNN", 1, activations=["Sigmoid"]),
         lambda: cell("LSTM", 4, activations=["Sigmoid", "Tanh", "Relu"])],
        "its activations are",
        [lambda: cell(activations=["sigmoid", "TANH"]), lambda: cell("RNN", 1, activations=["Relu"]),
         lambda: cell("RNN", 1, activations=["Tanh"]), lambda: cell("LSTM", 4, activations=["Sigmoid", "Tanh", "Tanh"])]),
    "nothing left of an axis": (
        [lambda: resize_of(1, 1, 0.2, 1), lambda: resize_of(1, 1, 1, 0.24)], "leaves nothing|no elements|empty",
        [lambda: resize_of(1, 1, 0.25, 1), lambda: resize_of(1, 1, 1, 0.3)]),
    "samples resized": ([lambda: resize_of(2, 1, 1, 1)], "batch", [lambda: resize_of(1, 1, 2, 1)]),
    "blocks of channels": (
        [lambda: one("DepthToSpace", ("N", 6, 2, 2), blocksize=2)], "no multiple of 4",
        [lambda: one("DepthToSpace", ("N", 8, 2, 2), blocksize=2), lambda: one("DepthToSpace", ("N", 4, 3, 1), blocksize=2)]),
    "blocks of an image": (
        [lambda: one("SpaceToDepth", ("N", 1, 3, 4), blocksize=2), lambda: one("SpaceToDepth", ("N", 1, 4, 3), blocksize=2)],
        "no multiple of 2", [lambda: one("SpaceToDepth", ("N", 1, 2, 4), blocksize=2)]),
    "repeats": (
        [lambda: one("Tile", ("N", 4), i64([2, 1])), lambda: one("Tile", ("N", 4), i64([1, 0]))],
        "repeats", [lambda: one("Tile", ("N", 4), i64([1, 1])), lambda: one("Tile", ("N", 4), i64([1, 2]))]),
    "expanded": (
        [lambda: one("Expand", ("N", 1), i64([3, 4])), lambda: one("Expand", ("N", 4), i64([1, 2]))],
        "batch|it makes|broadcast|onnx",
        [lambda: one("Expand", ("N", 4), i64([1, 1])), lambda: one("Expand", ("N", 4), i64([4]))]),
    "codes that are an output": (
        [partial(dynamic, *_layer(), y=name) for name in ("q", "s", "z")],
        "its codes are an output|onnx|unsupported|the device",
        [lambda: dynamic(*_layer())]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    """What lies beyond is refused, each way beyond alone; what lies on the edge is lowered."""
    beyond, says, within = EDGES[name]
    for build in beyond:
        with pytest.raises((UnsupportedError, ValueError), match=says):
            lower(build())
    for build in within:
        assert lower(build()).outputs


@pytest.mark.parametrize(
    "build",
    [lambda: split_of(1, 3), lambda: gather_of(-4, -1), lambda: gather_of(3, 1, 0), lambda: pad_of(0, 2, 0, -1, mode="reflect"),
     lambda: pad_of(0, 4, 0, 4, mode="wrap"), lambda: pad_of(0, -3, 0, 2), lambda: slice_of(1, 4, 0, -2), lambda: turned(6),
     lambda: boxed(6), lambda: spread(6), lambda: resize_of(1, 1, 0.25, 0.5), lambda: products(70)],
)  # fmt: skip
def test_what_lies_on_the_edge_is_right(build: Build) -> None:
    same(build())


def test_gather_of_one_and_of_none() -> None:
    """A single index takes a slice; an index without an axis takes the axis away."""
    assert "gather" not in same(one("Gather", ("N", 4), i64([2]), axis=1))
    proto = one("Gather", ("N", 4, 3), np.int64(2), axis=1)
    assert lower(proto).outputs[0].shape == (0, 3)
    same(proto)


def test_even_steps_cost_a_box_and_others_a_gather() -> None:
    """Indices a step apart are a slice, of either sign; those that are not are looked up."""
    for indices, kind in (([0, 2], "box"), ([3, 2, 1], "box"), ([0, 1, 3], "gather"), ([0, 0, 1], "gather")):
        proto = between([node("Gather", ["h", "i"], ["k"], axis=1)], ["N", 4], {"i": i64(indices)})
        assert same(proto) == ["clip_f32", kind, "tanh_f32"]


def test_bias_of_codes_at_the_end_of_int32() -> None:
    """x's zero point, 3, times 4 weights of -127 goes into the bias; with 4 products it still has to fit 32 bits."""
    most = LAST - 4 * PRODUCT_MAX - 3 * 4 * 127
    program = lower(bias_of(most))
    bias = next(t for t in program.tensors.values() if t.dtype == "i32")
    assert bias.data is not None
    assert bias.data.tolist() == [most + 1524, 1524, 1524]
    with pytest.raises(UnsupportedError, match="may pass 32 bits"):
        lower(bias_of(most + 1))


def test_integers_are_ids_of_a_table() -> None:
    """The first and the last row of a table of two are picked, and its axes come behind those of the ids."""
    table = np.arange(6, dtype=f32).reshape(2, 3)
    proto = model([node("Gather", ["t", "x"], ["y"])], {"x": ("N", 4)}, ["y"], {"t": table},
                  dtype=TensorProto.INT32, out_dtype=TensorProto.FLOAT)  # fmt: skip
    program = lower(proto)
    assert program.outputs[0].shape == (0, 4, 3)
    assert program.ops[0].attrs == {"rows": 4, "vocabulary": 2, "width": 3}


# ---- Names by which layers are trained -------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Build, list[str], int]] = {
    "Conv": (lambda: named("Conv", IMAGE, w=ones(3, 2, 3, 3), b=ones(3)), ["w", "b"], 57),
    "ConvTranspose": (lambda: named("ConvTranspose", IMAGE, w=ones(2, 3, 2, 2), b=ones(3)), ["w", "b"], 27),
    "Gemm": (lambda: named("Gemm", ("N", 4), w=ones(4, 3), b=ones(3)), ["w", "b"], 15),
    "MatMul": (lambda: named("MatMul", ("N", 5, 4), w=ones(4, 3)), ["w"], 12),
    "MatMul on the left": (lambda: on_the_left(), ["w"], 15),
    "PRelu": (lambda: named("PRelu", ("N", 4), w=ones(4)), ["w"], 4),
    "LayerNormalization": (lambda: named("LayerNormalization", ("N", 4), w=ones(4), b=ones(4)), ["w", "b"], 8),
    "GroupNormalization": (
        lambda: named("GroupNormalization", ("N", 4, 3), 21, w=ones(4), b=ones(4), num_groups=2), ["w", "b"], 8),
    "InstanceNormalization": (lambda: named("InstanceNormalization", ("N", 4, 3), w=ones(4), b=ones(4)), ["w", "b"], 8),
    "BatchNormalization": (
        lambda: named("BatchNormalization", ("N", 4, 3), w=ones(4), b=ones(4), m=np.zeros(4, f32), v=ones(4)), ["w", "b"], 8),
    "Gather": (lambda: embedding(), ["w"], 12),
    "GRU": (lambda: cell_of("GRU", 3), ["w", "r", "b"], 63),
    "LSTM": (lambda: cell_of("LSTM", 4), ["w", "r", "b"], 84),
    "RNN": (lambda: cell_of("RNN", 1), ["w", "r", "b"], 21),
}  # fmt: skip


def named(op: str, shape: tuple[int | str, ...], opset: int = 17, **constants: Any) -> onnx.ModelProto:
    """A node called `layer` of x and constants, behind a Tanh."""
    attributes = {name: constants.pop(name) for name in ("num_groups",) if name in constants}
    rows = [node("Tanh", ["x"], ["h"], name="tanh"), node(op, ["h", *constants], ["y"], name="layer", **attributes)]
    return model(rows, {"x": shape}, ["y"], constants, opset)


def on_the_left() -> onnx.ModelProto:
    return model([node("MatMul", ["w", "x"], ["y"], name="layer")], {"x": ("N", 5, 4)}, ["y"], {"w": ones(3, 5)})


def embedding() -> onnx.ModelProto:
    rows = [node("Gather", ["w", "x"], ["y"], name="layer")]
    return model(rows, {"x": ("N", 2)}, ["y"], {"w": ones(3, 4)}, dtype=TensorProto.INT32, out_dtype=TensorProto.FLOAT)


def cell_of(op: str, gates: int) -> onnx.ModelProto:
    given = {"w": ones(1, gates * 3, 2), "r": ones(1, gates * 3, 3), "b": ones(1, gates * 6)}
    return model([node(op, ["x", *given], ["y"], name="layer", hidden_size=3)], {"x": (4, 1, 2)}, ["y"], given)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_goes_by_its_name_and_its_weights(name: str) -> None:
    """Each of these means all of its weights, and no other name does."""
    build, weights, count = LAYERS[name]
    for wanted in ("layer", *weights):
        program = lower(build(), trainable=wanted, loss="mse")
        assert sum(t.count for t in program.trainable()) == count
    with pytest.raises(UnsupportedError, match="layer"):
        lower(build(), trainable="another", loss="mse")


# ---- Operators that elsewhere only a fusion writes, and attributes that are left out ---------------------------------

MORE: dict[str, tuple[Build, str]] = {
    "FastGelu": (lambda: one("FastGelu", ("N", 4), domain=MS), "gelu_tanh_f32"),
    "QuickGelu": (lambda: one("QuickGelu", ("N", 4), domain=MS, alpha=1.5), "silu_f32"),
    "CastLike": (lambda: behind(node("CastLike", ["h", "c"], ["k"]), c=ones(1)), "clip_f32"),
    "ReduceL1": (lambda: one("ReduceL1", ("N", 4, 3), axes=[1]), "reduce_f32"),
    "ConvInteger": (lambda: integer_convolution(), "dynamic_conv2d_f32"),
}


def behind(last: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    return between([last], ["N", 4], constants)


def integer_convolution() -> onnx.ModelProto:
    return nodes(
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("Mul", ["s", "ws"], ["ss"]),
        node("ConvInteger", ["q", "w", "z", "wz"], ["i"], name="conv"), node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["f", "ss"], ["y"]),
        x=IMAGE, w=np.arange(24, dtype=np.uint8).reshape(3, 2, 2, 2), wz=np.uint8(9), ws=f32(0.1),
    )  # fmt: skip


@pytest.mark.parametrize("name", MORE)
def test_operators_as_they_are_written(name: str) -> None:
    build, kind = MORE[name]
    assert kind in same(build())


@pytest.mark.parametrize(("op", "gates"), [("GRU", 3), ("LSTM", 4), ("RNN", 1)])
def test_cells_that_do_not_say_how_wide_they_are(op: str, gates: int) -> None:
    """Their recurrent weight does."""
    given = {"w": np.full((1, gates * 3, 2), 0.3, f32), "r": np.full((1, gates * 3, 3), 0.2, f32)}
    proto = model([node(op, ["x", "w", "r"], ["y"], name="cell")], {"x": (4, 1, 2)}, ["y"], given)
    assert lower(proto).ops[0].attrs["n_hidden"] == 3


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_integer_products_whose_output_is_float(unsigned: bool, zeros: bool, bias: bool) -> None:
    """com.microsoft MatMulIntegerToFloat of constant scales: each of its last three inputs may be left out."""
    dtype = np.uint8 if unsigned else i8
    given = {"s": f32(0.05), "z": dtype(3), "w": np.arange(12, dtype=i8).reshape(4, 3) - i8(4)}
    given |= {"ws": np.array([0.1, 0.02, 0.3], f32), "wz": i8([1, -2, 3]), "b": np.array([0.5, -7, 2], f32)}
    inputs = ["q", "w", "s", "ws", "z", "wz" if zeros else "", "b" if bias else ""]
    while inputs[-1] == "":
        inputs.pop()
    rows = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], name="Q"),
        node("MatMulIntegerToFloat", inputs, ["y"], name="mul", domain=MS),
    ]
    proto = nodes(*rows, **{name: array for name, array in given.items() if name in (*inputs, "z")})
    assert same(proto)[0] == "quantize"


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_codes_picked_from_a_table_of_codes(dtype: Any) -> None:
    """They are codes of scale 1 and become those of the DequantizeLinear that reads them."""
    given = {"t": np.arange(12).reshape(3, 4).astype(dtype), "s": f32(0.5), "z": dtype(3)}
    rows = [node("Gather", ["t", "x"], ["q"], name="pick"), node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dq")]
    proto = model(rows, {"x": ("N", 2)}, ["y"], given, dtype=TensorProto.INT32, out_dtype=TensorProto.FLOAT)
    assert same(proto)[:2] == ["embedding_f32", "quantize"]
    codes = lower(proto).tensors["q"]
    assert (codes.shape, codes.dtype, codes.scale) == ((2, 4), "i8", 1.0)
    assert codes.zero_point == (-128 if dtype is np.uint8 else 0)


def test_inputs_that_no_output_depends_on_are_left_out_of_what_learns() -> None:
    """Whether another node reads them or none; a model that does not learn keeps them, and states stay."""
    rows = [
        node("Gemm", ["x", "w"], ["h"], name="fc"), node("Relu", ["z"], ["dead"], name="relu"),
        node("Add", ["h", "s"], ["y"], name="sum"), node("Identity", ["y"], ["next"], name="next"),
    ]  # fmt: skip
    inputs = {"x": ("N", 4), "z": ("N", 5), "s": ("N", 3)}
    proto = model(rows, inputs, ["y", "next"], {"w": ones(4, 3)})
    learns = lower(proto, trainable="fc", loss="mse", states={"s": "next"})
    assert [port.name for port in learns.inputs] == ["x"]
    assert [state.name for state in learns.states] == ["s"]
    assert learns.notes == ["input 'z' is left out: no output depends on it"]
    assert [port.name for port in lower(proto, states={"s": "next"}).inputs] == ["x", "z"]
    alone = model(rows[:2], {"x": ("N", 4), "z": ("N", 5)}, ["h"], {"w": ones(4, 3)})
    learns = lower(alone, trainable="fc", loss="mse")
    assert [port.name for port in learns.inputs] == ["x"]
    assert learns.notes == ["input 'z' is left out: no output depends on it"]


# ---- Branches that nothing else goes through -------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sizes", "scales"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_the_opset_that_cannot_leave_inputs_out(by: str, mode: str) -> None:
    """Of opset 11: roi, and scales where sizes are given, are there and empty."""
    given = {"roi": np.zeros(0, f32), "scales": f32([1, 1, 2, 1.5]) if by == "scales" else np.zeros(0, f32)}
    names = ["x", "roi", "scales"]
    if by == "sizes":
        given["sizes"] = i64([1, 2, 8, 6])
        names.append("sizes")
    how = {"coordinate_transformation_mode": "half_pixel", "mode": mode}
    same(model([node("Resize", names, ["y"], **how)], {"x": (1, 2, 4, 4)}, ["y"], given, 11))


@pytest.mark.parametrize("given", [["h"], ["c"], ["h", "c"]])
def test_an_lstm_that_begins_with_one_of_its_states(given: list[str]) -> None:
    """The other is zero."""
    random = np.random.default_rng(0)
    constants = {"w": random.normal(size=(1, 12, 2)).astype(f32), "r": random.normal(size=(1, 12, 3)).astype(f32)}
    constants |= {name: random.normal(size=(1, 1, 3)).astype(f32) for name in given}
    names = ["x", "w", "r", "", "", *(name if name in given else "" for name in "hc")]
    while not names[-1]:
        names.pop()
    result = check(model([node("LSTM", names, ["y"], name="cell", hidden_size=3)], {"x": (4, 1, 2)}, ["y"], constants))
    assert result.status == "ok", str(result)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_a_dense_layer_of_codes_whose_output_is_float(transposed: int, bias: bool) -> None:
    """com.microsoft QGemm without a scale for y."""
    weight = np.arange(12, dtype=i8).reshape((3, 4) if transposed else (4, 3)) - i8(5)
    given = {"s": f32(0.05), "z": i8(3), "w": weight, "ws": f32(0.1), "wz": i8(0), "b": i32([50, -7, 200])}
    inputs = ["q", "s", "z", "w", "ws", "wz", *(["b"] if bias else [])]
    rows = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], name="Q"),
        node("QGemm", inputs, ["y"], name="mul", domain=MS, transB=transposed),
    ]
    same(nodes(*rows, **{name: array for name, array in given.items() if name in inputs}))


def test_the_output_that_the_loss_looks_at_comes_first() -> None:
    rows = [
        node("Gemm", ["x", "a"], ["h"], name="first"), node("Tanh", ["h"], ["u"], name="t"),
        node("Gemm", ["u", "b"], ["v"], name="second"),
    ]  # fmt: skip
    proto = model(rows, {"x": ("N", 4)}, ["u", "v"], {"a": ones(4, 3), "b": ones(3, 2)})
    for wanted, order in (("v", ["v", "u"]), ("u", ["u", "v"])):
        program = lower(proto, trainable="first", loss="mse", loss_output=wanted)
        assert [port.name for port in program.outputs] == order
        assert program.logits == program.outputs[0].tensor
    with pytest.raises(ValueError, match="other"):
        lower(proto, trainable="first", loss="mse", loss_output="other")


@pytest.mark.parametrize(("text", "steps"), [("2", 2), ('{"layer": 3}', 3), ('{"another": 3}', 0), ("0", 0)])
def test_steps_that_gradients_go_back(text: str, steps: int) -> None:
    """Of all cells, or of those that are named; as the metadata says."""
    proto = cell_of("GRU", 3)
    proto.metadata_props.add(key="edgeprop.truncate", value=text)
    assert lower(proto, trainable="layer", loss="mse").ops[0].attrs["truncate"] == steps


@pytest.mark.parametrize("text", ["-1", "2.5", "true", '{"layer": -3}', "many", str(1 << 31)])
def test_steps_that_are_none(text: str) -> None:
    proto = cell_of("GRU", 3)
    proto.metadata_props.add(key="edgeprop.truncate", value=text)
    with pytest.raises(ValueError, match="give a number of steps"):
        lower(proto, trainable="layer", loss="mse")
