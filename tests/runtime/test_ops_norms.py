"""Normalization, sparse and dynamically quantized dense layers in C against NumPy; that against finite differences and
onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeprop.export.graph import reference as ort
from tests.support import ops
from tests.support import reference_norms as reference
from tests.support.cases_f32 import Draw
from tests.support.reference import clamp, clamp_backward

Array = np.ndarray[Any, np.dtype[Any]]
seeds = st.integers(0, 2**32 - 1)
NO_LIMITS = {"lo": -np.inf, "hi": np.inf}


def group_norm(d: Draw) -> tuple[dict[str, Any], Array, list[Array]]:
    """Layer, group and instance norms; wide ones pass a tile of the scale's gradient."""
    groups, width = d.size(1, 4), d.size(1, 80 if d.size(0, 3) == 0 else 5)
    attrs = {"rows": d.size(1, 3), "size": d.size(1, 9), "channels": groups * width, "groups": groups}
    attrs |= {"center": d.size(0, 3) and 1, "epsilon": [0.0, 1e-5, 0.1][d.size(0, 2)], **d.limits()}
    x = d.values(d.n, attrs["rows"], attrs["size"], attrs["channels"]) + 2 * d.size(0, 1)
    return attrs, x.astype(np.float32), [d.values(groups * width), d.values(groups * width)]


def sparse_matrix(d: Draw, n_out: int, n_in: int) -> Array:
    """At least one element, empty rows among them."""
    weight = d.values(n_out, n_in) * (d.rng.random((n_out, n_in)) < d.rng.random()) * (d.rng.random((n_out, 1)) < 0.8)
    weight[d.size(0, n_out - 1), d.size(0, n_in - 1)] = 2
    return weight.astype(np.float32)


def sparse_dense(d: Draw) -> tuple[dict[str, Any], Array, list[Array]]:
    """Any density, one row or several."""
    n_in, n_out, rows = d.size(1, 300 if d.size(0, 2) == 0 else 40), d.size(1, 12), d.size(1, 3)
    values, starts, columns = reference.to_rows(sparse_matrix(d, n_out, n_in))
    attrs = {"n_in": n_in, "n_out": n_out, "rows": rows, "stored": len(values), **d.limits()}
    return attrs, d.values(d.n, rows, n_in), [values, d.values(n_out), starts, columns]


OPS: dict[str, tuple[Callable[..., Any], Callable[..., Array], Callable[..., tuple[Array, ...]]]] = {
    "group_norm_f32": (group_norm, reference.group_norm, reference.group_norm_backward),
    "sparse_dense_f32": (sparse_dense, reference.sparse_dense, reference.sparse_dense_backward),
}


def close(found: Array, wanted: Array, size: float = 1.0) -> None:
    """Within 1e-5 of the largest element, or of `size`, that of its terms."""
    scale = max(float(np.abs(wanted).max(initial=0)), size)
    np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=1e-5, atol=1e-5 * scale)


def double(*arrays: Array) -> list[Array]:
    return [v.astype(np.float64) for v in arrays]


