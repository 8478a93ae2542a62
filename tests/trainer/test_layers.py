"""Layers against loops, and the conventions that the C runtime shares."""

from __future__ import annotations

import ast
import itertools
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprop import trainer as t
from edgeprop.trainer.layers import toeplitz, windows


def naive_windows(x, kernel, stride, pads, fill):
    """Yield (n, c, i, j, window) with plain loops; x (N, C, H, W)."""
    (kh, kw), (sh, sw), (top, left, bottom, right) = kernel, stride, pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    n, c, h, w = padded.shape
    for place in itertools.product(range(n), range(c), range((h - kh) // sh + 1), range((w - kw) // sw + 1)):
        a, b, i, j = place
        yield place, padded[a, b, i * sh : i * sh + kh, j * sw : j * sw + kw]


@contextmanager
def in_blocks(block, widest):
    """Make layers cut their work into pieces of so many elements, and depthwise matrices so many windows wide."""
    with patch.object(windows, "BLOCK", block), patch.object(toeplitz, "WIDEST", widest):
        yield


@st.composite
def window_settings(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    size = tuple(draw(st.integers(max(1, k - pads[a] - pads[a + 2]), 7)) for a, k in enumerate(kernel))
    return kernel, stride, pads, size, draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 2**31))


def as_in_network(x, how):
    """The same values in one of the memory orders that occur: NCHW, or batch innermost."""
    return x if how % 2 else np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)


@settings(max_examples=80, deadline=None)
@given(window_settings(), st.integers(1, 3), st.sampled_from([1, 40, windows.BLOCK]), st.integers(1, 8))
def test_convolutions_equal_loops(setting, filters, block, widest):
    with in_blocks(block, widest):
        check_convolutions(*setting, filters)


def check_convolutions(kernel, stride, pads, size, n, c, seed, filters):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, c, *size))
    conv = t.Sequential(t.Conv2D(filters, kernel, stride=stride, padding=pads, name="c")).astype(np.float64)
    depth = t.Sequential(t.DepthwiseConv2D(kernel, multiplier=filters, stride=stride, padding=pads, name="c"))
    depth = depth.astype(np.float64)
    for net in (conv, depth):
        net.build((c, *size), seed=seed)
        net["c"].params["bias"][...] = rng.normal(size=net["c"].params["bias"].shape)
    conv_y = np.zeros((n, *conv.out_shape)) + conv["c"].params["bias"][:, None, None]
    depth_y = np.zeros((n, *depth.out_shape)) + depth["c"].params["bias"][:, None, None]
    for (a, b, i, j), window in naive_windows(x, kernel, stride, pads, 0):
        for f in range(filters):
            conv_y[a, f, i, j] += np.sum(window * conv["c"].params["weight"][f, b])
            depth_y[a, b * filters + f, i, j] += np.sum(window * depth["c"].params["weight"][b * filters + f, 0])
    np.testing.assert_allclose(conv.forward(as_in_network(x, seed)), conv_y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(depth.forward(as_in_network(x, seed)), depth_y, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(window_settings(), st.booleans())
def test_pools_equal_loops_forward_and_back(setting, count):
    kernel, stride, pads, size, n, c, seed = setting
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (n, c, *size)).astype(np.float64)  # few values: many ties
    top = t.Sequential(t.MaxPool2D(kernel, stride=stride, padding=pads)).astype(np.float64)
    mean = t.Sequential(t.AveragePool2D(kernel, stride=stride, padding=pads, count_include_pad=count))
    top_y = top.forward(as_in_network(x, seed), training=True)
    mean_y = mean.astype(np.float64).forward(as_in_network(x, seed), training=True)
    dy = rng.normal(size=top_y.shape)
    whole = np.pad(np.zeros_like(x), ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    dtop, dmean = whole.copy(), whole.copy()
    views = naive_windows(dtop, kernel, stride, (0, 0, 0, 0), 0), naive_windows(dmean, kernel, stride, (0, 0, 0, 0), 0)
    for (place, w), (_, _), (_, _) in zip(naive_windows(x, kernel, stride, pads, np.nan), *views, strict=True):
        a, b, i, j = place
        rows, columns = slice(i * stride[0], i * stride[0] + kernel[0]), slice(j * stride[1], j * stride[1] + kernel[1])
        real = ~np.isnan(w)
        assert top_y[place] == np.nanmax(w)
        first = np.argwhere(w == np.nanmax(w))[0]  # row-major: the first maximum takes it all
        dtop[a, b, rows, columns][tuple(first)] += dy[place]
        share = w.size if count else real.sum()
        assert mean_y[place] == pytest.approx(np.nansum(w) / share)
        dmean[a, b, rows, columns] += dy[place] / share
    inside = np.s_[:, :, pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]
    np.testing.assert_allclose(top.backward(dy), dtop[inside], atol=1e-12)
    np.testing.assert_allclose(mean.backward(dy), dmean[inside], atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "x", "dx"),
    [
        (t.ReLU, [-1, 0, 1, 7], [0, 0, 1, 1]),
        (t.ReLU6, [-1, 0, 1, 5.9, 6, 7], [0, 0, 1, 1, 0, 0]),
        (lambda: t.LeakyReLU(0.25), [-1, 0, 1], [0.25, 0.25, 1]),
    ],
)
def test_gradient_on_a_kink(layer, x, dx):
    net = t.Sequential(layer())
    net.forward([x], training=True)
    assert net.backward(np.ones((1, len(x)))).tolist() == [dx]


def test_sigmoid_is_exact_at_both_ends():
    x = np.array([[-104, -88, -20, 0, 20, 104]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        y = t.Sequential(t.Sigmoid()).predict(x)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(y, exact, rtol=2e-6, atol=1e-45)
    assert y.dtype == np.float32


def test_flatten_goes_channel_by_channel_row_by_row():
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    for how in (0, 1):
        assert np.array_equal(t.Sequential("flatten").forward(as_in_network(x, how)), x.reshape(2, -1))


def test_dropout_keeps_the_mean_and_drops_its_share():
    net = t.Sequential(t.Dropout(0.3))
    x = np.ones((200, 500), np.float32)
    y = net.forward(x, training=True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert np.mean(y == 0) == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.015)
    assert np.array_equal(net.backward(x), y)  # the same mask both ways
    assert not np.array_equal(net.forward(x, training=True), y)
    assert np.array_equal(net.predict(x), x)
    net.reseed(5)
    first = net.forward(x, training=True)
    net.reseed(5)
    assert np.array_equal(net.forward(x, training=True), first)


def test_batch_norm_normalises_and_tracks():
    rng = np.random.default_rng(0)
    net = t.Sequential(t.BatchNorm(name="bn")).astype(np.float64)
    x = rng.normal([3, -1], [2, 0.5], (40, 2))
    y = net.forward(x, training=True)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=0), x.var(axis=0) / (x.var(axis=0) + 1e-5), rtol=1e-9)
    buffers = net["bn"].buffers
    np.testing.assert_allclose(buffers["running_mean"], 0.1 * x.mean(axis=0))
    np.testing.assert_allclose(buffers["running_var"], 0.9 + 0.1 * x.var(axis=0, ddof=1))
    for _ in range(200):
        net.forward(x, training=True)
    expected = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + 1e-5)
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="more than one value"):
        net.forward(x[:1], training=True)


