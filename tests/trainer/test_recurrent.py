"""Recurrent layers: by hand, beside PyTorch, stateful, truncated, as streaming ONNX, and learning over many steps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgeprop import trainer as t
from tests.trainer.conftest import normal

LAYERS = [
    (t.SimpleRNN, {}),
    (t.SimpleRNN, {"activation": "relu"}),
    (t.LSTM, {}),
    (t.GRU, {}),
    (t.GRU, {"linear_before_reset": False}),
]
IDS = ["rnn", "relu", "lstm", "gru", "gru-reset-first"]


def one(layer, shape, dtype=np.float64, seed=1):
    """A network of one layer with biases that are not 0."""
    net = t.Sequential(layer).astype(dtype)
    net.build(shape, seed=seed)
    if layer.use_bias:
        layer.params["bias"] += np.random.default_rng(2).normal(0, 0.5, layer.params["bias"].shape)
    return net


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


# ---- Forward ---------------------------------------------------------------------------------------------------------


def test_two_steps_of_each_by_hand():
    """One unit, one feature, every weight 0.5 and every bias 0.1: numbers worked out with plain floats."""

    def last(layer):
        net = t.Sequential(layer).astype(np.float64)
        net.build((2, 1))
        for key, value in layer.params.items():
            value[...] = 0.1 if key == "bias" else 0.5
        return net.predict([[[1.0], [-2.0]]])[0, 0]

    h = math.tanh(0.5 + 0.2)
    assert last(t.SimpleRNN(1)) == pytest.approx(math.tanh(-1 + 0.5 * h + 0.2), rel=1e-12)
    assert last(t.SimpleRNN(1, activation="relu")) == 0

    h = c = 0.0
    for x in (1, -2):
        a = 0.5 * x + 0.5 * h + 0.2
        c = sigmoid(a) * c + sigmoid(a) * math.tanh(a)
        h = sigmoid(a) * math.tanh(c)
    assert last(t.LSTM(1)) == pytest.approx(h, rel=1e-12)

    for linear in (True, False):
        h = 0.0
        for x in (1, -2):
            gate = sigmoid(0.5 * x + 0.5 * h + 0.2)
            inner = gate * (0.5 * h + 0.1) if linear else 0.5 * gate * h + 0.1
            h = (1 - gate) * math.tanh(0.5 * x + 0.1 + inner) + gate * h
        assert last(t.GRU(1, linear_before_reset=linear)) == pytest.approx(h, rel=1e-12)


def from_torch(array, order, units):
    """PyTorch's gates in ONNX's order."""
    blocks = array.detach().numpy().reshape(len(order), units, -1)
    return blocks[order].reshape(len(order) * units, -1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs", "order"),
    [(t.SimpleRNN, "RNN", [0]), (t.LSTM, "LSTM", [0, 3, 1, 2]), (t.GRU, "GRU", [1, 0, 2])],
)
def test_forward_and_gradients_are_those_of_pytorch(ours, theirs, order, bidirectional):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    other = getattr(torch.nn, theirs)(3, 4, batch_first=True, bidirectional=bidirectional).double()
    net = one(ours(4, return_sequences=True, bidirectional=bidirectional), (5, 3))
    layer = net[0]

    def theirs_by_key(value):
        parts = [(value(f"{kind}_l0{end}"), order, 4) for end in ("", "_reverse")[: layer.directions] for kind in KINDS]
        w, r, wb, rb = ([from_torch(*p) for p in parts[i::4]] for i in range(4))
        return {
            "weight": np.stack(w),
            "recurrent_weight": np.stack(r),
            "bias": np.stack([np.concatenate(pair)[:, 0] for pair in zip(wb, rb, strict=True)]),
        }

    for key, value in theirs_by_key(lambda name: getattr(other, name)).items():
        layer.params[key][...] = value
    x, dy = normal(6, 5, 3), normal(6, 5, 4 * layer.directions)
    their_x = torch.tensor(x, requires_grad=True)
    y = other(their_x)[0]
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(net.forward(x, training=True), y.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(net.backward(dy), their_x.grad.numpy(), rtol=1e-10, atol=1e-12)
    for key, value in theirs_by_key(lambda name: getattr(other, name).grad).items():
        np.testing.assert_allclose(layer.grads[key], value, rtol=1e-10, atol=1e-12)


KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.mark.parametrize(("layer", "settings"), LAYERS, ids=IDS)
def test_last_is_the_end_of_the_sequences(layer, settings):
    x = normal(4, 6, 2)
    every = one(layer(3, return_sequences=True, bidirectional=True, **settings), (6, 2)).predict(x)
    last = one(layer(3, bidirectional=True, **settings), (6, 2)).predict(x)
    assert every.shape == (4, 6, 6)
    assert np.array_equal(last, np.concatenate([every[:, -1, :3], every[:, 0, 3:]], axis=1))


def test_second_direction_runs_from_the_end():
    net = one(t.GRU(3, bidirectional=True, return_sequences=True), (6, 2))
    for value in net[0].params.values():
        value[1] = value[0]
    x = normal(2, 6, 2)
    assert np.allclose(net.predict(x)[:, :, 3:], net.predict(x[:, ::-1])[:, ::-1, :3], atol=1e-15)


def test_how_weights_start():
    net = t.Sequential(t.LSTM(8))
    net.build((5, 20))
    weight, recurrent, bias = net[0].params.values()
    for gate in recurrent[0].reshape(4, 8, 8):
        np.testing.assert_allclose(gate @ gate.T, np.eye(8), atol=1e-6)
    assert np.abs(weight).max() < math.sqrt(6 / 28)
    assert bias[0].reshape(2, 4, 8).mean(axis=2).tolist() == [[0, 0, 1, 0], [0] * 4]
    assert net.n_params == 4 * 8 * (20 + 8 + 2)


# ---- State -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "settings"), LAYERS, ids=IDS)
def test_a_stateful_layer_goes_on_where_it_ended(layer, settings):
    x = normal(3, 8, 2)
    whole = one(layer(4, return_sequences=True, **settings), (8, 2)).predict(x)
    net = one(layer(4, return_sequences=True, stateful=True, **settings), (2, 2))
    for _ in range(2):
        parts = [net.predict(x[:, start : start + 2]) for start in range(0, 8, 2)]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-12)
        net.reset_state()
    net.predict(x[:, :2])
    with pytest.raises(ValueError, match="state of 3 samples, got 2"):
        net.predict(x[:2, :2])
    frame = t.Sequential(layer(4, return_sequences=True, stateful=True, **settings)).astype(np.float64)
    frame.build((1, 2))  # the same weights, one step at a time
    frame.load_state_dict(net.state_dict())
    np.testing.assert_allclose(np.stack([frame.predict(x[:, i : i + 1])[:, 0] for i in range(8)], axis=1), whole)


def test_fit_starts_each_epoch_from_zeros_and_keeps_validation_apart():
    starts = []

    class Spy(t.GRU):
        def forward(self, x, training=False):
            starts.append((training, self._state is None))
            return super().forward(x, training)

    net = t.Sequential(Spy(2, stateful=True), t.Dense(2))
    x, y = normal(8, 3, 1), np.arange(8) % 2
    t.fit(net, x, y, epochs=2, batch_size=4, shuffle=False, validation=(x[:3], y[:3]))
    assert starts == [(True, True), (True, False), (False, True)] * 2
    assert net[0]._state is None


def test_gradient_checks_start_each_pass_from_zeros():
    net = t.Sequential(t.LSTM(2, stateful=True), t.Dense(2))
    net.forward(normal(3, 4, 2))
    assert t.check_gradients(net, normal(3, 4, 2), [0, 1, 1]).error < 1e-6
    assert net[0]._state is not None  # of the network itself, which is as it was


def test_both_ways_cannot_be_stateful():
    with pytest.raises(ValueError, match="whole sequence"):
        t.LSTM(2, bidirectional=True, stateful=True)


# ---- Truncation ------------------------------------------------------------------------------------------------------


def parts_by_hand(make, x, dy, k):
    """Gradients added up over a stateful layer's forwards of k steps each, which no gradient crosses."""
    net = one(make(stateful=True, return_sequences=True), (k, x.shape[2]))
    total, dxs = {}, []
    for start in range(0, x.shape[1], k):
        net.forward(x[:, start : start + k], training=True)
        dxs.append(net.backward(dy[:, start : start + k]))
        for key, grad in net[0].grads.items():
            total[key] = total.get(key, 0) + grad
    return total, np.concatenate(dxs, axis=1)


