"""The int8 ops in C against NumPy and against ONNX Runtime itself: no element may differ. And their checks."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.support import ort_arithmetic as reference
from tests.support import run_op
from tests.support.cases_s8 import CASES, AddBroadcast, ConvZero, Draw, device, seeds, signed
from tests.support.compiler import ROOT
from tests.support.run_op import Arg

EP_ERR_IMAGE = -5


def channels_first(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """NHWC to NCHW; anything else as it is."""
    return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("case", CASES)
@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_equals_reference(case: Any, dtype: Any, seed: int) -> None:
    """C against NumPy; a uint8 graph runs on codes less 128."""
    c = case(seed, dtype)
    np.testing.assert_array_equal(channels_first(c.device()), signed(c.numpy()))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("case", CASES)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_equals_onnxruntime(case: Any, dtype: Any, seed: int) -> None:
    """C against ONNX Runtime."""
    c = case(seed, dtype)
    graph, output = c.graph()
    np.testing.assert_array_equal(channels_first(c.device()), signed(graph.run(output, dtype)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_weights_with_zero_points(dtype: Any, seed: int) -> None:
    """Of every channel one of its own, against NumPy; one for all, as onnxruntime's QLinearConv wants it, against that too."""
    own = ConvZero(seed, dtype, per_channel=True)
    np.testing.assert_array_equal(channels_first(own.device()), signed(own.numpy()))
    c = ConvZero(seed, dtype)
    y = channels_first(c.device())
    np.testing.assert_array_equal(y, signed(c.numpy()))
    if seed % 4 == 0:
        graph, output = c.graph()
        np.testing.assert_array_equal(y, signed(graph.run(output, dtype)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_add_broadcast(dtype: Any, seed: int) -> None:
    """Either operand narrower, against NumPy."""
    c = AddBroadcast(seed, dtype)
    np.testing.assert_array_equal(c.device(), signed(c.numpy()))


@pytest.mark.parametrize("offset", [0, 128])
def test_add_all_codes(offset: int) -> None:
    """All pairs of codes: near-ties, where a differently rounded constant shows, are one in 10^5."""
    rng = np.random.default_rng(0)
    codes = np.arange(-128, 128, dtype=np.int8)
    a, b = np.repeat(codes, 256)[None], np.tile(codes, 256)[None]
    for i in range(60):
        sa, sb = (10 ** rng.uniform(-2, -1, 2)).astype(np.float32)
        sy = np.float32(float(sa + sb) * rng.uniform(0.5, 1))
        if i % 3 == 0:
            sb, sy = np.float32(2.0**-6), np.float32(2.0**-4)
        za, zb, zy = (int(z) for z in rng.integers(-128, 128, 3))
        attrs = {"count": a.size, "alpha": offset, "lo": -128 - zy, "hi": 127 - zy}
        y = device("add_s8", attrs, [Arg(a, float(sa), za), Arg(b, float(sb), zb)], a.shape, float(sy), zy)
        ua, ub = (v.astype(np.int32) + offset for v in (a, b))
        kind = np.uint8 if offset else np.int8
        want = reference.add(ua.astype(kind), sa, za + offset, ub.astype(kind), sb, zb + offset, sy, zy + offset)
        np.testing.assert_array_equal(y, signed(want))


@pytest.mark.parametrize("offset", [0, 128])
def test_mul_all_codes(offset: int) -> None:
    """All pairs of codes, with factors at and next to powers of two: a fused or differently rounded sum shows."""
    rng = np.random.default_rng(0)
    codes = np.arange(-128, 128, dtype=np.int8)
    a, b = np.repeat(codes, 256)[None], np.tile(codes, 256)[None]
    steps = [0] * 5 + [1]
    for i in range(60):
        sa, sb = rng.uniform(0.005, 0.1, 2).astype(np.float32)
        sy = np.float32(sa * sb / np.float32(2.0 ** -rng.integers(1, 8))) * np.float32(1 + (i % 4 - 1) * 2.0**-23)
        za, zb, zy = (int(z) for z in rng.integers(-128, 128, 3))
        attrs = {"dims": [1] * 5 + [a.size], "a_strides": steps, "b_strides": steps, "alpha": offset}
        attrs |= {"lo": -128 - zy, "hi": 127 - zy}
        y = device("mul_s8", attrs, [Arg(a, float(sa), za), Arg(b, float(sb), zb)], a.shape, float(sy), zy)
        ua, ub = (v.astype(np.int32) + offset for v in (a, b))
        kind = np.uint8 if offset else np.int8
        want = reference.mul(ua.astype(kind), sa, za + offset, ub.astype(kind), sb, zb + offset, sy, zy + offset)
        np.testing.assert_array_equal(y, signed(want))


def test_softmax_ties() -> None:
    """Two equal codes share the output's range in halves."""
    x = np.array([[5, 5]], np.int8)
    for levels in range(1, 256):
        scale = np.float32(1 / (levels + 0.25))
        table = Arg(reference.softmax_table(0.1, 2), constant=True)
        y = device("softmax_s8", {"rows": 1, "channels": 2}, [Arg(x, 0.1), table], x.shape, float(scale), -128)
        np.testing.assert_array_equal(y, reference.softmax(x, 0.1, float(scale), -128))
        assert y[0, 0] == round(levels / 2) - 128


@pytest.mark.parametrize("place_of", [-1, 0])
def test_lut(place_of: int) -> None:
    """Every code through a random table, in place too."""
    rng = np.random.default_rng(0)
    table = rng.integers(-128, 128, 256).astype(np.int8)
    x = rng.permutation(np.arange(-128, 128)).astype(np.int8).reshape(2, 128)
    attrs = {"count": 128, "alpha": 0, "lo": 0, "hi": 0}
    y = device("lut_s8", attrs, [Arg(x, 0.1), Arg(table, constant=True)], x.shape, 0.1, 0, place_of)
    np.testing.assert_array_equal(y, table[x.astype(int) + 128])


def test_soft_fma_equals_fmaf() -> None:
    """The integer form of fma against the library's: millions of values, none subnormal, many near ties."""
    rng = np.random.default_rng(0)
    pointer = ctypes.POINTER(ctypes.c_float)
    run = run_op.library().run_fma
    for round_ in range(8):
        n = 500_000
        a = rng.integers(-255, 256, n).astype(np.float32) if round_ % 2 else rng.normal(size=n).astype(np.float32)
        b = (rng.uniform(0.5, 2, n) * 10.0 ** rng.integers(-8, 8, n)).astype(np.float32)
        near = a * b * np.float32(2.0) ** rng.integers(-50, 51, n).astype(np.float32)
        c = np.where(rng.random(n) < 0.5, near * rng.choice([-1, 1], n), rng.normal(size=n)).astype(np.float32)
        c[rng.random(n) < 0.02] = 0
        c[rng.random(n) < 0.02] *= np.float32(-1)
        got, want = np.empty((2, n), np.float32)
        for y, soft in ((got, 1), (want, 0)):
            run(*(v.ctypes.data_as(pointer) for v in (a, b, c, y)), n, soft)
        np.testing.assert_array_equal(got, want)


EMULATED = {
    "with FPU": "arm-linux-gnueabihf-gcc",
    "without FPU": "arm-none-eabi-gcc --specs=rdimon.specs -marm -mcpu=arm7tdmi -mfloat-abi=soft",
}


@pytest.mark.slow
@pytest.mark.parametrize("target", EMULATED)
def test_same_bits_on_arm(target: str) -> None:
    """The tests above, on an emulated ARM, with a soft-float library where there is no FPU."""
    if shutil.which("qemu-arm") is None or shutil.which(EMULATED[target].split()[0]) is None:
        pytest.skip("needs qemu-arm and a cross compiler")
    environment = os.environ | {"CC": EMULATED[target], "EP_TEST_RUNNER": "qemu-arm", "PYTHONPATH": str(ROOT)}
    names = "equals_reference or lut or softmax_ties or refuses_sums"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__, "-k", names]
    subprocess.run(command, env=environment, check=True, cwd=ROOT)


CONV = {
    "in_h": 5, "in_w": 5, "in_c": 4, "out_h": 5, "out_w": 5, "out_c": 4, "kernel_h": 3, "kernel_w": 3,
    "stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "pad_top": 1, "pad_left": 1, "groups": 1,
    "lo": -128, "hi": 127,
}  # fmt: skip
POOL = {
    "in_h": 5, "in_w": 5, "channels": 4, "out_h": 3, "out_w": 3, "kernel_h": 3, "kernel_w": 3,
    "stride_h": 2, "stride_w": 2, "dilation_h": 1, "dilation_w": 1, "pad_top": 1, "pad_left": 1,
    "count_include_pad": 0, "pad_bottom": 1, "pad_right": 1,
}  # fmt: skip
ELEMENTWISE = {"count": 100, "alpha": 0, "lo": -128, "hi": 127}
BINARY = {
    "dims": [1, 1, 1, 1, 10, 10], "a_strides": [0, 0, 0, 0, 10, 1], "b_strides": [0, 0, 0, 0, 0, 1],
    "alpha": 0, "lo": -128, "hi": 127,
}  # fmt: skip
VALID: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], int]] = {
    # op: attributes, counts of the activations, (weight, bias, multiplier) or table count, output count
    "conv2d_s8": (CONV, (100,), (144, 4, 4), 100),
    "depthwise_conv2d_s8": (CONV | {"groups": 4}, (100,), (36, 4, 4), 100),
    "dense_s8": ({"n_in": 20, "n_out": 4, "rows": 5, "lo": -128, "hi": 127}, (100,), (80, 4, 4), 20),
    "max_pool2d_s8": (POOL, (100,), (), 36),
    "average_pool2d_s8": (POOL, (100,), (), 36),
    "global_average_pool_s8": ({"size": 25, "channels": 4}, (100,), (), 4),
    "add_s8": (ELEMENTWISE, (100, 100), (), 100),
    "mul_s8": (BINARY, (100, 10), (), 100),
    "add_broadcast_s8": (BINARY, (100, 10), (), 100),
    "conv2d_zero_s8": (CONV, (100,), (144, 4, 4, 4), 100),
    "lut_s8": (ELEMENTWISE, (100,), (256,), 100),
    "softmax_s8": ({"rows": 4, "channels": 25}, (100,), (256,), 100),
}


