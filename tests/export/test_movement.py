"""Operators that move, gather, reduce and resize, products of computed matrices, ConvTranspose: lowered and run by the C
runtime, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from edgeprop import Model
from edgeprop.export.check import check
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.program.plan import plan
from edgeprop.export.writers.header import to_header
from edgeprop.export.writers.image import to_image
from tests.support import compiler, interpreter, replay
from tests.support.graphs import model, node, qdq

seeds = st.integers(0, 2**32 - 1)


def same(proto: onnx.ModelProto, inputs: Any = None) -> list[str]:
    """The C runtime and the interpreter give what onnxruntime gives; the kinds of the program's ops."""
    for device in (None, interpreter.device):
        result = check(proto, inputs, device=device)
        assert result.status == "ok", str(result)
        assert all(layer.max_abs_error < 1e-6 for layer in result.layers if layer.mismatches), result.layers
    return [op.kind for op in lower(proto).ops]


def refused(proto: onnx.ModelProto) -> str:
    with pytest.raises(UnsupportedError) as caught:
        lower(proto)
    return str(caught.value)


def normal(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return lambda *shape: random.standard_normal(shape).astype(np.float32)


def between(
    nodes: list[onnx.NodeProto], shape: list[Any], constants: dict[str, Any], opset: int = 17
) -> onnx.ModelProto:
    """`nodes` from h to k, behind a convolution or bias so that the memory order is the device's, before a Tanh."""
    if len(shape) == 4:
        constants = {**constants, "w0": normal(7)(shape[1], shape[1], 1, 1)}
        first = node("Conv", ["x", "w0"], ["h"])
    else:
        first = node("Relu", ["x"], ["h"])
    return model([first, *nodes, node("Tanh", ["k"], ["y"])], {"x": shape}, ["y"], constants, opset)


def shapes(least: int = 2, most: int = 5) -> Any:
    return st.lists(st.integers(1, 5), min_size=least - 1, max_size=most - 1)


# ---- Slice, Split, Concat --------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_slice(data: Any) -> None:
    shape = data.draw(shapes())
    starts, ends, axes, steps = [], [], [], []
    for axis, size in enumerate(shape, 1):
        if data.draw(st.booleans()):
            continue
        step = data.draw(st.sampled_from([1, 1, 2, -1, -2]))
        start = data.draw(st.integers(-size - 2, size + 2))
        end = data.draw(st.sampled_from([-(2**63) + 1, 2**63 - 1, start + step, start + 3 * step, -1, 0]))
        if not len(range(size)[slice(start, end, step)]):
            start, end = (0, 2**63 - 1) if step > 0 else (2**63 - 1, -(2**63) + 1)
        starts, ends, steps = [*starts, start], [*ends, end], [*steps, step]
        axes.append(axis if data.draw(st.booleans()) else axis - len(shape) - 1)
    if not axes:
        return
    constants = {"b": starts, "e": ends, "a": axes, "s": steps}
    constants = {name: np.array(v, np.int64) for name, v in constants.items()}
    same(
        between(
            [node("Slice", ["h", "b", "e", "a", "s"], ["k"])], [data.draw(st.sampled_from(["N", 1])), *shape], constants
        )
    )


def test_slice_of_old_opsets() -> None:
    proto = between([node("Slice", ["h"], ["k"], starts=[1, -3], ends=[9, -1], axes=[1, 2])], ["N", 3, 4], {}, 9)
    assert same(proto) == ["clip_f32", "box", "tanh_f32"]


def test_slice_of_all_costs_nothing() -> None:
    constants = {"b": np.array([0, 0]), "e": np.array([2**63 - 1, 3]), "a": np.array([0, 1])}
    proto = between([node("Slice", ["h", "b", "e", "a"], ["k"])], ["N", 3, 4], constants)
    assert same(proto) == ["clip_f32", "tanh_f32"]


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize(("opset", "sizes"), [(11, None), (11, [1, 3, 2]), (13, [1, 3, 2]), (18, None), (13, None)])
def test_split(axis: int, opset: int, sizes: list[int] | None) -> None:
    inputs, constants, attributes = ["h"], {}, {"axis": axis}
    if sizes and opset < 13:
        attributes["split"] = sizes
    elif sizes:
        inputs, constants = ["h", "s"], {"s": np.array(sizes)}
    elif opset == 18:
        attributes["num_outputs"] = 3
    parts = node("Split", inputs, ["a", "b", "c"], **attributes)
    back = node("Concat", ["c", "a", "b"], ["k"], axis=axis)
    same(between([parts, back], ["N", 6, 6, 6], constants, opset))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_concat(data: Any) -> None:
    """Of values in different memory orders, and constants."""
    shape = data.draw(shapes())
    array = normal(data.draw(seeds))
    axis = data.draw(st.integers(1, len(shape)))
    nodes, names, constants = [], [], {}
    for i in range(data.draw(st.integers(1, 11))):
        kind = data.draw(st.sampled_from(["again", "tanh", "constant", "turned", "slice"]))
        name = f"p{i}"
        if kind == "constant":
            size = [1, *shape]
            size[axis] = data.draw(st.integers(1, 3))
            constants[name] = array(*size)
        elif kind == "turned":
            perm = [0, *range(1, len(shape) + 1)]
            perm[1], perm[-1] = perm[-1], perm[1]
            turned = [shape[p - 1] for p in perm[1:]]
            constants[f"c{i}"] = array(turned[-1], turned[-1])
            nodes += [node("Transpose", ["h"], [f"t{i}"], perm=perm), node("MatMul", [f"t{i}", f"c{i}"], [f"u{i}"])]
            nodes.append(node("Transpose", [f"u{i}"], [name], perm=perm))
        elif kind == "slice":
            constants |= {f"b{i}": np.array([0]), f"e{i}": np.array([1]), f"a{i}": np.array([axis])}
            nodes.append(node("Slice", ["h", f"b{i}", f"e{i}", f"a{i}"], [name]))
        else:
            nodes.append(node("Tanh" if kind == "tanh" else "Identity", ["h"], [name]))
        names.append(name)
    if all(name in constants for name in names):
        names.append("h")
    nodes.append(node("Concat", names, ["k"], axis=axis if data.draw(st.booleans()) else axis - len(shape) - 1))
    same(between(nodes, ["N", *shape], constants))


def test_concat_refuses_the_batch() -> None:
    assert "batch" in refused(between([node("Concat", ["h", "h"], ["k"], axis=0)], ["N", 3], {}))


# ---- Pad -------------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_pad(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))
    mode = data.draw(st.sampled_from(["constant", "constant", "edge", "reflect"]))
    least = -1 if mode == "constant" else 0
    pads = [[0, *(data.draw(st.integers(least, min(n - 1, 2))) for n in shape)] for _ in range(2)]
    for i, n in enumerate(shape, 1):
        if n + pads[0][i] + pads[1][i] < 1 or n + min(pads[0][i], 0) + min(pads[1][i], 0) < 1:
            pads[0][i] = pads[1][i] = 0
    opset = data.draw(st.sampled_from([10, 13, 18]))
    value = data.draw(st.sampled_from([0.0, 1.5]))
    if opset == 10:
        one = node("Pad", ["h"], ["k"], mode=mode, pads=pads[0] + pads[1], value=value)
        same(between([one], ["N", *shape], {}, opset))
        return
    constants: dict[str, Any] = {"p": np.array(pads[0] + pads[1])}
    inputs = ["h", "p"]
    if mode == "constant" and value:
        constants["v"] = np.float32(value)
        inputs.append("v")
    elif opset == 18:
        inputs.append("")
    if opset == 18:
        axes = list(data.draw(st.permutations(range(1, len(shape) + 1))))
        constants["p"] = np.array([pads[0][a] for a in axes] + [pads[1][a] for a in axes])
        constants["a"] = np.array(axes) - (len(shape) + 1) * data.draw(st.integers(0, 1))
        inputs.append("a")
    same(between([node("Pad", inputs, ["k"], mode=mode)], ["N", *shape], constants, opset))


# ---- Gather, Embedding -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_gather(data: Any) -> None:
    shape = data.draw(shapes())
    axis = data.draw(st.integers(1, len(shape)))
    size = shape[axis - 1]
    count = data.draw(st.sampled_from([(), (1,), (3,), (2, 2), (1, 3)]))
    picked = data.draw(
        st.lists(st.integers(-size, size - 1), min_size=int(np.prod(count)), max_size=int(np.prod(count)))
    )
    index = np.array(picked, data.draw(st.sampled_from([np.int64, np.int32]))).reshape(count)
    same(between([node("Gather", ["h", "i"], ["k"], axis=axis)], ["N", *shape], {"i": index}))


@pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("table", [(9, 4), (9, 2, 3), (9,)])
def test_embedding(dtype: int, table: tuple[int, ...]) -> None:
    constants = {"t": normal(0)(*table)}
    nodes = [node("Gather", ["t", "ids"], ["e"], name="emb"), node("Tanh", ["e"], ["y"])]
    proto = model(nodes, {"ids": ["N", 5]}, ["y"], constants, dtype=dtype, out_dtype=TensorProto.FLOAT)
    assert same(proto) == ["embedding_f32", "tanh_f32"]


def test_gather_of_codes_from_a_table() -> None:
    """A table of codes behind onnxruntime's fusion."""
    constants = {"t": np.arange(-9, 9, dtype=np.int8).reshape(6, 3), "s": np.float32(0.1), "z": np.int8(2)}
    nodes = [node("DequantizeLinear", ["t", "s", "z"], ["d"]), node("Gather", ["d", "ids"], ["e"])]
    nodes.append(node("Tanh", ["e"], ["y"]))
    proto = model(nodes, {"ids": ["N", 5]}, ["y"], constants, dtype=TensorProto.INT64, out_dtype=1)
    same(proto)


def test_refuses_what_both_are_computed() -> None:
    nodes = [node("Gather", ["x", "i"], ["y"], axis=1)]
    proto = model(nodes, {"x": ["N", 4], "i": ["N", 2]}, ["y"])
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    assert "both computed" in refused(proto)


# ---- Expand, Tile, DepthToSpace --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[1, 1, 4], [1, 3, 1], [3, 4]])
def test_expand(shape: list[int]) -> None:
    same(between([node("Expand", ["h", "s"], ["k"])], ["N", 3, 1], {"s": np.array(shape)}))
    same(between([node("Expand", ["h", "s"], ["k"])], ["N", 5, 3, 1], {"s": np.array(shape)}))


@pytest.mark.parametrize("repeats", [[1, 2, 3], [1, 1, 1], [1, 1, 4]])
def test_tile(repeats: list[int]) -> None:
    same(between([node("Tile", ["h", "r"], ["k"])], ["N", 3, 2], {"r": np.array(repeats)}))
    same(between([node("Tile", ["h", "r"], ["k"])], ["N", 3, 2, 2], {"r": np.array([*repeats, 2])}))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_depth_and_space(mode: str, block: int) -> None:
    shape = ["N", 2 * block * block, 3, 2]
    same(between([node("DepthToSpace", ["h"], ["k"], blocksize=block, mode=mode)], shape, {}, 13))
    shape = ["N", 2, 3 * block, block]
    same(between([node("SpaceToDepth", ["h"], ["k"], blocksize=block)], shape, {}, 13))


# ---- Reductions ------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_reduce(data: Any) -> None:
    shape = data.draw(shapes())
    kind = data.draw(st.sampled_from(["Sum", "Max", "Min", "L1", "L2", "SumSquare", "Mean"]))
    axes = sorted(data.draw(st.sets(st.integers(1, len(shape)), min_size=1)))
    keepdims = data.draw(st.integers(0, 1))
    negative = [axis - len(shape) - 1 for axis in axes] if data.draw(st.booleans()) else axes
    opset = data.draw(st.sampled_from([12, 18]))
    as_input = opset == 18 or (kind == "Sum" and opset >= 13)
    inputs, constants = (["h", "a"], {"a": np.array(negative)}) if as_input else (["h"], {})
    attributes = {} if as_input else {"axes": negative}
    same(
        between(
            [node(f"Reduce{kind}", inputs, ["k"], keepdims=keepdims, **attributes)], ["N", *shape], constants, opset
        )
    )


def test_reduce_without_axes() -> None:
    same(between([node("ReduceMax", ["h", ""], ["k"], noop_with_empty_axes=1)], ["N", 3, 4], {}, 18))
    assert "batch" in refused(between([node("ReduceMax", ["h"], ["k"])], ["N", 3, 4], {}, 18))


@pytest.mark.parametrize("shape", [["N", 3, 4], ["N", 3, 4, 5], ["N", 2, 3, 2, 2]])
def test_global_max_pool(shape: list[Any]) -> None:
    same(between([node("GlobalMaxPool", ["h"], ["k"])], shape, {}))


# ---- Resize ----------------------------------------------------------------------------------------------------------

COORDINATES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]


