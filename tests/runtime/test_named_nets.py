"""The trainer's named networks on the device: the same answers, the same gradients, also step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprop import Model
from edgeprop import trainer as t
from edgeprop.export import save
from edgeprop.export.lower import lower, supported_operators
from edgeprop.export.writers.image import to_image
from edgeprop.trainer import nets

SMALLER = {
    "mobilenet_v1": {"in_shape": (3, 48, 48)},
    "mobilenet_v2": {"in_shape": (3, 32, 32)},
    "vgg": {"width": 8, "hidden": (32,)},
    "kws_gru": {"units": 20},
    "kws_lstm": {"units": 20},
}
WITHOUT_NORM = ("ds_cnn", "mobilenet_v1", "mobilenet_v2", "resnet8", "autoencoder")


def small(name: str) -> t.Graph:
    """The network, smaller where it is large, with biases and statistics that are not 0."""
    net = nets.NETS[name](**SMALLER.get(name, {}), seed=1)
    rng = np.random.default_rng(2)
    for key, value in net._state().items():
        if key.endswith("bias"):
            value += rng.normal(0, 0.1, value.shape)
    return net


def samples(net: t.Graph, n: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, *net.in_shapes[0])).astype(np.float32)


def need(*operators: str) -> None:
    missing = set(operators) - set(supported_operators())
    if missing:
        pytest.skip(f"the device has no {', '.join(sorted(missing))}")


def need_for(name: str) -> None:
    need(*{"kws_gru": ["GRU"], "kws_lstm": ["LSTM"]}.get(name, []))


@pytest.mark.parametrize("name", nets.NETS)
def test_float32(name: str, tmp_path: Path) -> None:
    need_for(name)
    net = small(name)
    save(tmp_path / name, net)
    x = samples(net, 3)
    expected = net.predict(x)
    np.testing.assert_allclose(
        Model(tmp_path / f"{name}.ep").run(x)[0].reshape(expected.shape),
        expected,
        rtol=1e-4,
        atol=1e-5 * np.abs(expected).max(),
    )


@pytest.mark.parametrize("name", [name for name in nets.NETS if not name.startswith("kws") and name != "xor"])
def test_int8_is_onnxruntime_s(name: str, tmp_path: Path) -> None:
    from edgeprop.export.check import check

    net = small(name)
    save(tmp_path / name, net, calibration=samples(net, 16))
    result = check(tmp_path / f"{name}.onnx")
    assert result.status == "ok", str(result)


def gradients(net: t.Graph, x: np.ndarray, label: int) -> dict[str, np.ndarray]:
    """The trainer's, of one sample."""
    loss = t.SoftmaxCrossEntropy()
    loss.forward(net.forward(x, training=True), np.array([label]))
    net.backward(loss.backward())
    return {name: grad for name, _, grad in net.parameters()}


LEARNERS = {
    "kws_gru": ["GRU"],
    "kws_lstm": ["LSTM"],
    "both ways": ["LSTM", "GRU"],
    "simple rnn": ["RNN"],
    "tcn": [],
}


@pytest.mark.parametrize("name", LEARNERS)
def test_gradients(name: str) -> None:
    need(*LEARNERS[name])
    if name in nets.NETS:
        net = small(name)
    else:
        first = [
            t.LSTM(5, return_sequences=True, bidirectional=True),
            t.TimeDense(4),
            t.Tanh(),
            t.GRU(6, bidirectional=True, linear_before_reset=False),
        ]
        first = (
            first if name == "both ways" else [t.SimpleRNN(5, activation="relu", return_sequences=True), t.Flatten()]
        )
        net = t.Sequential(*first, t.Dense(3, name="head"))
        net.build((7, 4), seed=1)
    layers = [layer.name for layer in net.leaves() if layer.params]
    model = Model(to_image(lower(net.to_onnx(), trainable=layers, loss="softmax_cross_entropy")))
    x = samples(net, 1)
    found, expected = model.gradients(x, [1]), gradients(net, x, 1)
    for key, grad in expected.items():
        kernel = grad.ndim == 3 and not isinstance(net[key.split(".")[0]], t.layers.recurrent.Recurrent)
        wanted = np.moveaxis(grad, 1, 2) if kernel else grad  # a kernel's channels come last there
        matrix = found[key].reshape(wanted.shape)
        np.testing.assert_allclose(matrix, wanted, rtol=1e-4, atol=1e-5 * np.abs(grad).max(), err_msg=key)


@pytest.mark.parametrize("name", ["kws_gru", "kws_lstm"])
def test_frame_after_frame(name: str, tmp_path: Path) -> None:
    """A stateful network keeps its state on the device, and ends where one that saw all frames at once ends."""
    need_for(name)
    whole = small(name)
    frame = nets.NETS[name](**SMALLER[name], in_shape=(1, 10), stateful=True)
    frame.load_state_dict(whole.state_dict())
    save(tmp_path / name, frame)
    model, x = Model(tmp_path / f"{name}.ep"), samples(whole, 1)
    for step in range(x.shape[1]):
        (y,) = model.run(x[:, step : step + 1])
    np.testing.assert_allclose(y.ravel(), whole.predict(x)[0], rtol=1e-4, atol=1e-5)