def operands(op: str) -> tuple[list[Arg], list[Arg]]:
    """Inputs and output of a valid node."""
    _, activations, constants, count = VALID[op]
    dtypes = [np.float32] if op == "softmax_s8" else [np.int8, np.int32, np.float32, np.int8]
    inputs = [Arg(np.zeros(n, np.int8), 0.1) for n in activations]
    inputs += [Arg(np.ones(n, t), constant=True) for n, t in zip(constants, dtypes, strict=False)]
    return inputs, [Arg(np.zeros(count, np.int8), 0.1)]


@pytest.mark.parametrize("op", VALID)
def test_check_accepts(op: str) -> None:
    """A valid node passes its check and runs."""
    inputs, outputs = operands(op)
    assert run_op.call(op, VALID[op][0], inputs, outputs) == 0


HOSTILE = [0, -1, 2, 3, 7, 1 << 15, 1 << 28, (1 << 31) - 1, -(1 << 31)]


@pytest.mark.parametrize("op", VALID)
def test_check_guards_attributes(op: str) -> None:
    """Any one attribute changed is refused, or the node still stays inside its tensors."""
    for name, value in VALID[op][0].items():
        values: list[float] = (
            [np.nan, np.inf, -np.inf, -129, 128, 1e30] if name in ("lo", "hi", "alpha") else list(HOSTILE)
        )
        for other in values:
            if other == value:
                continue
            inputs, outputs = operands(op)
            rc = run_op.call(op, VALID[op][0] | {name: other}, inputs, outputs)
            assert rc in (0, EP_ERR_IMAGE), (name, other)


