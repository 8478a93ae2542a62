"""Networks by name: shapes, published numbers of weights, a step that helps, and the same in onnxruntime."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from edgeprop import trainer as t
from edgeprop.trainer import nets


class Known(NamedTuple):
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    weights: int  # as published or worked out, see the docstring of each
    loss: str = "softmax_cross_entropy"


KNOWN = {
    "xor": Known((2,), (1,), 9, "sigmoid_cross_entropy"),
    "mlp": Known((784,), (10,), 784 * 128 + 128 + 128 * 10 + 10),
    "lecun1989": Known((1, 16, 16), (10,), 9760 - (768 + 192) + 24),
    "lenet5": Known((1, 32, 32), (10,), 61706),
    "vgg": Known((3, 32, 32), (10,), 9220480 + 512 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10),
    "ds_cnn": Known((1, 49, 10), (12,), 23756),
    "mobilenet_v1": Known((3, 96, 96), (2,), 213586),
    "mobilenet_v2": Known((3, 96, 96), (10,), 408938),
    "resnet8": Known((3, 32, 32), (10,), 78186),
    "autoencoder": Known((640,), (640,), 267928, "mse"),
    "kws_gru": Known((25, 10), (12,), 3 * 154 * (10 + 154 + 2) + 154 * 12 + 12),
    "kws_lstm": Known((25, 10), (12,), 4 * 118 * (10 + 118 + 2) + 118 * 12 + 12),
    "tcn": Known((10, 49), (12,), (10 + 7 * 32) * 32 * 3 + 8 * 32 + 10 * 32 + 32 + 32 * 12 + 12),
}
SMALLER = {
    "mobilenet_v1": {"in_shape": (3, 48, 48)},
    "mobilenet_v2": {"in_shape": (3, 32, 32)},
    "vgg": {"width": 8, "hidden": (32,)},
}


def batch(net, known, n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *net.in_shapes[0])).astype(np.float32)
    if known.loss == "sigmoid_cross_entropy":
        return x, rng.integers(0, 2, (n, *net.out_shape))
    return (x, x) if known.loss == "mse" else (x, rng.integers(0, net.out_shape[0], n))


def test_every_net_is_known():
    assert set(nets.NETS) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_shape_and_number_of_weights(name):
    net = nets.NETS[name]()
    assert net.in_shapes == (KNOWN[name].in_shape,)
    assert net.out_shape == KNOWN[name].out_shape
    assert net.n_params == KNOWN[name].weights


@pytest.mark.parametrize("name", KNOWN)
def test_training_lowers_the_loss(name):
    net, known = nets.NETS[name](**SMALLER.get(name, {})).astype(np.float64), KNOWN[name]
    x, y = batch(net, known, 8)
    optimizer = t.SGD(1e-6)  # the loss of batch norm and few samples is a rough place
    before = t.partial_fit(net, x, y, loss=known.loss, optimizer=optimizer)
    assert t.partial_fit(net, x, y, loss=known.loss, optimizer=optimizer) < before


@pytest.mark.parametrize("name", KNOWN)
def test_onnxruntime_gives_the_same(name):
    pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    net = nets.NETS[name](**SMALLER.get(name, {}), seed=3)
    x, _ = batch(net, KNOWN[name], 3)
    session = ort.InferenceSession(net.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    y = net.predict(x)
    np.testing.assert_allclose(session.run(None, {"input": x})[0], y, rtol=1e-4, atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("name", KNOWN)
def test_seed_makes_the_weights(name):
    a, b, c = (nets.NETS[name](**SMALLER.get(name, {}), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert any(not np.array_equal(a[key], c[key]) for key in a)


def numbers(net):
    """Weights and running statistics, as Keras counts them."""
    return sum(value.size for value in net.state_dict().values())


def test_numbers_of_mlperf_tiny():
    assert numbers(nets.ds_cnn()) == 24908
    assert numbers(nets.resnet8()) == 78666
    assert numbers(nets.autoencoder()) == 269992
    for net, folded in ((nets.ds_cnn, 22604), (nets.resnet8, 77706), (nets.autoencoder, 265864)):
        assert net(batch_norm=False).n_params == folded


def test_numbers_of_full_width():
    assert nets.mobilenet_v1(1000, (3, 32, 32), alpha=1.0).n_params == 4231976
    assert numbers(nets.mobilenet_v1()) == 221794 - 2736  # MLPerf Tiny's has biases before its batch norms
    assert nets.mobilenet_v2(1000, (3, 32, 32), alpha=1.0).n_params == 3504872


@pytest.mark.parametrize(("depth", "weights"), [(11, 9220480), (13, 9404992), (16, 14714688), (19, 20024384)])
def test_numbers_of_published_vggs(depth, weights):
    """Their convolutions; a quarter of the width has about a sixteenth of the weights."""
    net = nets.vgg(depth, width=16, hidden=(8, 8))
    convolutions = [layer for layer in net.leaves() if isinstance(layer, t.Conv2D)]
    assert len(convolutions) == depth - 3
    full = sum(
        9 * (3 if place == 0 else 4 * c.in_shapes[0][0]) * 4 * c.filters + 4 * c.filters
        for place, c in enumerate(convolutions)
    )
    assert full == weights


def test_vggs_of_any_depth():
    for depth in range(4, 26):
        assert sum(nets.vgg_plan(depth - 3)) == depth - 3
        assert nets.vgg_plan(depth - 3) == sorted(nets.vgg_plan(depth - 3))
    for depth in (4, 7, 22):
        net = nets.vgg(depth, (1, 8, 8), width=2, hidden=(4, 4), batch_norm=True, dropout=0.5)
        assert sum(isinstance(layer, (t.Conv2D, t.Dense)) for layer in net.leaves()) == depth
    with pytest.raises(ValueError, match="depth"):
        nets.vgg(3)


def test_benchmarks_time_these():
    models = pytest.importorskip("benchmarks.models")
    for name, builder in models.BUILDERS.items():
        net = builder()
        assert {"ad": 265864, "ds_cnn": 22604, "vww": 210850, "resnet8": 77706}[name] == net.n_params


def test_ten_of_seventeen_bottlenecks_have_a_way_around():
    net = nets.mobilenet_v2(in_shape=(3, 32, 32))
    assert [len([b for b in net if isinstance(b, kind)]) for kind in (t.Residual, t.Sequential)] == [10, 7]


def test_two_hidden_units_learn_xor():
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    y = np.array([[0], [1], [1], [0]])
    net = nets.xor(seed=1)
    t.fit(net, x, y, loss="sigmoid_cross_entropy", optimizer=t.Adam(0.1), epochs=300, batch_size=4)
    assert ((net.predict(x) > 0) == y).all()


def test_tcn_does_not_look_ahead():
    """Each step of the last block depends on so many steps before it, and on none after it."""
    net = nets.tcn(3, (2, 40), channels=(4, 4, 4))
    body = t.Sequential(*(layer for layer in net if layer.name not in ("last", "head") and layer.kind != "flatten"))
    body.build((2, 40))
    x = np.random.default_rng(0).normal(size=(1, 2, 40)).astype(np.float32)
    other = x.copy()
    other[:, :, 20] += 10
    changed = np.flatnonzero((body.predict(x) != body.predict(other)).any(axis=(0, 1)))
    assert changed[0] == 20
    assert changed[-1] <= 20 + 2 * 2 * (2**3 - 1)


def test_maps_of_1989_leave_out_a_group_each():
    net = nets.lecun1989()
    x = np.random.default_rng(0).normal(size=(1, 1, 16, 16)).astype(np.float32)
    values = {}
    for group in "abc":
        for layer in ("h1", "h2"):
            values[layer + group] = net[layer + group]
    before = net.predict(x)
    assert all(layer.params["weight"].shape == (4, 8, 5, 5) for name, layer in values.items() if name[:2] == "h2")
    for group in "abc":
        values["h2" + group].params["weight"][...] = 0
        assert not np.array_equal(before, net.predict(x))


@pytest.mark.parametrize("name", ["kws_gru", "kws_lstm"])
def test_frames_one_by_one(name):
    whole, frame = nets.NETS[name](), nets.NETS[name](in_shape=(1, 10), stateful=True)
    frame.load_state_dict(whole.state_dict())
    x = np.random.default_rng(0).normal(size=(2, 25, 10)).astype(np.float32)
    for step in range(25):
        y = frame.predict(x[:, step : step + 1])
    np.testing.assert_allclose(y, whole.predict(x), rtol=1e-4, atol=1e-5)
