"""Which operators `quantize` brings to int8, and that the C runtime then computes what onnxruntime does, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop import Model
from edgeprop.export.check import check
from edgeprop.export.lower import lower
from edgeprop.export.quantization.analysis import output_snr
from edgeprop.export.quantization.quantize import quantize
from edgeprop.export.writers.image import to_image
from tests.support import ort_arithmetic as reference
from tests.support.graphs import model, node
from tests.support.qdq import Graph, session

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = np.random.default_rng(4)
CHANNELS, SIZE = 4, 6


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def between(nodes: list[onnx.NodeProto], constants: dict[str, Array], channels: int = CHANNELS) -> onnx.ModelProto:
    """x -> two convolutions a and b -> the nodes, which make c -> a convolution y."""
    ends = [node("Conv", ["x", f"w{v}"], [v], name=f"conv_{v}", pads=[1] * 4) for v in "ab"]
    last = node("Conv", ["c", "wc"], ["y"], name="conv_c", pads=[1] * 4)
    weights = {f"w{v}": normal(CHANNELS, CHANNELS, 3, 3) for v in "ab"} | {"wc": normal(2, channels, 3, 3)}
    return model([*ends, *nodes, last], {"x": ["n", CHANNELS, SIZE, SIZE]}, ["y"], weights | constants, opset=20)


def samples(n: int = 16) -> Array:
    return normal(n, CHANNELS, SIZE, SIZE)


def quantized(proto: onnx.ModelProto) -> onnx.ModelProto:
    return quantize(proto, samples())


def kinds(proto: onnx.ModelProto) -> list[str]:
    """Ops between the convolutions, moves of whole tensors left out."""
    found = [op.kind for op in lower(proto).ops]
    return [kind for kind in found if kind not in ("quantize", "dequantize", "transpose", "conv2d_s8")]


def same_bits(proto: onnx.ModelProto) -> None:
    result = check(proto, {"x": samples(6)})
    assert result.status == "ok", str(result)
    assert not [layer for layer in result.layers if layer.alone], str(result)


ONE = np.float32(1)
HALF = np.float32(0.5)

#: one value, one table: by name, the nodes from a to c, and their constants
TABLES: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    **{
        op: ([node(op, ["a"], ["c"])], {})
        for op in (
            *("Abs", "Celu", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg"),
            *("Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"),
        )
    },
    "PRelu": ([node("PRelu", ["a", "slope"], ["c"])], {"slope": np.full(1, 0.2, np.float32)}),
    "Silu": ([node("Sigmoid", ["a"], ["s"]), node("Mul", ["a", "s"], ["c"])], {}),
    "Silu of a Relu": (
        [node("Relu", ["a"], ["r"]), node("Sigmoid", ["r"], ["s"]), node("Mul", ["s", "r"], ["c"])],
        {},
    ),
    "gate of its Relu": (
        [node("Relu", ["a"], ["r"]), node("Sigmoid", ["r"], ["s"]), node("Mul", ["s", "a"], ["c"])],
        {},
    ),
    "HardSwish of HardSigmoid": ([node("HardSigmoid", ["a"], ["s"], alpha=1 / 6), node("Mul", ["a", "s"], ["c"])], {}),
    "HardSwish of Clip": (
        [
            node("Add", ["a", "three"], ["p"]),
            node("Clip", ["p", "zero", "six"], ["q"]),
            node("Mul", ["a", "q"], ["r"]),
            node("Div", ["r", "six"], ["c"]),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
    ),
    "Gelu of Erf": (
        [
            node("Div", ["a", "root"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["e", "one"], ["p"]),
            node("Mul", ["a", "p"], ["m"]),
            node("Mul", ["m", "half"], ["c"]),
        ],
        {"root": np.float32(2**0.5), "one": ONE, "half": HALF},
    ),
    "scaled Elu": ([node("Elu", ["a"], ["e"]), node("Mul", ["e", "half"], ["c"])], {"half": HALF}),
    "a number minus it": ([node("Sub", ["one", "a"], ["c"])], {"one": ONE}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_function_of_one_value_is_one_table(name: str) -> None:
    proto = quantized(between(*TABLES[name]))
    assert kinds(proto) == ["lut_s8"]
    same_bits(proto)


@pytest.mark.parametrize("layer", ["Conv", "MatMul", "Add"])
@pytest.mark.parametrize("rule", ["Relu", "Clip"])
def test_a_layer_takes_up_the_relu_before_a_table(layer: str, rule: str) -> None:
    """Its codes then are of what is kept, where a table of Relu and all would spend half of them on what it drops."""
    made = {
        "Conv": [],
        "MatMul": [node("MatMul", ["a", "m"], ["l"])],
        "Add": [node("Add", ["a", "b"], ["l"])],
    }[layer]
    bounds = ["zero", "cap"] if rule == "Clip" else []
    nodes = [
        *made,
        node(rule, ["l" if made else "a", *bounds], ["r"]),
        node("Tanh", ["r"], ["t"]),
        node("Mul", ["t", "half"], ["c"]),
    ]
    constants = {"half": HALF, "m": normal(SIZE, SIZE), "zero": np.float32(0), "cap": np.float32(0.7)}
    proto = quantized(between(nodes, constants))
    program = lower(proto)
    table = next(op for op in program.ops if op.kind == "lut_s8")
    codes = program.tensors[table.inputs[0]]
    assert codes.zero_point == -128
    if rule == "Clip":
        assert codes.scale == pytest.approx(0.7 / 255, rel=1e-3)
    same_bits(proto)


def test_a_written_out_activation_loses_no_more_than_the_operator() -> None:
    """A Sigmoid rounded to int8 of its own before the product would cost several dB."""
    x, weights = samples(64), {"wa": normal(CHANNELS, CHANNELS, 3, 3)}
    noise = {}
    for name in ("HardSwish of HardSigmoid", "HardSwish"):
        nodes, constants = TABLES[name]
        first = node("Conv", ["x", "wa"], ["a"], pads=[1] * 4)
        proto = model([first, *nodes], {"x": ["n", CHANNELS, SIZE, SIZE]}, ["c"], weights | constants, opset=20)
        noise[name] = output_snr(proto, quantize(proto, x), x)
    assert noise["HardSwish of HardSigmoid"] > noise["HardSwish"] - 0.1


#: other operators: nodes, constants, ops between the convolutions, channels of c
OPERATORS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], list[str], int]] = {
    "Add": ([node("Add", ["a", "b"], ["c"])], {}, ["add_s8"], 4),
    "Add, Relu": ([node("Add", ["a", "b"], ["s"]), node("Relu", ["s"], ["c"])], {}, ["add_s8"], 4),
    "Add of a vector": (
        [node("GlobalAveragePool", ["b"], ["g"]), node("Add", ["a", "g"], ["c"])],
        {},
        ["global_average_pool_s8", "add_broadcast_s8"],
        4,
    ),
    "Add to a vector": (
        [node("GlobalAveragePool", ["b"], ["g"]), node("Add", ["g", "a"], ["c"])],
        {},
        ["global_average_pool_s8", "add_broadcast_s8"],
        4,
    ),
    "Add of a row and a column": (
        [
            node("Slice", ["a", "st", "en", "two"], ["p"]),
            node("Slice", ["b", "st", "en", "three"], ["q"]),
            node("Add", ["p", "q"], ["c"]),
        ],
        {"st": integers(1), "en": integers(2), "two": integers(2), "three": integers(3)},
        ["box", "box", "add_broadcast_s8"],
        4,
    ),
    "Add of constants": (
        [node("Relu", ["a"], ["r"]), node("Add", ["k", "r"], ["c"])],
        {"k": normal(CHANNELS, SIZE, SIZE)},
        ["add_broadcast_s8"],
        4,
    ),
    "Add of a constant row": (
        [node("Relu", ["a"], ["r"]), node("Add", ["r", "k"], ["c"])],
        {"k": normal(SIZE)},
        ["add_broadcast_s8"],
        4,
    ),
    "Mul": ([node("Mul", ["a", "b"], ["c"])], {}, ["mul_s8"], 4),
    "Mul by a constant per channel": (
        [node("Relu", ["a"], ["r"]), node("Mul", ["r", "k"], ["c"])],
        {"k": normal(CHANNELS, 1, 1)},
        ["mul_s8"],
        4,
    ),
    "squeeze and excite": (
        [node("GlobalAveragePool", ["b"], ["g"]), node("Sigmoid", ["g"], ["s"]), node("Mul", ["a", "s"], ["c"])],
        {},
        ["global_average_pool_s8", "lut_s8", "mul_s8"],
        4,
    ),
    "Split": (
        [node("Split", ["a", "two"], ["p", "q"], axis=1), node("Add", ["p", "q"], ["c"])],
        {"two": integers(2, 2)},
        ["box", "box", "add_s8"],
        2,
    ),
    "Pad": (
        [node("Pad", ["a", "p"], ["c"], mode="reflect")],
        {"p": integers(0, 0, 1, 1, 0, 0, 1, 1)},
        ["gather", "gather"],
        4,
    ),
    "Gather": ([node("Gather", ["a", "i"], ["c"], axis=1)], {"i": integers(3, 1)}, ["box"], 2),
    "Resize": ([node("Resize", ["a", "", "s"], ["c"])], {"s": np.float32([1, 1, 2, 2])}, ["gather", "gather"], 4),
    "DepthToSpace": ([node("DepthToSpace", ["a"], ["c"], blocksize=2)], {}, [], 1),
    "Softmax": ([node("Softmax", ["a"], ["c"])], {}, ["softmax_s8"], 4),
    "MaxPool": ([node("MaxPool", ["a"], ["c"], kernel_shape=[2, 2])], {}, ["max_pool2d_s8"], 4),
    "AveragePool": ([node("AveragePool", ["a"], ["c"], kernel_shape=[2, 2])], {}, ["average_pool2d_s8"], 4),
    "GlobalMaxPool": ([node("GlobalMaxPool", ["a"], ["c"])], {}, ["max_pool2d_s8"], 4),
    "ReduceMean": ([node("ReduceMean", ["a", "hw"], ["c"])], {"hw": integers(2, 3)}, ["global_average_pool_s8"], 4),
    "MatMul": ([node("MatMul", ["a", "k"], ["c"])], {"k": normal(SIZE, SIZE)}, ["dense_s8"], 4),
    "MatMul with a bias": (
        [node("MatMul", ["a", "k"], ["m"]), node("Add", ["m", "bias"], ["c"])],
        {"k": normal(SIZE, SIZE), "bias": normal(SIZE)},
        ["dense_s8"],
        4,
    ),
    "MatMul with a bias, Relu": (
        [node("MatMul", ["a", "k"], ["m"]), node("Add", ["bias", "m"], ["s"]), node("Relu", ["s"], ["c"])],
        {"k": normal(SIZE, SIZE), "bias": normal(SIZE)},
        ["dense_s8"],
        4,
    ),
    "attention": (
        [
            node("MatMul", ["a", "b"], ["scores"]),
            node("Mul", ["scores", "half"], ["scaled"]),
            node("Softmax", ["scaled"], ["p"]),
            node("MatMul", ["p", "a"], ["c"]),
        ],
        {"half": HALF},
        ["matmul_s8", "lut_s8", "softmax_s8", "matmul_s8"],
        4,
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_integer_kernels(name: str) -> None:
    nodes, constants, expected, channels = OPERATORS[name]
    proto = quantized(between(nodes, constants, channels))
    assert kinds(proto) == expected
    same_bits(proto)


COLUMN, ROW, WHOLE = (1, 256, 1), (1, 1, 256), (1, 256, 256)


@pytest.mark.parametrize(
    ("dtype", "scale", "zeros"), [(np.int8, 0.029883051, (-95, -13, -35)), (np.uint8, 0.014085232, (248, 94, 227))]
)
@pytest.mark.parametrize("constant", ["", "a", "b"])
@pytest.mark.parametrize(
    ("a", "b"), [(COLUMN, ROW), (ROW, COLUMN), (WHOLE, ROW), (ROW, WHOLE), (WHOLE, COLUMN), (COLUMN, WHOLE)]
)
def test_sums_keep_the_order_of_their_roundings(
    a: tuple[int, ...], b: tuple[int, ...], constant: str, dtype: Any, scale: float, zeros: tuple[int, ...]
) -> None:
    """All pairs of codes at scales where 2 a + b instead of b + 2 a gives thousands of them another result; an operand of
    either kind of codes, computed or constant."""
    codes = np.arange(256) + np.iinfo(dtype).min
    along = {COLUMN: codes.reshape(1, 256, 1), ROW: codes.reshape(1, 1, 256)}
    values = {}
    for name, shape, other in (("a", a, b), ("b", b, a)):
        whole = np.broadcast_to(along[ROW if other == COLUMN else COLUMN], WHOLE) if shape == WHOLE else along[shape]
        values[name] = np.ascontiguousarray(whole.astype(dtype))
    sa = np.float32(scale)
    sy = np.float32(2 * sa) * np.float32(1 + 2.0**-23)
    scales = {"a": sa, "b": np.float32(2 * sa), "y": sy}
    one, other = (
        reference.add(*(v for n in names for v in (values[n], scales[n], zeros["ab".index(n)])), sy, zeros[2])
        for names in ("ab", "ba")
    )
    assert (one != other).sum() > 1000
    g = Graph()
    sides = [
        g.dequantize(g.constant(values[n]) if n == constant else g.feed(n, values[n]), scales[n], dtype(zero))
        for n, zero in zip("ab", zeros, strict=False)
    ]
    proto = g.model(g.quantize(g.op("Add", *sides), sy, dtype(zeros[2])), dtype)
    wanted = session(proto, dtype).run(None, g.inputs)[0]
    program = lower(proto)
    assert "add_broadcast_s8" in [op.kind for op in program.ops]
    found = Model(to_image(program)).run(*(g.inputs[port.name] for port in program.inputs))[0]
    np.testing.assert_array_equal(found.reshape(WHOLE), wanted)


def test_concat_through_tables() -> None:
    proto = quantized(between([node("Concat", ["a", "b"], ["c"], axis=1)], {}, 2 * CHANNELS))
    assert {*kinds(proto)} == {"lut_s8", "concat"}
    same_bits(proto)


def test_concat_with_constants() -> None:
    first, last = (node("Conv", [x, w], [y], pads=[1] * 4) for x, w, y in (("x", "wa", "a"), ("c", "wc", "y")))
    constants = {"wa": normal(4, 4, 3, 3), "wc": normal(2, 5, 3, 3), "k": normal(1, 1, SIZE, SIZE)}
    nodes = [first, node("Concat", ["a", "k"], ["c"], axis=1), last]
    proto = quantize(model(nodes, {"x": [1, CHANNELS, SIZE, SIZE]}, ["y"], constants), samples())
    assert {*kinds(proto)} <= {"lut_s8", "concat"}
    assert check(proto, {"x": samples(1)}).status == "ok"


#: no integer kernel in onnxruntime: float32 between codes, bit for bit all the same
FLOAT: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], str]] = {
    "Sub": ([node("Sub", ["a", "b"], ["c"], name="op")], {}, "sub_f32"),
    "Max": ([node("Max", ["a", "b"], ["c"], name="op")], {}, "max_f32"),
    "slopes per channel": (
        [node("PRelu", ["a", "k"], ["c"], name="op")],
        {"k": np.abs(normal(CHANNELS, 1, 1))},
        "prelu_f32",
    ),
    "ConvTranspose": (
        [node("ConvTranspose", ["a", "k"], ["c"], name="op")],
        {"k": normal(4, 4, 2, 2)},
        "conv_transpose2d_f32",
    ),
    "LayerNormalization": (
        [node("LayerNormalization", ["a", "k", "o"], ["c"], name="op")],
        {"k": normal(SIZE), "o": normal(SIZE)},
        "group_norm_f32",
    ),
}


@pytest.mark.parametrize("name", FLOAT)
def test_operators_without_an_integer_kernel_are_float_and_the_report_says_so(name: str) -> None:
    from edgeprop.export.writers.report import to_dict, to_markdown

    nodes, constants, kind = FLOAT[name]
    proto = quantized(between(nodes, constants))
    assert kinds(proto) == [kind]
    assert check(proto, {"x": samples(6)}).status == "ok"
    program = lower(proto)
    figures = to_dict(program)
    assert {row["name"]: row["arithmetic"] for row in figures["layers"] if row["arithmetic"] == "float32"} == {
        "op": "float32"
    }
    assert figures["arithmetic"].startswith("int8: ")
    assert figures["arithmetic"].endswith("; float32: op")
    assert figures["arithmetic"] in to_markdown(program)


@pytest.mark.parametrize("shape", [(1, 5), (1, 3, 5)])
def test_products_with_weights_that_have_zero_points(shape: tuple[int, ...]) -> None:
    """As of a quantizer that is not symmetric: an op of its own, whose output is as large as that of any product."""
    rng = np.random.default_rng(0)
    g = Graph()
    x = g.dequantize(g.feed("x", rng.integers(-128, 128, shape).astype(np.int8)), np.float32(0.05), np.int8(3))
    zero = np.int8(-90)
    w = g.dequantize(g.constant(rng.integers(-128, 128, (5, 4)).astype(np.int8)), np.float32(0.02), zero)
    product = g.dequantize(g.quantize(g.op("MatMul", x, w), np.float32(0.2), np.int8(-7)), np.float32(0.2), np.int8(-7))
    proto = g.model(g.quantize(g.op("Tanh", product), np.float32(0.01), np.int8(0)), np.int8)
    result = check(proto)
    assert result.status == "ok", str(result)
    program = lower(proto)
    assert [op.kind for op in program.ops] == ["conv2d_zero_s8", "lut_s8"]
    assert program.tensors[program.ops[0].outputs[0]].shape == (*shape[1:-1], 4)
