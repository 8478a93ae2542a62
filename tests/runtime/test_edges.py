"""Sizes at the edges of what the kernels do at once: one, a tile less one, a tile, one more; codes with zero points that are
far from the middle. Against NumPy; random sizes (test_ops_s8.py, test_ops_f32.py) meet these seldom."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from typing import Any

import numpy as np
import pytest

from tests.runtime.test_ops_norms import OPS as NORMS
from tests.support import cases_f32, cases_movement, cases_s8, compiler, ops, run_op
from tests.support import reference_norms as norms
from tests.support.compiler import CSRC
from tests.support.reference import clamp, clamp_backward

Array = np.ndarray[Any, np.dtype[Any]]

#: of 4, 8, 16, 32 (EP_TILE_COLUMNS), 64 and 128 (a whole tile), and of two tiles
EDGES = sorted({1, *(tile + step for tile in (4, 8, 16, 32, 64, 128, 256) for step in (-1, 0, 1))})
ZEROS = (-128, -127, -77, 41, 126, 127)


def edge(rng: np.random.Generator, lo: int, hi: int) -> int:
    """An edge where the sizes asked for are those of channels or elements; as drawn where they are small."""
    if hi < 12:
        return int(rng.integers(lo, hi + 1))
    return int(rng.choice([e for e in EDGES if e >= lo]))


class Codes(cases_s8.Draw):
    """Draws edges, and zero points from the ends or none that is even near 0."""

    def size(self, lo: int, hi: int) -> int:
        return edge(self.rng, lo, hi)

    def zero(self) -> int:
        return int(self.rng.choice(ZEROS)) + (128 if self.dtype == np.uint8 else 0)


class Floats(cases_f32.Draw):
    """Draws edges; sums of integers, which are exact, every other time."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.integers, self.n = seed % 2 == 0, 1 + seed % 3

    def size(self, lo: int, hi: int) -> int:
        return edge(self.rng, lo, hi)


#: int8 ops by where their answers are compared with NumPy's
COMPARED = {
    "conv2d_s8": "Conv", "depthwise_conv2d_s8": "Conv", "dense_s8": "Dense", "max_pool2d_s8": "Pool",
    "average_pool2d_s8": "Pool", "global_average_pool_s8": "Pool", "add_s8": "Add", "softmax_s8": "Softmax",
    "mul_s8": "Mul", "conv2d_zero_s8": "ConvZero", "add_broadcast_s8": "AddBroadcast",
    "lut_s8": "test_ops_s8.test_lut", "matmul_s8": "test_matmul_s8",
}  # fmt: skip


def test_every_int8_op_has_a_reference_of_its_own() -> None:
    """A new one needs a case in NumPy, too: to equal onnxruntime is not to be right."""
    names = set(re.findall(r"X\(\d+, (\w+_s8), ", (CSRC / "edgeprop_ops.h").read_text()))
    assert names == set(COMPARED)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("case", sorted({c for c in COMPARED.values() if not c.startswith("test_")}))
def test_codes(case: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases_s8, "Draw", Codes)
    for seed in range(40):
        c = getattr(cases_s8, case)(seed, dtype)
        found, wanted = c.device(), cases_s8.signed(c.numpy())
        found = found.transpose(0, 3, 1, 2) if found.ndim == 4 else found
        np.testing.assert_array_equal(found, wanted, err_msg=f"seed {seed}")


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 64, 65])
@pytest.mark.parametrize("zeros", [(-128, 0, 5), (41, -77, 127), (127, 127, -128), (3, 0, 0)])
def test_matmul_s8(columns: int, zeros: tuple[int, int, int]) -> None:
    """The zero points of both operands, and none of the second, where rows go together."""
    rng = np.random.default_rng(columns)
    za, zb, zy = zeros
    for rows, count in ((1, 1), (3, 17), (4, 64), (5, 33)):
        a = rng.integers(-128, 128, (2, 2, rows, count)).astype(np.int8)
        b = rng.integers(-128, 128, (2, 2, columns, count)).astype(np.int8)
        sa, sb, sy = np.float32(0.02), np.float32(0.03), np.float32(0.05 * count**0.5)
        attrs = {"batch": 2, "rows": rows, "count": count, "columns": columns, "transposed": 1}
        attrs |= {"lo": float(-128 - zy), "hi": float(127 - zy)}
        y = np.empty((2, 2, rows, columns), np.int8)
        inputs = [ops.Tensor(a, float(sa), za), ops.Tensor(b, float(sb), zb)]
        assert ops.run("matmul_s8", attrs, inputs, [ops.Tensor(y, float(sy), zy)]).rc == 0
        sums = np.einsum("nbrc,nbkc->nbrk", a.astype(np.int64) - za, b.astype(np.int64) - zb)
        v = np.clip(sums.astype(np.float32) * (sa * sb / sy), attrs["lo"], attrs["hi"])
        np.testing.assert_array_equal(y, (np.rint(v) + zy).astype(np.int8))