@settings(max_examples=400, deadline=None)
@given(seed=seeds)
def test_check_guards_geometry(seed: int) -> None:
    """Several attributes changed at once, with tensors that fit the sizes: refused, or inside."""
    d = Draw(seed)
    op = ["conv2d_s8", "depthwise_conv2d_s8", "max_pool2d_s8", "average_pool2d_s8", "conv2d_zero_s8"][d.size(0, 4)]
    attrs = dict(VALID[op][0])
    names = [
        n
        for n in attrs
        if n not in ("lo", "hi", "in_c", "out_c", "channels", "in_h", "in_w", "out_h", "out_w", "groups")
    ]
    for name in d.rng.choice(names, d.size(1, 5)):
        attrs[str(name)] = int(d.rng.choice([*HOSTILE, 1, 4, 5, 6, 1 << 27]))
    inputs, outputs = operands(op)
    if "conv2d" in op:
        taps = attrs["kernel_h"] * attrs["kernel_w"] * 4 * (1 if op == "depthwise_conv2d_s8" else 4)
        inputs[1] = Arg(np.ones(int(min(max(taps, 1), 1 << 20)), np.int8), constant=True)
    assert run_op.call(op, attrs, inputs, outputs) in (0, EP_ERR_IMAGE)


@pytest.mark.parametrize("op", VALID)
def test_check_refuses_tensors(op: str) -> None:
    """Counts, types, scales and zero points that do not fit."""
    attrs, activations, constants, _ = VALID[op]
    for i in range(len(activations) + len(constants) + 1):
        for change in ("count", "type", "scale", "zero_point", "kind"):
            inputs, outputs = operands(op)
            arg = [*inputs, *outputs][i]
            if arg.constant and change in ("scale", "zero_point"):
                continue
            if op == "lut_s8" and not arg.constant and change == "type":
                continue  # a table takes uint8 codes, too
            if op in ("mul_s8", "add_broadcast_s8") and i < 2 and change == "kind":
                continue  # an operand may be constant
            if change == "count":
                arg.count = arg.data.size - 1
            elif change == "type":
                arg.data = np.zeros(arg.data.size, np.uint8)
            elif change == "scale":
                arg.scale = float(np.random.default_rng(i).choice([0.0, -1.0, np.nan, np.inf]))
            elif change == "zero_point":
                arg.zero_point = 128
            else:
                arg.constant = 2 if arg.constant else 1
            assert run_op.call(op, attrs, inputs, outputs, check_only=True) == EP_ERR_IMAGE, (i, change)