def away_from(v: Array, a: dict[str, Any]) -> bool:
    """True if rounding cannot take a value across a limit of the clamp."""
    return not any((np.abs(v - limit) < 1e-4).any() for limit in (a["lo"], a["hi"]) if np.isfinite(limit))


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_equals_reference(op: str, seed: int) -> None:
    """y, dX (written or added to) and the weights' gradients, each handed over exactly once where n is 1."""
    os.environ["EP_TEST_KERNELS"] = str(seed % 16)
    d = Draw(seed)
    draw, forward, backward = OPS[op]
    attrs, x, weights = draw(d)
    v = forward(*double(x, *weights), attrs)
    y = np.full(v.shape, 7e9, np.float32)
    dy, train = d.values(*v.shape), [i for i in (1, 2) if d.size(0, 3)]
    want = [0] if d.size(0, 4) else []
    before = {0: d.values(*x.shape)} if want and d.size(0, 1) else {}
    if not away_from(v, attrs):
        attrs |= NO_LIMITS
    r = ops.run(op, attrs, [x], [y], weights=weights, train=train, dy=dy, want=want, add_to=before, sums=d.n > 1)
    assert r.rc == 0
    close(y, clamp(v, attrs))
    dv = clamp_backward(v, dy.astype(np.float64), attrs)
    wanted = backward(*double(x, *weights), dv, attrs)
    largest_inverse = float(reference._normalized(x.astype(np.float64), attrs)[1].max()) if "groups" in attrs else 1
    if want:
        # where all values are nearly one, a mean's rounding is magnified twice: in z, and by what dx is multiplied with
        rounding = max(1.0, largest_inverse * float(np.abs(x).max()) / 100)
        close(r.dx[0], wanted[0].reshape(x.shape) + before.get(0, 0), 3 * max(largest_inverse, 1) * rounding)
    for i in train:
        close(r.gradients[i], wanted[i], 3.0)
        assert r.emitted[i].min() >= 1
        assert d.n > 1 or r.emitted[i].max() == 1
    if train:
        assert max(float(np.abs(r.gradients[i]).max()) for i in train) <= r.bound < np.inf


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_reference_gradient(op: str, seed: int) -> None:
    """The reference's backward against central differences of its forward."""
    d = Draw(seed)
    d.integers = False
    draw, forward, backward = OPS[op]
    attrs, x, weights = draw(d)
    if "epsilon" in attrs:
        attrs["epsilon"] = 0.1
    operands = double(x, *weights)
    dy = d.rng.normal(size=forward(*operands, attrs).shape)
    for i, gradient in enumerate(backward(*operands, dy, attrs)):
        direction = d.rng.choice([-1.0, 1.0], operands[i].shape)
        ends = []
        for sign in (1, -1):
            moved = list(operands)
            moved[i] = moved[i] + sign * 1e-6 * direction
            ends.append((forward(*moved, attrs) * dy).sum())
        analytic = (gradient.reshape(direction.shape) * direction).sum()
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(analytic, rel=1e-5, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_norm_in_place(seed: int) -> None:
    """y over x, dX over dY: the same bits as apart."""
    d = Draw(seed)
    attrs, x, weights = group_norm(d)
    dy = d.values(*x.shape)
    apart = ops.run("group_norm_f32", attrs, [x], [np.empty_like(x)], weights=weights, dy=dy, want=[0])
    here = ops.run("group_norm_f32", attrs, [x], [np.empty_like(x)], weights=weights, y_over=0)
    over = ops.run("group_norm_f32", attrs, [x], [np.empty_like(x)], weights=weights, dy=dy, want=[0], dx_over_dy=True)
    np.testing.assert_array_equal(here.y[0], apart.y[0])
    np.testing.assert_array_equal(over.dx[0], apart.dx[0])


def test_norm_of_equal_values() -> None:
    """No variance and no epsilon: zeros, not NaN; a mean far from zero costs no accuracy."""
    attrs = {"rows": 1, "size": 4, "channels": 6, "groups": 2, "center": 1, "epsilon": 0.0, **NO_LIMITS}
    y = np.empty((1, 1, 4, 6), np.float32)
    weights = [np.ones(6, np.float32), np.zeros(6, np.float32)]
    r = ops.run(
        "group_norm_f32", attrs, [np.full_like(y, 0.5)], [y], weights=weights, train=[1], dy=np.ones_like(y), want=[0]
    )
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(r.dx[0], 0)
    x = 1000 + np.random.default_rng(0).normal(size=y.shape).astype(np.float32)
    assert ops.run("group_norm_f32", attrs, [x], [y], weights=weights).rc == 0
    np.testing.assert_allclose(y, reference.group_norm(*double(x, *weights), attrs), atol=1e-4)


@pytest.mark.parametrize("channels", [128, 300, 4100])
@pytest.mark.parametrize("groups", [1, 3, 100])
@pytest.mark.parametrize("sums", [False, True])
def test_norm_of_more_channels_than_a_tile(channels: int, groups: int, sums: bool) -> None:
    """The gradient of the scale is summed 128 channels at once on boards, 4096 on PCs, wherever groups end."""
    channels -= channels % groups
    d = Draw(channels)
    attrs = {"rows": 2, "size": 3, "channels": channels, "groups": groups, "center": 1, "epsilon": 0.1, **NO_LIMITS}
    x = d.values(1, 2, 3, channels)
    weights = [d.values(channels), d.values(channels)]
    dy, y = d.values(*x.shape), np.empty_like(x)
    r = ops.run("group_norm_f32", attrs, [x], [y], weights=weights, train=[1, 2], dy=dy, want=[0], sums=sums)
    wanted = reference.group_norm_backward(*double(x, *weights), dy.astype(np.float64), attrs)
    close(y, reference.group_norm(*double(x, *weights), attrs))
    close(r.dx[0], wanted[0], 3.0)
    for i in (1, 2):
        close(r.gradients[i], wanted[i], 3.0)
        assert (r.emitted[i] == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_norm_bound_shows_bad_values(bad: float) -> None:
    """Where the squares overflow there is no bound, so no step is taken."""
    attrs = {"rows": 1, "size": 4, "channels": 6, "groups": 2, "center": 1, "epsilon": 1e-5, **NO_LIMITS}
    x = np.ones((1, 1, 4, 6), np.float32)
    x[0, 0, 1, 2] = bad
    y, w = np.empty_like(x), np.ones(6, np.float32)
    assert not np.isfinite(
        ops.run("group_norm_f32", attrs, [x], [y], weights=[w, w], train=[1], dy=np.ones_like(y)).bound
    )


# ---- Sparse ----------------------------------------------------------------------------------------------------------


def test_sparse_equals_dense() -> None:
    """The op on a matrix's stored elements, and dense_f32 on all of them: y, dX and the stored elements' gradients."""
    d = Draw(1)
    weight = sparse_matrix(d, 9, 50)
    values, starts, columns = reference.to_rows(weight)
    x, dy, bias = d.values(1, 2, 50), d.values(1, 2, 9), d.values(9)
    attrs = {"n_in": 50, "n_out": 9, "rows": 2, "lo": 0.0, "hi": np.inf}
    run: dict[str, Any] = {"train": (1, 2), "dy": dy, "want": [0]}
    dense = ops.run("dense_f32", attrs, [x], [np.empty_like(dy)], weights=[weight, bias], **run)
    attrs["stored"] = len(values)
    sparse = ops.run(
        "sparse_dense_f32", attrs, [x], [np.empty_like(dy)], weights=[values, bias, starts, columns], **run
    )
    close(sparse.y[0], dense.y[0])
    close(sparse.dx[0], dense.dx[0])
    close(sparse.gradients[1], dense.gradients[1][weight != 0])


def test_sparse_wants_places_inside() -> None:
    """Row starts that fall or pass the end, and columns beyond x, are refused."""
    attrs = {"n_in": 4, "n_out": 3, "rows": 1, "stored": 5, **NO_LIMITS}
    values, bias, starts = np.ones(5, np.float32), np.zeros(3, np.float32), np.array([0, 2, 2, 5], np.int32)
    columns = np.array([0, 3, 1, 2, 3], "<u2").view(np.uint8)
    x, y = np.ones((1, 4), np.float32), np.empty((1, 3), np.float32)

    def rc(**changed: Any) -> int:
        given = {"values": values, "bias": bias, "starts": starts, "columns": columns, "attrs": attrs} | changed
        weights = [given[name] for name in ("values", "bias", "starts", "columns")]
        return ops.run("sparse_dense_f32", given["attrs"], [x], [y], weights=weights).rc

    assert rc() == 0
    for bad in ([1, 2, 2, 5], [0, 2, 2, 4], [0, 3, 2, 5], [0, -1, 2, 5], [0, 2**31 - 1, 2, 5], [0, 2, 2, 6], [0, 2, 5]):
        assert rc(starts=np.array(bad, np.int32)) == ops.EP_ERR_IMAGE, bad
    for place in (4, 256, 65535):
        assert rc(columns=np.array([0, 3, 1, place, 3], "<u2").view(np.uint8)) == ops.EP_ERR_IMAGE
    assert rc(columns=columns[:-1]) == ops.EP_ERR_IMAGE
    for name in attrs:
        for bad in (0, -1, 2**31 - 1, -(2**31)) if name not in NO_LIMITS else (np.nan,):
            assert rc(attrs=attrs | {name: bad}) == ops.EP_ERR_IMAGE, (name, bad)


def test_norm_hostile() -> None:
    """Attributes that do not fit the tensors, or make no sense, are refused."""
    attrs = {"rows": 2, "size": 3, "channels": 4, "groups": 2, "center": 1, "epsilon": 0.1, **NO_LIMITS}
    x, w = np.ones((1, 24), np.float32), np.ones(4, np.float32)
    assert ops.run("group_norm_f32", attrs, [x], [x.copy()], weights=[w, w]).rc == 0
    hostile: dict[str, Any] = dict.fromkeys(("rows", "size", "channels", "groups"), (0, -1, 3 * 2**29, 2**31 - 1))
    hostile |= {"epsilon": (-1.0, np.nan, np.inf), "lo": (np.nan,), "groups": (0, -2, 3, 8)}
    for name, values in hostile.items():
        for bad in values:
            rc = ops.run("group_norm_f32", attrs | {name: bad}, [x], [x.copy()], weights=[w, w]).rc
            assert rc == ops.EP_ERR_IMAGE, (name, bad)


# ---- Dynamic quantization ----------------------------------------------------------------------------------------------


def dynamic_graph(rows: int, weight: Array, zero: Array, scale: Array, bias: Array) -> Any:
    """DynamicQuantizeLinear, MatMulInteger, Cast, Mul, Add as onnxruntime's quantize_dynamic writes them."""
    constants = {"w": weight, "wz": zero, "ws": scale, "b": bias}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["m"]),
        helper.make_node("Mul", ["f", "m"], ["d"]),
        helper.make_node("Add", ["d", "b"], ["y"]),
    ]
    from tests.support.graphs import model

    return model(nodes, {"x": [rows, len(weight)]}, ["y"], constants)


