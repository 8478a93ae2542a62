"""What layers promise beyond a right gradient: against loops, on kinks and ties, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeprop import trainer as t
from edgeprop.trainer.layers.elementwise import erf
from tests.trainer.conftest import normal


def built(layer: t.Layer, *shape: int) -> t.Sequential:
    net = t.Sequential(layer).astype(np.float64)
    net.build(shape, seed=1)
    for p in net.parameters():
        p.value[...] = np.random.default_rng(2).normal(size=p.value.shape)
    return net


def test_dilated_windows_equal_those_of_filters_with_zeros_between():
    x = normal(2, 2, 9, 8)
    for kind, first in ((t.Conv2D, [3]), (t.DepthwiseConv2D, [])):
        thin = built(kind(*first, (3, 2), dilation=(2, 3), stride=(1, 2), name="c"), 2, 9, 8)
        wide = built(kind(*first, (5, 4), stride=(1, 2), name="c"), 2, 9, 8)
        wide["c"].params["weight"][...] = 0
        wide["c"].params["weight"][..., ::2, ::3] = thin["c"].params["weight"]
        wide["c"].params["bias"][...] = thin["c"].params["bias"]
        y = thin.forward(x, training=True)
        np.testing.assert_allclose(y, wide.forward(x, training=True), rtol=1e-12)
        np.testing.assert_allclose(thin.backward(y), wide.backward(y), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(thin["c"].grads["weight"], wide["c"].grads["weight"][..., ::2, ::3], rtol=1e-10)


def test_a_grouped_convolution_is_one_per_group():
    x = normal(2, 4, 5, 5)
    whole = built(t.Conv2D(6, 3, groups=2, name="c"), 4, 5, 5)
    part = built(t.Conv2D(3, 3, name="c"), 2, 5, 5)
    for group in range(2):
        for key, value in part["c"].params.items():
            value[...] = whole["c"].params[key][3 * group : 3 * group + 3]
        y = part.predict(x[:, 2 * group : 2 * group + 2])
        np.testing.assert_allclose(whole.predict(x)[:, 3 * group : 3 * group + 3], y, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (5, 6)),
        ({"stride": (2, 3), "padding": (1, 0, 0, 2)}, (7, 8)),
        ({"dilation": 2, "padding": 1, "groups": 2}, (6, 7)),
        ({"stride": 2, "padding": "same"}, (6, 8)),
    ],
)
def test_a_transposed_convolution_is_the_gradient_of_one(settings, size):
    conv = built(t.Conv2D(4, (3, 2), bias=False, name="c", **settings), 2, *size)
    y = normal(2, *conv.out_shape)
    over = [full - ((n - 1) * s + e) for full, n, s, e in zip(*lengths(conv["c"]), strict=True)]
    back = built(t.ConvTranspose2D(2, (3, 2), bias=False, name="c", output_padding=over, **settings), *conv.out_shape)
    assert back.out_shape == conv.in_shapes[0]
    back["c"].params["weight"][...] = conv["c"].params["weight"]
    conv.forward(np.zeros((2, 2, *size)), training=True)
    np.testing.assert_allclose(back.predict(y), conv.backward(y), rtol=1e-10, atol=1e-12)


def lengths(conv):
    """Padded size, number of windows, stride and window size per axis."""
    top, left, bottom, right = conv.windows.pads
    h, w = conv.in_shapes[0][1:]
    return (h + top + bottom, w + left + right), conv.windows.out, conv.stride, conv.windows.extent


def test_lines_are_images_of_one_row():
    x = normal(3, 4, 9)
    line = built(t.Conv1D(6, 3, stride=2, padding=(1, 0), dilation=2, groups=2, name="c"), 4, 9)
    image = built(
        t.Conv2D(6, (1, 3), stride=(1, 2), padding=(0, 1, 0, 0), dilation=(1, 2), groups=2, name="c"), 4, 1, 9
    )
    assert line["c"].params["weight"].shape == (6, 2, 3)
    image["c"].params["weight"][...] = line["c"].params["weight"][:, :, None]
    image["c"].params["bias"][...] = line["c"].params["bias"]
    assert np.array_equal(line.predict(x), image.predict(x[:, :, None])[:, :, 0])


@pytest.mark.parametrize(
    ("layer", "x", "dx"),
    [
        (lambda: t.Clip(-1, 2), [-2, -1, 0, 2, 3], [0, 0, 1, 0, 0]),
        (lambda: t.HardSigmoid(0.5, 0.5), [-2, -1, 0, 1, 2], [0, 0, 0.5, 0, 0]),
        (t.HardSwish, [-4, -3, 0, 3, 4], [0, 0, 0.5, 1, 1]),
        (lambda: t.PReLU(0.25), [-1, 0, 1], [0.25, 0.25, 1]),
        (lambda: t.ELU(0.5), [0, 1], [0.5, 1]),
        (lambda: t.Sequential(t.Reshape(1, -1), t.GlobalMaxPool()), [1, 3, 3], [0, 1, 0]),
        (lambda: t.Sequential(t.Reshape(1, -1), t.ReduceMax(2)), [1, 3, 3], [0, 0.5, 0.5]),
    ],
)
def test_gradient_on_a_kink(layer, x, dx):
    net = t.Sequential(layer())
    y = net.forward([x], training=True)
    assert net.backward(np.ones_like(y)).tolist() == [dx]


@pytest.mark.parametrize("kind", [t.Minimum, t.Maximum])
def test_of_equals_the_first_gets_the_gradient(kind):
    net = t.Graph(["a", "b"], {"y": (kind(), "a", "b")})
    assert net.forward([1, 2], [1, 2], training=True).tolist() == [1, 2]
    assert [d.tolist() for d in net.backward([1, 1])] == [[1, 1], [0, 0]]


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 4e-15), (np.float32, 5e-7)])
def test_erf(dtype, error):
    x = np.r_[np.linspace(-7, 7, 2001), 0, 1e-9, -1e30].astype(dtype)
    y = erf(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, [math.erf(v) for v in x], rtol=0, atol=error)


@pytest.mark.parametrize(
    "layer", [t.Softplus, t.SiLU, t.GELU, lambda: t.GELU("tanh"), t.Softmax, t.LogSoftmax, t.SELU, t.HardSwish]
)
def test_large_inputs_do_not_overflow(layer):
    net = t.Sequential(layer())
    with np.errstate(all="raise", under="ignore"):
        y = net.forward(np.array([[-1e4, -90, 0, 90, 1e4]], np.float32), training=True)
        assert np.isfinite(y).all()
        assert np.isfinite(net.backward(np.ones_like(y))).all()


@pytest.mark.parametrize(
    ("layer", "axes"),
    [(t.LayerNorm(1), (1, 2, 3)), (t.LayerNorm(-1), 3), (t.InstanceNorm(), (2, 3)), (t.GroupNorm(1), (1, 2, 3))],
)
def test_norms_normalise_what_they_say(layer, axes):
    net = t.Sequential(layer).astype(np.float64)
    y = net.predict(5 + 3 * normal(2, 4, 5, 6))
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=axes), 1, rtol=1e-4)


def test_groups_are_neighbouring_channels():
    y = t.Sequential(t.GroupNorm(2)).astype(np.float64).predict(normal(2, 4, 3, 3)).reshape(2, 2, -1)
    np.testing.assert_allclose(y.mean(axis=2), 0, atol=1e-12)


def test_pads_and_enlarged_images_equal_numpy():
    x = normal(2, 2, 3, 4)
    for mode in ("edge", "reflect"):
        pads = ((0, 0), (2, 1), (0, 3))
        assert np.allclose(t.Sequential(t.Pad(pads, mode)).astype(float).predict(x), np.pad(x, ((0, 0), *pads), mode))
    larger = t.Sequential(t.Resize((2, 3))).astype(np.float64).predict(x)
    assert np.array_equal(larger, x.repeat(2, 2).repeat(3, 3))


# Embedding


def test_rows_that_come_twice_get_both_gradients():
    net = t.Sequential(t.Embedding(4, 2, name="e"))
    y = net.forward([[1, 3, 1]], training=True)
    assert np.array_equal(y[0, 0], net["e"].params["weight"][1])
    net.backward(np.array([[[1, 2], [3, 4], [5, 6]]]))
    assert net["e"].grads["weight"].tolist() == [[0, 0], [6, 8], [0, 0], [3, 4]]
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=r"'e'.*rows 0 to 3"):
            net.predict([[wrong, 0, 0]])


# Pruning


def test_what_is_pruned_stays_zero_through_training_and_in_the_saved_model():
    pytest.importorskip("onnx")
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(int)
    net = t.Sequential(t.SparseDense(16, name="s"), "relu", t.Dense(2))
    optimizer = t.Adam(0.01)
    t.fit(net, x, y, epochs=3, optimizer=optimizer)
    size = np.abs(net["s"].params["weight"]).copy()
    assert t.prune(net["s"], 0.75) == 32
    mask = net["s"].buffers["mask"]
    assert size[mask == 1].min() >= size[mask == 0].max()
    pruned = t.evaluate(net, x, y).loss
    t.fit(net, x, y, epochs=10, optimizer=optimizer)  # the optimizer's momentum is that from before
    assert t.evaluate(net, x, y).loss < pruned
    gemm = {i.name: i for i in net.to_onnx().graph.initializer}["s.weight"]
    saved = np.frombuffer(gemm.raw_data, np.float32).reshape(16, 8)
    assert np.array_equal(saved != 0, mask == 1)
    assert t.prune(net["s"], 0.9) == 128 - round(0.9 * 128)
    assert not np.any(net["s"].buffers["mask"] > mask)  # nothing comes back
    assert t.prune(net["s"], 0.5) == 128 - round(0.9 * 128)


def test_pruning_needs_a_mask():
    with pytest.raises(ValueError, match="built"):
        t.prune(t.SparseDense(3), 0.5)
    net = built(t.SparseDense(3, name="s"), 4)
    with pytest.raises(ValueError, match="sparsity"):
        t.prune(net["s"], 1.0)


# Nonsense


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.Conv2D(2, 3, groups=0), "groups"),
        (lambda: t.Conv2D(2, 3, dilation=0), "dilation"),
        (lambda: t.Conv1D(2, (3, 3)), "kernel"),
        (lambda: t.Conv1D(2, 3, padding=(1, 2, 3, 4)), "left, right"),
        (lambda: t.ConvTranspose2D(2, 3, stride=2, output_padding=2), "less than the stride"),
        (lambda: t.Clip(1, 1), "below"),
        (lambda: t.GELU("erf"), "Known: none, tanh"),
        (lambda: t.Reshape(2, -1, -1), "one of them"),
        (lambda: t.Reshape(0), "integers"),
        (lambda: t.Transpose(1, 0), "first"),
        (lambda: t.Slice(0, 2, step=0), "step"),
        (lambda: t.Pad(((1,),)), "pair"),
        (lambda: t.Pad(((1, 1),), "wrap"), "mode"),
        (lambda: t.Resize(1.5), "scale"),
        (lambda: t.Resize(2, "cubic"), "mode"),
        (lambda: t.ReduceSum(), "at least one axis"),
        (lambda: t.Embedding(0, 3), "rows"),
        (lambda: t.ELU(0), "alpha"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (lambda: t.Conv2D(4, 3, groups=2), (3, 5, 5), "multiples of groups=2"),
        (lambda: t.Conv2D(4, 3, dilation=3), (1, 5, 5), "7x7 window does not fit"),
        (lambda: t.Conv1D(4, 3), (1, 5, 5), "lines"),
        (lambda: t.ConvTranspose2D(1, 1, padding=2), (1, 4, 4), "cut off all"),
        (lambda: t.ConvTranspose2D(1, 2, stride=3, padding="same"), (1, 4, 4), "gaps"),
        (lambda: t.ConvTranspose2D(1, 2), (4,), "images"),
        (lambda: t.GroupNorm(3), (4, 2, 2), "divisor"),
        (lambda: t.GroupNorm(2), (4,), "images"),
        (lambda: t.LayerNorm(0), (4,), "axis=0"),
        (lambda: t.Softmax(2), (4,), "axis=2"),
        (lambda: t.Softmax(True), (4,), "axis=True"),
        (lambda: t.Reshape(3, -1), (4, 2), "8 elements"),
        (lambda: t.Squeeze(1), (4, 2), "not of length 1"),
        (lambda: t.Transpose(0, 2, 1), (4,), "axes"),
        (lambda: t.Slice(4), (4, 2), "nothing lies"),
        (lambda: t.Pad(((1, 1),)), (4, 2), "one per axis"),
        (lambda: t.Pad(((4, 0),), "reflect"), (4,), "mirror"),
        (lambda: t.Resize((2, 2)), (4, 2), "one per axis"),
        (lambda: t.Resize(), (4,), "images"),
        (lambda: t.MatMul(), (4, 2), "two inputs"),
        (lambda: t.Residual(t.Conv2D(2, 3), merge=t.Concat()), (1, 4, 4), "differ along axis 1 alone"),
        (lambda: t.Residual(t.Reshape(2, 3), merge=t.MatMul()), (2, 2), "6 elements|4 elements"),
    ],
)
def test_shapes_that_do_not_fit(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        t.Sequential(layer()).build(shape)
