"""Refusals of the trainer that no other test asks for, and what a layer, loss or optimizer of one's own has to define."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeprop import trainer as t

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def net(*layers: t.Layer, shape: tuple[int, ...] = (4,)) -> t.Sequential:
    made = t.Sequential(*layers)
    made.build(shape, seed=0)
    return made


@pytest.mark.parametrize(
    ("loss", "size", "cut", "says"),
    [
        (lambda: t.Triplet(mining="given"), 3, 4, "cuts a triplet: let batch_size be a multiple of 3"),
        (lambda: t.Contrastive(pairs="given"), 2, 3, "cuts a pair: let batch_size be even"),
    ],
)
def test_batches_that_cut_what_belongs_together(loss: Callable[[], t.Loss], size: int, cut: int, says: str) -> None:
    made = net(t.Dense(2))
    t.fit(made, X, LABELS, loss=loss(), batch_size=size, epochs=1, shuffle=False)
    before = {name: value.copy() for name, value in made.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        t.fit(made, X, LABELS, loss=loss(), batch_size=cut, epochs=1, shuffle=False)
    for name, value in made.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_what_is_no_network() -> None:
    with pytest.raises(ValueError, match="is not a network: put it in Sequential"):
        t.fit(t.Dense(3), X, LABELS)  # type: ignore[arg-type]


def test_a_shape_for_each_input() -> None:
    with pytest.raises(ValueError, match=r"1 inputs .* but 2 shapes"):
        t.Sequential(t.Dense(3)).build((4,), (4,))


@pytest.mark.parametrize("dtype", [np.float16, np.int32])
def test_numbers_that_a_network_does_not_compute_in(dtype: Any) -> None:
    made = net(t.Dense(3))
    with pytest.raises(ValueError, match="computes in float32, or in float64"):
        made.astype(dtype)
    assert made.dtype == np.float32
    assert made.predict(X).dtype == np.float32


def test_weights_need_a_built_network() -> None:
    state = net(t.Dense(3)).state_dict()
    with pytest.raises(ValueError, match="build the network before loading weights"):
        t.Sequential(t.Dense(3)).load_state_dict(state)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_initializers_that_give_no_weights(bad: float) -> None:
    with pytest.raises(ValueError, match="must return finite values of shape"):
        net(t.Dense(3, init=lambda shape, *_: np.full(shape, bad)))
    with pytest.raises(ValueError, match="must return finite values of shape"):
        net(t.Dense(3, init=lambda shape, *_: np.zeros(shape[::-1])))


def test_a_weight_that_becomes_infinite() -> None:
    """Where the loss is still finite: it is told, and the weights are those before."""
    made = net(t.Dense(3, name="fc"))
    before = made.predict(X)

    class Leap(t.Optimizer):
        """One that throws weights away."""

        def update(self, value: Any, grad: Any, *slots: Any) -> None:
            value[...] = np.inf

    with pytest.raises(t.DivergedError, match="NaN or infinite"):
        t.fit(made, X, LABELS, optimizer=Leap(0.1), epochs=1, batch_size=6)
    np.testing.assert_array_equal(made.predict(X), before)


def test_what_a_layer_of_one_s_own_defines() -> None:
    class Mine(t.Layer):
        kind = "mine"

    layer = Mine()
    for call, says in (
        (lambda: layer.forward(X), "Mine defines no forward"),
        (lambda: layer.backward(X), "Mine defines no backward"),
        (lambda: layer.to_onnx(None), "Mine has no ONNX form"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=says):
            call()


def test_what_a_loss_or_an_optimizer_of_one_s_own_defines() -> None:
    class Mine(t.Loss):
        pass

    class Still(t.Optimizer):
        pass

    with pytest.raises(TypeError, match="Mine defines no forward"):
        Mine().forward(X, X)
    with pytest.raises(TypeError, match="Mine defines no backward"):
        Mine().backward()
    with pytest.raises(TypeError, match="Still defines no update"):
        Still(0.1).update(X.copy(), X)


HIDDEN = np.ma.masked_greater(np.arange(6), 4)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.ma.masked_less(X, 0), LABELS, "x has masked values"),
        (X, HIDDEN, "y has masked values"),
        (X, np.ma.masked_less(np.eye(3)[LABELS], 0.5), "y has masked values"),
        (X + 1j, LABELS, "x is not an array of numbers: they are complex"),
        (X, LABELS + 0.5, "labels must be integers, got float64: give each class its number"),
        (X, np.where(LABELS, LABELS, np.nan), "labels must be integers, got float64: give each class its number"),
        (X, LABELS.astype(float), r"use y.astype\(int\)"),
        (X, np.eye(3)[LABELS].T, "give y.T"),  # to reshape it would scramble it
        (X, np.eye(4)[LABELS], "one target for each output"),
        (X, LABELS[:, None], r"np.ravel\(y\)"),
        (X, np.eye(3)[LABELS][..., None], "reshape y"),
    ],
)
def test_data_that_would_teach_something_else(x: Any, y: Any, says: str) -> None:
    made = net(t.Dense(3))
    before = {name: value.copy() for name, value in made.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        t.fit(made, x, y, epochs=1)
    for name, value in made.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("share", [0.2, X])
def test_validation_is_a_pair(share: Any) -> None:
    with pytest.raises(ValueError, match=r"give a pair \(x, y\) that is held out"):
        t.fit(net(t.Dense(3)), X, LABELS, validation=share)