@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("by", ["scales", "sizes"])
def test_resize_nearest(by: str, coordinates: str, nearest: str) -> None:
    for h, w in ((2, 3), (0.5, 1.7), (1, 0.34)):
        scales = np.array([1, 1, h, w], np.float32)
        inputs, constants = ["h", "", "s"], {"s": scales}
        if by == "sizes":
            inputs, constants = ["h", "", "", "s"], {"s": np.floor(scales * [1, 3, 6, 7]).astype(np.int64)}
        one = node(
            "Resize", inputs, ["k"], mode="nearest", coordinate_transformation_mode=coordinates, nearest_mode=nearest
        )
        found = same(between([one], [1, 3, 6, 7], constants, 13))
        assert set(found) == {"conv2d_f32", "gather", "tanh_f32"}


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("by", ["scales", "sizes"])
def test_resize_interpolates(by: str, coordinates: str, mode: str) -> None:
    for h, w in ((2, 3), (0.5, 1.7), (1, 0.34)):
        scales = np.array([1, 1, h, w], np.float32)
        inputs, constants = ["h", "", "s"], {"s": scales}
        if by == "sizes":
            inputs, constants = ["h", "", "", "s"], {"s": np.floor(scales * [1, 3, 6, 7]).astype(np.int64)}
        one = node("Resize", inputs, ["k"], mode=mode, coordinate_transformation_mode=coordinates)
        same(between([one], [1, 3, 6, 7], constants, 13))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_a_sequence_and_of_old_opsets(mode: str) -> None:
    two = np.array([1, 1, 2, 2], np.float32)
    for opset, op, shape in ((9, "Upsample", ["N", 2, 3, 4]), (10, "Resize", ["N", 2, 3, 4])):
        same(between([node(op, ["h", "s"], ["k"], mode=mode)], shape, {"s": two}, opset))
    proto = between([node("Upsample", ["h"], ["k"], mode=mode, scales=[1.0, 1.0, 2.0, 2.0])], ["N", 2, 3, 4], {}, 7)
    same(proto)
    one = node("Resize", ["h", "", "s"], ["k"], mode=mode)
    same(between([one], ["N", 2, 5], {"s": np.array([1, 1, 2.5], np.float32)}, 13))
    one = node("Resize", ["h", "", "s"], ["k"], mode=mode, axes=[2, 3], antialias=int(mode == "linear"))
    same(between([one], ["N", 2, 6, 9], {"s": np.array([0.5, 0.4], np.float32)}, 18))