#: what boards without kernels of their own run: other ways through the ops, in small pieces
AS_ON_BOARDS = ["-O0", "-fPIC", "-DEP_PORTABLE"]


@functools.cache
def board_codes() -> ctypes.CDLL:
    """The int8 ops as a board has them."""
    return ctypes.CDLL(str(run_op.build("board_s8.so", AS_ON_BOARDS, "-shared")))


@functools.cache
def board_floats() -> Any:
    """The float32 ops as a board has them."""
    return ops.ffi.dlopen(str(ops.compile_with(compiler.scratch() / "board.so", "-shared", build=AS_ON_BOARDS)))


@pytest.mark.parametrize("case", ["Conv", "ConvZero", "Dense", "Pool", "Add", "Softmax"])
def test_codes_as_on_boards(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depthwise convolutions span by span, patches of a kilobyte."""
    monkeypatch.setattr(run_op, "library", board_codes)
    for dtype in (np.int8, np.uint8):
        test_codes(case, dtype, monkeypatch)


def close(found: Array, wanted: Array, exact: bool, what: str) -> None:
    """Equal where all sums are of integers, else within 2e-5 of the largest."""
    if exact:
        np.testing.assert_array_equal(found, wanted, err_msg=what)
    else:
        size = float(np.abs(wanted).max(initial=1.0))
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5 * size, err_msg=what)


#: of these, integers stay integers
EXACT = {"conv2d_f32", "depthwise_conv2d_f32", "dense_f32", "affine_f32", "add_f32", "copy", "transpose", "matmul_f32"}
EXACT |= {"conv_transpose2d_f32", "sub_f32", "mul_f32", "max_f32", "min_f32", "concat", "gather"}
FLOATS = {**cases_f32.CASES, **cases_movement.CASES}
WIDE = ["conv2d_f32", "depthwise_conv2d_f32", "dense_f32", "affine_f32", "prelu_f32", "softmax_f32", "log_softmax_f32"]
WIDE += [op for op in cases_movement.CASES if op not in ("box", "gather", "resample_f32")]


@pytest.mark.parametrize("op", WIDE)
def test_floats(op: str) -> None:
    """y, dX and the weights' gradients, handed over tile by tile or summed up; each element of them once."""
    for seed in range(36):
        os.environ["EP_TEST_KERNELS"] = str(seed % 16)
        case = FLOATS[op](Floats(seed))
        first, n = len(case.inputs), case.inputs[0].shape[0]
        train = [first + i for i in range(len(case.weights)) if first + i not in case.fixed]
        want = [i for i in range(first) if i not in case.fixed]
        rng, y = np.random.default_rng(seed), np.full(case.y_shape, 7e9, np.float32)
        dy = rng.integers(-3, 4, case.y_shape).astype(np.float32)
        options = {"weights": case.weights, "train": train, "dy": dy, "want": want, "sums": seed % 4 == 3}
        r = ops.run(op, case.attrs, case.inputs, [y], **options)
        assert r.rc == 0
        exact = op in EXACT and seed % 2 == 0
        close(y, case.forward(), exact, f"y, seed {seed}")
        wanted = case.backward(dy)
        for i in want:
            close(r.dx[i], wanted[i].reshape(r.dx[i].shape), exact, f"dX {i}, seed {seed}")
        for i in train:
            close(r.gradients[i], wanted[i].reshape(r.gradients[i].shape), exact, f"gradient {i}, seed {seed}")
            assert r.emitted[i].min() >= 1
            assert n > 1 or r.emitted[i].max() == 1


@pytest.mark.parametrize(
    "op", ["conv2d_f32", "depthwise_conv2d_f32", "dense_f32", "affine_f32", "conv_transpose2d_f32"]
)
def test_floats_as_on_boards(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, tile by tile."""
    monkeypatch.setattr(ops, "library", board_floats)
    test_floats(op)


@pytest.mark.parametrize("groups", ["one", "all", "some"])
def test_group_norm_as_on_boards(groups: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More channels than one tile."""
    monkeypatch.setattr(ops, "library", board_floats)
    for channels in (127, 128, 129, 257):
        test_group_norm_of_many_channels(channels, groups)


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 127, 128, 129, 255, 256, 257, 384])
@pytest.mark.parametrize("groups", ["one", "all", "some"])
def test_group_norm_of_many_channels(channels: int, groups: str) -> None:
    """Scale and bias learn tile by tile, of one sample and of several."""
    count = {"one": 1, "all": channels, "some": next(g for g in (3, 5, 2, 1, 127) if channels % g == 0)}[groups]
    attrs = {"rows": 2, "size": 3, "channels": channels, "groups": count, "center": 1, "epsilon": 1e-3}
    attrs |= {"lo": -1.0, "hi": 2.0}
    rng = np.random.default_rng(channels)
    _, forward, backward = NORMS["group_norm_f32"]
    for n in (1, 2):
        x, scale, bias = (rng.normal(size=s).astype(np.float32) for s in ((n, 2, 3, channels), channels, channels))
        v = forward(x.astype(np.float64), scale, bias, attrs)
        dy = rng.normal(size=x.shape).astype(np.float32) * ((np.abs(v + 1) > 1e-4) & (np.abs(v - 2) > 1e-4))
        y = np.empty_like(x)
        r = ops.run("group_norm_f32", attrs, [x], [y], weights=[scale, bias], train=(1, 2), dy=dy, want=[0], sums=n > 1)
        assert r.rc == 0
        close(y, clamp(v, attrs), False, "y")
        dv = clamp_backward(v, dy.astype(np.float64), attrs)
        dx, dscale, dbias = backward(x.astype(np.float64), scale.astype(np.float64), bias, dv, attrs)
        inverse = float(norms._normalized(x.astype(np.float64), attrs)[1].max())
        np.testing.assert_allclose(r.dx[0], dx, rtol=1e-4, atol=1e-5 * max(1.0, inverse) ** 2)
        for i, wanted in ((1, dscale), (2, dbias)):
            close(r.gradients[i], wanted, False, f"gradient {i}, {n} samples")
            assert r.emitted[i].min() >= 1
            assert n > 1 or r.emitted[i].max() == 1


