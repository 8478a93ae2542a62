"""The ops that move and multiply, where test_ops_f32.py does not look: codes, constants among inputs, one tensor twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import ops, reference_movement
from tests.support.cases_f32 import Draw
from tests.support.cases_movement import box as box_case
from tests.support.ops import Tensor

seeds = st.integers(0, 2**32 - 1)
NO_LIMITS = {"lo": -np.inf, "hi": np.inf}


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_box_of_codes(seed: int) -> None:
    d = Draw(seed)
    case = box_case(d)
    x = d.rng.integers(-128, 128, case.inputs[0].shape).astype(np.int8)
    attrs = {**case.attrs, "size": 1, "fill": float(d.size(-128, 127))}
    y = np.empty(case.y_shape, np.int8)
    assert ops.run("box", attrs, [x], [y]).rc == 0
    np.testing.assert_array_equal(y, reference_movement.box(x, attrs | case.extra))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_gather_and_concat_by_size(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (3, 2, 4, 5)).astype(dtype)
    index = np.array([3, 3, 0], np.int32)
    y = np.empty((3, 2, 3, 5), dtype)
    attrs = {"outer": 2, "in": 4, "out": 3, "inner": 5, "size": x.itemsize}
    assert ops.run("gather", attrs, [x], [y], weights=[index]).rc == 0
    np.testing.assert_array_equal(y, x[:, :, index])
    z = np.empty((3, 2, 7, 5), dtype)
    assert ops.run("concat", {"outer": 2, "size": x.itemsize}, [x, y], [z]).rc == 0
    np.testing.assert_array_equal(z, np.concatenate([x, y], 2))


def test_concat_repeats_a_constant_in_every_sample() -> None:
    rng = np.random.default_rng(0)
    x, constant = rng.normal(size=(3, 2, 4)).astype("f4"), rng.normal(size=(2, 5)).astype("f4")
    y, dy = np.empty((3, 2, 9), np.float32), rng.normal(size=(3, 2, 9)).astype("f4")
    r = ops.run("concat", {"outer": 2, "size": 4}, [x], [y], weights=[constant], dy=dy, want=[0])
    assert r.rc == 0
    np.testing.assert_array_equal(y, np.concatenate([x, np.broadcast_to(constant, (3, 2, 5))], 2))
    np.testing.assert_array_equal(r.dx[0], dy[:, :, :4])


def test_one_tensor_in_both_places() -> None:
    """The second gradient adds to the first."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 4)).astype("f4")
    y, dy = np.empty((2, 3, 8), np.float32), rng.normal(size=(2, 3, 8)).astype("f4")
    r = ops.run("concat", {"outer": 3, "size": 4}, [x, x], [y], dy=dy, want=[0], same=True)
    np.testing.assert_array_equal(r.dx[0], dy[:, :, :4] + dy[:, :, 4:])
    y, dy = np.empty((2, 3, 3), np.float32), rng.normal(size=(2, 3, 3)).astype("f4")
    attrs = {"batch": 1, "rows": 3, "count": 4, "columns": 3, "transposed": 1} | NO_LIMITS
    r = ops.run("matmul_f32", attrs, [x, x], [y], dy=dy, want=[0], same=True)
    assert r.rc == 0
    np.testing.assert_allclose(y, x @ x.swapaxes(1, 2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(r.dx[0], (dy + dy.swapaxes(1, 2)) @ x, rtol=1e-5, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(seed=seeds)
def test_matmul_of_codes(seed: int) -> None:
    """Every code, zero points at the ends, more columns than go at once."""
    d = Draw(seed)
    batch, rows, count, columns = d.size(1, 3), d.size(1, 6), d.size(1, 90), d.size(1, 70)
    a = d.rng.integers(-128, 128, (d.n, batch, rows, count)).astype(np.int8)
    b = d.rng.integers(-128, 128, (d.n, batch, columns, count)).astype(np.int8)
    za, zb, zy = (int(d.rng.choice([-128, 0, 127, d.size(-128, 127)])) for _ in range(3))
    sa, sb, sy = (np.float32(10.0 ** d.rng.uniform(-3, -1)) for _ in range(3))
    attrs = {"batch": batch, "rows": rows, "count": count, "columns": columns, "transposed": 1}
    attrs |= {"lo": float(-128 - zy), "hi": float(127 - zy)}
    y = np.empty((d.n, batch, rows, columns), np.int8)
    inputs = [Tensor(a, float(sa), za), Tensor(b, float(sb), zb)]
    assert ops.run("matmul_s8", attrs, inputs, [Tensor(y, float(sy), zy)]).rc == 0
    sums = (a.astype(np.int64) - za) @ (b.astype(np.int64) - zb).swapaxes(2, 3)
    v = np.clip(sums.astype(np.float32) * (sa * sb / sy), attrs["lo"], attrs["hi"])
    np.testing.assert_array_equal(y, (np.rint(v) + zy).astype(np.int8))


def test_checks() -> None:
    """Codes have no backward; more inputs than accumulate has bits; indices outside; ids of another type."""
    x = np.ones((1, 4), np.float32)
    dy, codes = np.ones((1, 4), np.float32), np.ones((1, 4), np.int8)
    dims = {"dims": [1, 1, 1, 1, 1, 4], "x_strides": [0, 0, 0, 0, 0, 1], "y_strides": [0, 0, 0, 0, 0, 1]}
    attrs = {**dims, "x_offset": 0, "y_offset": 0, "size": 1, "fill": 0.0}
    assert ops.run("box", attrs, [codes], [codes.copy()]).rc == 0
    assert ops.run("box", attrs, [codes], [codes.copy()], dy=dy, want=[0]).rc == ops.EP_ERR_IMAGE
    assert ops.run("box", attrs | {"fill": 256.0}, [codes], [codes.copy()]).rc == ops.EP_ERR_IMAGE
    assert ops.run("box", attrs | {"x_offset": 1}, [codes], [codes.copy()]).rc == ops.EP_ERR_IMAGE
    nine = ops.run("concat", {"outer": 1, "size": 4}, [x] * 9, [np.empty((1, 36), np.float32)])
    assert nine.rc == ops.EP_ERR_IMAGE
    attrs = {"outer": 1, "in": 4, "out": 1, "inner": 1, "size": 4}
    for index, rc in ((3, 0), (4, ops.EP_ERR_IMAGE), (-1, ops.EP_ERR_IMAGE)):
        y = np.empty((1, 1), np.float32)
        assert ops.run("gather", attrs, [x], [y], weights=[np.array([index], np.int32)]).rc == rc
    attrs = {"rows": 4, "vocabulary": 2, "width": 1}
    assert ops.run("embedding_f32", attrs, [x], [np.empty_like(x)], weights=[np.ones(2, "f4")]).rc == ops.EP_ERR_IMAGE


def test_nan_in_a_resample() -> None:
    """A NaN shows where a tap of it counts; taps of weight 0 fill up the table, and what they point at does not count."""
    x = np.array([[[[np.nan], [2.0]]]], np.float32)
    index, weight = np.array([[0, 1], [1, 0]], np.int32), np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
    y = np.empty((1, 1, 2, 1), np.float32)
    attrs = {"outer": 1, "in": 2, "out": 2, "inner": 1, "taps": 2}
    assert ops.run("resample_f32", attrs, [x], [y], weights=[index, weight]).rc == 0
    np.testing.assert_array_equal(y.ravel(), np.array([np.nan, 2.0], np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bound_of_an_embedding_shows_bad_values(bad: float) -> None:
    dy = np.array([[[1.0], [bad]]], np.float32)
    attrs = {"rows": 2, "vocabulary": 3, "width": 1}
    y, ids = np.empty((1, 2, 1), np.float32), np.array([[0, 2]], np.int32)
    r = ops.run("embedding_f32", attrs, [ids], [y], weights=[np.ones((3, 1), "f4")], train=(1,), dy=dy)
    assert r.rc == 0
    assert not np.isfinite(r.bound)
