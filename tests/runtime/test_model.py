"""The binding: what it takes, what it gives, and that a refused call changes nothing."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop import _learning, runtime
from tests.support.image import Net, Node, Tensor, image, mlp, reseal

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(40, 6)).astype("f4")
Y = (np.arange(40) % 4).astype("i4")


@pytest.fixture
def net() -> Net:
    return mlp((6, 8, 4), trainable=2, labels=["a", "b", "c", "d"])


@pytest.fixture
def model(net: Net) -> edgeprop.Model:
    return edgeprop.Model(image(net))


def forward(parameters: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Logits of `mlp` in float64."""
    h, layers = x.astype("f8"), len(parameters) // 2
    for i in range(layers):
        h = h @ parameters[f"fc{i}.weight"].T.astype("f8") + parameters[f"fc{i}.bias"]
        h = np.maximum(h, 0) if i < layers - 1 else h
    return h


def cross_entropy(parameters: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    z = forward(parameters, x)
    z = z - z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]))


def same(a: edgeprop.Model, b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(value, b[name]) for name, value in a.parameters().items())


# ---- Runtime constants ------------------------------------------------------------------------------------------


def test_constants_come_from_the_headers(root: Path) -> None:
    header = (root / "csrc" / "edgeprop.h").read_text()
    assert f'"{edgeprop.__version__}"' in header
    assert f"#define EP_ABI {runtime.ABI}\n" in header
    assert runtime.OPS["dense_f32"] == runtime.OpInfo(
        3, (("n_in", "i4"), ("n_out", "i4"), ("rows", "i4"), ("lo", "f4"), ("hi", "f4")), True, "ep_dense_attr"
    )
    assert dict(runtime.OPS["transpose"].attr)["dims"] == "6i4"
    assert not runtime.OPS["conv2d_s8"].has_grad
    assert runtime.LOSSES["mse"] == 3
    assert {"softmax_cross_entropy", "hinge"} == runtime.LABEL_LOSSES
    assert runtime.ERRORS[-9] == "EP_ERR_LABEL"


def test_every_attribute_struct_is_made_of_words() -> None:
    for name, info in runtime.OPS.items():
        dtype = np.dtype(list(info.attr))
        assert dtype.itemsize % 4 == 0, name
        assert dtype.itemsize == 4 * sum(int(kind[:-2] or 1) for _, kind in info.attr), name


def test_crc32_is_zlibs() -> None:
    assert runtime.crc32(b"123456789") == 0xCBF43926


# ---- Forward ----------------------------------------------------------------------------------------------------


def test_run_computes_the_network(model: edgeprop.Model) -> None:
    (y,) = model.run(X)
    expected = forward(model.parameters(), X)
    assert y.dtype == np.float32
    assert y.shape == (40, 4)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i8", "?"])
def test_run_takes_any_real_dtype(model: edgeprop.Model, dtype: str) -> None:
    x = np.arange(12).reshape(2, 6).astype(dtype)
    np.testing.assert_array_equal(model.run(x)[0], model.run(x.astype("f4"))[0])


def test_run_takes_lists_and_strided_arrays(model: edgeprop.Model) -> None:
    np.testing.assert_array_equal(model.run(X.tolist())[0], model.run(X)[0])
    np.testing.assert_array_equal(model.run(np.asfortranarray(X))[0], model.run(X)[0])
    np.testing.assert_array_equal(model.run(X[::-2])[0], model.run(X)[0][::-2])


def test_any_number_of_samples_gives_the_same_answers(model: edgeprop.Model) -> None:
    one_by_one = np.concatenate([model.run(x[None])[0] for x in X])
    many = model.run(np.tile(X, (5, 1)))[0]
    np.testing.assert_allclose(many, np.tile(one_by_one, (5, 1)), rtol=1e-6, atol=1e-7)


def test_classifier(model: edgeprop.Model) -> None:
    p = model.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(X), model.decision_function(X).argmax(axis=1))
    np.testing.assert_array_equal(model.predict(X), p.argmax(axis=1))
    assert model.classes_.tolist() == ["a", "b", "c", "d"]
    assert model.score(X, model.predict(X)) == 1
    assert model.score(X, model.classes_[model.predict(X)]) == 1
    assert model.score(X, (model.predict(X) + 1) % 4) == 0


