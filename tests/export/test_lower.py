"""Every operator, lowered and run by the NumPy interpreter, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeprop import Model
from edgeprop.export.check import check
from edgeprop.export.lower import UnsupportedError, lower, supported_operators, training
from edgeprop.export.writers.image import to_image
from tests.support import graphs, interpreter
from tests.support.graphs import golden, model, node, qdq, shared

seeds = st.integers(0, 2**32 - 1)


def same(proto: onnx.ModelProto, inputs: Any = None, steps: int = 0) -> Any:
    """Check a model with the interpreter as the device, inside and out. `steps`: integers may be this far apart."""
    result = check(proto, inputs, device=interpreter.device)
    assert result.status == "ok" or (steps and result.max_abs_error <= steps), str(result)
    if not steps:
        assert not [layer for layer in result.layers if layer.mismatches], result.layers
    return result


def kinds(proto: onnx.ModelProto, **options: Any) -> list[str]:
    return [op.kind for op in lower(proto, **options).ops]


def normal(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return lambda *shape: random.standard_normal(shape).astype(np.float32)


# ---- Convolution -----------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A Conv of any geometry, 1-D or 2-D, with all that may stand around it."""
    rank = draw(st.sampled_from([1, 2, 2]))
    ints = lambda low, high: [draw(st.integers(low, high)) for _ in range(rank)]  # noqa: E731
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    in_c, out_c = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    if draw(st.booleans()):
        in_c = groups
    kernel, strides, dilations, pads = ints(1, 3), ints(1, 3), ints(1, 2), ints(0, 2) + ints(0, 2)
    sizes = [draw(st.integers(d * (k - 1) + 1, 9)) for k, d in zip(kernel, dilations, strict=True)]
    array = normal(draw(seeds))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "group": groups}
    auto = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET":
        attributes |= {"pads": pads, "dilations": dilations}
    else:
        attributes["auto_pad"] = auto
    constants = {"w": array(out_c, in_c // groups, *kernel), "b": array(out_c)}
    nodes = [node("Conv", ["x", "w", *(["b"] if draw(st.booleans()) else [])], ["c"], name="conv", **attributes)]
    last = "c"
    for extra in draw(st.lists(st.sampled_from(["Relu", "BatchNormalization", "Add", "Mul", "Clip"]), max_size=3)):
        shape = (out_c,) + (1,) * rank
        name, output = f"{extra}{len(nodes)}", f"v{len(nodes)}"
        operands = {
            "BatchNormalization": [array(out_c), array(out_c), array(out_c), np.abs(array(out_c)) + 0.1],
            "Add": [array(*shape)],
            "Mul": [array(*shape)],
            "Clip": [np.float32(-0.5), np.float32(0.7)],
        }.get(extra, [])
        names = [f"{name}.{i}" for i in range(len(operands))]
        constants |= dict(zip(names, operands, strict=True))
        nodes.append(node(extra, [last, *names], [output], name=name))
        last = output
    batch = draw(st.sampled_from([1, "N"]))
    return model(nodes, {"x": [batch, in_c, *sizes]}, [last], constants), {}


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_convolution(case: Any) -> None:
    same(case[0])


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise(multiplier: int) -> None:
    array = normal(0)
    proto = model(
        [node("Conv", ["x", "w"], ["y"], group=4, pads=[1, 1, 1, 1])],
        {"x": ["N", 4, 5, 6]},
        ["y"],
        {"w": array(4 * multiplier, 1, 3, 3)},
    )
    assert kinds(proto) == ["depthwise_conv2d_f32"]
    same(proto)


def test_pad_folds_into_convolution() -> None:
    constants = {"w": normal(0)(2, 3, 3, 3), "p": np.array([0, 0, 1, 0, 0, 0, 1, 2])}
    proto = model(
        [node("Pad", ["x", "p"], ["xp"]), node("Conv", ["xp", "w"], ["y"], strides=[2, 2])],
        {"x": ["N", 3, 7, 8]},
        ["y"],
        constants,
    )
    assert kinds(proto) == ["conv2d_f32"]
    same(proto)


# ---- Dense -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seeds, st.booleans(), st.booleans(), st.sampled_from([(), (3,), (2, 3)]), st.sampled_from(["Gemm", "MatMul"]))
def test_dense(seed: int, transposed: bool, bias: bool, rows: tuple[int, ...], op: str) -> None:
    array = normal(seed)
    weight = array(5, 4)
    if op == "Gemm":
        w = weight.T if transposed else weight
        first = node("Gemm", ["x", "w", *(["b"] if bias else [])], ["y"], alpha=0.5, beta=2.0, transB=int(transposed))
        proto = model([first], {"x": ["N", 5]}, ["y"], {"w": w, "b": array(4)})
    else:
        nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"] if transposed else ["m", "b"], ["y"])]
        proto = model(nodes, {"x": ["N", *rows, 5]}, ["y"], {"w": weight, "b": array(4)})
        assert kinds(proto) == ["dense_f32"]
    same(proto)


def test_flatten_costs_nothing() -> None:
    """The dense layer behind an image takes its columns in the order of the device's memory."""
    array = normal(1)
    proto = model(
        [
            node("Conv", ["x", "w"], ["c"]),
            node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "h", "b"], ["y"], transB=1),
        ],
        {"x": ["N", 2, 7, 9]},
        ["y"],
        {"w": array(3, 2, 2, 2), "h": array(5, 36), "b": array(5)},
    )
    assert kinds(proto) == ["conv2d_f32", "max_pool2d_f32", "dense_f32"]
    assert lower(proto).inputs[0].perm == (0, 2, 3, 1)
    same(proto)


