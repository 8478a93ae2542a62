"""Training: reproducible, stoppable, and careful with what it is given."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from edgeprop import trainer as t

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)


def small(**settings):
    return t.Sequential(t.Dense(8), t.Tanh(), t.Dropout(0.2), t.Dense(2, name="head"), **settings)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_same_seed_same_bits():
    states = []
    for seed in (1, 1, 2):
        net = small()
        t.fit(net, X, Y, epochs=3, batch_size=7, seed=seed)
        states.append(net.state_dict())
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_seed_governs_order_and_dropout_of_a_built_network_too():
    results = []
    for seed, passes in ((1, 1), (1, 2), (2, 1)):
        net = small()
        net.build(4, seed=0)
        for _ in range(passes):  # moves the dropout's random numbers
            net.forward(X, training=True)
        t.fit(net, X, Y, epochs=1, seed=seed)
        results.append(net.state_dict())
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_batches_see_every_sample_once_and_never_a_lonely_one():
    from edgeprop.trainer.fit import batches

    for n in range(1, 40):
        for size in range(1, 12):
            parts = [np.arange(n)[b] for b in batches(np.arange(n), size)]
            assert np.concatenate(parts).tolist() == list(range(n))
            assert all(len(p) <= size + 1 for p in parts)
            assert n == 1 or size == 1 or min(map(len, parts)) > 1
    net = t.Sequential(t.Dense(3), t.BatchNorm(), t.Dense(2))
    t.fit(net, X[:33], Y[:33], batch_size=32, epochs=1)


def test_shuffle_off_keeps_the_order():
    seen = []

    class Spy(t.MeanSquaredError):
        def forward(self, scores, target):
            seen.extend(target[:, 0].tolist())
            return super().forward(scores, target)

    y = np.arange(60.0)[:, None]
    fit = lambda shuffle: t.fit(t.Sequential(t.Dense(1)), X, y / 60, loss=Spy(), epochs=1, shuffle=shuffle)  # noqa: E731
    fit(False)
    assert seen == (y[:, 0].astype(np.float32) / np.float32(60)).tolist()
    seen.clear()
    fit(True)
    assert seen != sorted(seen)
    assert len(set(seen)) == 60


def test_history_has_an_entry_per_epoch():
    history = t.fit(small(), X, Y, epochs=4, validation=(X[:9], Y[:9]), optimizer=t.Adam(0.01))
    for column in ("train_loss", "train_metric", "val_loss", "val_metric", "seconds", "learning_rate"):
        values = getattr(history, column)
        assert len(values) == len(history) == 4
        assert all(math.isfinite(v) for v in values)
    assert history.metric_name == "accuracy"
    assert history.train_loss[-1] < history.train_loss[0]
    assert "val loss" in str(history)
    assert math.isnan(t.fit(small(), X, Y, epochs=1).val_loss[0])


def test_history_without_training_is_the_data_itself():
    net = t.Sequential(t.Dense(2))
    history = t.fit(net, X, Y, epochs=1, optimizer=t.SGD(0.0), batch_size=7, validation=(X, Y))
    loss, accuracy = t.evaluate(net, X, Y)
    assert history.train_loss[0] == pytest.approx(loss, rel=1e-5) == history.val_loss[0]
    assert history.train_metric[0] == pytest.approx(accuracy) == history.val_metric[0]


def test_evaluate_by_hand():
    net = t.Sequential(t.Dense(2, init="zeros"))
    loss, accuracy = t.evaluate(net, X, np.zeros(60, int))
    assert loss == pytest.approx(math.log(2))
    assert accuracy == 1


def test_history_plots(tmp_path):
    history = t.fit(small(), X, Y, epochs=2, validation=(X, Y), early_stopping=t.EarlyStopping(5))
    figure = history.plot(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["training", "validation", "weights kept"]
    assert figure.axes[1].get_ylabel() == "accuracy"


def test_early_stopping_gives_the_best_weights_back():
    states, net = [], small()
    history = t.fit(
        net,
        X[:20],
        Y[:20],
        epochs=200,
        validation=(X[20:], 1 - Y[20:]),  # learning makes it worse, sooner or later
        optimizer=t.Adam(0.05),
        early_stopping=t.EarlyStopping(patience=3),
        callbacks=[lambda net, history: states.append(net.state_dict()) or False],
    )
    best = int(np.argmin(history.val_loss))
    assert history.stopped_early
    assert history.best_epoch == best
    assert len(history) == best + 4
    assert same(net.state_dict(), states[best])
    assert not same(states[best], states[-1])


def test_early_stopping_watches_what_it_is_told():
    class Scripted:
        """A history that a test writes."""

        def __init__(self, values):
            self.val_metric = list(values)
            self.best_epoch = None

        def __len__(self):
            return len(self.val_metric)

    stopping = t.EarlyStopping(2, min_delta=0.1, monitor="val_metric")
    stopping.start(True)
    net = t.Sequential(t.Dense(1))
    net.build(1)
    values = [0.1, 0.5, 0.55, 0.59]
    stops = [stopping(net, Scripted(values[: i + 1])) for i in range(4)]
    assert stops == [False, False, False, True]
    with pytest.raises(ValueError, match="validation"):
        t.fit(small(), X, Y, epochs=2, early_stopping=t.EarlyStopping())
    with pytest.raises(ValueError, match="val_loss"):
        t.EarlyStopping(monitor="vall_loss")


def test_standing_still_is_no_improvement():
    """A number that stays the same runs out of patience, and the best epoch is the first of them."""
    net = t.Sequential(t.Dense(1))
    net.build(1)
    stopping = t.EarlyStopping(3, monitor="train_loss")
    stopping.start(True)
    history, stopped = t.History(), []
    for loss in (2.0, 1.0, 1.0, 1.0, 1.0):
        history.append(train_loss=loss, train_metric=0.0, val_loss=0.0, val_metric=0.0, learning_rate=0.1, seconds=0.0)
        stopped.append(stopping(net, history))
    assert stopped == [False, False, False, False, True]
    assert history.best_epoch == 1


def test_an_optimizer_forgets_what_diverged():
    """Its velocity and moments are not those of the weights that came back."""
    for rule in (t.Momentum(1e30), t.Adam(1e30)):
        net = t.Sequential(t.Dense(8), t.Dense(1))
        with pytest.raises(t.DivergedError):
            t.fit(net, X, X[:, :1], loss="mse", optimizer=rule, epochs=3)
        assert rule.steps == 0
        assert not rule.state


def test_callback_ends_training():
    history = t.fit(small(), X, Y, epochs=9, callbacks=[lambda net, history: len(history) == 2])
    assert len(history) == 2
    assert history.stopped_early


def test_frozen_layers_cost_nothing_and_stay(monkeypatch):
    net = t.Sequential(
        t.Dense(6, name="a"), t.BatchNorm(name="n"), t.ReLU(name="r"), t.Dropout(0.1, name="d"), t.Dense(2, name="head")
    )
    net.build(4)
    for name in "an":
        net[name].trainable = False
    before = net.state_dict()
    for name in ("a", "n", "r", "d"):
        monkeypatch.setattr(net[name], "backward", lambda dy: pytest.fail("walked past the first trainable layer"))
    t.fit(net, X, Y, epochs=2)
    after = net.state_dict()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert not any(isinstance(net[name]._saved, np.ndarray) for name in ("a", "r", "d"))
    net.trainable = False
    with pytest.raises(ValueError, match="nothing to train"):
        t.fit(net, X, Y)


def test_first_layer_computes_no_dx(monkeypatch):
    net = t.Sequential(t.Conv2D(2, 3), t.Flatten(), t.Dense(2))
    net.build((1, 5, 5))
    monkeypatch.setattr(net[0].windows.__class__, "scatter", lambda *a: pytest.fail("computed dx of the input"))
    t.fit(net, RNG.normal(size=(8, 1, 5, 5)), np.arange(8) % 2, epochs=1)
    assert net.need_dx
    monkeypatch.undo()
    net.forward(np.ones((1, 1, 5, 5)), training=True)
    assert net.backward(np.ones((1, 2))).shape == (1, 1, 5, 5)


def test_partial_fit_takes_one_step():
    net, twin = small(), small()
    net.build(4, seed=3), twin.build(4, seed=3)
    for each in (net, twin):
        each[2].rate = 0.0
    optimizer = t.SGD(0.5)
    before = t.evaluate(net, X, Y).loss
    assert t.partial_fit(net, X, Y, optimizer=optimizer) == pytest.approx(before, rel=1e-5)
    assert t.evaluate(net, X, Y).loss < before
    t.fit(twin, X, Y, optimizer=t.SGD(0.5), epochs=1, batch_size=60, shuffle=False)
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value, twin.state_dict()[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="object"):
        t.partial_fit(net, X, Y, optimizer="sgd")


def bad(x, value):
    x = np.array(x)
    x[3] = value
    return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": bad(X, np.nan)}, "x holds NaN or infinity in 1 of 60 samples"),
        ({"x": bad(X, np.inf)}, "NaN or infinity"),
        ({"x": X[:, :3]}, r"samples of shape \(3,\).*takes \(4,\)"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": [["a"] * 4], "y": [0]}, "not an array of numbers"),
        ({"x": 3.0}, "batch axis"),
        ({"x": X.T}, r"columns, give x\.T"),
        ({"x": X[0]}, r"give x\[None\] for a single sample"),
        ({"y": Y[:-1]}, "one label each"),
        ({"y": Y + 1}, r"must lie in \[0, 1\]"),
        ({"y": Y.astype(float)}, "integers"),
        ({"loss": "softmax"}, "Did you mean 'softmax_cross_entropy'"),
        ({"optimizer": "adamm"}, "Did you mean 'adam'"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"clip_norm": 0}, "clip_norm"),
        ({"clip_norm": 1e-46}, "clip_norm=1e-46.*float32"),
        ({"clip_value": 1e-46}, "clip_value=1e-46.*float32"),
        ({"l2": 1e-46}, "l2=1e-46.*float32"),
        ({"clip_value": math.nan}, "clip_value"),
        ({"validation": (X, Y, Y)}, "pair"),
        ({"validation": (bad(X, np.nan), Y)}, "validation x holds NaN"),
        ({"validation": (X, Y + 5)}, "labels lie in"),
        ({"seed": -1}, "seed"),
        ({"seed": "a"}, "seed"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(arguments, message):
    net = small()
    net.build(4, seed=1)
    before = net.state_dict()
    settings = {"x": X, "y": Y, **arguments}
    with pytest.raises(ValueError, match=message):
        t.fit(net, settings.pop("x"), settings.pop("y"), **settings)
    assert same(before, net.state_dict())


def test_a_failed_first_fit_does_not_fix_the_seed():
    net, clean = small(), small()
    with pytest.raises(ValueError, match="labels lie in"):
        t.fit(net, X, Y + 9, seed=1)
    assert not net.built
    t.fit(net, X, Y, seed=2, epochs=1)
    t.fit(clean, X, Y, seed=2, epochs=1)
    assert same(net.state_dict(), clean.state_dict())


@pytest.mark.parametrize("optimizer", [t.SGD(1e30), t.SGD(3e38)])
@pytest.mark.filterwarnings("error")
def test_divergence_stops_with_the_last_good_weights(optimizer):
    net = t.Sequential(t.Dense(8), t.Dense(1))
    good = t.fit(net, X, X[:, :1], loss="mse", optimizer=t.SGD(0.01), epochs=2)
    assert len(good) == 2
    before = net.state_dict()
    with pytest.raises(t.DivergedError, match="lower learning rate"):
        t.fit(net, X, X[:, :1], loss="mse", optimizer=optimizer, epochs=3)
    assert same(before, net.state_dict())
    huge = 1e30 * X[:, :1]  # whose square no float32 holds
    with pytest.raises(FloatingPointError, match="the loss became inf in this step"):
        t.partial_fit(net, X, huge, loss="mse", optimizer=optimizer)
    assert same(before, net.state_dict())


def test_no_bar_unless_somebody_watches(capfd):
    t.fit(small(), X, Y, epochs=2)
    assert capfd.readouterr() == ("", "")
    pytest.importorskip("tqdm")
    t.fit(small(), X, Y, epochs=2, progress=True)
    assert "2/2" in capfd.readouterr().err


def test_networks_survive_pickling():
    net = small()
    net.forward(X, training=True)
    clone = pickle.loads(pickle.dumps(net))
    assert np.array_equal(clone.predict(X), net.predict(X))


def test_importing_needs_numpy_alone():
    code = (
        "import sys; from edgeprop import trainer\n"
        "heavy = {'onnx', 'onnxruntime', 'matplotlib', 'tqdm', 'scipy', 'sklearn', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((4, 8, 6, 3), r"give x\.transpose\(0, 3, 1, 2\)"),
        ((4, 3, 6, 8), r"give x\.transpose\(0, 1, 3, 2\)"),
        ((4, 144), r"reshape it to \(-1, 3, 8, 6\)"),
        ((4, 3, 8, 7), "give samples of that shape"),
    ],
)
def test_samples_of_another_shape_are_told_what_fits(shape: tuple[int, ...], cure: str) -> None:
    """NHWC reshaped to NCHW would fit, and scramble every picture."""
    net = t.Sequential(t.Conv2D(2, 3), t.Flatten(), t.Dense(2))
    net.build((3, 8, 6), seed=0)
    with pytest.raises(ValueError, match=cure):
        t.fit(net, np.zeros(shape), np.zeros(4, int), epochs=1)
    for use in (net.predict, net.forward):
        with pytest.raises(ValueError, match=cure):
            use(np.zeros(shape))