def test_resize_refuses_a_crop() -> None:
    one = node("Resize", ["h", "r", "s"], ["k"], coordinate_transformation_mode="tf_crop_and_resize")
    constants = {"r": np.zeros(8, np.float32), "s": np.array([1, 1, 2, 2], np.float32)}
    assert "crops" in refused(between([one], ["N", 2, 3, 4], constants, 13))


# ---- MatMul ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_matmul(data: Any) -> None:
    """Of two views of one value, in all orders, some leading axes 1."""
    lead = data.draw(st.lists(st.integers(1, 3), max_size=2))
    m, k, n = (data.draw(st.integers(1, 5)) for _ in range(3))
    sides, nodes = [], []
    for name, (rows, columns) in (("a", (m, k)), ("b", (k, n))):
        shape = ["N", *[1 if data.draw(st.booleans()) else size for size in lead], rows, columns]
        if data.draw(st.booleans()):
            shape[-2:] = [columns, rows]
            perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            nodes += [node("Tanh", [name], [f"{name}1"]), node("Transpose", [f"{name}1"], [f"{name}2"], perm=perm)]
        else:
            nodes.append(node("Tanh", [name], [f"{name}2"]))
        sides.append(shape)
    nodes += [node("MatMul", ["a2", "b2"], ["c"]), node("Relu", ["c"], ["y"])]
    found = same(model(nodes, {"a": sides[0], "b": sides[1]}, ["y"]))
    assert "matmul_f32" in found
    assert "clip_f32" not in found