# ---- Layout ----------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_moves(data: Any) -> None:
    """Any chain of operators that only move or rename axes, then something that needs an order."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    nodes, constants, last = [], {}, "x"
    current = [1, *shape]
    for i in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(["Transpose", "Reshape", "Flatten", "Unsqueeze", "Tanh", "Add"]))
        output, inputs, attributes = f"v{i}", [last], {}
        if kind == "Transpose":
            perm = [0, *data.draw(st.permutations(range(1, len(current))))]
            attributes["perm"], current = perm, [current[axis] for axis in perm]
        elif kind == "Reshape":
            current = [1, *_refactored(data, int(np.prod(current)))]
            inputs.append(f"s{i}")
            constants[f"s{i}"] = np.array(current)
        elif kind == "Flatten":
            current = [1, int(np.prod(current))]
        elif kind == "Unsqueeze":
            axis = data.draw(st.integers(1, len(current)))
            inputs.append(f"s{i}")
            constants[f"s{i}"] = np.array([axis])
            current = [*current[:axis], 1, *current[axis:]]
        elif kind == "Add":
            inputs.append(f"c{i}")
            constants[f"c{i}"] = np.random.default_rng(i).random(
                current[data.draw(st.integers(0, len(current))) :], "f4"
            )
        nodes.append(node(kind, inputs, [output], **attributes))
        last = output
    end = data.draw(st.sampled_from(["Relu", "MatMul", "Softmax", "ReduceMean"]))
    if end == "MatMul":
        constants["w"] = normal(0)(current[-1], 3)
        nodes.append(node("MatMul", [last, "w"], ["y"]))
    elif end == "ReduceMean" and len(current) > 1:
        axes = data.draw(st.sets(st.integers(1, len(current) - 1), min_size=1))
        nodes.append(node("ReduceMean", [last], ["y"], axes=sorted(axes), keepdims=data.draw(st.integers(0, 1))))
    elif end == "Softmax" and len(current) > 1:
        nodes.append(node("Softmax", [last], ["y"], axis=data.draw(st.integers(1, len(current) - 1))))
    else:
        nodes.append(node("Relu", [last], ["y"]))
    same(model(nodes, {"x": [1, *shape]}, ["y"], constants))


def _refactored(data: Any, size: int) -> list[int]:
    sizes = []
    while size > 1 and len(sizes) < 4:
        factor = data.draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
        sizes.append(factor)
        size //= factor
    return [*sizes, size]


def test_normalization_in_the_graph_costs_no_transpose() -> None:
    """(x - mean) / std in front, by one number or by channel; a mean over the image behind."""
    array = normal(4)
    for shape in ((), (3, 1, 1)):
        constants = {"m": array(*shape), "s": np.abs(array(*shape)) + 0.1, "w": array(4, 3, 3, 3)}
        nodes = [node("Sub", ["x", "m"], ["a"]), node("Div", ["a", "s"], ["b"]), node("Conv", ["b", "w"], ["y"])]
        proto = model(nodes, {"x": ["N", 3, 6, 7]}, ["y"], constants)
        assert kinds(proto) == ["affine_f32", "conv2d_f32"]
        same(proto)
    proto = model([node("ReduceMean", ["x"], ["y"], axes=[2, 3])], {"x": ["N", 3, 6, 7]}, ["y"])
    assert kinds(proto) == ["average_pool2d_f32"]
    same(proto)


def test_residual_of_free_and_settled_layouts() -> None:
    array = normal(2)
    proto = model(
        [
            node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Add", ["t", "c"], ["a"]),
            node("Relu", ["a"], ["r"]),
            node("Add", ["c", "r"], ["y"]),
        ],
        {"x": ["N", 4, 5, 3]},
        ["y"],
        {"w": array(3, 3, 3, 3)},
    )
    assert kinds(proto) == ["conv2d_f32", "add_f32", "add_f32"]
    same(proto)


def test_several_inputs_and_outputs() -> None:
    array = normal(3)
    proto = model(
        [
            node("Conv", ["a", "w"], ["c"]),
            node("Relu", ["c"], ["d"]),
            node("GlobalAveragePool", ["d"], ["g"]),
            node("Flatten", ["g"], ["f"]),
            node("Gemm", ["b", "v"], ["h"]),
            node("Add", ["f", "h"], ["y"]),
        ],
        {"a": ["N", 2, 5, 5], "b": ["N", 6]},
        ["y", "c", "d", "f"],
        {"w": array(4, 2, 3, 3), "v": array(6, 4)},
    )
    result = same(proto)
    assert result.elements == 4 * (4 + 2 * 36 + 4)


def test_output_that_is_an_input() -> None:
    same(model([node("Reshape", ["x", "s"], ["y"])], {"x": ["N", 2, 6]}, ["y"], {"s": np.array([-1, 3, 4])}))
    same(model([node("Transpose", ["x"], ["y"], perm=[0, 2, 1])], {"x": ["N", 2, 6]}, ["y"]))


def test_fixed_batch() -> None:
    proto = model(
        [node("Reshape", ["x", "s"], ["r"]), node("Gemm", ["r", "w"], ["y"])],
        {"x": [3, 2, 4]},
        ["y"],
        {"s": np.array([3, 8]), "w": normal(0)(8, 2)},
        shapes={"y": [3, 2]},
    )
    assert lower(proto).outputs[0].shape == (3, 2)
    same(proto)


def test_no_batch() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [6]}, ["y"], {"w": normal(0)(6, 2)}, shapes={"y": [2]})
    assert lower(proto).inputs[0].shape == (1, 6)
    same(proto)


def test_dynamic_shape_arithmetic_folds() -> None:
    """PyTorch's view(x.size(0), -1): Shape, Gather, Unsqueeze, Concat."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["u"]),
        node("Concat", ["u", "minus"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["r"]),
        node("Gemm", ["r", "fc.weight", "fc.bias"], ["y"], name="/fc/Gemm", transB=1),
    ]
    array = normal(5)
    constants = {"zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1])}
    constants |= {"fc.weight": array(3, 8), "fc.bias": array(3)}
    proto = model(nodes, {"x": ["batch", 2, 4]}, ["y"], constants)
    assert kinds(proto) == ["dense_f32"]
    same(proto)


def test_shapes_behind_a_computed_padding_fold() -> None:
    """PyTorch's F.pad works its amounts out in the graph; what asks for a shape behind it waits for them."""
    nodes = [
        node("ConstantOfShape", ["none"], ["zeros"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0])),
        node("Concat", ["given", "zeros"], ["all"], axis=0),
        node("Reshape", ["all", "pairs"], ["two"]),
        node("Slice", ["two", "last", "lowest", "first", "last"], ["turned"]),
        node("Transpose", ["turned"], ["columns"], perm=[1, 0]),
        node("Reshape", ["columns", "flat"], ["amounts"]),
        node("Cast", ["amounts"], ["pads"], to=TensorProto.INT64),
        node("Pad", ["x", "pads", ""], ["p"]),
        node("Conv", ["p", "w"], ["c"]),
        node("Shape", ["c"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "first"], ["u"]),
        node("Concat", ["u", "flat", "seven"], ["t"], axis=0),
        node("Reshape", ["c", "t"], ["y"]),
    ]
    constants = {"none": np.array([4]), "given": np.array([1, 2, 1, 2]), "pairs": np.array([-1, 2])}
    constants |= {"last": np.array([-1]), "lowest": np.array([-(2**62)]), "first": np.array([0]), "zero": np.array(0)}
    constants |= {"flat": np.array([-1]), "seven": np.array([7]), "w": normal(0)(4, 3, 3, 3)}
    proto = model(nodes, {"x": ["N", 3, 6, 6]}, ["y"], constants, opset=14)
    assert kinds(proto)[-2:] == ["conv2d_f32", "transpose"]
    same(proto)


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike"])
def test_what_is_random_is_not_folded(op: str) -> None:
    """Also where its shape is constant: onnxruntime's next numbers are others."""
    nodes = [node(op, ["zeros"], ["noise"], name="noise"), node("Add", ["x", "noise"], ["y"])]
    proto = model(nodes, {"x": ["N", 4]}, ["y"], {"zeros": np.zeros((1, 4), np.float32)})
    with pytest.raises(UnsupportedError, match=f"{op} 'noise': .*; the network in evaluation mode"):
        lower(proto)