@pytest.mark.parametrize("taps", [127, 128, 129, 255, 256, 257])
def test_pools_of_many_taps(taps: int) -> None:
    """The largest stands at every tap in turn; float32 forward and backward, int8, and the averages of both."""
    n, channels = taps, 3
    attrs = {"in_h": 1, "in_w": taps + 1, "channels": channels, "out_h": 1, "out_w": 2, "kernel_h": 1, "kernel_w": taps}
    attrs |= {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "pad_top": 0, "pad_left": 0}
    attrs |= {"count_include_pad": 0, "pad_bottom": 0, "pad_right": 0}
    rng = np.random.default_rng(taps)
    codes = rng.integers(-128, 100, (n, 1, taps + 1, channels)).astype(np.int8)
    codes[np.arange(n), 0, np.arange(n)] = 101
    wanted = np.stack([codes[:, :, k : k + taps].max(2) for k in (0, 1)], 2)
    y = np.empty((n, 1, 2, channels), np.int8)
    scaled = ops.Tensor(codes, 0.1, -77)
    assert ops.run("max_pool2d_s8", attrs, [scaled], [ops.Tensor(y, 0.1, -77)]).rc == 0
    np.testing.assert_array_equal(y, wanted)
    x, out = codes.astype(np.float32), np.empty(y.shape, np.float32)
    dy = rng.integers(1, 4, y.shape).astype(np.float32)
    r = ops.run("max_pool2d_f32", attrs, [x], [out], dy=dy, want=[0])
    assert r.rc == 0
    np.testing.assert_array_equal(out, wanted)
    dx = np.zeros_like(x)
    for k in (0, 1):
        first = np.expand_dims(x[:, :, k : k + taps].argmax(2), 2) + k
        np.put_along_axis(dx, first, np.take_along_axis(dx, first, 2) + dy[:, :, k : k + 1], 2)
    np.testing.assert_array_equal(r.dx[0], dx)
    means = np.stack([codes[:, :, k : k + taps].astype(np.float64).mean(2) for k in (0, 1)], 2)
    assert ops.run("average_pool2d_f32", attrs, [x], [out]).rc == 0
    np.testing.assert_allclose(out, means, rtol=1e-5, atol=1e-4)
    assert ops.run("average_pool2d_s8", attrs, [scaled], [ops.Tensor(y, 0.05, 41)]).rc == 0
    exact = np.clip((means + 77) * 0.1 / 0.05 + 41, -128, 127)
    assert np.abs(y - exact).max() <= 0.5 + 1e-3