def test_initial_weights_have_the_variance_of_their_name():
    for name, fans in {"he": 2 / 300, "glorot": 2 / 500}.items():
        for shape in ("normal", "uniform"):
            net = t.Sequential(t.Dense(200, init=f"{name}_{shape}", name="d"))
            net.build(300, seed=1)
            weight = net["d"].params["weight"]
            assert weight.var() == pytest.approx(fans, rel=0.03)
            assert (np.abs(weight).max() <= np.sqrt(3 * fans) * 1.001) == (shape == "uniform")
    conv = t.Sequential(t.Conv2D(64, 5, name="c"))
    conv.build((8, 9, 9))
    assert conv["c"].params["weight"].var() == pytest.approx(2 / (8 * 25), rel=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_changes_the_number_format(case, dtype):
    net = case.net(dtype=dtype)
    scores = net.forward(case.x(), training=True)
    dx = net.backward(np.ones_like(scores))
    assert scores.dtype == dx.dtype == dtype
    assert dx.shape == case.x().shape
    assert all(p.value.dtype == p.grad.dtype == dtype for p in net.parameters())
    for layer in net.leaves():
        layer._saved = None
    np.testing.assert_allclose(net.predict(case.x()), net.predict(case.x(), batch_size=1), rtol=1e-4, atol=1e-5)


def test_layers_do_not_write_into_their_arguments(case):
    net = case.net()
    x, dy = case.x().astype(np.float32), np.ones((4, 3), np.float32)
    x.flags.writeable = dy.flags.writeable = False
    net.forward(x, training=True)
    first = net.backward(dy)
    assert np.array_equal(first, net.backward(dy))


@pytest.mark.parametrize("taps", [4, 126, 127, 128, 129, 255, 256, 257, 300])
@pytest.mark.parametrize("stride", [1, None])
def test_pools_of_many_taps(taps, stride):
    """Which tap won is kept in a byte where that is enough: of these it wins for every tap in turn, the last as well."""
    x = np.zeros((taps, 1, 1, taps + 3))
    x[np.arange(taps), 0, 0, np.arange(taps)] = 1
    pool = t.MaxPool2D((1, taps), stride=stride)
    pool.build(x.shape[1:], rng=np.random.default_rng(0), dtype=np.float64)
    y = pool.forward(x, training=True)
    assert y.shape == (taps, 1, 1, 4 if stride else 1)
    dx = pool.backward(np.concatenate([np.full((taps, 1, 1, 1), 3.0), np.zeros((*y.shape[:3], y.shape[3] - 1))], 3))
    np.testing.assert_array_equal(y[..., 0], 1)
    np.testing.assert_array_equal(dx, 3 * x)


def test_all_layers_are_listed_for_type_checkers() -> None:
    """Lists are written out; what the table has and they lack would be no attribute to mypy."""
    named = {layer.__name__ for layer in t.layers.LAYERS.values()}
    assert set(t.layers.__all__) == named | {"LAYERS", "Layer", "prune"}
    assert set(t.layers.__all__) <= set(t.__all__)


def test_lists_of_layers_are_such_as_type_checkers_read() -> None:
    """Plain strings, and `import *` of every module: mypy takes nothing else, and says that there is no such layer."""
    folder = Path(t.layers.__file__).parent
    modules = {layer.__module__.rsplit(".", 1)[1] for layer in t.LAYERS.values()}
    for module in modules:
        tree = ast.parse((folder / f"{module}.py").read_text("utf-8"))
        (names,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and is_all(node.targets[0]))
        assert ast.literal_eval(names) == sys.modules[f"edgeprop.trainer.layers.{module}"].__all__
    own = ast.parse((folder / "__init__.py").read_text("utf-8"))
    starred = {node.module for node in own.body if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"}
    assert starred == modules | {"base"}
    assert not any(isinstance(node, ast.Assign) and is_all(node.targets[0]) for node in own.body)


def is_all(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__all__"


def test_every_layer_of_the_folder_is_registered_once() -> None:
    folder = Path(t.layers.__file__).parent
    written = {path.stem: path.read_text("utf-8").count("\n@register(") for path in folder.glob("*.py")}
    registered = Counter(layer.__module__.rsplit(".", 1)[1] for layer in t.LAYERS.values())
    assert {stem: count for stem, count in written.items() if count} == registered
    assert all(layer.kind == kind for kind, layer in t.LAYERS.items())


@pytest.mark.parametrize("old_way", [False, True])
def test_a_layer_of_one_s_own(old_way: bool) -> None:
    """It says its mathematics; or defines forward and backward itself, and keeps what it needs."""

    class Square(t.Layer):
        kind = "square"

        def compute(self, x):
            return x * x, x

        def dx(self, dy, x):
            return 2 * x * dy

        def to_onnx(self, graph, *inputs):
            return graph.node("Mul", self, [*inputs, *inputs])

    class OldSquare(Square):
        def forward(self, x, training=False):
            if training:
                self._saved = x
            return x * x

        def backward(self, dy):
            return 2 * self._recall() * dy if self.need_dx else None

    layer = OldSquare() if old_way else Square()
    net = t.Sequential(t.Dense(3), layer, t.Dense(2))
    assert t.check_gradients(net, np.random.default_rng(0).normal(size=(4, 2)), [0, 1, 0, 1]).error < 1e-6
    net.build((2,))
    assert [node.name for node in net.to_onnx().graph.node] == ["dense_1", "square_1", "dense_2"]
    np.testing.assert_array_equal(layer.forward(np.array([3.0]), True), [9])
    np.testing.assert_array_equal(layer.backward(np.array([1.0])), [6])
    assert layer.name not in t.LAYERS


def test_backward_gives_only_what_is_wanted() -> None:
    class Scaled(t.Layer):
        """weight * a * b, with its two inputs."""

        def setup(self, *in_shapes):
            self.add_param("weight", (), "ones")
            return in_shapes[0]

        def compute(self, a, b):
            return self.params["weight"] * a * b, a, b

        def dparams(self, dy, a, b):
            self.grads["weight"][...] = np.sum(dy * a * b)

        def dx(self, dy, a, b):
            return dy * b * self.params["weight"], dy * a * self.params["weight"]

    layer, a, b = Scaled(), np.array([[2.0]]), np.array([[5.0]])
    layer.build((1,), (1,), rng=np.random.default_rng(0), dtype=np.float64)
    with pytest.raises(RuntimeError, match=r"needs a forward\(x, training=True\)"):
        layer.backward(np.ones((1, 1)))
    for layer.need_dx, layer.trainable in ((True, True), (True, False), (False, True), (False, False)):
        layer.clear_gradients()
        layer.forward(a, b, training=True)
        kept = layer._saved
        assert kept == ((a, b) if layer.need_dx or layer.trainable else ())
        da, db = layer.backward(np.ones((1, 1)))
        assert (da, db) == ((5, 2) if layer.need_dx else (None, None))
        assert layer.grads["weight"] == (10 if layer.trainable else 0)


@pytest.mark.parametrize("name", ["dense", "conv2d", "depthwise_conv2d", "conv_transpose2d", "time_dense", "embedding"])
def test_a_frozen_layer_keeps_nothing_where_dx_needs_nothing(name: str) -> None:
    settings = {"depthwise_conv2d": (3,), "dense": (2,), "time_dense": (2,)}.get(name, (4, 3))
    shape = {"dense": (4,), "time_dense": (3, 4), "embedding": (2,)}.get(name, (2, 5, 5))
    layer = t.LAYERS[name](*settings)
    layer.build(shape, rng=np.random.default_rng(0))
    layer.trainable = False
    y = layer.forward(np.ones((1, *shape), np.float32), training=True)
    assert layer._saved == ()
    assert layer.backward(np.ones_like(y)).shape == (1, *shape)
