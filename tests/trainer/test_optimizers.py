"""Optimizers against a second implementation in plain Python, number by number; schedules; clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeprop import trainer as t
from edgeprop.trainer.graph import Parameter

GRADIENTS = [0.5, -1.0, 0.25, 2.0, 0.0]


def run(optimizer, w=1.0):
    """Return the weight after each step along GRADIENTS."""
    value, path = np.array([w]), []
    for g in GRADIENTS:
        optimizer.step([t.Parameter("w", value, np.array([g]))])
        path.append(float(value[0]))
    return path


def by_hand(update, w=1.0):
    path = []
    for step, g in enumerate(GRADIENTS, start=1):
        w = update(w, g, step)
        path.append(w)
    return path


def test_sgd_by_hand():
    assert run(t.SGD(0.1)) == pytest.approx([0.95, 1.05, 1.025, 0.825, 0.825])


def test_weight_decay_joins_the_gradient():
    assert run(t.SGD(0.1, weight_decay=0.5)) == pytest.approx(by_hand(lambda w, g, _: w - 0.1 * (g + 0.5 * w)))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_momentum(nesterov, decay):
    v = 0.0

    def update(w, g, _):
        nonlocal v
        g = g + decay * w
        v = 0.8 * v + g
        return w - 0.1 * (g + 0.8 * v if nesterov else v)

    expected = by_hand(update)
    assert run(t.SGD(0.1, momentum=0.8, nesterov=nesterov, weight_decay=decay)) == pytest.approx(expected)
    assert run(t.Momentum(0.1, 0.8, nesterov=nesterov, weight_decay=decay)) == pytest.approx(expected)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_adam(decay):
    m = s = 0.0

    def update(w, g, step):
        nonlocal m, s
        g = g + decay * w
        m, s = 0.7 * m + 0.3 * g, 0.95 * s + 0.05 * g * g
        return w - 0.01 * (m / (1 - 0.7**step)) / (math.sqrt(s / (1 - 0.95**step)) + 1e-3)

    expected = by_hand(update)
    assert run(t.Adam(0.01, beta1=0.7, beta2=0.95, eps=1e-3, weight_decay=decay)) == pytest.approx(expected, rel=1e-12)


def test_first_step_of_adam_is_the_learning_rate():
    value = np.array([1.0, 1.0])
    t.Adam(0.1).step([t.Parameter("w", value, np.array([1e-4, -30.0]))])
    np.testing.assert_allclose(value, [0.9, 1.1], atol=1e-4)


def test_gradients_are_left_as_they_were():
    for name in t.OPTIMIZERS:
        grad = np.array([3.0])
        t.OPTIMIZERS[name]().step([t.Parameter("w", np.array([1.0]), grad)])
        assert grad == 3.0


def test_state_belongs_to_one_network():
    optimizer = t.Momentum(0.1)
    nets = [t.Sequential(t.Dense(1, name="d")) for _ in range(2)]
    x, y = np.ones((2, 1)), np.ones((2, 1))
    t.partial_fit(nets[0], x, y, loss="mse", optimizer=optimizer)
    t.partial_fit(nets[0], x, y, loss="mse", optimizer=optimizer)
    assert optimizer.steps == 2
    t.partial_fit(nets[1], x, y, loss="mse", optimizer=optimizer)
    assert optimizer.steps == 1
    fresh = t.Sequential(t.Dense(1, name="d"))
    t.partial_fit(fresh, x, y, loss="mse", optimizer=t.Momentum(0.1))
    assert np.array_equal(fresh["d"].params["weight"], nets[1]["d"].params["weight"])


def test_clipping():
    def grads():
        return [t.Parameter("a", np.zeros(2), np.array([3.0, 0.0])), t.Parameter("b", np.zeros(1), np.array([-4.0]))]

    parameters = grads()
    assert t.clip_gradients(parameters, clip_norm=1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(np.concatenate([p.grad for p in parameters]), [0.6, 0, -0.8])
    parameters = grads()
    t.clip_gradients(parameters, clip_norm=10.0)
    assert parameters[1].grad == -4.0
    t.clip_gradients(parameters, clip_value=3.5)
    assert parameters[0].grad[0] == 3.0
    assert parameters[1].grad == -3.5


def test_gradients_whose_squares_pass_float32_are_clipped_not_dropped():
    grads = [np.array([3e25], "f4"), np.array([4e25], "f4")]
    parameters = [t.Parameter("w", np.zeros(1, "f4"), grad) for grad in grads]
    assert t.clip_gradients(parameters, clip_norm=1.0) == pytest.approx(5e25)
    np.testing.assert_allclose(np.concatenate(grads), [0.6, 0.8], rtol=1e-6)


def test_fit_clips():
    for clip in ({"clip_norm": 0.5}, {"clip_value": 0.5}):
        net = t.Sequential(t.Dense(1, init="zeros", bias=False, name="d"))
        t.fit(net, [[1.0]], [[100.0]], loss="mse", optimizer=t.SGD(1.0), epochs=1, **clip)
        assert net["d"].params["weight"] == pytest.approx(0.5)


def test_schedules_at_chosen_moments():
    step = t.StepDecay(0.8, every=10, factor=0.5)
    assert [step(e) for e in (0, 9.99, 10, 25)] == pytest.approx([0.8, 0.8, 0.4, 0.2])
    exponential = t.ExponentialDecay(1.0, factor=0.9)
    assert [exponential(e) for e in (0, 1, 2.5)] == pytest.approx([1, 0.9, 0.9**2.5])
    cosine = t.CosineDecay(2.0, epochs=10, floor=0.1)
    assert [cosine(e) for e in (0, 5, 10, 99)] == pytest.approx([2, 1.1, 0.2, 0.2])
    warm = t.CosineDecay(1.0, epochs=10, warmup=2)
    assert [warm(e) for e in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert t.Schedule(1.0, warmup=4)(1) == 0.25
    assert t.Schedule(1.0, warmup=4)(0, 0.5) == 0.125  # the first batch moves


def test_fit_follows_the_schedule():
    net = t.Sequential(t.Dense(1, bias=False, init="ones", name="d"))
    rates = t.StepDecay(1.0, every=2, factor=0.1)
    history = t.fit(net, [[0.5]] * 4, [[0.0]] * 4, loss="mse", optimizer=t.SGD(rates), epochs=5, batch_size=2)
    assert history.learning_rate == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert net["d"].params["weight"] == pytest.approx(0.5**4 * 0.95**4 * 0.995**2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.SGD(-1), "learning_rate"),
        (lambda: t.SGD(math.nan), "learning_rate"),
        (lambda: t.SGD("fast"), "Known: constant"),
        (lambda: t.SGD(0.1, momentum=1.0), "momentum"),
        (lambda: t.SGD(0.1, nesterov=True), "needs momentum"),
        (lambda: t.Adam(0.1, beta2=2), "beta2"),
        (lambda: t.Adam(0.1, eps=0), "eps"),
        (lambda: t.SGD(0.1, weight_decay=-1), "weight_decay"),
        (lambda: t.SGD(1e-46), "learning_rate=1e-46.*float32"),
        (lambda: t.SGD(1e39), "learning_rate=1e\\+39.*float32"),
        (lambda: t.SGD(0.1, momentum=1e-50), "momentum=1e-50.*float32"),
        (lambda: t.SGD(0.1, weight_decay=1e-46), "weight_decay=1e-46.*float32"),
        (lambda: t.Adam(0.1, eps=1e-46), "eps=1e-46.*float32"),
        (lambda: t.RMSProp(0.1, eps=1e-300), "eps=1e-300.*float32"),
        (lambda: t.StepDecay(0.1, every=0), "every"),
        (lambda: t.CosineDecay(0.1, epochs=2, warmup=2), "warmup"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- AdamW, RMSProp, Adagrad, penalties ------------------------------------------------------------------------------


def test_adamw_shrinks_weights_beside_the_step():
    m = s = 0.0

    def update(w, g, step):
        nonlocal m, s
        w = w * (1 - 0.01 * 0.2)
        m, s = 0.7 * m + 0.3 * g, 0.95 * s + 0.05 * g * g
        return w - 0.01 * (m / (1 - 0.7**step)) / (math.sqrt(s / (1 - 0.95**step)) + 1e-3)

    optimizer = t.AdamW(0.01, beta1=0.7, beta2=0.95, eps=1e-3, weight_decay=0.2)
    assert run(optimizer) == pytest.approx(by_hand(update), rel=1e-12)
    plain = t.Adam(0.01, beta1=0.7), t.AdamW(0.01, beta1=0.7, weight_decay=0)
    assert run(plain[0]) == run(plain[1])


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_rmsprop(centered, momentum, decay):
    s = mean = v = 0.0

    def update(w, g, _):
        nonlocal s, mean, v
        g = g + decay * w
        s, mean = 0.9 * s + 0.1 * g * g, 0.9 * mean + 0.1 * g
        v = momentum * v + g / (math.sqrt(s - centered * mean * mean) + 1e-3)
        return w - 0.01 * v

    optimizer = t.RMSProp(0.01, rho=0.9, eps=1e-3, momentum=momentum, centered=centered, weight_decay=decay)
    assert run(optimizer) == pytest.approx(by_hand(update), rel=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_adagrad(decay):
    total = 0.0

    def update(w, g, _):
        nonlocal total
        g = g + decay * w
        total += g * g
        return w - 0.1 * g / (math.sqrt(total) + 1e-10)

    assert run(t.Adagrad(0.1, weight_decay=decay)) == pytest.approx(by_hand(update), rel=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (t.AdamW(), "AdamW", {}),
        (t.AdamW(0.02, weight_decay=0.3), "AdamW", {"lr": 0.02, "weight_decay": 0.3}),
        (t.RMSProp(), "RMSprop", {}),
        (t.RMSProp(momentum=0.9, centered=True), "RMSprop", {"momentum": 0.9, "centered": True}),
        (t.RMSProp(weight_decay=0.1), "RMSprop", {"weight_decay": 0.1}),
        (t.Adagrad(), "Adagrad", {}),
        (t.Adagrad(0.1, weight_decay=0.1), "Adagrad", {"lr": 0.1, "weight_decay": 0.1}),
    ],
)
def test_numbers_and_defaults_are_those_of_pytorch(ours, theirs, settings):
    torch = pytest.importorskip("torch")
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    other, path = getattr(torch.optim, theirs)([w], **settings), []
    for g in GRADIENTS:
        w.grad = torch.tensor([g], dtype=torch.float64)
        other.step()
        path.append(w.item())
    assert run(ours) == pytest.approx(path, rel=1e-10)


@pytest.mark.parametrize("name", sorted(t.OPTIMIZERS))
def test_every_optimizer_by_name_learns(name):
    x = np.random.default_rng(0).normal(size=(64, 3))
    history = t.fit(t.Sequential(t.Dense(1)), x, x @ [[1.0], [-2], [0.5]], loss="mse", optimizer=name, epochs=5)
    assert history.train_loss[-1] < history.train_loss[0]


def test_penalties_spare_biases():
    def parameters():
        return [
            t.Parameter("w", np.array([[2.0, -0.5]]), np.array([[1.0, 1.0]])),
            t.Parameter("b", np.array([3.0]), np.array([1.0])),
        ]

    ps = parameters()
    assert t.add_penalty(ps, l1=0.1, l2=0.01) == pytest.approx(0.1 * 2.5 + 0.01 * 4.25)
    np.testing.assert_allclose(ps[0].grad, [[1 + 0.1 + 0.04, 1 - 0.1 - 0.01]])
    assert ps[1].grad == 1
    assert t.add_penalty(parameters()) == 0


def test_fit_penalizes():
    for settings, expected in (({"l2": 0.25}, 1 - 0.1 * (0.5 - 2 * 3)), ({"l1": 0.25}, 1 - 0.1 * (0.25 - 2 * 3))):
        net = t.Sequential(t.Dense(1, init="ones", bias=False, name="d"))
        t.fit(net, [[1.0]], [[4.0]], loss="mse", optimizer=t.SGD(0.1), epochs=1, **settings)
        assert net["d"].params["weight"][0, 0] == pytest.approx(expected)
        net["d"].params["weight"][...] = 1
        t.partial_fit(net, [[1.0]], [[4.0]], loss="mse", optimizer=t.SGD(0.1), **settings)
        assert net["d"].params["weight"][0, 0] == pytest.approx(expected)


def test_l1_makes_useless_weights_small():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 20))
    y = x[:, :2] @ [[1.0], [-1.0]] + rng.normal(0, 0.3, (200, 1))
    weights = []
    for l1 in (0.0, 0.1):
        net = t.Sequential(t.Dense(1, name="d"))
        t.fit(net, x, y, loss="mse", optimizer=t.SGD(t.CosineDecay(0.02, epochs=40)), epochs=40, l1=l1)
        weights.append(np.abs(net["d"].params["weight"][0]))
    assert weights[1][2:].max() < 0.2 * weights[0][2:].max()
    assert weights[1][:2].min() > 0.8


def test_centred_rmsprop_of_a_gradient_that_never_changes():
    """The mean of the squares less the square of the mean is 0 then, and by rounding below it."""
    for gradient in np.random.default_rng(0).normal(size=50).astype(np.float32):
        value, grad = np.zeros((1, 1), np.float32), np.full((1, 1), gradient)
        rule = t.RMSProp(1e-3, centered=True, rho=0.5)
        with np.errstate(invalid="raise"):
            for _ in range(60):
                rule.step([Parameter("w", value, grad)])
        assert np.isfinite(value).all()


def test_periods_of_a_step_decay_end_where_they_are_said_to():
    """0.3 / 0.1 is a little below 3 in floating point."""
    rule = t.StepDecay(1.0, every=0.1, factor=0.5)
    assert [rule(k / 10) for k in range(8)] == [0.5**k for k in range(8)]
    assert rule(0.299) == 0.25
