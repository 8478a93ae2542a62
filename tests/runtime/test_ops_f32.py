"""The float32 ops in C, forward and backward, tensor by tensor against NumPy; the NumPy against finite differences and
onnxruntime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeprop.export.program.traits import TRAITS
from tests.support import cases_f32, cases_movement, ops, reference
from tests.support.cases_f32 import Case, Draw
from tests.support.ops import Tensor
from tests.support.reference_elementwise import BINARY, UNARY

Array = np.ndarray[Any, np.dtype[Any]]

CASES = {**cases_f32.CASES, **cases_movement.CASES}
seeds = st.integers(0, 2**32 - 1)
IN_PLACE = ["add_f32", "clip_f32", "leaky_relu_f32", "sigmoid_f32", "tanh_f32", "affine_f32", "softmax_f32", "copy"]
IN_PLACE += ["prelu_f32", "log_softmax_f32", *UNARY]


#: ops whose derivative is a difference of rounded values
DIFFERENCES = {"softmax_f32", "sigmoid_f32", "tanh_f32", "log_softmax_f32", *UNARY}


def assert_close(found: Array, wanted: Array, what: str, size: float = 1e-3) -> None:
    """Within 1e-5 of the tensor's largest element, or of `size`, that of what it is a difference of."""
    finite = wanted[np.isfinite(wanted)]
    scale = float(np.abs(finite).max(initial=size))
    # Sums that cancel keep the rounding of their terms, which are about 1.
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=max(1e-5 * scale, 3e-6), err_msg=what)


def trained(case: Case, d: Draw) -> list[int]:
    """Positions of some of the weights."""
    first = len(case.inputs)
    return [first + i for i in range(len(case.weights)) if d.size(0, 3) and first + i not in case.fixed]


@pytest.mark.parametrize("op", CASES)
@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_equals_reference(op: str, seed: int) -> None:
    """y, every dX (written or added to) and every weight's gradient, which comes exactly once if n is 1; on every
    table of kernels in turn."""
    os.environ["EP_TEST_KERNELS"] = str(seed % 16)
    d = Draw(seed)
    case = CASES[op](d)
    train = trained(case, d)
    want = [i for i in range(len(case.inputs)) if d.size(0, 4) and i not in case.fixed]
    dy = d.values(*case.y_shape)
    before = {i: d.values(*case.inputs[i].shape) for i in want if d.size(0, 1)}
    y = np.full(case.y_shape, 7e9, np.float32)
    kept = [v.copy() for v in (*case.inputs, *case.weights)]
    r = ops.run(
        op,
        case.attrs,
        case.inputs,
        [y],
        weights=case.weights,
        train=train,
        dy=dy,
        want=want,
        add_to=before,
        sums=d.n > 1,
    )
    assert r.rc == 0
    assert_close(y, case.forward(), "y")
    for now, was in zip((*case.inputs, *case.weights), kept, strict=True):
        np.testing.assert_array_equal(now, was)
    wanted = case.backward(dy)
    for i in want:
        # a difference of rounded values: of dy and its mean, or of 1 and y where a sigmoid or tanh is flat
        size = float(np.abs(dy).max()) if op in DIFFERENCES else 1e-3
        assert_close(r.dx[i], wanted[i] + before.get(i, np.zeros(1)), f"dX {i}", size)
    for i in train:
        assert_close(r.gradients[i], wanted[i], f"gradient of weight {i}")
        assert r.emitted[i].min() >= 1
        assert d.n > 1 or r.emitted[i].max() == 1
    if train:
        largest = max(float(np.abs(r.gradients[i]).max()) for i in train)
        assert largest <= r.bound < np.inf