@settings(max_examples=80, deadline=None)
@given(seed=seeds)
def test_dynamic_equals_onnxruntime(seed: int) -> None:
    """Bit for bit, at one sample: codes, sums, scales and bias; ties, constant and one-sided inputs among them."""
    rng = np.random.default_rng(seed)
    n_in, n_out, rows = int(rng.integers(1, 300)), int(rng.integers(1, 20)), int(rng.integers(1, 4))
    weight = rng.integers(-128, 128, (n_in, n_out)).astype(np.int8)
    zero = rng.integers(-128, 128, n_out if rng.integers(0, 2) else ()).astype(np.int8) * np.int8(rng.integers(0, 2))
    scale = rng.uniform(1e-3, 0.1, n_out if rng.integers(0, 2) else ()).astype(np.float32)
    bias = rng.normal(size=n_out).astype(np.float32)
    shift = float(rng.choice([0, 0, 5, -5]))
    x = (rng.normal(size=(rows, n_in)) * rng.choice([1e-3, 1, 1e4]) + shift).astype(np.float32)
    step = np.float32(rng.uniform(0.01, 1))
    ties = np.where(np.arange(x.size) % 2, rng.integers(0, 255, x.size) + 0.5, 255).reshape(x.shape).astype(np.float32)
    kinds = [x, np.zeros_like(x), np.full_like(x, 0.7), ties * step]
    x = kinds[int(rng.choice(4, p=[0.5, 0.1, 0.1, 0.3]))].astype(np.float32)
    wanted = ort.run(dynamic_graph(rows, weight, zero, scale, bias), {"x": x})["y"]
    attrs = {"n_in": n_in, "n_out": n_out, "rows": rows, **NO_LIMITS}
    y = np.empty((1, rows, n_out), np.float32)
    weights = [weight.T, bias, np.broadcast_to(scale, n_out), np.broadcast_to(zero, n_out)]
    assert ops.run("dynamic_dense_f32", attrs, [x[None]], [y], weights=weights).rc == 0
    np.testing.assert_array_equal(y[0], wanted)
    np.testing.assert_array_equal(y, reference.dynamic_dense(x[None], weights[0], bias, weights[2], weights[3], attrs))


