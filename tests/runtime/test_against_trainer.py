"""C against the NumPy trainer, tensor by tensor: activations, gradients, and every weight after 100 steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.writers.image import to_image

Array = np.ndarray[Any, np.dtype[Any]]
IMAGE = (3, 7, 6)

NETS: dict[str, tuple[tuple[int, ...], Callable[[], list[t.Layer]]]] = {
    "dense": ((5,), lambda: [t.Dense(4)]),
    "mlp_relu": ((6,), lambda: [t.Dense(8), t.ReLU(), t.Dense(4)]),
    "mlp_sigmoid": ((6,), lambda: [t.Dense(8), t.Sigmoid(), t.Dense(4)]),
    "mlp_tanh": ((6,), lambda: [t.Dense(8), t.Tanh(), t.Dense(4)]),
    "mlp_leaky": ((6,), lambda: [t.Dense(8), t.LeakyReLU(0.1), t.Dense(4)]),
    "relu6": ((6,), lambda: [t.Dense(8), t.ReLU6(), t.Dense(4)]),
    "conv": (IMAGE, lambda: [t.Conv2D(5, 3), t.ReLU(), t.Flatten(), t.Dense(4)]),
    "conv_stride": (IMAGE, lambda: [t.Conv2D(5, 3, stride=2, padding=1), t.Flatten(), t.Dense(4)]),
    "conv_same": (
        IMAGE,
        lambda: [t.Conv2D(4, (3, 2), padding="same"), t.ReLU6(), t.Conv2D(2, 1), t.Flatten(), t.Dense(4)],
    ),
    "depthwise": (IMAGE, lambda: [t.DepthwiseConv2D(3, padding="same"), t.ReLU(), t.Flatten(), t.Dense(4)]),
    "multiplier": (
        IMAGE,
        lambda: [t.Conv2D(2, 1), t.DepthwiseConv2D(3, multiplier=2, stride=2), t.ReLU(), t.Flatten(), t.Dense(4)],
    ),
    "max_pool": (IMAGE, lambda: [t.Conv2D(4, 3, padding=1), t.MaxPool2D(2), t.Flatten(), t.Dense(4)]),
    "max_pool_overlap": (IMAGE, lambda: [t.Conv2D(4, 3), t.MaxPool2D(3, stride=1), t.Flatten(), t.Dense(4)]),
    "average_pool": (IMAGE, lambda: [t.Conv2D(4, 3), t.AveragePool2D(2), t.Flatten(), t.Dense(4)]),
    "global_pool": (IMAGE, lambda: [t.Conv2D(4, 3), t.ReLU(), t.GlobalAveragePool(), t.Flatten(), t.Dense(4)]),
    "residual": (
        IMAGE,
        lambda: [
            t.Conv2D(4, 3, padding=1),
            t.Residual(t.Conv2D(4, 3, padding=1), t.ReLU(), t.Conv2D(4, 3, padding=1)),
            t.ReLU(),
            t.Flatten(),
            t.Dense(4),
        ],
    ),
    "rnn": ((5, 3), lambda: [t.SimpleRNN(6), t.Dense(4)]),
    "gru": ((5, 3), lambda: [t.GRU(6), t.Dense(4)]),
    "lstm": ((5, 3), lambda: [t.LSTM(6), t.Dense(4)]),
    "rnn_truncated": ((5, 3), lambda: [t.SimpleRNN(6, truncate=2), t.Dense(4)]),
    "gru_truncated": (
        (
            8,
            3,
        ),  # of no use where the last step is a multiple of `truncate`: both directions then cut at the same places
        lambda: [
            t.GRU(4, truncate=3, bidirectional=True, return_sequences=True),
            t.GRU(5, truncate=5, linear_before_reset=False),
            t.Dense(4),
        ],
    ),
    "lstm_truncated": ((8, 3), lambda: [t.LSTM(4, truncate=3, bidirectional=True), t.Dense(4)]),
    "residual_shortcut": (
        IMAGE,
        lambda: [
            t.Residual(t.Conv2D(4, 3, padding=1, stride=2), shortcut=t.Conv2D(4, 1, stride=2)),
            t.ReLU(),
            t.GlobalAveragePool(),
            t.Flatten(),
            t.Dense(4),
        ],
    ),
}
LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mse", "hinge")


def targets(loss: str, n: int, rng: np.random.Generator) -> Array:
    if loss == "sigmoid_cross_entropy":
        return rng.integers(0, 2, (n, 4)).astype(np.float32)
    if loss == "mse":
        return rng.normal(size=(n, 4)).astype(np.float32)
    return rng.integers(0, 4, n)


def make(name: str, loss: str, trainable: Any = "*") -> tuple[t.Sequential, edgeprop.Model]:
    """A net, and the device with all its weights trainable."""
    shape, build = NETS[name]
    net = t.Sequential(*build())
    net.build(shape, seed=len(name))
    rng = np.random.default_rng(1)
    for parameter in net.parameters():
        if parameter.name.endswith("bias"):
            parameter.value[:] = rng.normal(size=parameter.value.shape) * 0.1
    program = export.lower(net.to_onnx(), name=name, trainable=trainable, loss=loss)
    return net, edgeprop.Model(to_image(program))


def device_layout(name: str, value: Array, flat_from: tuple[int, ...] | None) -> Array:
    """A trainer's array as the device keeps it. `flat_from`: image (C, H, W) that a dense layer's input flattens."""
    if value.ndim == 4 and name.startswith("depthwise"):
        return value[:, 0].transpose(1, 2, 0)
    if value.ndim == 4:
        return value.transpose(0, 2, 3, 1)
    if value.ndim == 2 and flat_from is not None:
        return value.reshape(len(value), *flat_from).transpose(0, 2, 3, 1).reshape(len(value), -1)
    return value


def flattened(net: t.Sequential) -> tuple[int, ...] | None:
    for layer in net.leaves():
        if isinstance(layer, t.Flatten):
            return layer.in_shapes[0]
    return None


def in_device_layout(net: t.Sequential, arrays: dict[str, Array]) -> dict[str, Array]:
    flat = flattened(net)
    return {name: device_layout(name, value, flat) for name, value in arrays.items()}


def assert_close(got: Array, expected: Array, what: str) -> None:
    """Within 1e-5 of the largest value (DESIGN: float32 within 1e-5 relative)."""
    limit = 1e-5 * max(float(np.abs(expected).max()), 1e-2)
    np.testing.assert_allclose(got, expected, rtol=0, atol=limit, err_msg=what)


@pytest.mark.parametrize("name", NETS)
def test_activations(name: str) -> None:
    """Every activation a layer of the trainer makes, in C."""
    net, model = make(name, "mse")
    x = np.random.default_rng(0).normal(size=(5, *NETS[name][0])).astype(np.float32)
    assert_close(model.run(x)[0], net.predict(x), "output")
    traced = model.trace(x)
    value, compared = x, 0
    for layer in net.sublayers():
        value = layer.forward(value)
        found = traced.get(f"{layer.name}.output")
        if found is not None:
            expected = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
            if value.ndim == 2 and found.ndim == 4:  # a Flatten that is no step of the device
                continue
            assert_close(found.reshape(5, -1), np.ascontiguousarray(expected).reshape(5, -1), layer.name)
            compared += 1
    few = len(net.sublayers()) == 1 or name.startswith(
        ("rnn", "gru", "lstm")
    )  # what there is is the output, compared above
    assert compared > 0 or few


#: a layer does not know what loss its gradient comes from: every layer under one, and one net under all
PAIRS = [(name, LOSSES[i % len(LOSSES)]) for i, name in enumerate(NETS)]
PAIRS += [("mlp_tanh", loss) for loss in LOSSES if ("mlp_tanh", loss) not in PAIRS]


@pytest.mark.parametrize(("name", "loss"), PAIRS)
def test_gradients(name: str, loss: str) -> None:
    """The gradient of every weight, summed over a batch and of a single sample."""
    net, model = make(name, loss)
    rng = np.random.default_rng(2)
    for n in (1, 6):
        x, y = rng.normal(size=(n, *NETS[name][0])).astype(np.float32), targets(loss, n, rng)
        scores, measure = net.forward(x, training=True), t.LOSSES[loss]()
        measure.forward(scores, measure.check(y, n, scores.shape[1:], np.float32))
        net.backward(measure.backward())
        got = model.gradients(x, y)
        expected = in_device_layout(net, {p.name: p.grad for p in net.parameters()})
        for weight, gradient in expected.items():
            assert_close(got[weight].reshape(gradient.shape), gradient, weight)


@pytest.mark.parametrize("truncate", [1, 2, 3, 5, 7, 8, 100])
@pytest.mark.parametrize(
    "cell",
    [t.SimpleRNN, t.LSTM, t.GRU, functools.partial(t.GRU, linear_before_reset=False)],
    ids=["rnn", "lstm", "gru", "gru_reset_first"],
)
def test_truncations(cell: Callable[..., t.Layer], truncate: int) -> None:
    """Of 8 steps, two cells with the same settings behind each other, both ways and one: gradients of a batch, and the
    weights after steps in place and by sums."""
    net = t.Sequential(
        cell(3, truncate=truncate, bidirectional=True, return_sequences=True), cell(4, truncate=truncate), t.Dense(2)
    )
    net.build((8, 3), seed=truncate)
    image = to_image(export.lower(net.to_onnx(), trainable="*", loss="mse"))
    rng = np.random.default_rng(truncate)
    x, y = rng.normal(size=(4, 8, 3)).astype(np.float32), rng.normal(size=(4, 2)).astype(np.float32)
    measure = t.MeanSquaredError()
    measure.forward(net.forward(x, training=True), y)
    net.backward(measure.backward())
    gradients = edgeprop.Model(image).gradients(x, y)
    for parameter in net.parameters():
        assert_close(gradients[parameter.name].reshape(parameter.grad.shape), parameter.grad, parameter.name)
    start = net.state_dict()
    for batch_size in (1, 4):
        net.load_state_dict(start)
        rule, device = t.SGD(0.1), edgeprop.Model(image)
        for first in range(0, 4, batch_size):
            part = slice(first, first + batch_size)
            t.partial_fit(net, x[part], y[part], loss="mse", optimizer=rule)
        device.partial_fit(x, y, lr=0.1, batch_size=batch_size)
        for parameter in net.parameters():
            found = device.parameters()[parameter.name]
            assert_close(found.reshape(parameter.value.shape), parameter.value, parameter.name)


@pytest.mark.parametrize("truncate", [None, 2])
def test_a_stream_through_several_cells(truncate: int) -> None:
    """Frames of 3 steps through cells of three kinds, two of one kind, each with a state of its own: answers and gradients
    frame by frame, every frame learned from where the stream is; after a reset the first frame again."""
    kept = {"stateful": True, "truncate": truncate}
    net = t.Sequential(
        *(t.GRU(4, return_sequences=True, **kept), t.LSTM(3, return_sequences=True, **kept)),
        *(t.GRU(4, linear_before_reset=False, return_sequences=True, **kept), t.SimpleRNN(5, **kept), t.Dense(2)),
    )
    net.build((3, 3), seed=7)
    model = edgeprop.Model(to_image(export.lower(net.to_onnx(), trainable="*", loss="mse")))
    rng, measure, first = np.random.default_rng(8), t.MeanSquaredError(), []
    frames, y = rng.normal(size=(4, 1, 3, 3)).astype(np.float32), rng.normal(size=(1, 2)).astype(np.float32)
    for turn in range(2):
        for frame in frames:
            gradients, answer = model.gradients(frame, y), model.run(frame)[0]
            scores = net.forward(frame, training=True)
            measure.forward(scores, y)
            net.backward(measure.backward())
            assert_close(answer, scores, "answer")
            for parameter in net.parameters():
                assert_close(gradients[parameter.name].reshape(parameter.grad.shape), parameter.grad, parameter.name)
            first.append(answer)
        assert np.abs(first[0] - first[-1]).max() > 1e-3
        np.testing.assert_array_equal(first[4 * turn], first[0])
        net.reset_state()
        model.reset_state()


def clear_of_kinks(net: t.Sequential, x: Array) -> bool:
    """Whether no ReLU sees a value so near its kink that rounding decides on which side it falls."""
    nearest = [np.inf]
    with ExitStack() as patches:
        for layer in net.leaves():
            if isinstance(layer, t.ReLU | t.ReLU6):

                def forward(x: Array, training: bool = False, run: Callable[..., Array] = layer.forward) -> Array:
                    nearest.append(min(np.abs(x).min(), np.abs(x - 6).min()))
                    return run(x, training=training)

                patches.enter_context(patch.object(layer, "forward", forward))
        net.forward(x)
    return min(nearest) > 1e-5


OPTIMIZERS: dict[str, tuple[float, Callable[[float], Any]]] = {
    "sgd": (0.02, t.SGD),
    "momentum": (0.01, t.Momentum),
    "nesterov": (0.01, functools.partial(t.Momentum, nesterov=True)),
    "adam": (0.005, t.Adam),
}
#: an optimizer does not know of what layer a weight is: every layer by one, and one net by all
BY = [("mlp_tanh", optimizer) for optimizer in OPTIMIZERS]
BY += [("conv_same", "sgd"), ("depthwise", "momentum"), ("residual", "adam"), ("gru_truncated", "nesterov")]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(("name", "optimizer"), BY)
def test_hundred_steps(name: str, optimizer: str, batch_size: int) -> None:
    """Every weight after 100 updates, in place (batch 1) and through gradient sums."""
    lr, reference = OPTIMIZERS[optimizer]
    net, model = make(name, "softmax_cross_entropy")
    rng = np.random.default_rng(3)
    rule = reference(lr)
    steps = []
    while len(steps) < 100:
        x = rng.normal(size=(batch_size, *NETS[name][0])).astype(np.float32)
        y = targets("softmax_cross_entropy", batch_size, rng)
        if clear_of_kinks(net, x):
            steps.append((x, y))
            t.partial_fit(net, x, y, optimizer=rule)
    x, y = (np.concatenate(arrays) for arrays in zip(*steps, strict=True))
    model.partial_fit(x, y, optimizer=optimizer, lr=lr, batch_size=batch_size)
    got = model.parameters()
    for weight, value in in_device_layout(net, {p.name: p.value for p in net.parameters()}).items():
        np.testing.assert_allclose(got[weight].reshape(value.shape), value, rtol=2e-4, atol=2e-5, err_msg=weight)


@pytest.mark.parametrize("name", ["conv", "mlp_relu", "residual"])
def test_frozen_layers_stay(name: str) -> None:
    """Only the head learns, and its gradient is that of the whole net."""
    net, whole = make(name, "softmax_cross_entropy")
    head = [layer.name for layer in net.leaves() if isinstance(layer, t.Dense)][-1]
    _, model = make(name, "softmax_cross_entropy", trainable=head)
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(3, *NETS[name][0])).astype(np.float32), rng.integers(0, 4, 3)
    got, full = model.gradients(x, y), whole.gradients(x, y)
    weights = [key for key in got if key in (f"{head}.weight", f"{head}.bias")]
    assert sorted(weights) == sorted(model.parameters()) == [f"{head}.bias", f"{head}.weight"]
    for key in weights:
        np.testing.assert_array_equal(got[key], full[key])
    assert model.arena_size(train=True) < whole.arena_size(train=True)


# ---- Selective backprop ----------------------------------------------------------------------------------------------


class Rule:
    """What `ep_skip_small` says (edgeprop.h): a loss below `below`, or below a quantile that follows the losses."""

    def __init__(self, below: float, share: float) -> None:
        self.below, self.share, self.at = below, share, 0.0

    def skips(self, loss: float) -> bool:
        at = self.at
        if self.share > 0:
            self.at = loss if at == 0 else at * (1 + (self.share - 1 if loss < at else self.share) * 0.1)
            self.at = max(self.at, 1e-6)
        return loss < self.below or (self.share > 0 and loss < at)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "hinge", "mse"])
@pytest.mark.parametrize(
    ("below", "share"), [(1.2, 0.0), (0.0, 0.5), (1.0, 0.25), (1e9, 0.0)], ids=["below", "share", "both", "all"]
)
def test_what_is_skipped_and_what_is_learned(loss: str, below: float, share: float) -> None:
    """The trainer passes over the same samples by the same rule: as many, and the same weights after two epochs; a step
    of momentum, so that a sample skipped is no step of 0 either."""
    net, model = make("mlp_tanh", loss)
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(60, 6)).astype(np.float32), targets(loss, 60, rng)
    rule, optimizer, measure = Rule(below, share), t.Momentum(0.02), t.LOSSES[loss]()
    losses, skipped = [], 0
    for _ in range(2):
        for i in range(60):
            one = measure.check(y[i : i + 1], 1, (4,), np.float32)
            losses.append(measure.forward(net.forward(x[i : i + 1]), one))
            margins = [abs(losses[-1] - at) for at in (below, rule.at)]
            assert min(margins) > 1e-6 or losses[-1] == 0  # not for rounding to decide
            if rule.skips(losses[-1]):
                skipped += 1
            else:
                t.partial_fit(net, x[i : i + 1], y[i : i + 1], loss=loss, optimizer=optimizer)
    model.partial_fit(x, y, lr=0.02, optimizer="momentum", epochs=2, skip_below=below, skip_share=share)
    assert model.skipped_ == skipped
    assert (0 < skipped < 120) == (below < 1e9)
    np.testing.assert_allclose(model.loss_curve_, np.reshape(losses, (2, 60)).mean(1), rtol=1e-4)
    found = model.parameters()
    for weight, value in in_device_layout(net, {p.name: p.value for p in net.parameters()}).items():
        np.testing.assert_allclose(found[weight].reshape(value.shape), value, rtol=2e-4, atol=2e-5, err_msg=weight)