@pytest.mark.parametrize("op", IN_PLACE)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_in_place(op: str, seed: int) -> None:
    """y over x, dX over dY: the same bits as apart."""
    d = Draw(seed)
    case = CASES[op](d)
    dy = d.values(*case.y_shape)
    want = list(range(len(case.inputs)))
    apart = ops.run(
        op, case.attrs, case.inputs, [np.empty(case.y_shape, np.float32)], weights=case.weights, dy=dy, want=want
    )
    keeps_x = "x" in TRAITS[op].backward_reads  # then training never puts y over x
    for over in want:
        y = np.empty(case.y_shape, np.float32)
        options = {"dx_over_dy": True, "y_over": -1 if keeps_x else over}
        here = ops.run(op, case.attrs, case.inputs, [y], weights=case.weights, dy=dy, want=want, **options)
        assert here.rc == 0
        np.testing.assert_array_equal(y, apart.y[0])
        for i in want:
            np.testing.assert_array_equal(here.dx[i], apart.dx[i])
        alone = np.empty(case.y_shape, np.float32)
        assert ops.run(op, case.attrs, case.inputs, [alone], weights=case.weights, y_over=over).rc == 0
        np.testing.assert_array_equal(alone, apart.y[0])


def _dx(case: Case, inputs: list[Array], y: Array, dy: Array) -> list[Array]:
    """Gradients of the inputs from these inputs and this output, as they lie there."""
    want = [i for i in range(len(inputs)) if i not in case.fixed]
    r = ops.run(case.op, case.attrs, inputs, [y.copy()], weights=case.weights, dy=dy, want=want, phases=ops.BACKWARD)
    assert r.rc == 0
    return [np.array(r.dx[i]) for i in want]


@pytest.mark.parametrize("op", [op for op in CASES if not TRAITS[op].recurrent])
def test_what_the_backward_reads(op: str) -> None:
    """x and y where the planner's table says so, and they alone: what it does not keep may hold anything by then."""
    row, seen = TRAITS[op], set()
    for seed in range(40):
        d = Draw(seed)
        case = CASES[op](d)
        dy, y = d.values(*case.y_shape), np.empty(case.y_shape, np.float32)
        assert ops.run(op, case.attrs, case.inputs, [y], weights=case.weights).rc == 0
        whole = _dx(case, case.inputs, y, dy)
        others = [v if i in case.fixed else d.values(*v.shape) + 3 for i, v in enumerate(case.inputs)]
        reads_y = "y" in row.backward_reads or (
            row.clamps and bool(np.isfinite([case.attrs["lo"], case.attrs["hi"]]).any())
        )
        for what, found, read in (
            ("x", _dx(case, others, y, dy), "x" in row.backward_reads),
            ("y", _dx(case, case.inputs, d.values(*y.shape) + 3, dy), reads_y),
        ):
            same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, whole, strict=True))
            assert read or same, f"{what}, seed {seed}"
            seen |= set() if same else {what}
    assert set(row.backward_reads) <= seen


