"""Streams and steps at their edges: several streams at once, records and states, steps that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeprop
from edgeprop import _learning, _records, export
from edgeprop import trainer as t
from edgeprop._context import Context
from edgeprop._core import lib
from edgeprop.export.writers.image import to_image
from tests.support.image import image, mlp

N_IN, UNITS = 3, 5
RANDOM = np.random.default_rng(5)
FRAMES = RANDOM.normal(size=(9, 1, N_IN)).astype("f4")


@pytest.fixture(scope="module", params=["gru", "lstm"])
def stream(request: pytest.FixtureRequest) -> bytes:
    """A net of one frame at a time with a recurrent layer that keeps its state; all of it trains."""
    layer = {"gru": t.GRU, "lstm": t.LSTM}[request.param](UNITS, stateful=True, name="cell")
    net = t.Sequential(layer, t.Dense(4, name="head"))
    net.build((1, N_IN), seed=0)
    return to_image(export.lower(net.to_onnx(), name="stream", trainable="*", loss="softmax_cross_entropy"))


def context(data: bytes, batch: int, what: int) -> Context:
    return Context(edgeprop.Model(data)._image, batch, what)


def test_states_are_set_for_every_stream(stream: bytes) -> None:
    """Those of the second and third too: each sample of a chunk starts from the state that was set, not from another's."""
    model = edgeprop.Model(stream)
    model.run(FRAMES[:4])
    here, rows = model._states, FRAMES[4:7]
    assert here is not None
    assert here.any()
    one_by_one = []
    for row in rows:
        model._states = here
        one_by_one.append(model.run(row[None])[0])
    many = context(stream, 3, 0)
    many.set_states(here)
    np.testing.assert_array_equal(many.states(), here)
    for stream_index in range(3):
        got = np.concatenate([many.arena[at : at + size] for at, size in many._state_places(stream_index)])
        np.testing.assert_array_equal(got, here)
    (found,) = many.run([rows.reshape(3, -1)])
    np.testing.assert_allclose(found, np.concatenate(one_by_one).reshape(3, -1), rtol=1e-5, atol=1e-6)
    many.set_states(None)
    for stream_index in range(3):
        assert not any(many.arena[at : at + size].any() for at, size in many._state_places(stream_index))


