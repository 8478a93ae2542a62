"""The container: names, wiring, state, errors."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprop import trainer as t


def test_f_equals_x_plus_y_times_z():
    f = t.Graph(["x", "y", "z"], {"q": (t.Add(), "x", "y"), "f": (t.Multiply(), "q", "z")})
    assert f.forward([-2], [5], [-4], training=True) == [-12]
    assert [float(d[0]) for d in f.backward([1])] == [-4, -4, 3]


def test_a_value_used_twice_collects_both_gradients():
    square = t.Graph(["x"], {"y": (t.Multiply(), "x", "x"), "z": (t.Add(), "y", "x")})
    assert square.forward([3], training=True) == [12]
    assert square.backward([1]) == [7]


def test_names():
    net = t.Sequential(
        t.Conv2D(2, 1),
        t.ReLU(name="relu_1"),
        "relu",
        t.Residual(t.Conv2D(2, 1), t.ReLU()),
        "flatten",
        t.Dense(1, name="h"),
    )
    names = [layer.name for layer in net.leaves()]
    assert names == ["conv2d_1", "relu_1", "relu_2", "conv2d_2", "relu_3", "add_1", "flatten_1", "h"]
    assert net["conv2d_2"] is net[3][0]
    assert net["residual_1"] is net[3]
    assert len(net) == 6
    net.build((1, 2, 2))
    assert [p.name for p in net.parameters()][:2] == ["conv2d_1.weight", "conv2d_1.bias"]
    with pytest.raises(ValueError, match="Did you mean 'conv2d_1'"):
        net["conv2d1"]


def test_parameters_are_live_arrays():
    net = t.Sequential(t.Dense(1, name="d"))
    net.build(2)
    for p in net.parameters():
        p.value[...] = 2
    assert net.predict([[1, 1]]) == [[6]]


def test_weights_travel(tmp_path):
    a, b = (t.Sequential(t.Dense(3), t.BatchNorm(), t.Dense(2)) for _ in range(2))
    a.build(4, seed=1), b.build(4, seed=2)
    x = np.random.default_rng(0).normal(size=(5, 4))
    a.forward(x, training=True)
    a.save_weights(tmp_path / "weights")
    b.load_weights(tmp_path / "weights")
    assert np.array_equal(a.predict(x), b.predict(x))
    copy = a.state_dict()
    copy["dense_1.bias"][...] = 9
    assert not np.array_equal(copy["dense_1.bias"], a["dense_1"].params["bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("d.bias"), r"missing \['d.bias'\]"),
        (lambda s: s.update(other=np.ones(2)), r"unknown \['other'\]"),
        (lambda s: s.update({"d.bias": np.ones(3)}), "d.bias: needs finite values of shape"),
        (lambda s: s.update({"d.bias": np.array([1, np.nan])}), "d.bias"),
    ],
)
def test_wrong_weights_change_nothing(change, message):
    net = t.Sequential(t.Dense(2, name="d"))
    net.build(3)
    before, other = net.state_dict(), net.state_dict()
    other["d.weight"] += 1
    change(other)
    with pytest.raises(ValueError, match=message):
        net.load_state_dict(other)
    assert all(np.array_equal(before[k], v) for k, v in net.state_dict().items())


def test_summary():
    net = t.Sequential(t.Conv2D(8, 3), "relu", "flatten", t.Dense(10, name="head"))
    assert "not built" in net.summary()
    net[0].trainable = False
    net.build((1, 5, 5))
    text = net.summary()
    assert "(N, 8, 3, 3)" in text
    assert "frozen" in text
    assert "810 parameters, 730 of them train" in text.replace(",", ",")


def test_predict_of_no_samples():
    net = t.Sequential(t.Conv2D(2, 3), t.MaxPool2D(2), "flatten", t.Dense(2))
    assert net.predict(np.zeros((0, 1, 6, 6))).shape == (0, 2)


def test_freezing_a_container_freezes_what_is_in_it():
    block = t.Residual(t.Dense(3), "relu", t.Dense(3))
    block.trainable = False
    net = t.Sequential(block, t.Dense(2))
    net.build(3)
    assert not block.trainable
    assert net.trainable
    assert [p.name for p in net.parameters(trainable_only=True)] == ["dense_3.weight", "dense_3.bias"]


def test_backward_without_forward_says_so():
    net = t.Sequential(t.Dense(2))
    net.forward([[1, 2]])
    with pytest.raises(RuntimeError, match="training=True"):
        net.backward([[1, 1]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.Sequential(), "at least one layer"),
        (lambda: t.Residual(), "at least one layer"),
        (lambda: t.Sequential("relo"), "Did you mean 'relu'"),
        (lambda: t.Sequential("dense"), r"Dense\(\.\.\.\)"),
        (lambda: t.Sequential(t.Dense), r"create it, Dense\(\.\.\.\)"),
        (lambda: t.Sequential(3), "not a layer"),
        (lambda: t.Sequential(t.Dense(1, name="a"), t.Residual(t.Dense(1, name="a"))), "two layers are named 'a'"),
        (lambda: t.Sequential(*[t.ReLU()] * 2), "used twice"),
        (lambda: t.Graph(["x"], {"y": (t.ReLU(), "z")}), "takes 'z'"),
        (lambda: t.Graph(["x"], {"x": (t.ReLU(), "x")}), "used twice"),
        (lambda: t.Dense(0), "units"),
        (lambda: t.Dense(2.5), "units"),
        (lambda: t.Dense(True), "units"),
        (lambda: t.Dense(2, init="hee_normal"), "Did you mean 'he_normal'"),
        (lambda: t.Dense(2, name=""), "name"),
        (lambda: t.Conv2D(2, 0), "kernel"),
        (lambda: t.Conv2D(2, (3, 3, 3)), "kernel"),
        (lambda: t.Conv2D(2, 3, stride=0), "stride"),
        (lambda: t.Conv2D(2, 3, padding="full"), "padding"),
        (lambda: t.Conv2D(2, 3, padding=-1), "padding"),
        (lambda: t.Dropout(1.0), "rate"),
        (lambda: t.LeakyReLU(-1), "alpha"),
        (lambda: t.BatchNorm(eps=0), "eps"),
        (lambda: t.BatchNorm(momentum=2), "momentum"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([t.Dense(2)], (1, 4, 4), "'dense_1'.*Flatten"),
        ([t.Conv2D(2, 3)], (4,), "'conv2d_1'.*images"),
        ([t.Conv2D(2, 5)], (1, 4, 4), "does not fit"),
        ([t.MaxPool2D(2, padding=2)], (1, 4, 4), "pad less"),
        ([t.GlobalAveragePool()], (4,), "images"),
        ([t.BatchNorm()], (4, 4, 4, 4), "batch_norm_1"),
        ([t.Residual(t.Conv2D(2, 3))], (1, 4, 4), "two inputs of one shape"),
        ([t.Dense(2)], (0,), "input shape"),
    ],
)
def test_shapes_that_do_not_fit(layers, shape, message):
    with pytest.raises(ValueError, match=message):
        t.Sequential(*layers).build(shape)


def test_inputs_that_do_not_fit():
    net = t.Sequential(t.Conv2D(2, 3))
    net.build((1, 5, 5))
    for x in (np.ones((2, 25)), np.ones((5, 5)), np.ones((2, 5, 5, 1))):
        with pytest.raises(ValueError, match=r"\(N, 1, 5, 5\).*(reshape it|give )"):
            net.predict(x)
    with pytest.raises(ValueError, match="NaN"):
        net.predict(np.full((2, 1, 5, 5), np.nan))