@pytest.mark.parametrize("op", BINARY)
def test_binary_in_place(op: str) -> None:
    """y over either operand that has all its elements: the same bits as apart."""
    seen = 0
    for seed in range(60):
        case = CASES[op](Draw(seed))
        apart = np.empty(case.y_shape, np.float32)
        assert ops.run(op, case.attrs, case.inputs, [apart]).rc == 0
        for over in (0, 1):
            if case.inputs[over].size == apart.size:
                y = np.empty(case.y_shape, np.float32)
                assert ops.run(op, case.attrs, case.inputs, [y], y_over=over).rc == 0
                np.testing.assert_array_equal(y, apart)
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("op", BINARY)
def test_binary_of_itself(op: str) -> None:
    """Of x and x: the second gradient adds to the first."""
    rng = np.random.default_rng(0)
    x, dy = rng.uniform(0.5, 2, size=(2, 3, 7)).astype(np.float32)
    one = [1] * 5 + [7]
    strides = [0] * 5 + [1]
    attrs = {"dims": one, "a_strides": strides, "b_strides": strides, "alpha": 0, "lo": -np.inf, "hi": np.inf}
    y = np.empty_like(x)
    r = ops.run(op, attrs, [x, x], [y], dy=dy, want=[0], same=True)
    assert r.rc == 0
    wanted = reference.OPS[op][1](x.astype(np.float64), x.astype(np.float64), dy.astype(np.float64), attrs)
    assert_close(r.dx[0], wanted[0] + wanted[1], "dX", 1.0)


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("at", [0, 1])
def test_binary_constant(op: str, at: int) -> None:
    """An operand that is constant serves every sample."""
    rng = np.random.default_rng(0)
    x, c = rng.uniform(0.5, 2, size=(3, 4)).astype(np.float32), rng.uniform(0.5, 2, size=4).astype(np.float32)
    attrs = {"dims": [1] * 5 + [4], "alpha": 0, "lo": -np.inf, "hi": np.inf}
    attrs |= {"a_strides": [0] * 5 + [1], "b_strides": [0] * 5 + [1]}
    pair = [x, Tensor(c, flags=ops.CONST)] if at else [Tensor(c[None], flags=ops.CONST), x]
    y = np.empty_like(x)
    if at:  # the harness takes the number of samples from the first operand
        assert ops.run(op, attrs, pair, [y]).rc == 0
        np.testing.assert_allclose(y, BINARY[op][0](x, c), rtol=1e-6)
    else:
        assert ops.run(op, attrs, [pair[0], x[:1]], [y[:1]]).rc == 0
        np.testing.assert_allclose(y[:1], BINARY[op][0](c, x[:1]), rtol=1e-6)


@pytest.mark.parametrize("over", [False, True])
def test_add_to_itself(over: bool) -> None:
    """x + x: the second gradient adds to the first, also where the first is dY."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 3, 7)).astype(np.float32)
    attrs = {"count": 7, "alpha": 0, "lo": -np.inf, "hi": np.inf}
    y = np.empty_like(x)
    r = ops.run("add_f32", attrs, [x, x], [y], dy=dy, want=[0], same=True, dx_over_dy=over)
    assert r.rc == 0
    np.testing.assert_array_equal(y, x + x)
    np.testing.assert_array_equal(r.dx[0], dy + dy)


@pytest.mark.parametrize("op", CASES)
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_reference_gradient(op: str, seed: int) -> None:
    """The reference's backward against central differences of its forward, along random directions."""
    d = Draw(seed)
    d.integers = False
    case = CASES[op](d)
    forward, backward = reference.OPS[op]
    operands = case.operands
    dy = d.rng.normal(size=forward(*operands, case.known).shape)
    h = 1e-6
    for i, gradient in enumerate(backward(*operands, dy, case.known)):
        if i in case.fixed:
            continue
        direction = d.rng.choice([-1.0, 1.0], operands[i].shape)
        ends = []
        for sign in (1, -1):
            moved = list(operands)
            moved[i] = moved[i] + sign * h * direction
            v = forward(*moved, case.known)
            ends.append((np.where(np.isfinite(v), v, 0) * dy).sum())
        numeric = (ends[0] - ends[1]) / (2 * h)
        analytic = (gradient.reshape(direction.shape) * direction).sum()
        assert numeric == pytest.approx(analytic, rel=1e-5, abs=1e-5), (i, numeric, analytic)


# ---- onnxruntime ---------------------------------------------------------------------------------------------------


def infer(op_type: str, inputs: list[Array], constants: list[Array], opset: int = 19, **attributes: Any) -> Array:
    """One ONNX node on the CPU."""
    names = [f"x{i}" for i in range(len(inputs))]
    values = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(op_type, names + values, ["y"], **attributes)
    types = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in zip(names, inputs, strict=True)
    ]
    constant = [onnx.numpy_helper.from_array(v, n) for n, v in zip(values, constants, strict=True)]
    output = helper.make_value_info("y", helper.make_tensor_type_proto(TensorProto.UNDEFINED, None))
    graph = helper.make_graph([node], "one", types, [output], constant)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    session = onnxruntime.InferenceSession(
        onnx.shape_inference.infer_shapes(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])


