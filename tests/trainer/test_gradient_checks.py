"""Backward against finite differences, for every layer under every loss; and the checker itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from edgeprop import trainer as t
from edgeprop.trainer.layers import toeplitz, windows


def test_cases_cover_every_layer():
    from tests.trainer.conftest import CASES

    seen = {layer.kind for case in CASES for layer in case.net().leaves()}
    assert seen == set(t.LAYERS)


@pytest.mark.parametrize("loss", sorted(set(t.LOSSES) - {"huber", "triplet", "contrastive"}))
def test_every_layer_under_every_loss(case, loss, make_targets):
    net = case.net(dtype=np.float64)
    report = t.check_gradients(net, case.x(3), make_targets(loss, 3, 3), loss)
    assert report.error < 1e-5
    names = {p.name for p in net.parameters()} | {"x"}
    assert {check.name for check in report.tensors} == names
    assert all(check.checked > 0 for check in report.tensors)


@pytest.mark.parametrize("widest", [1, 2, 3])
@pytest.mark.parametrize(
    "layer", [t.Conv2D(2, 3, padding=1), t.DepthwiseConv2D((2, 3), multiplier=2, stride=2, padding=1)]
)
def test_convolutions_that_work_in_blocks(layer, widest, monkeypatch):
    monkeypatch.setattr(windows, "BLOCK", 1)
    monkeypatch.setattr(toeplitz, "WIDEST", widest)
    net = t.Sequential(t.Conv2D(2, 1), copy.deepcopy(layer), t.Flatten(), t.Dense(2))
    assert t.check_gradients(net, np.random.default_rng(0).normal(size=(2, 1, 5, 11)), [0, 1]).error < 1e-5


def test_probability_targets():
    net = t.Sequential(t.Dense(4))
    p = np.random.default_rng(0).dirichlet(np.ones(4), 5)
    assert t.check_gradients(net, np.random.default_rng(1).normal(size=(5, 3)), p).error < 1e-6


def test_frozen_batch_norm_is_a_straight_line():
    net = t.Sequential(t.Dense(4), t.BatchNorm(name="bn"), t.Tanh(), t.Dense(2))
    net.build(3, seed=1)
    net["bn"].buffers["running_var"][...] = [0.5, 2, 3, 4]
    net["bn"].trainable = False
    before = net.state_dict()
    report = t.check_gradients(net, np.random.default_rng(1).normal(size=(5, 3)), [0, 1, 0, 1, 0])
    assert not any(check.name.startswith("bn") for check in report.tensors)
    net.forward(np.ones((4, 3)), training=True)
    assert np.array_equal(before["bn.running_mean"], net["bn"].buffers["running_mean"])


class WrongScale(t.Layer):
    """y = 2 x with the gradient of 2.001 x."""

    kind = "wrong_scale"

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2.001 * dy


def test_checker_finds_an_error_of_one_in_two_thousand_and_shows_both_numbers():
    net = t.Sequential(t.Dense(3, name="first"), WrongScale(), t.Dense(2, name="last"))
    x, y = np.random.default_rng(0).normal(size=(4, 3)), [0, 1, 1, 0]
    with pytest.raises(t.GradientError, match=r"(?s)first\.weight.*analytic.*numeric"):
        t.check_gradients(net, x, y)
    report = t.check_gradients(net, x, y, raise_on_failure=False)
    errors = {check.name: check.error for check in report.tensors}
    assert errors["last.weight"] < 1e-6
    assert errors["first.weight"] == pytest.approx(0.0005, rel=0.1)


def test_checker_leaves_network_and_data_alone():
    net = t.Sequential(t.Dense(3), t.BatchNorm(), t.Dropout(0.5), t.Dense(2))
    net.build(4, seed=2)
    x = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    kept, state, clone = x.copy(), net.state_dict(), copy.deepcopy(net)
    t.check_gradients(net, x, [0, 1, 1, 0])
    assert np.array_equal(kept, x)
    assert net.dtype == np.float32
    assert all(np.array_equal(state[k], v) and v.dtype == np.float32 for k, v in net.state_dict().items())
    assert np.array_equal(net.forward(x, training=True), clone.forward(x, training=True))  # same dropout masks
    x = x.astype(np.float64)  # no conversion makes a copy now
    x.flags.writeable = False
    unbuilt = t.Sequential(t.Dense(2))
    t.check_gradients(unbuilt, x, [0, 1, 1, 0])
    assert not unbuilt.built


def test_kinks_are_stepped_around_or_skipped():
    net = t.Sequential(t.ReLU(), t.Dense(2))
    x = np.array([[1.0, 0.0, -1.0], [3e-8, 2.0, -3e-8]])  # one on the kink, two within eps of it
    report = t.check_gradients(net, x, [0, 1])
    check = report.tensors[-1]
    assert (check.checked, check.skipped) == (5, 1)
    assert np.isnan(check.numeric[0, 1])
    with pytest.raises(t.GradientError, match="kink"):
        t.check_gradients(net, np.zeros((2, 3)), [0, 1])


def test_one_backward_does_the_work_of_two_forwards_per_number(monkeypatch, capsys):
    """What backpropagation is for: all gradients from one pass instead of two passes for each."""
    calls = {"forward": 0, "backward": 0}
    for name in calls:
        original = getattr(t.Dense, name)

        def counting(self, *args, _original=original, _name=name, **kwargs):
            calls[_name] += 1
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(t.Dense, name, counting)
    net = t.Sequential(t.Dense(16), t.Tanh(), t.Dense(3))
    x = np.random.default_rng(0).normal(size=(8, 10))
    report = t.check_gradients(net, x, np.arange(8) % 3)
    numbers = 10 * 16 + 16 + 16 * 3 + 3 + x.size
    assert 2 * numbers <= report.forwards <= 2.5 * numbers  # a few small slopes are looked at twice
    assert calls == {"forward": 2 * (report.forwards + 2), "backward": 2}  # of two Dense layers each
    with capsys.disabled():
        print(
            f"\n  {numbers} gradients: {report.forwards} forwards, or one backward {report.speedup:.0f} times faster ",
            end="",
        )