def test_trace_and_gradients_of_several_samples_start_from_where_the_stream_is(stream: bytes) -> None:
    model = edgeprop.Model(stream)
    model.run(FRAMES[:4])
    rows, labels = FRAMES[4:7], np.array([0, 3, 1])
    traces = [model.trace(row[None]) for row in rows]
    for name, found in model.trace(rows).items():
        np.testing.assert_allclose(
            found, np.concatenate([one[name] for one in traces]), rtol=1e-5, atol=1e-6, err_msg=name
        )
    gradients = [model.gradients(row[None], labels[i : i + 1]) for i, row in enumerate(rows)]
    found = model.gradients(rows, labels)
    for name in model.parameters():
        mean = np.mean([one[name] for one in gradients], axis=0)
        np.testing.assert_allclose(found[name], mean, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_restored_head_begins_a_stream_anew(stream: bytes, tmp_path: Path) -> None:
    """In C, without Python's help: states of all streams are zero after ep_restore."""
    path = tmp_path / "me.head"
    model = edgeprop.Model(stream)
    model.partial_fit(FRAMES, np.arange(9) % 4).save(path)
    running = context(stream, 2, lib.EP_FOR_RESTORE)
    running.set_states(np.full(len(running.states()), 0x3F, np.uint8))
    _records.restore(running, path)
    for stream_index in range(2):
        assert not any(running.arena[at : at + size].any() for at, size in running._state_places(stream_index))
    np.testing.assert_allclose(
        running.run([FRAMES[:1].reshape(1, -1)])[0].ravel(), model.run(FRAMES[:1])[0].ravel(), rtol=1e-6
    )


def test_a_refused_record_leaves_the_stream(stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    edgeprop.Model(image(mlp((6, 8, 4), trainable=2))).save(path)
    running = context(stream, 2, lib.EP_FOR_RESTORE)
    states = np.full(len(running.states()), 0x3F, np.uint8)
    running.set_states(states)
    weights = running.params()
    with pytest.raises(edgeprop.Error):
        _records.restore(running, path)
    np.testing.assert_array_equal(running.states(), states)
    np.testing.assert_array_equal(running.params(), weights)


X = RANDOM.normal(size=(8, 6)).astype("f4")
Y = (np.arange(8) % 4).astype("i4")
HUGE = np.full((1, 6), 3e38, "f4")


@pytest.mark.parametrize("batch", [0, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_a_refused_step_leaves_what_the_next_one_goes_by(optimizer: str, batch: int) -> None:
    """Weights, optimizer state and its count, gradient sums, the quantile of the losses: C itself, no copy put back."""
    data = image(mlp((6, 8, 4), trainable=2))
    share = 0.0 if batch else 0.5
    step = _learning.make_step(0.05, optimizer, 0.9, 0.999, 1e-8, 0.0, 0.0, 0.0, share)
    what = lib.EP_FOR_TRAIN | (lib.EP_FOR_SUMS if batch else 0)
    contexts = [
        Context(edgeprop.Model(data)._image, max(1, batch), what, _learning.find_optimizer(optimizer)) for _ in range(2)
    ]
    for trainer in contexts:
        _learning.epoch(trainer, X, Y, step, batch)
    steady, disturbed = contexts
    before = disturbed.params()
    reckless = _learning.make_step(3e38, optimizer, 0.9, 0.999, 1e-8, 3e38, 0.0, 0.0, share)
    hard = 30 * X[:1]  # a loss that is finite, and large enough not to be skipped
    label = int(disturbed.run([hard])[0].argmin())
    refused = [(np.concatenate([X[:2], HUGE]) if batch else HUGE, step), (hard, reckless), (hard, reckless)]
    for x, too_far in refused:
        with pytest.raises(edgeprop.Error) as error:
            _learning.epoch(disturbed, x, np.full(len(x), label, "i4"), too_far, batch)
        assert error.value.code == "EP_ERR_DIVERGED"
        np.testing.assert_array_equal(disturbed.params(), before)
    for trainer in contexts:
        _learning.epoch(trainer, X, Y, step, batch)
    np.testing.assert_array_equal(disturbed.params(), steady.params())
    assert disturbed.ep.skipped == steady.ep.skipped


@pytest.mark.parametrize("batch", [0, 2])
def test_a_refused_step_leaves_the_stream(stream: bytes, batch: int) -> None:
    trainer = context(stream, max(1, batch), lib.EP_FOR_TRAIN | (lib.EP_FOR_SUMS if batch else 0))
    states = RANDOM.normal(size=len(trainer.states()) // 4).astype("f4").view(np.uint8)
    trainer.set_states(states)
    step = _learning.make_step(3e38, "sgd", 0.9, 0.999, 1e-8, 3e38, 0.0)
    weights = trainer.params()
    with pytest.raises(edgeprop.Error) as error:
        _learning.epoch(trainer, np.full((2, N_IN), 2.0, "f4"), np.array([0, 1], "i4"), step, batch)
    assert error.value.code == "EP_ERR_DIVERGED"
    np.testing.assert_array_equal(trainer.states(), states)
    np.testing.assert_array_equal(trainer.params(), weights)


def test_r2_of_several_outputs_is_that_of_all() -> None:
    """Each output's own mean is what it is measured against: targets far apart must not make any answer look good."""
    model = edgeprop.Model(image(mlp((6, 8, 3), trainable=2, loss="mse")))
    x = RANDOM.normal(size=(40, 6)).astype("f4")
    y = model.predict(x).astype("f8") + RANDOM.normal(size=(40, 3)) * [0.5, 2.0, 0.1]
    residual, total = np.square(y - model.predict(x)).sum(), np.square(y - y.mean(axis=0)).sum()
    assert model.score(x, y) == pytest.approx(1 - residual / total, rel=1e-5)
    moved = y + np.array([0.0, 100.0, -1000.0])
    residual = np.square(moved - model.predict(x)).sum()
    assert model.score(x, moved) == pytest.approx(1 - residual / total, rel=1e-4)
    assert model.score(x, moved) < -100
    assert model.score(x, model.predict(x)) == 1
    assert model.score(x, np.tile(y[:1], (40, 1))) == 0  # constant targets, and not met