# ---- Element-wise, pools ---------------------------------------------------------------------------------------------


def test_shapes_behind_a_pad_worked_out_in_the_graph_fold() -> None:
    """As PyTorch traces F.pad: amounts turned about by a Slice backwards, and a state that is as large as what is padded."""
    nodes = [
        node("ConstantOfShape", ["three"], ["rest"], value=numpy_helper.from_array(np.zeros(1, np.int64))),
        node("Concat", ["given", "rest"], ["all"], axis=0),
        node("Reshape", ["all", "pairs"], ["p1"]),
        node("Slice", ["p1", "minus_one", "lowest", "zero", "minus_one"], ["p2"]),
        node("Transpose", ["p2"], ["p3"], perm=[1, 0]),
        node("Reshape", ["p3", "minus_one"], ["amounts"]),
        node("Pad", ["x", "amounts"], ["padded"]),
        node("Shape", ["padded"], ["s1"]),
        node("Gather", ["s1", "zero"], ["n"], axis=0),
        node("Concat", ["n", "ones"], ["target"], axis=0),
        node("Expand", ["token", "target"], ["tokens"]),
        node("Concat", ["tokens", "padded"], ["joined"], axis=1),
        node("Shape", ["joined"], ["s2"]),
        node("Gather", ["s2", "one"], ["steps"], axis=0),
        node("Slice", ["places", "zero", "steps", "zero"], ["some"]),
        node("Add", ["joined", "some"], ["y"]),
    ]
    constants = {"three": [3], "given": [0, 0, 2], "pairs": [-1, 2], "minus_one": [-1], "zero": [0], "one": [1]}
    constants = {name: np.array(value, np.int64) for name, value in constants.items()}
    constants |= {"lowest": np.array([-(2**62)]), "ones": np.array([1, 4]), "token": np.ones((1, 1, 4), np.float32)}
    constants["places"] = np.arange(40, dtype=np.float32).reshape(10, 4)
    proto = model(nodes, {"x": ["N", 5, 4]}, ["y"], constants)
    result = check(proto)
    assert result.status == "ok", result.message
    assert lower(proto).outputs[0].shape == (0, 8, 4)


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Identity", "Dropout", "Clip"])
def test_unary(op: str) -> None:
    attributes = {"alpha": 0.3} if op == "LeakyRelu" else {}
    proto = model([node(op, ["x"], ["y"], **attributes)], {"x": ["N", 3, 4]}, ["y"])
    same(proto, {"x": normal(0)(2, 3, 4) * 3})


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1, 1), (1, 3, 1, 1), (3, 2, 4), (2, 1)])
@pytest.mark.parametrize("left", [False, True])
def test_constant_operand(op: str, shape: tuple[int, ...], left: bool) -> None:
    constant = np.abs(normal(0)(*shape)) + 0.5
    proto = model([node(op, ["c", "x"] if left else ["x", "c"], ["y"])], {"x": ["N", 3, 2, 4]}, ["y"], {"c": constant})
    x = normal(1)(2, 3, 2, 4)
    same(proto, {"x": np.copysign(np.abs(x) + 0.5, x)})