CLAMPED = ["conv2d_s8", "depthwise_conv2d_s8", "dense_s8", "add_s8", "mul_s8", "add_broadcast_s8", "conv2d_zero_s8"]
REFUSED: list[tuple[str, dict[str, Any], dict[int, dict[str, Any]]]] = [
    # op, attributes changed, operands changed
    *((op, {name: value}, {}) for op in CLAMPED for name, value in (("lo", -129), ("hi", 128), ("lo", np.nan))),
    *((op, {"lo": 5, "hi": 4}, {}) for op in CLAMPED),
    *((op, {"lo": -127}, {-1: {"zero_point": -2}}) for op in CLAMPED),
    *((op, {"hi": 127}, {-1: {"zero_point": 1}}) for op in CLAMPED),
    ("conv2d_s8", {"groups": 3, "out_c": 3}, {1: {"count": 27}, 2: {"count": 3}, 3: {"count": 3}, 4: {"count": 75}}),
    ("conv2d_s8", {"groups": 2, "out_c": 3}, {1: {"count": 54}, 2: {"count": 3}, 3: {"count": 3}, 4: {"count": 75}}),
    ("conv2d_s8", {"in_h": 1 << 30, "in_w": 1 << 30, "in_c": 1 << 30}, {}),
    ("depthwise_conv2d_s8", {"groups": 1}, {}),
    ("depthwise_conv2d_s8", {"out_c": 6}, {1: {"count": 54}, 2: {"count": 6}, 3: {"count": 6}, 4: {"count": 150}}),
    ("average_pool2d_s8", {"dilation_h": 2}, {}),
    ("average_pool2d_s8", {"dilation_w": 2}, {}),
    ("average_pool2d_s8", {"pad_top": 3}, {}),
    ("average_pool2d_s8", {"stride_w": 3}, {}),
    ("average_pool2d_s8", {}, {0: {"scale": 1e36}}),
    ("global_average_pool_s8", {"size": 8421505, "channels": 1}, {0: {"count": 8421505}, 1: {"count": 1}}),
    ("global_average_pool_s8", {}, {0: {"scale": 1e3}, 1: {"scale": 1e-3}}),
    ("add_s8", {"alpha": 64}, {}),
    ("add_s8", {}, {0: {"scale": 1e30}}),
    ("add_s8", {}, {1: {"scale": 1e30}}),
    ("average_pool2d_s8", {"count_include_pad": 4}, {}),
    ("average_pool2d_s8", {"count_include_pad": -1}, {}),
    (
        "conv2d_zero_s8",
        {"groups": 3, "out_c": 3},
        {1: {"count": 27}, 2: {"count": 3}, 3: {"count": 3}, 5: {"count": 75}},
    ),
    ("conv2d_zero_s8", {"in_h": 1 << 30, "in_w": 1 << 30, "in_c": 1 << 30}, {}),
    ("conv2d_zero_s8", {}, {4: {"count": 3}}),
    ("add_broadcast_s8", {"alpha": 64}, {}),
    ("add_broadcast_s8", {}, {0: {"scale": 1e30}}),
    ("add_broadcast_s8", {}, {1: {"scale": 1e30}}),
    ("add_broadcast_s8", {"dims": [1, 1, 1, 1, 10, 9]}, {}),
    ("add_broadcast_s8", {"b_strides": [0, 0, 0, 0, 1, 1]}, {}),
    ("mul_s8", {"alpha": 64}, {}),
    ("mul_s8", {}, {0: {"scale": 1e31}}),
    ("mul_s8", {"dims": [1, 1, 1, 1, 10, 9]}, {}),
    ("mul_s8", {"a_strides": [0, 0, 0, 0, 11, 1]}, {}),
    ("mul_s8", {"b_strides": [0, 0, 0, 0, 1, 1]}, {}),
    ("mul_s8", {"b_strides": [0, 0, 0, 0, 0, -1]}, {}),
    ("mul_s8", {"dims": [1 << 16, 1 << 16, 1, 1, 10, 10]}, {}),
    ("softmax_s8", {"rows": 4, "channels": 1073741849}, {}),
    ("softmax_s8", {}, {-1: {"scale": 1e-38}}),
]