def test_dynamic_samples_apart() -> None:
    """Every sample of a batch has a scale of its own."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3, 2, 40)) * np.array([1, 100, 0.01])[:, None, None]).astype(np.float32)
    attrs = {"n_in": 40, "n_out": 5, "rows": 2, "lo": 0.0, "hi": np.inf}
    weights = [rng.integers(-128, 128, (5, 40)).astype(np.int8), *rng.random((2, 5)).astype(np.float32)]
    weights.append(np.full(5, 3, np.int8))
    y, one = np.empty((3, 2, 5), np.float32), np.empty((1, 2, 5), np.float32)
    assert ops.run("dynamic_dense_f32", attrs, [x], [y], weights=weights).rc == 0
    for i in range(3):
        assert ops.run("dynamic_dense_f32", attrs, [x[i : i + 1]], [one], weights=weights).rc == 0
        np.testing.assert_array_equal(one[0], y[i])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45])
def test_dynamic_of_anything(bad: float) -> None:
    """Values without a code do no harm."""
    x, w = np.ones((1, 1, 40), np.float32), np.ones((5, 40), np.int8)
    x[0, 0, 3], x[0, 0, 7] = bad, -bad
    attrs = {"n_in": 40, "n_out": 5, "rows": 1, **NO_LIMITS}
    weights = [w, np.zeros(5, np.float32), np.ones(5, np.float32), np.zeros(5, np.int8)]
    assert ops.run("dynamic_dense_f32", attrs, [x], [np.empty((1, 1, 5), np.float32)], weights=weights).rc == 0


def test_dynamic_hostile() -> None:
    """Sums that could pass int32, and attributes that do not fit, are refused."""
    x, y, w = np.ones((1, 1, 40), np.float32), np.empty((1, 1, 5), np.float32), np.ones((5, 40), np.int8)
    attrs = {"n_in": 40, "n_out": 5, "rows": 1, **NO_LIMITS}
    weights = [w, np.zeros(5, np.float32), np.ones(5, np.float32), np.zeros(5, np.int8)]
    hostile: dict[str, Any] = dict.fromkeys(("n_in", "n_out", "rows"), (0, -1, 39, 2**31 - 1, -(2**31)))
    for name, values in (hostile | {"lo": (np.nan,)}).items():
        for bad in values:
            rc = ops.run("dynamic_dense_f32", attrs | {name: bad}, [x], [y], weights=weights).rc
            assert rc == ops.EP_ERR_IMAGE, (name, bad)
    for count, rc in ((32895, 0), (32896, ops.EP_ERR_IMAGE)):
        wide = attrs | {"n_in": count, "n_out": 1}
        small = [
            np.full((1, count), -128, np.int8),
            np.zeros(1, np.float32),
            np.ones(1, np.float32),
            np.zeros(1, np.int8),
        ]
        x, y = np.full((1, count), 1, np.float32), np.empty((1, 1), np.float32)
        assert ops.run("dynamic_dense_f32", wide, [x], [y], weights=small).rc == rc
        if rc == 0:
            assert y[0, 0] == np.float32(-128 * 255 * count) * np.float32(1 / np.float32(255))


def conv_attrs(**changed: Any) -> dict[str, Any]:
    attrs = dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left"), 1)
    attrs |= {"in_h": 5, "in_w": 4, "in_c": 6, "out_h": 5, "out_w": 4, "out_c": 4, "kernel_h": 3, "kernel_w": 3}
    return {**attrs, "groups": 2, **NO_LIMITS, **changed}


def test_dynamic_convolution_hostile() -> None:
    """Samples apart; attributes that do not fit, or whose sums could pass int32, are refused."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2, 5, 4, 6)) * np.array([1, 100])[:, None, None, None]).astype(np.float32)
    weights = [rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8), *rng.random((2, 4)).astype(np.float32)]
    weights.append(np.int8([3, -128, 127, 0]))

    def run(x: Array, **changed: Any) -> tuple[int, Array]:
        y = np.empty((len(x), 5, 4, 4), np.float32)
        return ops.run("dynamic_conv2d_f32", conv_attrs(**changed), [x], [y], weights=weights).rc, y

    rc, y = run(x)
    assert rc == 0
    for i in range(2):
        np.testing.assert_array_equal(run(x[i : i + 1])[1][0], y[i])
    for name in conv_attrs():
        bad = (np.nan,) if name in NO_LIMITS else (-1, 2**31 - 1, -(2**31), 2**28 + 1, 1 << 16)
        for other in (*bad, 0) if name not in (*NO_LIMITS, "pad_top", "pad_left") else bad:
            rc = run(x, **{name: other})[0]
            runs = name.startswith(("pad", "stride", "dilation")) and 0 < other <= 2**28
            assert rc == (0 if rc == 0 and runs else ops.EP_ERR_IMAGE), (name, other)