@pytest.mark.parametrize("opset", [6 + 1, 9, 11, 12, 13, 18, 21])
def test_softmax_of_each_opset(opset: int) -> None:
    proto = model([node("Softmax", ["x"], ["y"])], {"x": ["N", 3, 4]}, ["y"], opset=opset)
    proto.ir_version = 8
    same(proto)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_pools(data: Any) -> None:
    op = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    rank = data.draw(st.sampled_from([1, 2]))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [data.draw(st.integers(1, 3)) for _ in range(rank)],
        "pads": [data.draw(st.integers(0, k - 1)) for k in kernel * 2],
        "ceil_mode": data.draw(st.integers(0, 1)),
    }
    if op == "AveragePool":
        attributes["count_include_pad"] = data.draw(st.integers(0, 1))
    else:
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    sizes = [data.draw(st.integers(5, 8)) for _ in range(rank)]
    proto = model([node(op, ["x"], ["y"], **attributes)], {"x": ["N", 3, *sizes]}, ["y"], opset=22)
    proto.ir_version = 10
    same(proto, {"x": normal(data.draw(seeds))(2, 3, *sizes)})


# ---- int8 ------------------------------------------------------------------------------------------------------------


def quantized(
    steps: list[tuple[str, list[str], dict[str, Any]]], constants: dict[str, Any], shape: list[Any], dtype: Any
) -> Any:
    """A chain of float nodes with a QDQ pair behind every one."""
    pair, params = qdq("x", 0.02, -3 if dtype == np.int8 else 125, dtype)
    nodes, all_constants, last = list(pair), {**constants, **params}, "x.dq"
    for i, (op, operands, attributes) in enumerate(steps):
        name = f"v{i}"
        nodes.append(node(op, [last, *operands], [name], name=f"{op}{i}", **attributes))
        zero = {"Relu": -128, "Softmax": -128}.get(op, 5) + (128 if dtype == np.uint8 else 0)
        pair, params = qdq(name, 1 / 256 if op == "Softmax" else 0.013 * (i + 1), zero, dtype)
        nodes, last = nodes + pair, f"{name}.dq"
        all_constants |= params
    return model(nodes, {"x": shape}, [last], all_constants)