def test_classifier_without_labels_counts_its_classes() -> None:
    assert edgeprop.Model(image(mlp(loss="hinge"))).classes_.tolist() == [0, 1, 2, 3]
    with pytest.raises(edgeprop.Error, match="no probabilities"):
        edgeprop.Model(image(mlp(loss="hinge"))).predict_proba(X)


def test_softmax_at_the_end_is_not_applied_twice() -> None:
    bare, ends = (edgeprop.Model(image(mlp(softmax=softmax))) for softmax in (False, True))
    np.testing.assert_allclose(ends.predict_proba(X), bare.predict_proba(X), rtol=1e-5)
    np.testing.assert_array_equal(ends.predict(X), bare.predict(X))
    difference = ends.decision_function(X) - bare.decision_function(X)
    np.testing.assert_allclose(difference, difference[:, :1].repeat(4, axis=1), atol=1e-5)


def test_regressor() -> None:
    model = edgeprop.Model(image(mlp((6, 8, 2), trainable=2, loss="mse")))
    targets = np.stack([X.sum(axis=1), X[:, 0]], axis=1)
    assert not hasattr(model, "classes_")
    np.testing.assert_array_equal(model.predict(X), model.run(X)[0])
    before = model.score(X, targets)
    after = model.partial_fit(X, targets, lr=0.02, epochs=200).score(X, targets)
    assert before < 0.5
    assert after > 0.9


def test_binary_classifier() -> None:
    model = edgeprop.Model(image(mlp((6, 8, 1), trainable=2, loss="sigmoid_cross_entropy", labels=["no", "yes"])))
    y = (X[:, 0] > 0).astype(int)
    model.partial_fit(X, y, lr=0.1, epochs=100)
    assert model.score(X, y) > 0.95
    assert model.score(X, model.classes_[y]) == model.score(X, y)
    assert model.predict_proba(X).shape == (40, 2)
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))


def test_onnx_layout_in_and_out() -> None:
    """NCHW outside, NHWC inside: a ReLU over an image shows which element went where."""
    net = Net(name="layout")
    net.add(Tensor("x", (2, 3, 4)))
    y = net.unary("clip_f32", "x", "y", count=24, lo=0.0, hi=10.0)
    nchw = ((0, 4, 2, 3), (0, 2, 3, 1))
    net.inputs, net.outputs = [("x", *nchw)], [(y, *nchw)]
    model = edgeprop.Model(image(net))
    x = RANDOM.normal(size=(5, 4, 2, 3)).astype("f4")
    np.testing.assert_array_equal(model.run(x)[0], np.maximum(x, 0))
    np.testing.assert_array_equal(model.trace(x)["x"], x.transpose(0, 2, 3, 1))


def test_several_inputs_and_outputs() -> None:
    net = Net(name="two")
    a, b = (net.add(Tensor(name, (3,))) for name in "ab")
    p = net.unary("clip_f32", a, "p", count=3, lo=0.0, hi=10.0)
    q = net.unary("clip_f32", b, "q", count=3, lo=-1.0, hi=1.0)
    net.inputs = [(name, (0, 3), (0, 1)) for name in (a, b)]
    net.outputs = [(name, (0, 3), (0, 1)) for name in (q, p)]
    model = edgeprop.Model(image(net))
    x, z = RANDOM.normal(size=(2, 70, 3)).astype("f4")
    first, second = model.run(x, z)
    np.testing.assert_array_equal(first, np.clip(z, -1, 1))
    np.testing.assert_array_equal(second, np.maximum(x, 0))
    with pytest.raises(edgeprop.Error, match="takes 2: a, b"):
        model.run(x)
    with pytest.raises(edgeprop.Error, match="same number"):
        model.run(x, z[:3])


