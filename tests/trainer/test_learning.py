"""Networks that learn something."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprop import trainer as t


def test_xor_with_sigmoids_at_learning_rate_0_8():
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [1], [0]])
    net = t.Sequential(t.Dense(2, init="glorot_normal"), t.Sigmoid(), t.Dense(1, init="glorot_normal"), t.Sigmoid())
    history = t.fit(net, x, y, loss="mse", optimizer=t.SGD(0.8), epochs=5000, batch_size=1, seed=1)
    assert history.train_loss[-1] < 0.01
    assert np.array_equal(net.predict(x) > 0.5, y)


def test_digits_with_a_small_convolutional_network():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    net = t.Sequential(
        t.Conv2D(12, 3, padding="same", bias=False),
        t.BatchNorm(),
        t.ReLU(),
        t.MaxPool2D(2),
        t.Conv2D(24, 3),
        t.ReLU(),
        t.Flatten(),
        t.Dropout(0.2),
        t.Dense(10, name="head"),
    )
    rate = t.CosineDecay(5e-3, epochs=15, warmup=1)
    t.fit(net, x[train], y[train], optimizer=t.Adam(rate), epochs=15, batch_size=64)
    assert t.evaluate(net, x[test], y[test]).metric >= 0.97


def test_separable_residual_network_learns_stripes():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    wave = np.where(np.arange(8) % 4 < 2, 1.0, -1.0)
    x = np.where(y[:, None, None], wave[None, :, None], wave[None, None, :])[:, None] + rng.normal(
        0, 0.5, (200, 1, 8, 8)
    )
    net = t.Sequential(
        t.Conv2D(8, 3, padding="same", stride=2),
        t.Residual(t.DepthwiseConv2D(3, padding="same"), t.BatchNorm(), t.ReLU6(), t.Conv2D(8, 1)),
        t.GlobalAveragePool(),
        t.Flatten(),
        t.Dense(2),
    )
    history = t.fit(net, x, y, optimizer=t.Momentum(0.05, nesterov=True), epochs=15, loss="hinge")
    assert history.train_metric[-1] > 0.97