def weights(array: np.ndarray, name: str, axis: int | None) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """int8 weights behind a DequantizeLinear that gives `name`."""
    over = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
    scale = np.maximum(np.abs(array).max(over), 1e-3).astype(np.float32) / np.float32(127)
    wide = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    codes = np.clip(np.rint(array / wide), -127, 127).astype(np.int8)
    constants = {f"{name}.codes": codes, f"{name}.scale": scale, f"{name}.zero": np.zeros_like(scale, np.int8)}
    inputs = [f"{name}.codes", f"{name}.scale", f"{name}.zero"]
    return [node("DequantizeLinear", inputs, [name], axis=axis or 0)], constants


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("seed", range(4))
def test_int8_network(dtype: Any, seed: int) -> None:
    array = normal(seed)
    random = np.random.default_rng(seed)
    first, constants = weights(array(4, 3, 3, 3), "w", 0)
    second, more = weights(array(4, 1, 3, 3), "d", 0)
    third, last = weights(array(4 * 4 * 5, 6) * 0.2, "h", None)
    constants |= more | last
    pool = "AveragePool" if dtype == np.int8 else "MaxPool"  # of uint8 codes it rounds differently, as Add does
    steps = [
        ("Conv", ["w"], {"pads": [1, 1, 1, 1], "strides": [1, 1]}),
        ("Relu", [], {}),
        ("Conv", ["d"], {"pads": [1, 0, 0, 1], "group": 4}),
        ("LeakyRelu", [], {"alpha": 0.2}),
        ("Tanh", [], {}),
        (pool, [], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 0, 0, 0]}),
        ("Flatten", [], {}),
        ("Gemm", ["h"], {}),
        ("Softmax", [], {}),
    ]
    proto = quantized(steps, constants, ["N", 3, 8, 11], dtype)
    proto.graph.node.extend(first + second + third)
    proto = _sorted(proto)
    result = same(proto, {"x": random.normal(0, 1, (8, 3, 8, 11)).astype(np.float32)})
    assert result.max_abs_error == 0
    got = kinds(proto)
    assert {"conv2d_s8", "depthwise_conv2d_s8", "dense_s8", "softmax_s8", "lut_s8"} <= set(got)
    assert got.count("quantize") == got.count("dequantize") == (1 if dtype == np.int8 else 2)  # MaxPool that rescales


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_int8_average_pool(data: Any) -> None:
    """Equal scales make ties common; a window that is the whole image rounds in its own way."""
    rank = data.draw(st.sampled_from([1, 2, 2]))
    sizes = [data.draw(st.integers(1, 6)) for _ in range(rank)]
    kernel = [data.draw(st.sampled_from([size, *range(1, size + 1)])) for size in sizes]
    pads = [data.draw(st.sampled_from([0, 0, min(1, k - 1)])) for k in kernel * 2]
    attributes = {"kernel_shape": kernel, "strides": [data.draw(st.integers(1, 3)) for _ in kernel], "pads": pads}
    attributes["count_include_pad"] = data.draw(st.integers(0, 1))
    scale, zero = data.draw(st.floats(0.01, 0.3)), data.draw(st.integers(-128, 127))
    same_scale = data.draw(st.booleans())
    pair, constants = qdq("x", scale, zero)
    back, more = qdq("v", scale if same_scale else scale * 0.9, zero if same_scale else zero // 2)
    nodes = [*pair, node("AveragePool", ["x.dq"], ["v"], **attributes), *back]
    proto = model(nodes, {"x": ["N", 5, *sizes]}, ["v.dq"], constants | more)
    codes = np.random.default_rng(data.draw(seeds)).integers(-128, 128, (4, 5, *sizes))
    same(proto, {"x": ((codes - zero) * scale).astype(np.float32)})


@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_activation_that_onnxruntime_leaves_in_float(op: str, activation: str) -> None:
    """It becomes the integer op's clamp, up to one step apart."""
    array = normal(0)
    shape = (4, 3, 3, 3) if op == "Conv" else (6, 4)
    first, constants = weights(array(*shape), "w", 0 if op == "Conv" else None)
    pair, params = qdq("x", 0.02, 4)
    back, more = qdq("r", 0.03, -20)
    bounds = {"lo": np.float32(-0.1), "hi": np.float32(1.3)} if activation == "Clip" else {}
    constants |= params | more | bounds | {"b": array(4)}
    layer = [node(op, ["x.dq", "w", *([] if op == "MatMul" else ["b"])], ["c"], name="layer")]
    if op == "MatMul":
        layer += [node("Add", ["c", "b"], ["c2"])]
    last = layer[-1].output[0]
    nodes = [*pair, *first, *layer, node(activation, [last, *bounds], ["r"]), *back]
    proto = model(nodes, {"x": ["N", 3, 6, 6] if op == "Conv" else ["N", 6]}, ["r.dq"], constants)
    assert kinds(proto) == ["quantize", "conv2d_s8" if op == "Conv" else "dense_s8", "dequantize"]
    result = check(proto, {"x": array(16, 3, 6, 6) if op == "Conv" else array(16, 6)}, device=interpreter.device)
    assert result.max_abs_error <= 0.0301
    assert result.mismatches < 0.01 * result.elements


def _sorted(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnx_ir as ir

    net = ir.from_proto(proto)
    net.graph.sort()
    return ir.to_proto(net)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("op", ["Add", "GlobalAveragePool", "MaxPool", "Sigmoid", "HardSwish", "Elu"])
def test_int8_operator(op: str, dtype: Any) -> None:
    attributes = {"kernel_shape": [2, 2]} if op == "MaxPool" else {}
    pair, constants = qdq("x", 0.02, 7, dtype)
    nodes = list(pair)
    operands = ["x.dq"]
    if op == "Add":
        extra, params = qdq("z", 0.03, 11, dtype)
        nodes += extra
        constants |= params
        operands.append("z.dq")
    nodes.append(node(op, operands, ["v"], **attributes))
    extra, params = qdq("v", 0.02 if op == "MaxPool" else 0.011, 7 if op == "MaxPool" else 9, dtype)
    inputs = {"x": ["N", 3, 4, 5]} | ({"z": ["N", 3, 4, 5]} if op == "Add" else {})
    proto = model(nodes + extra, inputs, ["v.dq"], constants | params)
    random = np.random.default_rng(0)
    same(proto, {name: random.normal(0, 2, (4, 3, 4, 5)).astype(np.float32) for name in inputs})


@pytest.mark.parametrize("dtype", [TensorProto.INT8, TensorProto.UINT8])
def test_integer_ports(dtype: int) -> None:
    """Codes go in and come out; uint8 ones as uint8."""
    numpy = helper.tensor_dtype_to_np_dtype(dtype)
    constants = {"s": np.float32(0.05), "z": np.asarray(3, numpy), "t": np.float32(0.01), "u": np.asarray(90, numpy)}
    codes, params = weights(normal(0)(5, 4), "w", 1)
    nodes = [
        *codes,
        node("DequantizeLinear", ["x", "s", "z"], ["r"]),
        node("MatMul", ["r", "w"], ["m"]),
        node("QuantizeLinear", ["m", "t", "u"], ["y"]),
    ]
    proto = model(nodes, {"x": ["N", 5]}, ["y"], constants | params, dtype=dtype)
    program = lower(proto)
    assert program.tensors[program.inputs[0].tensor].dtype == {np.int8: "i8", np.uint8: "u8"}[numpy.type]
    assert same(proto).max_abs_error == 0


def test_float_head_behind_int8_body() -> None:
    array = normal(0)
    body, constants = weights(array(5, 8), "w", None)
    pair, params = qdq("x", 0.02, 0)
    back, more = qdq("m", 0.02, 5)
    nodes = [*pair, *body, node("MatMul", ["x.dq", "w"], ["m"], name="body"), *back]
    nodes += [
        node("Gemm", ["m.dq", "head.weight", "head.bias"], ["z"], name="head", transB=1),
        node("Softmax", ["z"], ["y"]),
    ]
    constants |= params | more | {"head.weight": array(3, 8), "head.bias": array(3)}
    proto = model(nodes, {"x": ["N", 5]}, ["y"], constants)
    program = lower(proto, trainable="head")
    assert [op.kind for op in program.ops] == ["quantize", "dense_s8", "dequantize", "dense_f32", "softmax_f32"]
    assert [t.name for t in program.trainable()] == ["head.weight", "head.bias"]
    assert (program.loss, program.logits) == ("softmax_cross_entropy", "z")
    same(proto)
    with pytest.raises(UnsupportedError, match=r"'body'.*marked trainable, but it is int8"):
        lower(proto, trainable="body")


# ---- Training --------------------------------------------------------------------------------------------------------


def mlp(**names: str) -> onnx.ModelProto:
    array = normal(0)
    nodes = [
        node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["a"], name="/fc1/Gemm", transB=1),
        node("Relu", ["a"], ["b"], name="/relu/Relu"),
        node("Gemm", ["b", "fc2.weight", "fc2.bias"], ["y"], name="node_linear_1", transB=1),
    ]
    constants = {"fc1.weight": array(6, 5), "fc1.bias": array(6), "fc2.weight": array(3, 6), "fc2.bias": array(3)}
    return model(nodes, {"x": ["N", 5]}, ["y"], constants)


@pytest.mark.parametrize("pattern", ["fc2", "fc2.*", "node_linear_1", "last", "fc2.weight"])
def test_trainable_by_name(pattern: str) -> None:
    program = lower(mlp(), trainable=pattern, loss="mse")
    assert [t.name for t in program.trainable()] == ["fc2.weight", "fc2.bias"]
    assert (program.loss, program.logits) == ("mse", "y")


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ("bias", ["fc1.bias", "fc2.bias"]),
        ("fc1.bias", ["fc1.bias"]),
        ("/fc1/Gemm.bias", ["fc1.bias"]),
        ("last.bias", ["fc2.bias"]),
        ("last:2.bias", ["fc1.bias", "fc2.bias"]),
        ("fc*.bias", ["fc1.bias", "fc2.bias"]),
        (["fc1.bias", "last"], ["fc1.bias", "fc2.weight", "fc2.bias"]),
        ("last:2", ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]),
    ],
)
def test_biases_alone_may_train(patterns: Any, found: list[str]) -> None:
    program = lower(mlp(), trainable=patterns, loss="mse")
    assert [t.name for t in program.trainable()] == found
    model = Model(to_image(program))
    x = normal(1)(4, 5)
    weights = {name: value.copy() for name, value in model.parameters().items()}
    before = np.square(model.run(x)[0] - 1).mean()
    for _ in range(20):
        model.partial_fit(x, np.ones((4, 3), np.float32), lr=0.05)
    assert np.square(model.run(x)[0] - 1).mean() < before
    assert list(weights) == found