def quantized() -> edgeprop.Model:
    """int8 in, int8 out: x -> -x by a table."""
    net = Net(name="table")
    net.add(Tensor("x", (3,), "i1", scale=0.5, zero_point=1))
    table = np.clip(-np.arange(-128, 128), -128, 127).astype("i1")
    net.add(Tensor("t", (256,), "i1", table))
    net.add(Tensor("y", (3,), "i1", scale=0.5, zero_point=-1))
    net.nodes.append(Node("lut_s8", ["x", "t"], ["y"], {"count": 3}, "negate"))
    net.inputs, net.outputs = [("x", (0, 3), (0, 1))], [("y", (0, 3), (0, 1))]
    return edgeprop.Model(image(net))


def test_quantized_input_takes_codes_as_they_are_and_quantizes_floats() -> None:
    model = quantized()
    codes = np.array([[1, 3, -5]], "i1")
    np.testing.assert_array_equal(model.run(codes)[0], -codes)
    assert model.run(codes)[0].dtype == np.int8
    real = np.array([[0.0, 1.0, -3.0]])
    np.testing.assert_array_equal(model.run(real)[0], -codes)
    np.testing.assert_array_equal(model.predict(real), -real.astype("f4"))
    # ties go to even, and what is out of range saturates
    np.testing.assert_array_equal(model.run([[0.25, 0.75, 1e6]])[0], [[-1, -3, -127]])


def test_quantized_input_refuses_other_integers() -> None:
    with pytest.raises(edgeprop.Error, match=r"int64; the model takes int8 or real numbers .*0\.5") as error:
        quantized().run(np.array([[1, 3, -5]]))
    assert error.value.code == "EP_ERR_ARG"


# ---- What is refused --------------------------------------------------------------------------------------------

BAD_INPUTS = {
    "one sample without the batch axis": (X[0], r"x\[None\]"),
    "too many features": (np.zeros((2, 7)), r"\(2, 7\), the model takes \(n, 6\)"),
    "too many axes": (np.zeros((2, 6, 1)), "reshape"),
    "scalar": (3.0, "samples of that shape"),
    "no samples": (np.zeros((0, 6)), "at least one"),
    "NaN": (np.where(np.arange(12).reshape(2, 6) == 8, np.nan, 0), r"x\[1, 2\] is nan"),
    "infinity": (np.full((1, 6), -np.inf), r"x\[0, 0\] is -inf"),
    "too large for float32": (np.full((1, 6), 1e300), "too large"),
    "complex": (np.zeros((1, 6), complex), "complex128"),
    "texts": ([["a"] * 6], "texts"),
    "objects": (np.array([[None] * 6]), r"object, and x\[0, 0\] is None"),
    "masked": (np.ma.masked_equal(np.arange(12).reshape(2, 6), 9), r"x\[1, 3\] is masked"),
    "bytes": ([[b"a"] * 6], "texts"),
    "ragged": ([[1, 2], [3]], "same shape"),
    "dates": (np.zeros((1, 6), "M8[s]"), "datetime64"),
}