def test_attention() -> None:
    """Heads out of one projection, scores, softmax, and back."""
    array = normal(0)
    constants = {name: array(8, 8) for name in ("q", "k", "v", "o")} | {
        "heads": np.array([0, 6, 2, 4]),
        "flat": np.array([0, 6, 8]),
        "half": np.float32(0.5),
    }
    nodes = []
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", ["x", name], [f"{name}0"]),
            node("Reshape", [f"{name}0", "heads"], [f"{name}1"]),
            node("Transpose", [f"{name}1"], [f"{name}2"], perm=perm),
        ]
    nodes += [
        node("MatMul", ["q2", "k2"], ["s"]),
        node("Mul", ["s", "half"], ["s1"]),
        node("Softmax", ["s1"], ["p"], axis=-1),
        node("MatMul", ["p", "v2"], ["c"]),
        node("Transpose", ["c"], ["c1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["c1", "flat"], ["c2"]),
        node("MatMul", ["c2", "o"], ["y"]),
    ]
    proto = model(nodes, {"x": ["N", 6, 8]}, ["y"], constants)
    assert same(proto).count("matmul_f32") == 2


def test_matmul_with_a_constant_on_the_left() -> None:
    for shape in (["N", 4, 5], ["N", 2, 4, 5]):
        nodes = [node("MatMul", ["w", "x"], ["m"]), node("Tanh", ["m"], ["y"])]
        assert same(model(nodes, {"x": shape}, ["y"], {"w": normal(0)(3, 4)})) == ["dense_f32", "tanh_f32"]


def test_matmul_refuses_what_mixes_samples() -> None:
    assert "multiplies" in refused(model([node("MatMul", ["x", "z"], ["y"])], {"x": ["N", 4], "z": ["N", 4, 3]}, ["y"]))


# ---- ConvTranspose ---------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_conv_transpose(data: Any) -> None:
    rank = data.draw(st.sampled_from([1, 2, 2]))
    ints = lambda low, high: [data.draw(st.integers(low, high)) for _ in range(rank)]  # noqa: E731
    groups, array = data.draw(st.sampled_from([1, 1, 2])), normal(data.draw(seeds))
    in_c, out_c = groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 3))
    kernel, strides, dilations, sizes = ints(1, 4), ints(1, 3), ints(1, 2), ints(2, 5)
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    form = data.draw(st.sampled_from(["pads", "padding", "shape", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)]
    if form in ("pads", "padding"):
        low = [data.draw(st.integers(0, (f - 1) // 2)) for f in full]
        attributes["pads"] = low + [data.draw(st.integers(0, (f - 1) // 2)) for f in full]
    if form == "padding":
        attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in strides]
    if form == "shape":
        attributes["output_shape"] = [f - data.draw(st.integers(0, f - 1)) for f in full]
        attributes["auto_pad"] = data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "NOTSET"]))
    if form[0] in "SV" and form != "shape":
        attributes["auto_pad"] = form
    constants = {"w": array(in_c, out_c // groups, *kernel), "b": array(out_c), "m": np.abs(array(out_c)) + 1}
    nodes = [node("ConvTranspose", ["x", "w", *(["b"] if data.draw(st.booleans()) else [])], ["c"], **attributes)]
    if data.draw(st.booleans()):
        nodes.append(node("BatchNormalization", ["c", "m", "b", "b", "m"], ["n"]))
    nodes.append(node("Relu", [nodes[-1].output[0]], ["y"]))
    same(model(nodes, {"x": ["N", in_c, *sizes]}, ["y"], constants))


# ---- Shapes ----------------------------------------------------------------------------------------------------------

N3 = ["N", 1, 3, 1]


@pytest.mark.parametrize(
    ("op", "shape", "values", "attributes", "opset"),
    [
        ("Squeeze", N3, None, {"axes": [1, -1]}, 11),
        ("Squeeze", N3, [1, -1], {}, 13),
        ("Squeeze", N3, None, {}, 13),
        ("Unsqueeze", ["N", 3, 2], None, {"axes": [1, 3]}, 9),
        ("Unsqueeze", ["N", 3, 2], [-1, 1], {}, 21),
        ("Unsqueeze", ["N"], [1], {}, 13),
        ("Reshape", ["N", 3, 4], [0, -1], {}, 13),
        ("Reshape", ["N", 3, 4], [-1, 6, 2], {}, 13),
        ("Reshape", ["N", 3, 4], [0, 0, 2, 2], {}, 13),
        ("Reshape", [1, 3, 4], [1, -1], {"allowzero": 1}, 14),
        ("Reshape", [6], [2, 3], {}, 13),
        ("Flatten", ["N", 3, 4], None, {}, 13),
        ("Flatten", [1, 3, 4], None, {"axis": -1}, 13),
        ("Transpose", ["N", 2, 3, 2, 3, 2], None, {"perm": [0, 5, 3, 1, 4, 2]}, 13),
        ("Transpose", [1, 3, 2], None, {"perm": [1, 0, 2]}, 13),
        ("Transpose", [1, 3, 2], None, {}, 13),
    ],
)
def test_forms_of_shape_operators(
    op: str, shape: list[Any], values: list[int] | None, attributes: dict[str, Any], opset: int
) -> None:
    """Axes and shapes as attributes and as inputs, with 0 and -1, of 1 to 6 axes, around the batch axis."""
    inputs = ["h"] if values is None else ["h", "v"]
    constants = {} if values is None else {"v": np.array(values)}
    same(between([node(op, inputs, ["k"], **attributes)], shape, constants, opset))


def test_one_sample_without_a_batch() -> None:
    """A graph for one sample may treat its first axis as any other."""
    nodes = [node("Gather", ["h", "i"], ["g"], axis=0), node("ReduceSum", ["g", "a"], ["k"], keepdims=0)]
    proto = between(nodes, [1, 3, 4], {"i": np.array(0), "a": np.array([0])})
    assert same(proto) == ["clip_f32", "reduce_f32", "tanh_f32"]
    assert "batch" in refused(between(nodes, ["N", 3, 4], {"i": np.array(0), "a": np.array([0])}))


# ---- Learning --------------------------------------------------------------------------------------------------------


def learns(proto: onnx.ModelProto, x: Any, trainable: list[str]) -> None:
    """Gradients of all that trains, as the device has them, are slopes of its loss along random directions."""
    model = Model(to_image(lower(proto, trainable=trainable, loss="mse")))
    random = np.random.default_rng(0)
    target = model.run(x)[0] + random.standard_normal(model.run(x)[0].shape).astype(np.float32)
    weights = {name: value.copy() for name, value in model.parameters().items()}
    gradients = model.gradients(x, target)
    assert len(weights) >= len(trainable)

    def loss() -> float:
        return float(np.square(model.run(x)[0].astype(np.float64) - target).mean())

    for name, value in weights.items():
        direction = random.choice([-1.0, 1.0], value.shape)
        ends = []
        for h in (1e-2, -1e-2):
            model.set_parameters({**weights, name: value + h * direction})
            ends.append(loss())
        slope = float((gradients[name] * direction).sum())
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(slope, rel=2e-2, abs=2e-3), name
        assert np.abs(gradients[name]).max() > 0
        model.set_parameters(weights)
    before = loss()
    for _ in range(20):  # batch of 1: gradients in place, exactly once per element
        for row in range(len(x)):
            model.partial_fit(x[row : row + 1], target[row : row + 1], lr=0.01)
    assert loss() < before


def test_learns_through_movement() -> None:
    """Slices, a concat of more inputs than an op takes, padding, gathers and reductions between layers."""
    array = normal(0)
    constants = {
        "w": array(4, 3), "v": array(40, 3) / 20, "z": np.array([0, 1, 1, 0, 0, 1]), "b": np.array([3]),
        "e": np.array([-9]), "a": np.array([2]), "s": np.array([-1]), "i": np.array([2, 0, 0, 1, 2]), "c": array(1, 5, 2),
        "f": np.array([0, 40]), "ax": np.array([1]),
    }  # fmt: skip
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="first"),
        node("Pad", ["h", "z"], ["p"], mode="edge"),
        node("Slice", ["p", "b", "e", "a", "s"], ["r"]),
        node("Gather", ["h", "i"], ["g"], axis=1),
        node("Concat", ["g", "c", *["g"] * 9], ["k"], axis=2),
        node("ReduceL2", ["k"], ["n"], axes=[1], keepdims=1),
        node("ReduceSum", ["r", "ax"], ["q"], keepdims=1),
        node("Concat", ["n", "q", "q", "n"], ["m"], axis=2),
        node("Slice", ["m", "u0", "u1", "a"], ["m0"]),
        node("Reshape", ["m0", "f"], ["m1"]),
        node("MatMul", ["m1", "v"], ["y"], name="last"),
    ]
    constants |= {"u0": np.array([0]), "u1": np.array([40])}
    proto = model(nodes, {"x": ["N", 3, 4]}, ["y"], constants)
    found = same(proto)
    assert {"box", "concat", "gather", "reduce_f32"} <= set(found)
    learns(proto, array(5, 3, 4), ["first", "last"])


def test_attention_over_an_embedding_learns() -> None:
    array = normal(1)
    constants = {"t": array(7, 4), "q": array(4, 4), "k": array(4, 4), "v": array(4, 4), "o": array(4, 2)}
    nodes = [
        node("Gather", ["t", "ids"], ["e"], name="embedding"),
        *(node("MatMul", ["e", name], [f"{name}1"], name=name) for name in "qkv"),
        node("Transpose", ["k1"], ["k2"], perm=[0, 2, 1]),
        node("MatMul", ["q1", "k2"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "v1"], ["c"]),
        node("ReduceMean", ["c"], ["m"], axes=[1], keepdims=0),
        node("MatMul", ["m", "o"], ["y"], name="out"),
    ]
    proto = model(nodes, {"ids": ["N", 6]}, ["y"], constants, dtype=TensorProto.INT64, out_dtype=TensorProto.FLOAT)
    assert same(proto).count("matmul_f32") == 2
    ids = np.random.default_rng(2).integers(0, 7, (5, 6))
    learns(proto, ids, ["embedding", "q", "k", "v", "out"])


def test_upsampling_network_learns() -> None:
    """Transposed convolution, resize and pixel shuffle, as decoders have them."""
    array = normal(2)
    constants = {"w": array(2, 4, 3, 3) / 3, "t": array(4, 4, 2, 2) / 3, "b": array(4), "v": array(1, 1, 3, 3) / 3}
    constants |= {"s": np.array([1, 1, 1.5, 2], np.float32)}
    nodes = [
        node("Conv", ["x", "wt"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("ConvTranspose", ["r", "t", "b"], ["u"], name="up", strides=[2, 2], pads=[0, 1, 1, 0]),
        node("Resize", ["u", "", "s"], ["z"], mode="linear"),
        node("DepthToSpace", ["z"], ["d"], blocksize=2),
        node("Conv", ["d", "v"], ["y"], name="end"),
    ]
    constants["wt"] = constants.pop("w").transpose(1, 0, 2, 3)
    proto = model(nodes, {"x": ["N", 2, 3, 4]}, ["y"], constants)
    assert "conv_transpose2d_f32" in same(proto)
    learns(proto, array(4, 2, 3, 4), ["conv", "up", "end"])


def test_plans_of_these_networks() -> None:
    """What the backward reads is still there."""
    for seed in range(3):
        array = normal(seed)
        nodes = [
            node("MatMul", ["x", "w"], ["a"], name="a"),
            node("MatMul", ["x", "v"], ["b"], name="b"),
            node("Transpose", ["b"], ["bt"], perm=[0, 2, 1]),
            node("MatMul", ["a", "bt"], ["c"]),
            node("Relu", ["c"], ["r"]),
            node("ReduceMax", ["r"], ["y"], axes=[2], keepdims=0),
        ]
        proto = model(nodes, {"x": ["N", 3, 4]}, ["y"], {"w": array(4, 5), "v": array(4, 5)})
        program = lower(proto, trainable=["a", "b"], loss="mse")
        replay.replay_inference(program, plan(program))
        replay.replay_training(program, plan(program))


def decoder() -> onnx.ModelProto:
    """All ops of this file but the int8 ones, in one graph with a head that trains."""
    array = normal(5)
    constants = {
        "w": array(4, 4, 2, 2), "t": array(6, 4), "s": np.array([1, 1, 1.5, 2], np.float32), "i": np.array([2, 0, 0, 1]),
        "p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "one": np.array([1]),
    }  # fmt: skip
    nodes = [
        node("Gather", ["t", "ids"], ["e"], name="embedding"),
        node("Unsqueeze", ["e", "one"], ["e1"]),
        node("Transpose", ["e1"], ["e2"], perm=[0, 3, 1, 2]),
        node("ConvTranspose", ["e2", "w"], ["u"], strides=[2, 2], name="up"),
        node("Resize", ["u", "", "s"], ["z"], mode="linear"),
        node("Gather", ["z", "i"], ["g"], axis=1),
        node("Pad", ["g", "p"], ["q"]),
        node("Transpose", ["q"], ["qt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "qt"], ["m"]),
        node("Concat", ["m", "m"], ["c"], axis=2),
        node("ReduceMax", ["c"], ["r"], axes=[1, 2], keepdims=0),
        node("Slice", ["r", "b0", "b5", "one"], ["r5"]),
        node("MatMul", ["r5", "v"], ["y"], name="head"),
    ]
    constants |= {"b0": np.array([0]), "b5": np.array([5])}
    constants["v"] = array(4, 3)
    return model(nodes, {"ids": ["N", 5]}, ["y"], constants, 13, TensorProto.INT32, TensorProto.FLOAT)


def test_header_and_image_give_the_same_bits(tmp_path: Path) -> None:
    """The C header of all of it compiles without a warning and learns as the image does."""
    found = same(decoder())
    assert {"box", "concat", "conv_transpose2d_f32", "embedding_f32", "gather", "matmul_f32", "reduce_f32"} <= set(
        found
    )
    program = lower(decoder(), name="decoder", trainable=["embedding", "up", "head"], loss="mse")
    (tmp_path / "decoder.h").write_text(to_header(program))
    (tmp_path / "decoder.ep").write_bytes(to_image(program))
    defines = ('-DHEADER="decoder.h"', "-DMODEL=decoder", "-DDECODER_IMPLEMENTATION")
    source = compiler.HERE / "drive.c"
    driver = compiler.program(source, tmp_path / "drive", *defines, include=tmp_path)
    text = compiler.run([driver, "7", "4"])
    assert text == compiler.run([compiler.image_driver(), "7", "4", tmp_path / "decoder.ep"])
    assert "learn 0" in text


# ---- Codes -----------------------------------------------------------------------------------------------------------


def quantized(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    scales: dict[str, tuple[float, int]],
    inputs: dict[str, Any],
    dtype: Any,
    opset: int = 17,
) -> onnx.ModelProto:
    """`nodes` with QuantizeLinear and DequantizeLinear behind each value of `scales`; those are read as `v.dq`."""
    low = -128 if dtype == np.int8 else 0
    before = []
    for name, (scale, zero) in scales.items():
        pair, more = qdq(name, scale, zero + low, dtype)
        before += pair
        constants = {**constants, **more}
    done = list(inputs)
    ordered, rest = [], [*nodes, *before]
    while rest:
        ready = next(n for n in rest if all(i in done or i in constants or not i for i in n.input))
        rest.remove(ready)
        ordered.append(ready)
        done += ready.output
    return model(ordered, inputs, ["y.dq"], constants, opset)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@settings(max_examples=12, deadline=None)
@given(seed=seeds)
def test_codes(dtype: Any, seed: int) -> None:
    """Between equal scales, operators that move work on codes."""
    random = np.random.default_rng(seed)
    scale = (float(np.float32(random.uniform(0.004, 0.02))), int(random.integers(0, 256)))
    cases: dict[str, tuple[list[str], dict[str, Any], dict[str, Any], str]] = {
        "Slice": (
            ["b", "e", "a", "t"],
            {"b": np.array([2]), "e": np.array([-9]), "a": np.array([1]), "t": np.array([-1])},
            {},
            "box",
        ),
        "Gather": (["i"], {"i": np.array([3, 0, 0, 1])}, {"axis": 2}, "gather"),
        "Pad": (["p"], {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}, {}, "box"),
        "Resize": (["", "s"], {"s": np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}, "gather"),
        "Tile": (["r"], {"r": np.array([1, 1, 2, 1])}, {}, "box"),
        "MaxPool": ([], {}, {"kernel_shape": [2, 2]}, "max_pool2d_s8"),
        "GlobalMaxPool": ([], {}, {}, "max_pool2d_s8"),
        "DepthToSpace": ([], {}, {"blocksize": 2}, ""),
        "Expand": (["q"], {"q": np.array([1, 4, 4, 5])}, {}, "box"),
    }
    for op, (extra, constants, attributes, kind) in cases.items():
        shape = ["N", 4, 4, 5] if op != "Expand" else ["N", 4, 4, 1]
        constants = {**constants, "w": random.standard_normal((4, 4, 1, 1)).astype("f4")}
        nodes = [node(op, ["x.dq", *extra], ["y"], **attributes)]
        proto = quantized(nodes, constants, {"x": scale, "y": scale}, {"x": shape}, dtype)
        found = same(proto)
        assert not kind or kind in found, (op, found)
        assert found.count("dequantize") == 1, (op, found)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_concat_of_codes(dtype: Any, seed: int) -> None:
    """Inputs of other scales go through tables."""
    random = np.random.default_rng(seed)
    draw = lambda: (float(np.float32(2.0 ** random.uniform(-9, -5))), int(random.integers(0, 256)))  # noqa: E731
    names = [f"x{i}" for i in range(int(random.integers(2, 5)))]
    scales = {name: draw() for name in (*names, "y")}
    scales[names[0]] = scales["y"]
    nodes = [node("Concat", [f"{name}.dq" for name in names], ["y"], axis=1)]
    shape = ["N", 3, 4, 2]
    proto = quantized(nodes, {}, scales, dict.fromkeys(names, shape), dtype)
    found = same(proto)
    assert "concat" in found
    assert found.count("dequantize") == 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_matmul_of_codes(dtype: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    m, k, n = (int(i) for i in random.integers(1, 40, 3))
    lead = [int(i) for i in random.integers(1, 4, random.integers(0, 3))]
    draw = lambda: (float(np.float32(random.uniform(0.003, 0.008))), int(random.integers(0, 256)))  # noqa: E731
    scales = {"a": draw(), "b": draw(), "y": (0.02, int(random.integers(0, 256)))}
    nodes = [node("MatMul", ["a.dq", "b.dq"], ["y"])]
    proto = quantized(nodes, {}, scales, {"a": ["N", *lead, m, k], "b": ["N", *lead, k, n]}, dtype)
    assert "matmul_s8" in same(proto)


def test_gradients_through_rows_picked_in_any_order() -> None:
    """Rows of several elements, some twice, one never: each gets back what its copies got."""
    rng = np.random.default_rng(6)
    pick, weights = [2, 0, 2, 3, 1, 2], {"pre": rng.normal(size=(3, 3)), "head": rng.normal(size=(18, 2))}
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    constants |= {"pick": np.array(pick, np.int64), "flat": np.array([-1, 18])}
    nodes = [
        node("MatMul", ["x", "pre"], ["rows"], name="pre"),
        node("Gather", ["rows", "pick"], ["picked"], axis=1),
        node("Reshape", ["picked", "flat"], ["row"]),
        node("MatMul", ["row", "head"], ["y"], name="head"),
    ]
    program = lower(model(nodes, {"x": ["N", 5, 3]}, ["y"], constants), trainable=["pre", "head"], loss="mse")
    assert "gather" in [op.kind for op in program.ops]
    x, target = rng.normal(size=(2, 5, 3)).astype(np.float32), rng.normal(size=(2, 2)).astype(np.float32)
    found = Model(to_image(program)).gradients(x, target)["pre"]
    dy = 2 * (((x @ weights["pre"])[:, pick].reshape(2, 18) @ weights["head"]) - target) / target.size
    drows = np.zeros((2, 5, 3))
    np.add.at(drows, (slice(None), pick), (dy @ weights["head"].T).reshape(2, 6, 3))
    np.testing.assert_allclose(found, np.einsum("nri,nro->oi", x, drows), rtol=1e-4, atol=1e-6)


def test_ids_from_the_end_and_beyond() -> None:
    """As ONNX counts them; ids of no row read zeros and teach nothing."""
    table = np.random.default_rng(7).normal(size=(5, 3)).astype(np.float32)
    nodes = [node("Gather", ["table", "ids"], ["y"], name="words")]
    proto = model(nodes, {"ids": ["N", 4]}, ["y"], {"table": table}, dtype=onnx.TensorProto.INT32, out_dtype=1)
    device = Model(to_image(lower(proto, trainable="words", loss="mse")))
    ids = np.array([[-1, 4, -5, 0], [5, -6, 2, -3]], np.int32)
    wanted = np.where(((ids < -5) | (ids > 4))[..., None], 0, table[np.where(abs(ids) > 5, 0, ids % 5)])
    np.testing.assert_array_equal(device.run(ids)[0], wanted)
    for lone in ids:
        before = device.parameters()["table"].copy()
        device.partial_fit(lone[None], np.zeros((1, 4, 3), np.float32), lr=0.1)
        moved = np.flatnonzero(np.any(device.parameters()["table"] != before, axis=1))
        assert moved.tolist() == sorted({int(i % 5) for i in lone if -5 <= i <= 4})