def test_a_layer_without_a_bias() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"], name="fc")], {"x": ["N", 5]}, ["y"], {"w": normal(0)(5, 3)})
    with pytest.raises(UnsupportedError, match=r"1 obstacle to training:\n  trainable 'fc.bias': it has no bias"):
        lower(proto, trainable="fc.bias", loss="mse")


def test_all_that_stands_in_the_way_of_training() -> None:
    """What has no backward, what is int8 and what there is not, in one message."""
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w8", "z"], ["m"], name="dynamic"),
        node("Cast", ["m"], ["f"], to=1),
        node("Mul", ["s", "ws"], ["sw"]),
        node("Mul", ["f", "sw"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("Gemm", ["r", "w"], ["y"], name="head"),
    ]
    constants = {"w8": np.ones((5, 4), np.int8), "ws": np.float32(0.1), "w": normal(0)(4, 3)}
    proto = model(nodes, {"x": ["N", 5]}, ["y"], constants)
    with pytest.raises(UnsupportedError) as caught:
        lower(proto, trainable=["dynamic*", "head", "tail"], loss="mse")
    assert str(caught.value).startswith("2 obstacles to training:")
    assert "but has no backward" in str(caught.value)
    assert "trainable 'tail': it matches no layer; layers that can train: head" in str(caught.value)


def test_each_obstacle_is_told_once_with_name_op_why_and_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of an op that has no backward, one more that lies behind them, and a name that means nothing."""
    monkeypatch.setattr(training, "has_backward", lambda kind: kind not in ("dense_f32", "tanh_f32"))
    proto = mlp()
    proto.graph.node[1].op_type = "Tanh"
    with pytest.raises(UnsupportedError) as caught:
        lower(proto, trainable=["fc2", "fc*", "fc9", "fc9"], loss="mse")
    freeze, cure = "freeze it", "keep everything behind the first trainable layer in float32"
    assert str(caught.value).splitlines() == [
        "4 obstacles to training:",
        "  trainable 'fc9': it matches no layer; layers that can train: /fc1/Gemm, node_linear_1",
        f"  dense_f32 '/fc1/Gemm': it is marked trainable, but has no backward; {freeze}",
        f"  tanh_f32 '/relu/Relu': it lies between a trainable layer and the loss, and has no backward; {cure}",
        f"  dense_f32 'node_linear_1': it is marked trainable, but has no backward; {freeze}",
    ]
    assert [(n.op, n.name) for n in caught.value.nodes[1:]] == [
        ("dense_f32", "/fc1/Gemm"),
        ("tanh_f32", "/relu/Relu"),
        ("dense_f32", "node_linear_1"),
    ]


def test_a_wrong_name_is_told_before_a_missing_loss() -> None:
    with pytest.raises(UnsupportedError, match=r"^1 obstacle to training:\n  trainable 'fc9': it matches no layer"):
        lower(mlp(), trainable="fc9")


def test_layers_of_equal_small_weights_train_apart() -> None:
    """Behind integer layers, where onnxruntime would make one constant of equal slopes, and of biases that are 0 still."""
    pair, constants = qdq("x", 0.05, 0)
    codes, params = weights(normal(0)(5, 3), "w", None)
    back, more = qdq("m", 0.05, 0)
    nodes = [*pair, *codes, node("MatMul", ["x.dq", "w"], ["m"], name="body"), *back]
    value = "m.dq"
    for name in ("one", "two"):
        nodes.append(node("Gemm", [value, f"{name}.weight", f"{name}.bias"], [f"{name}.y"], name=name, transB=1))
        nodes.append(node("PRelu", [f"{name}.y", f"{name}.slope"], [value := f"{name}.z"], name=f"{name}_act"))
        constants |= {f"{name}.weight": np.eye(3, dtype=np.float32), f"{name}.bias": np.zeros(3, np.float32)}
        constants[f"{name}.slope"] = np.full(1, 0.25, np.float32)
    proto = model(nodes, {"x": ["N", 5]}, [value], constants | params | more)
    program = lower(proto, trainable=["two", "two_act"], loss="mse")
    assert [t.name for t in program.trainable()] == ["two.weight", "two.bias", "two.slope"]
    both = lower(proto, trainable=["bias", "*_act"], loss="mse")
    assert [t.name for t in both.trainable()] == ["one.bias", "one.slope", "two.bias", "two.slope"]


def test_layers_beside_the_loss_and_weights_of_several() -> None:
    """A layer whose output the loss does not see, and a weight that two layers share."""
    nodes = [
        node("Gemm", ["x", "w"], ["a"], name="one"),
        node("Gemm", ["a", "w"], ["y"], name="two"),
        node("Gemm", ["a", "v"], ["z"], name="beside"),
    ]
    proto = model(nodes, {"x": ["N", 4]}, ["y", "z"], {"w": normal(0)(4, 4), "v": normal(1)(4, 2)})
    with pytest.raises(UnsupportedError) as caught:
        lower(proto, trainable=["one", "beside"], loss="mse")
    assert str(caught.value).splitlines() == [
        "2 obstacles to training:",
        "  dense_f32 'one': it is marked trainable, but weight 'w' is shared by several layers; freeze them",
        "  dense_f32 'beside': it is marked trainable, but the loss on 'y' does not depend on it; "
        "freeze it, or let the loss look at it: loss_output='z' (--loss-output z)",
    ]


def test_a_weight_that_is_folded_keeps_its_name() -> None:
    """PyTorch's exporter transposes Linear weights in the graph."""
    nodes = [node("Transpose", ["l.weight"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"], name="node_3")]
    proto = model(nodes, {"x": ["N", 2, 6]}, ["y"], {"l.weight": normal(0)(4, 6)})
    assert [t.name for t in lower(proto, trainable="l", loss="mse").trainable()] == ["l.weight"]


def test_trainable_from_metadata() -> None:
    proto = mlp()
    props = {
        "edgeprop.trainable": '["/fc1/Gemm", "fc2"]',
        "edgeprop.loss": "hinge",
        "edgeprop.labels": '["a", "b", "c"]',
    }
    helper.set_model_props(proto, props)
    program = lower(proto)
    assert (len(program.trainable()), program.loss, program.labels) == (4, "hinge", ["a", "b", "c"])
    assert not lower(proto, trainable=[]).trainable()


def test_matmul_and_add_train_as_one_layer() -> None:
    nodes = [
        node("MatMul", ["x", "head.weight"], ["m"], name="head"),
        node("Add", ["m", "head.bias"], ["y"], name="head_add"),
    ]
    constants = {"head.weight": normal(0)(4, 3), "head.bias": np.zeros(3, np.float32)}
    program = lower(model(nodes, {"x": ["N", 4]}, ["y"], constants), trainable="head", labels=range(3))
    assert [t.name for t in program.trainable()] == ["head.weight", "head.bias"]
    assert program.loss == "softmax_cross_entropy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"trainable": "fc9", "loss": "mse"},
            r"'fc9': it matches no layer; layers that can train: /fc1/Gemm, node_linear_1",
        ),
        ({"trainable": "fc2"}, "no final Softmax or Sigmoid"),
        ({"trainable": "fc2", "loss": "huber"}, "loss 'huber' is none of softmax_cross_entropy"),
        ({"trainable": "relu", "loss": "mse"}, "matches no layer"),
        ({"trainable": "last:3", "loss": "mse"}, "'last:3': there are not as many layers"),
        (
            {"trainable": ["fc7.bias", "fc8", "fc1"], "loss": "mse"},
            r"2 obstacles to training:\n.*'fc7.bias'.*\n.*'fc8'",
        ),
    ],
)
def test_training_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lower(mlp(), **options)


def test_int8_op_behind_a_trainable_layer() -> None:
    pair, constants = qdq("a", 0.1, 0)
    back, more = qdq("r", 0.05, -128)
    nodes = [node("Gemm", ["x", "w"], ["a"], name="fc"), *pair, node("Elu", ["a.dq"], ["r"], name="act"), *back]
    proto = model(nodes, {"x": ["N", 4]}, ["r.dq"], {**constants, **more, "w": normal(0)(4, 3)})
    with pytest.raises(UnsupportedError, match=r"lut_s8 'r.Q': it lies between a trainable layer and the loss"):
        lower(proto, trainable="fc", loss="mse")


@pytest.mark.parametrize("op", ["Tanh", "Sigmoid", "LeakyRelu"])
def test_clamps_stay_where_nothing_takes_them_up(op: str) -> None:
    """An op without a fused activation keeps the Relu or Clip behind it."""
    proto = model(
        [node(op, ["x"], ["a"]), node("Clip", ["a", "lo", "hi"], ["y"])],
        {"x": ["N", 8]},
        ["y"],
        {"lo": np.float32(0.1), "hi": np.float32(0.6)},
    )
    assert kinds(proto)[1:] == ["clip_f32"]
    x = np.linspace(-3, 3, 8, dtype=np.float32)[None]
    assert check(proto, {"x": x}).status == "ok"


# ---- Refusals --------------------------------------------------------------------------------------------------------


def test_all_refusals_in_one_message() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first"),
        node("Hardmax", ["a"], ["b"], name="act"),
        node("Det", ["b"], ["c"], name="det"),
        node("Mod", ["a", "a"], ["d"], name="gate", fmod=1),
        node("Softmax", ["d"], ["y"], name="end", axis=0),
    ]
    proto = model(nodes, {"x": ["N", 2, 5, 5]}, ["y", "c"], {"w": normal(0)(2, 2, 3, 3)})
    with pytest.raises(UnsupportedError) as caught:
        lower(proto)
    assert [(n.op, n.name) for n in caught.value.nodes][:3] == [("Hardmax", "act"), ("Det", "det"), ("Mod", "gate")]
    assert caught.value.nodes[-1].name == "end"
    text = str(caught.value)
    assert text.startswith("4 unsupported nodes:")
    assert "Det 'det': the device has no such operator; see edgeprop.export.lower.supported_operators()" in text