@pytest.mark.parametrize(("x", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS)
@pytest.mark.parametrize("method", ["run", "predict", "partial_fit", "score", "gradients"])
def test_bad_input(model: edgeprop.Model, method: str, x: object, message: str) -> None:
    before = model.parameters()
    arguments = (x,) if method in ("run", "predict") else (x, [0])
    with pytest.raises(edgeprop.Error, match=message) as error:
        getattr(model, method)(*arguments)
    assert error.value.code == "EP_ERR_ARG"
    assert same(model, before)


BAD_TARGETS = {
    "too large": (np.where(np.arange(40) == 39, 4, Y), "EP_ERR_LABEL", r"label 4 at y\[39\] is outside 0 .. 3"),
    "negative": (np.where(np.arange(40) == 7, -1, Y), "EP_ERR_LABEL", r"y\[7\]"),
    "unknown name": (np.array(["a"] * 39 + ["z"]), "EP_ERR_LABEL", r"'z' at y\[39\].*a, b, c, d"),
    "floats": (Y.astype(float), "EP_ERR_ARG", r"astype\(int\)"),
    "one-hot": (np.eye(4)[Y], "EP_ERR_ARG", "argmax"),
    "a column": (Y[:, None], "EP_ERR_ARG", "ravel"),
    "too few": (Y[:-1], "EP_ERR_ARG", "40 samples and y 39"),
    "none": (np.array([None] * 40), "EP_ERR_ARG", r"y\[0\] is None: the label is missing"),
}


@pytest.mark.parametrize(("y", "code", "message"), BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_bad_target(model: edgeprop.Model, y: np.ndarray, code: str, message: str) -> None:
    model.partial_fit(X, Y)
    before, curve = model.parameters(), model.loss_curve_
    with pytest.raises(edgeprop.Error, match=message) as error:
        model.partial_fit(X, y, epochs=3)
    assert error.value.code == code
    assert same(model, before)
    assert model.loss_curve_ == curve


BAD_STEPS = [
    {"lr": 0},
    {"lr": -1},
    {"lr": float("nan")},
    {"lr": float("inf")},
    {"optimizer": "adagrad"},
    {"batch_size": 0},
    {"batch_size": 1.5},
    {"epochs": 0},
    {"momentum": 0, "optimizer": "momentum"},
    {"momentum": 1.0},
    {"beta2": 1.0},
    {"epsilon": 0},
    {"weight_decay": -0.1},
    {"clip_norm": float("nan")},
    *(
        {name: value}
        for name in ("lr", "momentum", "beta2", "epsilon", "weight_decay", "clip_norm", "skip_below")
        for value in (1e-46, 1e-40, 1e39, 10**400, True, np.True_, "0.1", None, [0.1], float("nan"), float("-inf"))
    ),
    {"momentum": 1 - 1e-9},
    {"skip_share": 1e-50},
    {"skip_share": 0.995},
    {"skip_share": "0.5"},
    {"optimizer": ["sgd"]},
    {"optimizer": None},
    {"batch_size": True},
    {"epochs": True},
    {"epochs": "3"},
    {"seed": -1},
    {"seed": 1.5},
    {"seed": "0"},
]


@pytest.mark.parametrize("options", BAD_STEPS, ids=str)
def test_bad_step(model: edgeprop.Model, options: dict) -> None:
    before = model.parameters()
    with pytest.raises(edgeprop.Error) as error:
        model.partial_fit(X, Y, **options)
    assert error.value.code == "EP_ERR_ARG"
    assert next(iter(options)) in str(error.value)
    assert same(model, before)


def test_numbers_of_numpy_are_numbers(model: edgeprop.Model) -> None:
    twin = model.clone().partial_fit(X, Y, lr=0.25, clip_norm=2.0, batch_size=8, epochs=2, seed=3)
    model.partial_fit(
        X, Y, lr=np.float32(0.25), clip_norm=np.int64(2), batch_size=np.int8(8), epochs=np.uint8(2), seed=np.int64(3)
    )
    assert same(model, twin.parameters())


def test_a_batch_larger_than_any_number_of_samples_is_all_of_them(model: edgeprop.Model) -> None:
    twin = model.clone().partial_fit(X, Y, batch_size=len(X))
    assert same(model.partial_fit(X, Y, batch_size=1 << 40), twin.parameters())


def test_frozen_model_does_not_learn_nor_save(tmp_path: Path) -> None:
    model = edgeprop.Model(image(mlp(trainable=0)))
    calls = {
        "partial_fit": lambda: model.partial_fit(X, Y),
        "gradients": lambda: model.gradients(X, Y),
        "save": lambda: model.save(tmp_path / "me.head"),
        "arena_size": lambda: model.arena_size(train=True),
    }
    for call in calls.values():
        with pytest.raises(edgeprop.Error, match="nothing to train") as error:
            call()
        assert error.value.code == "EP_ERR_FROZEN"
    assert model.parameters() == {}
    assert not list(tmp_path.iterdir())


# ---- Learning ---------------------------------------------------------------------------------------------------


def test_skips_small_losses(model: edgeprop.Model) -> None:
    """Selective backprop: learns from a part of the samples, and says from how many it did not."""
    y = (X[:, 0] > 0).astype(int)
    before = model.parameters()
    model.partial_fit(X, y, skip_below=1e9)
    assert model.skipped_ == len(X)
    assert same(model, before)
    assert np.isclose(model.loss_, cross_entropy(before, X, y), rtol=1e-5)
    model.partial_fit(X, y, lr=0.02, epochs=30, skip_share=0.5)
    assert 0.35 < model.skipped_ / (30 * len(X)) < 0.65
    assert cross_entropy(model.parameters(), X, y) < cross_entropy(before, X, y)
    model.partial_fit(X, y)
    assert model.skipped_ == 0
    for options in ({"skip_share": 0.5, "batch_size": 4}, {"skip_below": 1.0, "clip_norm": 1.0}, {"skip_share": 1.0}):
        with pytest.raises(edgeprop.Error) as error:
            model.partial_fit(X, y, **options)
        assert error.value.code == "EP_ERR_ARG"


@pytest.mark.parametrize("batch_size", [1, 8, 100])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_learns(model: edgeprop.Model, optimizer: str, batch_size: int) -> None:
    y = (X[:, 0] > 0).astype(int)
    before = cross_entropy(model.parameters(), X, y)
    assert model.partial_fit(X, y, lr=0.02, optimizer=optimizer, batch_size=batch_size, epochs=30) is model
    assert len(model.loss_curve_) == 30
    assert model.loss_ == model.loss_curve_[-1] < model.loss_curve_[0]
    assert cross_entropy(model.parameters(), X, y) < before
    np.testing.assert_allclose(model.run(X)[0], forward(model.parameters(), X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 7])
def test_gradients_are_those_of_the_mean_loss(model: edgeprop.Model, n: int) -> None:
    x, y = X[:n].astype("f8"), Y[:n]
    parameters = {name: value.astype("f8") for name, value in model.parameters().items()}
    found = model.gradients(x, y)
    assert found["fc1"].shape == (n, 4)
    assert found["fc0"].shape == (n, 8)
    for name, value in parameters.items():
        expected = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {**parameters, name: value.copy()}
                moved[name][at] += step
                ends.append(cross_entropy(moved, x, y))
            expected[at] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_batch_of_one_step_is_the_gradient_times_lr(model: edgeprop.Model) -> None:
    before, d = model.parameters(), model.gradients(X, Y)
    model.partial_fit(X, Y, lr=0.1, batch_size=40)
    for name, value in model.parameters().items():
        np.testing.assert_allclose(value, before[name] - np.float32(0.1) * d[name], rtol=1e-5, atol=1e-7)


def test_clip_norm_limits_a_step(model: edgeprop.Model) -> None:
    before = model.parameters()
    model.partial_fit(X[:1], Y[:1], lr=1.0, clip_norm=1e-3)
    moved = sum(float(np.square(value - before[name]).sum()) for name, value in model.parameters().items()) ** 0.5
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_optimizer_state_lives_on_between_calls(model: edgeprop.Model) -> None:
    whole, parts = model.clone(), model.clone()
    whole.partial_fit(X, Y, optimizer="adam")
    for start in range(0, 40, 5):
        parts.partial_fit(X[start : start + 5], Y[start : start + 5], optimizer="adam")
    assert same(whole, parts.parameters())


def test_shuffle_is_repeatable(model: edgeprop.Model) -> None:
    runs = [model.clone().partial_fit(X, Y, shuffle=True, seed=seed, epochs=2).parameters() for seed in (3, 3, 4)]
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not all(np.array_equal(runs[0][name], runs[2][name]) for name in runs[0])


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_divergence_undoes_the_whole_call(model: edgeprop.Model, optimizer: str, batch_size: int) -> None:
    """The bad sample comes late: the steps before it, and their optimizer state, are undone too."""
    options = {"optimizer": optimizer, "batch_size": batch_size}
    model.partial_fit(X, Y, **options)
    twin = model.clone().partial_fit(X, Y, **options) if optimizer == "sgd" else None
    before = model.parameters()
    x = np.vstack([X, np.full((1, 6), 3e38, "f4")])
    with pytest.raises(edgeprop.Error) as error:
        model.partial_fit(x, np.append(Y, 0), **options)
    assert error.value.code == "EP_ERR_DIVERGED"
    assert same(model, before)
    after = model.partial_fit(X, Y, **options).parameters()
    if twin is not None:
        assert same(twin, after)


def test_interrupted_call_changes_nothing(model: edgeprop.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([0.1, KeyboardInterrupt()])

    def interrupted(*_: object) -> float:
        found = next(calls)
        if isinstance(found, BaseException):
            raise found
        return found

    before = model.parameters()
    monkeypatch.setattr("edgeprop._learning.epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X, Y, epochs=5)
    assert same(model, before)


def test_reset_forgets(model: edgeprop.Model) -> None:
    before, y = model.parameters(), model.run(X)[0]
    model.partial_fit(X, Y)
    assert not same(model, before)
    assert same(model.reset(), before)
    np.testing.assert_array_equal(model.run(X)[0], y)


def test_clone_learns_apart(model: edgeprop.Model) -> None:
    model.partial_fit(X, Y)
    twin, before = model.clone(), model.parameters()
    assert same(twin, before)
    twin.partial_fit(X, Y)
    assert same(model, before)
    assert not same(twin, before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_carry_what_was_learned(model: edgeprop.Model, duplicate) -> None:
    model.partial_fit(X, Y)
    twin = duplicate(model)
    assert same(twin, model.parameters())
    np.testing.assert_array_equal(twin.run(X)[0], model.run(X)[0])


def test_set_parameters(model: edgeprop.Model) -> None:
    before = model.parameters()
    model.set_parameters({"fc1.bias": [1, 2, 3, 4]})
    expected = {**before, "fc1.bias": np.array([1, 2, 3, 4], "f4")}
    assert same(model, expected)
    bad = {
        "EP_ERR_ARG": [{"fc9": [1]}, {"fc1.bias": [1, 2]}, {"fc1.bias": ["a"] * 4}],
        "EP_ERR_DIVERGED": [
            {"fc1.bias": [1, 2, 3, np.nan]},
            {"fc1.bias": [0] * 4, "fc1.weight": np.full((4, 8), np.inf)},
        ],
    }
    for code, cases in bad.items():
        for values in cases:
            with pytest.raises(edgeprop.Error) as error:
                model.set_parameters(values)
            assert error.value.code == code
            assert same(model, expected)


# ---- Looking inside ---------------------------------------------------------------------------------------------


def test_trace_holds_every_activation(model: edgeprop.Model) -> None:
    model.partial_fit(X, Y)
    trace = model.trace(X)
    p = model.parameters()
    np.testing.assert_array_equal(trace["x"], X)
    np.testing.assert_allclose(trace["fc0"], np.maximum(X @ p["fc0.weight"].T + p["fc0.bias"], 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(trace["fc1"], model.run(X)[0])


def test_summary_tells_the_layers(model: edgeprop.Model) -> None:
    text = model.summary()
    for part in ("mlp", model.fingerprint, "fc0", "dense_f32", "56", "36", "softmax_cross_entropy", "a, b, c, d"):
        assert part in text


def test_arena_sizes(model: edgeprop.Model) -> None:
    sizes = [
        model.arena_size(),
        model.arena_size(restore=True),
        model.arena_size(train=True),
        model.arena_size(train=True, optimizer="momentum"),
        model.arena_size(train=True, optimizer="adam"),
    ]
    assert sizes == sorted(set(sizes))
    for batch in (0, -1, 1.5, True, 1 << 31, 1 << 40):
        with pytest.raises(edgeprop.Error, match="batch") as error:
            model.arena_size(batch)
        assert error.value.code == "EP_ERR_ARG"


# ---- Saved heads ------------------------------------------------------------------------------------------------


def test_save_and_restore(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.partial_fit(X, Y, epochs=2).save(path)
    learned = model.parameters()
    assert list(tmp_path.iterdir()) == [path]
    assert same(model.reset().restore(path), learned)


def test_record_is_as_documented(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.partial_fit(X, Y).save(path)
    data = path.read_bytes()
    weights = np.concatenate([value.ravel() for value in model.parameters().values()])
    assert data[:4] == b"EPH1"
    assert runtime.crc32(data[8:]) == int.from_bytes(data[4:8], "little")
    assert int.from_bytes(data[8:12], "little") == 1
    assert data[12:20].hex() == model.fingerprint
    assert int.from_bytes(data[20:24], "little") == weights.nbytes
    assert data[32:] == weights.tobytes()
    model.save(path)
    assert int.from_bytes(path.read_bytes()[8:12], "little") == 2


def test_a_record_cut_off_at_any_byte_is_refused(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.partial_fit(X, Y).save(path)
    record = path.read_bytes()
    model.partial_fit(X, Y)
    before = model.parameters()
    for size in range(len(record)):
        path.write_bytes(record[:size])
        with pytest.raises(edgeprop.Error) as error:
            model.restore(path)
        assert error.value.code == "EP_ERR_NO_RECORD", size
    assert same(model, before)


def test_a_record_changed_at_any_byte_is_refused(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.partial_fit(X, Y).save(path)
    record = path.read_bytes()
    model.reset()
    before = model.parameters()
    # The CRC does not cover itself and the magic, and those do not fit either then.
    for at in range(len(record)):
        path.write_bytes(record[:at] + bytes([record[at] ^ 0x10]) + record[at + 1 :])
        with pytest.raises(edgeprop.Error) as error:
            model.restore(path)
        assert error.value.code in ("EP_ERR_NO_RECORD", "EP_ERR_FOREIGN"), at
    assert same(model, before)


def test_a_record_of_another_model_is_refused(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    other = edgeprop.Model(image(mlp((6, 8, 4), trainable=2, seed=5)))
    other.partial_fit(X, Y).save(path)
    with pytest.raises(edgeprop.Error) as error:
        model.restore(path)
    assert error.value.code == "EP_ERR_FOREIGN"


@pytest.mark.parametrize("sizes", [(6, 8, 40), (6, 80, 4), (6, 2, 4)])
def test_a_foreign_record_of_any_size_is_called_so(
    sizes: tuple[int, ...], model: edgeprop.Model, tmp_path: Path
) -> None:
    """A larger one does not fit where this model's would lie, which is no reason to say that nothing is there."""
    path = tmp_path / "me.head"
    other = edgeprop.Model(image(mlp(sizes, trainable=2, seed=5)))
    other.save(path)
    with pytest.raises(edgeprop.Error, match=f"of another model .{other.fingerprint}, this one is") as error:
        model.restore(path)
    assert error.value.code == "EP_ERR_FOREIGN"
    record = path.read_bytes()
    for data, why in ((record[:-1], "it is cut off"), (record[:-1] + bytes([record[-1] ^ 1]), "it has changed")):
        path.write_bytes(data)
        with pytest.raises(edgeprop.Error, match=f"of another model .*{why}") as error:
            model.restore(path)
        assert error.value.code == "EP_ERR_NO_RECORD"


def test_what_is_no_record_is_told(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.save(path)
    record = path.read_bytes()
    for data, why in (
        (b"EPM1" + bytes(60), "a model image"),
        (b"text", "no saved head"),
        (record[:-1], "it is cut off"),
        (record[:-1] + bytes([record[-1] ^ 1]), "it has changed since it was saved"),
    ):
        path.write_bytes(data)
        with pytest.raises(edgeprop.Error, match=why) as error:
            model.restore(path)
        assert error.value.code == "EP_ERR_NO_RECORD"


def test_failed_save_leaves_the_older_record(
    model: edgeprop.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "me.head"
    model.partial_fit(X, Y).save(path)
    record = path.read_bytes()

    def fails(*_: object) -> None:
        raise OSError("no space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{name}", fails)
            with pytest.raises(OSError, match="no space"):
                model.partial_fit(X, Y).save(path)
        assert path.read_bytes() == record
        assert list(tmp_path.iterdir()) == [path]


def test_save_does_not_overwrite_a_model(model: edgeprop.Model, net: Net, tmp_path: Path) -> None:
    path = tmp_path / "digits.ep"
    path.write_bytes(image(net))
    with pytest.raises(edgeprop.Error, match="another name"):
        model.save(path)
    assert path.read_bytes() == image(net)


def test_missing_files(model: edgeprop.Model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        edgeprop.Model(tmp_path / "none.ep")
    with pytest.raises(FileNotFoundError):
        model.restore(tmp_path / "none.head")


# ---- Images that are not trusted --------------------------------------------------------------------------------


def test_model_from_path_and_from_bytes(net: Net, tmp_path: Path) -> None:
    path, data = tmp_path / "net.ep", image(net)
    path.write_bytes(data)
    sources = (path, str(path), data, bytearray(data), memoryview(data))
    assert len({edgeprop.Model(source).fingerprint for source in sources}) == 1


def test_an_image_cut_off_anywhere_is_refused(net: Net) -> None:
    data = image(net)
    for size in range(len(data)):
        with pytest.raises(edgeprop.Error):
            edgeprop.Model(data[:size])


def test_an_image_changed_at_any_byte_is_refused(net: Net) -> None:
    data = image(net)
    for at in range(len(data)):
        with pytest.raises(edgeprop.Error):
            edgeprop.Model(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_not_an_image() -> None:
    with pytest.raises(edgeprop.Error) as error:
        edgeprop.Model(b"GIF89a" + bytes(200))
    assert error.value.code == "EP_ERR_IMAGE"


def with_meta(data: bytes, meta: bytes) -> bytes:
    """The image with another meta section, its last one."""
    changed = bytearray(data[: len(data) - int.from_bytes(data[88:92], "little")] + meta)
    changed[8:12], changed[88:92] = (size.to_bytes(4, "little") for size in (len(changed), len(meta)))
    return reseal(bytes(changed))


@pytest.mark.parametrize("meta", [b"{", b"[]", b"\xff\xfe", b'{"inputs": 3}', b'{"inputs": [{"shape": [0, 7]}]}'])
def test_wrong_meta_is_refused(net: Net, meta: bytes) -> None:
    with pytest.raises(edgeprop.Error, match="meta") as error:
        edgeprop.Model(with_meta(image(net), meta))
    assert error.value.code == "EP_ERR_IMAGE"


def test_an_image_without_meta_runs(net: Net) -> None:
    data = image(net)
    model = edgeprop.Model(with_meta(data, b""))
    np.testing.assert_array_equal(model.run(X)[0], edgeprop.Model(data).run(X)[0])
    model.partial_fit(X, Y)
    assert "dense_f32" in model.summary()


# ---- Errors -----------------------------------------------------------------------------------------------------


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(edgeprop.Error("EP_ERR_LABEL", "no such class")))
    assert (str(error), error.code, error.rc) == ("no such class [EP_ERR_LABEL]", "EP_ERR_LABEL", -9)


# ---- Threads ----------------------------------------------------------------------------------------------------


def test_predictions_see_a_whole_update_or_none() -> None:
    """One thread flips between two sets of weights; the others must see either, in all chunks of one call alike."""
    model = edgeprop.Model(image(mlp((6, 8, 4), trainable=2)))
    states = [model.parameters(), {name: -value for name, value in model.parameters().items()}]
    x = np.tile(X, (20, 1))
    answers = []
    for state in states:
        model.set_parameters(state)
        answers.append(model.run(x)[0])
    assert not np.array_equal(*answers)
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for state in states:
                model.set_parameters(state)

    def look() -> int:
        seen = (model.run(x)[0] for _ in range(100))
        return sum(not any(np.array_equal(y, answer) for answer in answers) for y in seen)

    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            torn = [task.result() for task in [pool.submit(look) for _ in range(4)]]
    finally:
        stop.set()
        flipper.join()
    assert torn == [0, 0, 0, 0]


def test_learning_in_threads_loses_no_update(model: edgeprop.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same sample each time, the order of the steps does not matter, only their number."""
    epoch = _learning.epoch

    def slow(*arguments: Any) -> float:
        time.sleep(0.001)  # lets another thread in, between what was read and what is published
        return epoch(*arguments)

    expected = model.clone()
    for _ in range(40):
        expected.partial_fit(X[:1], Y[:1])
    monkeypatch.setattr(_learning, "epoch", slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model.partial_fit(X[:1], Y[:1]), range(40)))
    assert same(model, expected.parameters())


def test_clones_in_threads_do_not_meet(model: edgeprop.Model) -> None:
    expected = model.clone().partial_fit(X, Y, epochs=20).parameters()
    with ThreadPoolExecutor(4) as pool:
        twins = list(pool.map(lambda _: model.clone().partial_fit(X, Y, epochs=20), range(8)))
    assert all(same(twin, expected) for twin in twins)