@pytest.mark.parametrize(("op", "attrs", "changes"), REFUSED)
def test_check_refuses(op: str, attrs: dict[str, Any], changes: dict[int, dict[str, Any]]) -> None:
    """One thing wrong at a time, all else fitting."""
    inputs, outputs = operands(op)
    for index, change in changes.items():
        for field, value in change.items():
            setattr([*inputs, *outputs][index], field, value)
    assert run_op.call(op, VALID[op][0] | attrs, inputs, outputs, check_only=True) == EP_ERR_IMAGE


@pytest.mark.parametrize("op", VALID)
def test_check_refuses_shape_of_node(op: str) -> None:
    """An input more or less, an output more or none, no attributes."""
    (inputs, outputs), attrs = operands(op), VALID[op][0]
    for i, o in ((inputs[:-1], outputs), ([*inputs, inputs[-1]], outputs), (inputs, outputs * 2), (inputs, [])):
        assert run_op.call(op, attrs, i, o, check_only=True) == EP_ERR_IMAGE
    assert run_op.call(op, None, inputs, outputs, check_only=True) == EP_ERR_IMAGE


@pytest.mark.parametrize("op", ["conv2d_s8", "depthwise_conv2d_s8", "dense_s8"])
def test_check_refuses_sums(op: str) -> None:
    """A bias with which a sum could leave int32, and multipliers that are not finite."""
    for index, value in ((2, 2**31 - 1), (2, -(2**31)), (3, np.nan), (3, np.inf)):
        inputs, outputs = operands(op)
        inputs[index].data[-1] = value
        assert run_op.call(op, VALID[op][0], inputs, outputs, check_only=True) == EP_ERR_IMAGE


def test_check_refuses_tables() -> None:
    """Softmax tables whose sums are not finite and positive."""
    for at, value in ((0, np.nan), (3, -1.0), (7, 3e38), (255, 0.0)):
        inputs, outputs = operands("softmax_s8")
        inputs[1].data[at] = value
        assert run_op.call("softmax_s8", VALID["softmax_s8"][0], inputs, outputs, check_only=True) == EP_ERR_IMAGE