# ---- Models of others ------------------------------------------------------------------------------------------------

LOWERED = [
    "arm_kws/DS_CNN_S.onnx",
    "arm_kws/GRU_S.onnx",
    "community/mnist_cntk_cnn.onnx",
    "community/mnist_pytorch.onnx",
    "community/qonnx_residual_block.onnx",
    "community/tfl_helloworld_sine_mlp.onnx",
    "mlperf_tiny/ad01_fp32.tf2onnx13.onnx",
    "mlperf_tiny/ad01_int8.tf2onnx13.onnx",
    "mlperf_tiny/kws_ref_model.tf2onnx13.onnx",
    "mlperf_tiny/kws_ref_model_float32.tf2onnx13.onnx",
    "mlperf_tiny/pretrainedResnet.tf2onnx13.onnx",
    "mlperf_tiny/pretrainedResnet_quant.tf2onnx13.onnx",
    "mlperf_tiny/str_ww_ref_model.tf2onnx13.onnx",
    "mlperf_tiny/vww_96_float.tf2onnx13.onnx",
    "mlperf_tiny/vww_96_int8.tf2onnx13.onnx",
    "ort_quantized/kws_qdq_perchannel.onnx",
    "ort_quantized/mnist_cntk_qoperator.onnx",
]


@pytest.mark.parametrize("path", LOWERED)
def test_models_of_others(path: str) -> None:
    """The golden run, and random inputs layer by layer."""
    source = shared(path)
    inputs, outputs = golden(path)
    program = lower(source)
    named = {port.name: inputs[port.name.replace("/", "_")] for port in program.inputs}
    for name, got in interpreter.run(program, named).items():
        want = outputs[name.replace("/", "_")]
        if want.dtype.kind == "f":
            assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
        else:
            np.testing.assert_array_equal(got, want)
    result = check(source, device=interpreter.device)
    assert result.status == "ok", str(result)
    integer = [layer for layer in result.layers if layer.mismatches]
    assert not integer, integer


def test_layouts_cost_no_transpose() -> None:
    for path in LOWERED:
        assert "transpose" not in [op.kind for op in lower(shared(path)).ops], path


def test_attributes_are_the_runtimes() -> None:
    from edgeprop import runtime

    proto = onnx.load(shared("mlperf_tiny/pretrainedResnet_quant.tf2onnx13.onnx"))
    for op in [*lower(proto).ops, *lower(mlp()).ops]:
        assert set(op.attrs) == {name for name, _ in runtime.OPS[op.kind].attr}, op.kind


def test_every_operator_has_a_name() -> None:
    assert {"Conv", "Gemm", "com.microsoft.QGemm"} <= set(supported_operators())
    assert graphs.MODELS.name == "models"