@pytest.mark.parametrize(("layer", "settings"), LAYERS, ids=IDS)
def test_truncated_gradients(layer, settings):
    def make(**more):
        return layer(3, **settings, **more)

    x, dy = normal(2, 6, 2), normal(2, 6, 3)
    net = one(make(return_sequences=True, truncate=2), (6, 2))
    whole = one(make(return_sequences=True), (6, 2))
    assert np.array_equal(net.forward(x, training=True), whole.forward(x, training=True))
    dx, full = net.backward(dy), whole.backward(dy)
    total, expected = parts_by_hand(make, x, dy, 2)
    np.testing.assert_allclose(dx, expected, rtol=1e-10, atol=1e-14)
    assert not np.allclose(dx, full)
    for key, grad in total.items():
        np.testing.assert_allclose(net[0].grads[key], grad, rtol=1e-10, atol=1e-14)


def test_truncation_of_the_whole_sequence_changes_nothing():
    x, dy = normal(2, 6, 2), normal(2, 3)
    nets = [one(t.LSTM(3, truncate=k), (6, 2)) for k in (None, 6)]
    a, b = ((net.forward(x, training=True), net.backward(dy))[1] for net in nets)
    assert np.array_equal(a, b)


# ---- Learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "settings"), [LAYERS[2], LAYERS[3], LAYERS[4]], ids=IDS[2:])
def test_gated_layers_learn_what_came_first(layer, settings):
    """Whether the first of 10 numbers is positive; the other 9 are noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 10, 1)).astype(np.float32)
    x[:, 0] *= 2
    y = (x[:, 0, 0] > 0).astype(int)
    net = t.Sequential(layer(12, **settings), t.Dense(2))
    t.fit(net, x[:500], y[:500], epochs=30, optimizer=t.Adam(0.02), clip_norm=1.0)
    assert t.evaluate(net, x[500:], y[500:]).metric > 0.95


def test_frozen_layers_keep_nothing():
    net = t.Sequential(t.LSTM(3, name="rnn"), t.Dense(2))
    net.build((4, 2))
    net["rnn"].trainable = False
    before = net.state_dict()
    t.fit(net, normal(8, 4, 2), np.arange(8) % 2, epochs=1)
    assert net["rnn"]._saved == ()
    assert np.array_equal(net["rnn"].params["weight"], before["rnn.weight"])


# ---- ONNX ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "settings"), LAYERS, ids=IDS)
@pytest.mark.parametrize("last", [False, True])
def test_streaming_onnx_carries_its_state(layer, settings, last):
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    net = one(layer(4, return_sequences=not last, stateful=True, name="cell", **settings), (1, 2), np.float32)
    model = net.to_onnx()
    props = {p.key: p.value for p in model.metadata_props}
    pairs = json.loads(props["edgeprop.states"])
    assert pairs == {f"cell.{s}": f"cell.{s}_next" for s in net[0].states}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {i.name for i in session.get_inputs()} == {"input", *pairs}
    assert onnx.checker.check_model(model, full_check=True) is None
    states = {name: np.zeros((3, 1, 4), np.float32) for name in pairs}
    names = ["output", *pairs.values()]
    for frame in np.moveaxis(normal(3, 5, 2).astype(np.float32), 1, 0):
        results = dict(zip(names, session.run(names, {"input": frame[:, None], **states}), strict=True))
        np.testing.assert_allclose(results["output"], net.predict(frame[:, None]), rtol=1e-5, atol=1e-6)
        states = {name: results[following] for name, following in pairs.items()}


def test_nodes_are_named_after_layers():
    pytest.importorskip("onnx")
    net = t.Sequential(t.GRU(3, name="gru", bidirectional=True), t.Dense(2, name="head"))
    net.build((4, 2))
    nodes = {node.name: node.op_type for node in net.to_onnx().graph.node}
    assert nodes["gru"] == "GRU"
    assert set(nodes) == {"gru", "gru.time", "gru.batch", "gru.joined", "head"}
    assert {i.name for i in net.to_onnx().graph.initializer} > {"gru.weight", "gru.recurrent_weight", "gru.bias"}


# ---- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.LSTM(0), "LSTM units"),
        (lambda: t.GRU(2, truncate=0), "GRU truncate"),
        (lambda: t.SimpleRNN(2, activation="sigmoid"), "'tanh' or 'relu'"),
        (lambda: t.LSTM(2, forget_bias=math.nan), "forget_bias"),
        (lambda: t.LSTM(2, init="orthogonl"), "Did you mean 'orthogonal'"),
        (lambda: t.Sequential(t.LSTM(2)).build((3,)), r"layer 'lstm_1'.*\(steps, features\)"),
        (lambda: t.Sequential(t.TimeDense(2)).build((3,)), r"\(steps, n_in\)"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_show():
    shown = [
        t.LSTM(3, truncate=5, stateful=True),
        t.GRU(3, linear_before_reset=False, bidirectional=True),
        t.SimpleRNN(2, activation="relu", return_sequences=True),
    ]
    assert [str(layer) for layer in shown] == [
        "LSTM(3, stateful=True, truncate=5)",
        "GRU(3, bidirectional=True, linear_before_reset=False)",
        "SimpleRNN(2, return_sequences=True, activation='relu')",
    ]
