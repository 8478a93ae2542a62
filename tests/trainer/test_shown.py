"""What a layer, a network and a report say of themselves; what is cleared before a step."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprop import trainer as t

#: a call, and the settings that its text shows
SHOWN = [
    ("Dense(3)", "3"),
    ("Dense(3, bias=False)", "3, bias=False"),
    ("Conv2D(4, 3)", "4, (3, 3), stride=(1, 1), padding='valid'"),
    ("Conv1D(4, 3, padding=(1, 2))", "4, (1, 3), stride=(1, 1), padding=(0, 1, 0, 2)"),
    ("ConvTranspose2D(4, 3)", "4, (3, 3), stride=(1, 1), padding='valid'"),
    ("ConvTranspose2D(4, 3, stride=2, padding=1, output_padding=1)", "4, (3, 3), stride=(2, 2), padding=1"),
    ("DepthwiseConv2D(3)", "(3, 3), multiplier=1, stride=(1, 1), padding='valid'"),
    ("DepthwiseConv2D(3, multiplier=2)", "(3, 3), multiplier=2, stride=(1, 1), padding='valid'"),
    ("LeakyReLU(0.2)", "0.2"),
    ("ELU(0.5)", "0.5"),
    ("Clip(-1, 2)", "-1, 2"),
    ("HardSigmoid()", "0.166667, 0.5"),
    ("PReLU()", "0.25"),
    ("Softmax()", "axis=-1"),
    ("LogSoftmax(1)", "axis=1"),
    ("GELU('tanh')", "'tanh'"),
    ("ReLU()", ""),
    ("BatchNorm(momentum=0.2)", "momentum=0.2, eps=1e-05"),
    ("LayerNorm()", "axis=-1, eps=1e-05"),
    ("GroupNorm(2)", "2, eps=1e-05"),
    ("InstanceNorm()", "eps=1e-05"),
    ("Dropout(0.25)", "0.25"),
    ("Embedding(5, 3)", "5, 3"),
    ("Concat(2)", "axis=2"),
    ("MaxPool2D(2)", "(2, 2), stride=(2, 2), padding='valid'"),
    ("AveragePool2D((3, 2), stride=1)", "(3, 2), stride=(1, 1), padding='valid'"),
    ("GlobalAveragePool()", ""),
    ("SimpleRNN(4)", "4"),
    ("LSTM(4)", "4"),
    ("GRU(4, bidirectional=True)", "4, bidirectional=True"),
    ("ReduceSum(1)", "1"),
    ("ReduceMean(1, 2, keepdims=True)", "1, 2, keepdims=True"),
    ("Pad(((0, 0), (1, 2)))", "((0, 0), (1, 2)), 'constant'"),
    ("Pad(((0, 0), (1, 2)), 'edge')", "((0, 0), (1, 2)), 'edge'"),
    ("Resize(2)", "2, 'nearest'"),
    ("Resize((1, 3), 'linear')", "(1, 3), 'linear'"),
    ("Reshape(2, -1)", "2, -1"),
    ("Transpose(0, 2, 1)", "0, 2, 1"),
    ("Slice(1, 3)", "1, 3, step=1, axis=1"),
    ("Slice(0, 4, step=3)", "0, 4, step=3, axis=1"),
    ("Squeeze(1)", "1"),
    ("Unsqueeze(1)", "1"),
    ("Flatten()", ""),
]


@pytest.mark.parametrize(("call", "shown"), SHOWN)
def test_layers_show_their_settings(call: str, shown: str) -> None:
    layer = eval(f"t.{call}", {"t": t})
    assert layer.describe() == shown
    assert repr(layer) == f"{type(layer).__name__}({shown})"


def test_a_network_shows_its_layers() -> None:
    net = t.Sequential(t.Dense(3), t.ReLU(), t.Dense(2, bias=False))
    assert repr(net) == "Sequential(Dense(3), ReLU(), Dense(2, bias=False))"


def test_gradients_are_cleared_in_every_layer() -> None:
    """Also in layers inside of layers."""
    net = t.Sequential(t.Dense(3), t.Residual(t.Dense(3), t.Tanh()), t.Dense(2))
    net.build((4,), seed=0)
    y = net.forward(np.ones((2, 4), np.float32), training=True)
    net.backward(np.ones_like(y))
    layers = [layer for layer in net.walk() if layer.grads]
    assert len(layers) == 3
    assert all(np.abs(grad).max() > 0 for layer in layers for grad in layer.grads.values())
    net.clear_gradients()
    assert not any(grad.any() for layer in layers for grad in layer.grads.values())


def test_a_report_of_gradients_in_words() -> None:
    net = t.Sequential(t.Dense(2, name="fc")).astype(np.float64)
    rng = np.random.default_rng(0)
    report = t.check_gradients(net, rng.normal(size=(3, 4)), np.array([0, 1, 0]))
    *rows, cost = str(report).splitlines()
    assert len(rows) == len(report.tensors)
    for row, tensor in zip(rows, report.tensors, strict=True):
        assert row.split() == [
            tensor.name, "error", f"{tensor.error:.1e}", "checked", str(tensor.checked), "skipped", str(tensor.skipped)
        ]  # fmt: skip
    assert cost.startswith(f"{report.forwards} forwards for the differences")