def nchw(x: Array) -> Array:
    """NHWC to NCHW."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def window_attributes(a: dict[str, Any], pads: bool) -> dict[str, Any]:
    """Of ONNX; the far pads follow from the sizes if they are not given."""

    def far(name: str, before: str, after: str) -> int:
        used = (a[f"out_{name}"] - 1) * a[f"stride_{name}"] + (a[f"kernel_{name}"] - 1) * a[f"dilation_{name}"] + 1
        return int(a[after]) if pads else max(used - a[f"in_{name}"] - a[before], 0)

    return {
        "kernel_shape": [a["kernel_h"], a["kernel_w"]],
        "strides": [a["stride_h"], a["stride_w"]],
        "dilations": [a["dilation_h"], a["dilation_w"]],
        "pads": [a["pad_top"], a["pad_left"], far("h", "pad_top", "pad_bottom"), far("w", "pad_left", "pad_right")],
    }


def onnx_answer(case: Case) -> Array:
    """What onnxruntime says, NHWC, without the fused clamp."""
    a, x, weights = case.attrs, case.inputs, case.weights
    if case.op == "conv2d_f32":
        w = np.ascontiguousarray(weights[0].transpose(0, 3, 1, 2))
        return infer("Conv", [nchw(x[0])], [w, weights[1]], group=a["groups"], **window_attributes(a, False))
    if case.op == "depthwise_conv2d_f32":
        w = np.ascontiguousarray(weights[0].transpose(2, 0, 1)[:, None])
        return infer("Conv", [nchw(x[0])], [w, weights[1]], group=a["groups"], **window_attributes(a, False))
    if case.op == "max_pool2d_f32":
        return infer("MaxPool", [nchw(x[0])], [], **window_attributes(a, True))
    if case.op == "average_pool2d_f32":
        include = a["count_include_pad"]
        return infer("AveragePool", [nchw(x[0])], [], count_include_pad=include, **window_attributes(a, True))
    if case.op == "dense_f32":
        y = infer("Gemm", [x[0].reshape(-1, a["n_in"])], weights, transB=1)
        return y.reshape(case.y_shape)
    plain = {
        "add_f32": "Add",
        "sigmoid_f32": "Sigmoid",
        "tanh_f32": "Tanh",
        "softmax_f32": "Softmax",
        "log_softmax_f32": "LogSoftmax",
        "leaky_relu_f32": "LeakyRelu",
    }
    extra = {"alpha": a["alpha"]} if case.op == "leaky_relu_f32" else {}
    return infer(plain[case.op], x, [], **extra)


def understood(case: Case) -> bool:
    """ONNX Runtime refuses pools whose padding is as large as their kernel, and ignores the dilation of average pools."""
    a = case.attrs
    if "pool" not in case.op:
        return True
    pads = max(a["pad_top"], a["pad_bottom"]) < a["kernel_h"] and max(a["pad_left"], a["pad_right"]) < a["kernel_w"]
    return pads and (case.op == "max_pool2d_f32" or a["dilation_h"] == a["dilation_w"] == 1)


#: those of cases_movement.py are compared in tests/export/test_movement.py, these in tests/export/test_elementwise.py
ONNX_OPS = [
    op
    for op in cases_f32.CASES
    if op not in ("affine_f32", "clip_f32", "transpose", "copy", "prelu_f32") and op not in BINARY | UNARY
]


@pytest.mark.parametrize("op", ONNX_OPS)
def test_equals_onnxruntime(op: str) -> None:
    """Forward, on as many cases as onnxruntime takes."""
    compared = 0
    for seed in range(200):
        case = CASES[op](Draw(seed))
        if not understood(case):
            continue
        y = np.empty(case.y_shape, np.float32)
        assert ops.run(op, case.attrs, case.inputs, [y], weights=case.weights).rc == 0
        wanted = onnx_answer(case)
        wanted = wanted.transpose(0, 2, 3, 1) if wanted.ndim == 4 else wanted
        wanted = reference.clamp(wanted, case.attrs) if case.clamped else wanted
        finite = np.isfinite(y) | (op != "max_pool2d_f32")  # ONNX Runtime gives the lowest number over nothing
        assert_close(np.where(finite, y, 0), np.where(finite, wanted, 0), "y")
        compared += 1
        if compared == 30:
            break
    assert compared == 30


# ---- Values that are not numbers, or too large -----------------------------------------------------------------------


@pytest.mark.parametrize("op", [op for op in CASES if op not in ("max_pool2d_f32", "embedding_f32", "resample_f32")])
def test_nan_passes(op: str) -> None:
    """A NaN in x shows in y, also through a clamp."""
    for seed in range(20):
        d = Draw(seed)
        d.integers = False
        case = CASES[op](d)
        if op in ("transpose", "box", "gather", "conv2d_f32", "depthwise_conv2d_f32", "average_pool2d_f32", *BINARY):
            case.inputs[0][:] = np.nan  # a single element may be outside all windows
        else:
            case.inputs[0].reshape(-1)[d.size(0, case.inputs[0].size - 1)] = np.nan
        y = np.empty(case.y_shape, np.float32)
        assert ops.run(op, case.attrs, case.inputs, [y], weights=case.weights).rc == 0
        seen = reference.OPS[op][0](*case.operands, case.known).reshape(case.y_shape)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(seen))


def test_sigmoid_softmax_do_not_overflow() -> None:
    """The ends of the range."""
    x = np.array([[-np.inf, -1e30, -104, -88, 0, 17, 88, 104, 1e30, np.inf]], np.float32)
    attrs = {"count": 10, "alpha": 0, "lo": 0, "hi": 0}
    y = np.empty_like(x)
    ops.run("sigmoid_f32", attrs, [x], [y])
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(y, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-5, atol=1e-38)
    x = np.array([[1e30, 1e30, -1e30]], np.float32)
    y = np.empty_like(x)
    ops.run("softmax_f32", {"rows": 1, "channels": 3}, [x], [y])
    np.testing.assert_array_equal(y, [[0.5, 0.5, 0]])


WEIGHTED = ["conv2d_f32", "depthwise_conv2d_f32", "dense_f32", "affine_f32", "conv_transpose2d_f32"]


@pytest.mark.parametrize("op", WEIGHTED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bound_shows_bad_values(op: str, bad: float) -> None:
    """NaN or infinity in x or dY leaves no finite bound."""
    for where in ("x", "dy"):
        d = Draw(3)
        case = CASES[op](d)
        case.attrs |= {"lo": -np.inf, "hi": np.inf}
        dy = d.values(*case.y_shape)
        target = case.inputs[0] if where == "x" else dy
        target.reshape(-1)[d.size(0, target.size - 1)] = bad
        y = np.empty(case.y_shape, np.float32)
        r = ops.run(op, case.attrs, case.inputs, [y], weights=case.weights, train=(1, 2), dy=dy, sums=True)
        assert r.rc == 0
        assert not np.isfinite(r.bound)


def test_bound_is_tight() -> None:
    """One sample, one row: the largest product itself."""
    d = Draw(0)
    d.integers = False
    x, dy = d.values(1, 1, 9), d.values(1, 1, 4)
    attrs = {"n_in": 9, "n_out": 4, "rows": 1, "lo": -np.inf, "hi": np.inf}
    w = [d.values(4, 9), d.values(4)]
    y = np.empty_like(dy)
    r = ops.run("dense_f32", attrs, [x], [y], weights=w, train=(1,), dy=dy)
    assert r.bound == np.abs(r.gradients[1]).max()
    assert ops.run("dense_f32", attrs, [x], [y], weights=w, train=(2,), dy=dy).bound == np.abs(dy).max()


# ---- Codes -----------------------------------------------------------------------------------------------------------

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38, -3e38]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("over", [-1, 0])
def test_quantize(dtype: Any, over: int) -> None:
    """Every bit as the reference and onnxruntime, ties and ends included, also over its input."""
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    for scale in (np.float32(0.5), np.float32(0.1), np.float32(3e-5), np.float32(1e-38)):
        zero_point = int(rng.integers(info.min, info.max + 1))
        x = np.concatenate([np.arange(-300, 300) * 0.5, rng.normal(size=200) * 100, SPECIAL]).astype(np.float32)
        with np.errstate(over="ignore"):
            x = np.concatenate([x * scale, SPECIAL]).astype(np.float32).reshape(2, -1)
        y = np.empty(x.shape, dtype)
        attrs = {"count": x.shape[1], "alpha": 0, "lo": 0, "hi": 0}
        r = ops.run("quantize", attrs, [x], [Tensor(y, float(scale), zero_point)], y_over=over)
        assert r.rc == 0
        with np.errstate(over="ignore", invalid="ignore"):
            np.testing.assert_array_equal(y, reference.quantize(x, float(scale), zero_point, dtype))
        found = infer("QuantizeLinear", [x], [np.array(scale), np.array(zero_point, dtype)])
        np.testing.assert_array_equal(y, found)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_dequantize(dtype: Any) -> None:
    """All codes."""
    info = np.iinfo(dtype)
    x = np.arange(info.min, info.max + 1, dtype=dtype).reshape(2, 128)
    for scale, zero_point in ((0.1, info.min), (3e-5, 100), (7.0, info.max)):
        y = np.empty(x.shape, np.float32)
        attrs = {"count": 128, "alpha": 0, "lo": 0, "hi": 0}
        assert ops.run("dequantize", attrs, [Tensor(x, scale, zero_point)], [y]).rc == 0
        np.testing.assert_array_equal(y, reference.dequantize(x, scale, zero_point))
        found = infer("DequantizeLinear", [x], [np.array(scale, np.float32), np.array(zero_point, dtype)])
        np.testing.assert_array_equal(y, found)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_transpose_and_copy_of_codes(dtype: Any) -> None:
    """By the size of the type."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (3, 4, 5, 2)).astype(dtype)
    y = np.empty((3, 2, 4, 5), dtype)
    attrs = {"dims": [1, 1, 1, 2, 4, 5], "strides": [0, 0, 0, 1, 10, 2], "size": x.itemsize}
    assert ops.run("transpose", attrs, [x], [y]).rc == 0
    np.testing.assert_array_equal(y, x.transpose(0, 3, 1, 2))
    z = np.empty_like(x)
    assert ops.run("copy", {"count": 40, "alpha": 0, "lo": 0, "hi": 0}, [x], [z]).rc == 0
    np.testing.assert_array_equal(z, x)


# ---- Checks ----------------------------------------------------------------------------------------------------------


def test_check_wants_a_backward_it_can_run() -> None:
    """With a backward: no negative slope, no codes; without, both are fine."""
    x, dy = np.ones((1, 4), np.float32), np.ones((1, 4), np.float32)
    y = np.empty_like(x)
    attrs = {"count": 4, "alpha": -0.5, "lo": 0, "hi": 0}
    assert ops.run("leaky_relu_f32", attrs, [x], [y]).rc == 0
    assert ops.run("leaky_relu_f32", attrs, [x], [y], dy=dy, want=[0]).rc == ops.EP_ERR_IMAGE
    codes = x.astype(np.int8)
    for op in ("copy", "transpose"):
        a = attrs if op == "copy" else {"dims": [1, 1, 1, 1, 1, 4], "strides": [0, 0, 0, 0, 0, 1], "size": 1}
        assert ops.run(op, a, [codes], [codes.copy()]).rc == 0
        assert ops.run(op, a, [codes], [codes.copy()], dy=dy, want=[0]).rc == ops.EP_ERR_IMAGE
