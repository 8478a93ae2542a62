"""A loss that applies the last activation itself looks in front of it, in training as on the device."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop import export
from edgeprop import trainer as t

RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 5)).astype("f")
LABELS = (X @ RNG.normal(size=(5, 3))).argmax(axis=1)
BINARY = (LABELS[:, None] > 0).astype("f")
ENDS = [
    pytest.param("softmax_cross_entropy", LABELS, 3, [t.Softmax], id="softmax"),
    pytest.param("softmax_cross_entropy", LABELS, 3, [t.Softmax, t.Flatten], id="softmax, flatten"),
    pytest.param("softmax_cross_entropy", LABELS, 3, [t.LogSoftmax], id="log softmax"),
    pytest.param("sigmoid_cross_entropy", BINARY, 1, [t.Sigmoid], id="sigmoid"),
    pytest.param("softmax_cross_entropy", LABELS, 3, [lambda: t.Sequential(t.Softmax())], id="inside a network"),
]


def body(outputs: int, *last: Any) -> t.Sequential:
    return t.Sequential(t.Dense(8), t.ReLU(), t.Dense(outputs, name="head"), *(layer() for layer in last))


@pytest.mark.parametrize(("loss", "y", "outputs", "last"), ENDS)
def test_it_trains_as_without_the_activation(loss: str, y: Any, outputs: int, last: list[Any]) -> None:
    settings: Any = {"loss": loss, "optimizer": t.SGD(0.1), "epochs": 3, "validation": (X, y)}
    plain, whole = body(outputs), body(outputs, *last)
    plain.build((5,))
    whole.build((5,))
    whole.load_state_dict(plain.state_dict())
    expected = t.fit(plain, X, y, **settings)
    history = t.fit(whole, X, y, **{**settings, "optimizer": t.SGD(0.1)})
    for column in ("train_loss", "train_metric", "val_loss", "val_metric"):
        np.testing.assert_allclose(getattr(history, column), getattr(expected, column), rtol=1e-6, err_msg=column)
    for name, value in plain.state_dict().items():
        np.testing.assert_array_equal(whole.state_dict()[name], value)
    scores = plain.predict(X)
    for layer in last:
        scores = t.Sequential(layer()).predict(scores)
    np.testing.assert_array_equal(whole.predict(X), scores)
    assert t.evaluate(whole, X, y, loss=loss) == t.evaluate(plain, X, y, loss=loss)


@pytest.mark.parametrize(("loss", "y", "outputs", "last"), ENDS)
def test_its_loss_is_the_devices(loss: str, y: Any, outputs: int, last: list[Any], tmp_path: Path) -> None:
    net = body(outputs, *last)
    t.fit(net, X, y, loss=loss, epochs=5)
    export.save(tmp_path / "m", net, trainable="head", loss=loss)
    model = edgeprop.Model(tmp_path / "m.ep")
    target = y if outputs > 1 else y.astype("f")
    learned = model.partial_fit(X, target, lr=1e-9)
    assert math.isclose(learned.loss_, t.evaluate(net, X, y, loss=loss).loss, rel_tol=1e-5)


def two_ends(outputs: tuple[str, ...]) -> t.Graph:
    nodes = {
        "scores": (t.Dense(3), "x"),
        "shares": (t.Softmax(), "scores"),
        "certain": (t.Dense(1), "shares"),
        "chance": (t.Sigmoid(), "certain"),
    }
    return t.Graph(["x"], nodes, outputs=outputs)


def test_each_of_several_outputs_is_looked_at_by_its_own_loss() -> None:
    nets = two_ends(("shares", "chance")), two_ends(("scores", "certain"))
    losses = t.JointLoss("softmax_cross_entropy", "sigmoid_cross_entropy", weights=(1.0, 0.5))
    for net in nets:
        history = t.fit(net, X, (LABELS, BINARY), loss=losses, optimizer=t.SGD(0.1), epochs=3)
    whole, plain = nets
    np.testing.assert_array_equal(whole["scores"].params["weight"], plain["scores"].params["weight"])
    assert t.evaluate(whole, X, (LABELS, BINARY), loss=losses) == t.evaluate(plain, X, (LABELS, BINARY), loss=losses)
    assert history.train_loss[-1] < history.train_loss[0]
    np.testing.assert_allclose(whole.predict(X)[0].sum(axis=1), 1, rtol=1e-5)


def test_two_outputs_may_end_in_the_same_logits() -> None:
    """Their gradients add up there."""
    net = two_ends(("scores", "shares"))
    t.check_gradients(net, X[:4], (LABELS[:4], LABELS[:4]), "softmax_cross_entropy")


def test_a_loss_of_numbers_sees_the_activation() -> None:
    net = body(3, t.Softmax)
    net.build((5,))
    wanted = np.eye(3, dtype="f")[LABELS]
    assert math.isclose(
        t.evaluate(net, X, wanted, loss="mse").loss, float(np.square(net.predict(X) - wanted).mean()), rel_tol=1e-6
    )


def test_selective_backprop_ranks_by_the_same_loss() -> None:
    net = body(3, t.Softmax)
    history = t.fit(net, X, LABELS, optimizer=t.Adam(0.05), epochs=80, selective_backprop=t.SelectiveBackprop(1.0))
    assert history.train_loss[-1] < math.log(1 + 2 / math.e)  # where softmax of a softmax ends


def test_a_callback_sees_probabilities() -> None:
    net, sums = body(3, t.Softmax), []
    t.fit(net, X, LABELS, epochs=1, callbacks=[lambda net, history: sums.append(net.predict(X).sum())])
    assert sums == pytest.approx([len(X)], rel=1e-5)


def test_what_others_read_is_refused_before_anything_is_trained() -> None:
    nodes = {
        "head": (t.Sequential(t.Dense(3), t.Softmax()), "x"),
        "again": (t.Dense(2), "head"),
    }
    net = t.Graph(["x"], nodes, outputs=("head", "again"))
    net.build((5,))
    before = net.state_dict()
    with pytest.raises(ValueError, match=r"'head' ends in a layer that softmax_cross_entropy applies itself.*again"):
        t.fit(net, X, (LABELS, LABELS % 2), loss="softmax_cross_entropy")
    assert all((value == before[name]).all() for name, value in net.state_dict().items())
    assert net.ends is None
    assert net["head"].ends is None


def test_an_error_in_training_leaves_the_outputs_as_they_are() -> None:
    net = body(3, t.Softmax)
    with pytest.raises(t.DivergedError):
        t.fit(net, X * np.float32(1e30), LABELS, optimizer=t.SGD(1e30), epochs=2)
    assert net.ends is None


def test_a_forward_of_its_own_takes_what_the_network_gives() -> None:
    seen: list[Any] = []

    class OfProbabilities(t.SoftmaxCrossEntropy):
        def forward(self, scores: Any, target: Any) -> float:
            seen.append(scores.sum(axis=1))
            return super().forward(np.log(scores), target)

    class OfLogits(OfProbabilities):
        applies = ("softmax",)

        def forward(self, scores: Any, target: Any) -> float:
            return t.SoftmaxCrossEntropy.forward(self, scores, target)

    net = body(3, t.Softmax)
    net.build((5,))
    found = [t.evaluate(net, X, LABELS, loss=loss)[0] for loss in (OfProbabilities(), OfLogits())]
    np.testing.assert_allclose(np.concatenate(seen), 1, rtol=1e-5)
    np.testing.assert_allclose(found, t.evaluate(net, X, LABELS, loss="softmax_cross_entropy")[0], rtol=1e-5)
