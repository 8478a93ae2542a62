"""Selective backprop: what it skips, what that saves, and that the network learns all the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprop import trainer as t


def spirals(n, seed=0):
    """Two arms (n, 2) that only a curved line parts, and which one each point is of."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    radius = np.sqrt(rng.random(n))
    angle = 5 * radius + np.pi * y
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + rng.normal(0, 0.02, (n, 2))
    return 2 * x.astype(np.float32), y


def net():
    return t.Sequential(t.Dense(32), t.Tanh(), t.Dense(32), t.Tanh(), t.Dense(2))


def counting(monkeypatch):
    """Count the samples that go forward and back through the last Dense layer."""
    counts = {"forward": 0, "backward": 0}
    for name in counts:
        original = getattr(t.Dense, name)

        def method(self, array, *args, _original=original, _name=name, **kwargs):
            counts[_name] += len(array) if self.units == 2 else 0
            return _original(self, array, *args, **kwargs)

        monkeypatch.setattr(t.Dense, name, method)
    return counts


def test_probabilities_are_ranks_to_the_power_of_beta():
    losses = np.array([0.1, 4.0, 0.2, 0.2])
    assert t.SelectiveBackprop(2).probabilities(losses).tolist() == [1 / 16, 1, 9 / 16, 9 / 16]
    assert t.SelectiveBackprop(0).probabilities(losses).tolist() == [1] * 4
    assert t.SelectiveBackprop().probabilities(np.ones(5)).tolist() == [1] * 5  # nothing to tell them apart by
    choice = t.SelectiveBackprop(1, window=4)
    choice.probabilities(np.array([9.0, 8.0, 7.0]))
    assert choice.probabilities(np.array([1.0, 7.5])).tolist() == [1 / 4, 3 / 4]  # among 8, 7, 1, 7.5
    choice.start(np.random.default_rng(0))
    assert choice.probabilities(np.array([1.0])).tolist() == [1]


@pytest.mark.parametrize(("beta", "share"), [(1, 1 / 2), (2, 1 / 3), (3, 1 / 4)])
def test_share_chosen_is_one_over_beta_plus_one(beta, share):
    choice, rng = t.SelectiveBackprop(beta), np.random.default_rng(7)
    chosen = [choice.choose(rng.random(100)).mean() for _ in range(100)]
    assert np.mean(chosen) == pytest.approx(share, abs=0.02)


def test_it_learns_with_half_of_the_backward_passes(monkeypatch, capsys):
    x, y = spirals(1200)
    xv, yv = spirals(500, 1)
    results = {}
    for name, selective in (("all", None), ("selective", t.SelectiveBackprop(1.0))):
        counts = counting(monkeypatch)
        model = net()
        history = t.fit(
            model, x, y, epochs=40, optimizer=t.Adam(0.01), selective_backprop=selective, seed=1, batch_size=32
        )
        forward, backward = counts["forward"], counts["backward"]
        monkeypatch.undo()
        results[name] = (t.evaluate(model, xv, yv).metric, forward, backward, history)
    (plain, _, all_back, plain_history), (accuracy, forward, backward, history) = results.values()
    assert all_back == 40 * 1200
    assert plain_history.skipped == [0] * 40
    assert backward == 40 * 1200 - sum(history.skipped)
    assert forward == 40 * 1200 + backward  # those chosen go forward again
    assert backward < 0.55 * all_back
    assert plain > 0.97
    assert accuracy > 0.97
    with capsys.disabled():
        print(
            f"\n  {backward / all_back:.0%} of the backward passes: {accuracy:.1%} right, with all {plain:.1%} ", end=""
        )


def test_beta_0_is_ordinary_training():
    x, y = spirals(128)
    states = []
    for selective in (None, t.SelectiveBackprop(0)):
        model = net()
        history = t.fit(model, x, y, epochs=2, selective_backprop=selective)
        assert history.skipped == [0, 0]
        states.append(model.state_dict())
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(("chosen", "back"), [(17, 16), (18, 18), (1, 0), (16, 16)])
def test_a_lonely_sample_at_the_end_of_an_epoch_is_left_out(chosen, back):
    """Batch norm needs company."""

    class First(t.SelectiveBackprop):
        def choose(self, losses):
            left = chosen - self.taken
            self.taken += min(left, len(losses))
            return np.arange(len(losses)) < left

    x, y = spirals(48)
    choice = First()
    choice.taken = 0
    model = t.Sequential(t.Dense(4), t.BatchNorm(), t.ReLU(), t.Dense(2))
    history = t.fit(model, x, y, epochs=1, batch_size=16, selective_backprop=choice)
    assert history.skipped == [48 - back]


def test_same_seed_same_choice():
    x, y = spirals(300)
    choice, states = t.SelectiveBackprop(2), []
    for _ in range(2):
        model = net()
        history = t.fit(model, x, y, epochs=3, selective_backprop=choice)
        states.append((history.skipped, model.state_dict()))
    assert states[0][0] == states[1][0]
    assert min(states[0][0]) > 0
    assert all(np.array_equal(states[0][1][key], states[1][1][key]) for key in states[0][1])


def test_several_outputs():
    model = t.Graph(["x"], {"h": (t.Dense(8), "x"), "a": (t.Dense(2), "h"), "b": (t.Dense(1), "h")}, outputs=["a", "b"])
    x, y = spirals(100)
    loss = t.JointLoss("softmax_cross_entropy", "mse")
    history = t.fit(model, x, (y, x[:, :1]), loss=loss, epochs=5, selective_backprop=t.SelectiveBackprop())
    assert history.train_loss[-1] < history.train_loss[0]
    assert 0 < history.skipped[0] < 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selective_backprop": 2.0}, "give an object"),
        ({"selective_backprop": t.SelectiveBackprop(), "loss": "triplet"}, "compares samples"),
    ],
)
def test_refusals(settings, message):
    x, y = spirals(20)
    with pytest.raises(ValueError, match=message):
        t.fit(net(), x, y, epochs=1, **settings)
    with pytest.raises(ValueError, match="beta"):
        t.SelectiveBackprop(-1)
    with pytest.raises(ValueError, match="window"):
        t.SelectiveBackprop(window=0)


def test_stateful_layers_refuse_it():
    model = t.Sequential(t.GRU(2, stateful=True), t.Dense(2))
    with pytest.raises(ValueError, match="order"):
        t.fit(model, np.ones((8, 3, 1)), np.arange(8) % 2, selective_backprop=t.SelectiveBackprop())
