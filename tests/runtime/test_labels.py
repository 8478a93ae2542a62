"""Labels: which class each form of them means, what is refused, and what a model is that says nothing of its classes."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop._labels import as_labels
from tests.support.image import Net, Node, Tensor, image, mlp

RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(30, 6)).astype("f4")


def classifier(labels: Sequence[str], **options: Any) -> edgeprop.Model:
    return edgeprop.Model(image(mlp((6, 8, len(labels)), trainable=2, labels=labels, **options)))


def learned(model: edgeprop.Model, y: Any) -> dict[str, np.ndarray]:
    return model.clone().partial_fit(X, y, lr=0.1).parameters()


def teaches(model: edgeprop.Model, y: Any, indices: np.ndarray) -> None:
    """`y` teaches, and scores as, the classes at `indices`."""
    names = model.classes_[indices]
    expected, found = learned(model, names), learned(model, y)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    right = float(np.mean(model.predict(X) == indices))
    assert model.score(X, y) == model.score(X, names) == right
    gradients = [model.gradients(X, labels) for labels in (y, names)]
    assert all(np.array_equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


#: names of three classes, which of them the labels are, and the labels
NUMBERS = {
    "1, 2, 3": (["1", "2", "3"], [1, 2, 3]),
    "0, 2, 3": (["0", "2", "3"], [0, 2, 3]),
    "2, 1, 0": (["2", "1", "0"], [2, 1, 0]),
    "0, 1, 2": (["0", "1", "2"], [0, 1, 2]),
    "-1, 0, 1": (["-1", "0", "1"], [-1, 0, 1]),
    "01, 02, 03": (["01", "02", "03"], [1, 2, 3]),
    "10, 9, 8": (["10", "9", "8"], [10, 9, 8]),
    "1.0, 2.0, 3.0": (["1.0", "2.0", "3.0"], [1, 2, 3]),
    "0.5, 1.5, 2": (["0.5", "1.5", "2"], [0.5, 1.5, 2]),
    "large": (["4611686018427387905", "4611686018427387904", "7"], [4611686018427387905, 4611686018427387904, 7]),
}


@pytest.mark.parametrize(("names", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_names_where_all_names_are_numbers(names: list[str], numbers: list[float]) -> None:
    model, indices = classifier(names), np.arange(30) % 3
    assert model.classes_.tolist() == names
    labels = np.array(numbers)[indices]
    teaches(model, labels, indices)
    teaches(model, labels.tolist(), indices)
    teaches(model, labels.astype(object), indices)
    if labels.dtype.kind == "i" and max(numbers) < 100:
        teaches(model, labels.astype("i1"), indices)
        teaches(model, labels.astype(float), indices)


@pytest.mark.parametrize("names", [["1", "2", "3"], ["0", "2", "3"], ["-1", "0", "1"]])
def test_a_number_that_is_no_name_is_refused_with_the_names(names: list[str]) -> None:
    model = classifier(names)
    for labels in ([5] * 30, [int(names[-1]) + 1] * 30, [0.5] * 30):
        for call in (model.partial_fit, model.score, model.gradients):
            with pytest.raises(edgeprop.Error, match=", ".join(names)) as error:
                call(X, labels)
            assert error.value.code == "EP_ERR_LABEL"


def test_names_that_are_one_number_are_texts_only() -> None:
    model = classifier(["1", "01", "2"])
    teaches(model, np.array(["1", "01", "2"])[np.arange(30) % 3], np.arange(30) % 3)
    with pytest.raises(edgeprop.Error, match="give names as texts"):
        model.partial_fit(X, np.arange(30) % 3)


def test_integers_are_indices_where_a_name_is_a_word() -> None:
    model, indices = classifier(["7", "two", "9"]), np.arange(30) % 3
    teaches(model, indices, indices)
    with pytest.raises(edgeprop.Error, match=r"label 3 at y\[0\] is outside 0 .. 2"):
        model.partial_fit(X, [3] * 30)


TEXTS = {
    "list": lambda names: names.tolist(),
    "objects": lambda names: names.astype(object),
    "bytes": lambda names: np.char.encode(names, "utf-8"),
    "objects of bytes": lambda names: np.char.encode(names, "utf-8").astype(object),
    "numpy's texts in a list": list,
    "wider texts": lambda names: names.astype("<U40"),
    "not contiguous": lambda names: np.repeat(names, 2)[::2],
    "masked nowhere": lambda names: np.ma.array(names),
    "like a Series": lambda names: types.SimpleNamespace(__array__=lambda *_, **__: names.astype(object)),
}
if hasattr(np.dtypes, "StringDType"):
    TEXTS["StringDType"] = lambda names: names.astype(np.dtypes.StringDType())


@pytest.mark.parametrize("form", TEXTS.values(), ids=TEXTS)
def test_texts_of_all_kinds(form) -> None:
    indices = np.arange(30) % 3
    model = classifier(["a", "grün", "c"])
    labels = form(model.classes_[indices])
    if isinstance(labels, types.SimpleNamespace):
        array = labels.__array__()
        labels = type("Series", (), {"__array__": lambda *_, **__: array})()
    teaches(model, labels, indices)


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    model, indices = classifier(["a", "b", "c"]), np.arange(30) % 3
    names = list(model.classes_[indices])
    for labels in (pd.Series(names), pd.Categorical(names), pd.Series(names, index=range(30, 0, -1)), pd.Index(names)):
        teaches(model, labels, indices)
    np.testing.assert_array_equal(model.run(pd.DataFrame(X))[0], model.run(X)[0])


MISSING = type("NAType", (), {"__repr__": lambda _: "<NA>", "__hash__": lambda _: 0})()
BAD = {
    "None": (["a"] * 29 + [None], r"y\[29\] is None: the label is missing"),
    "NaN": (np.where(np.arange(30) == 4, np.nan, 1.0), r"y\[4\] is nan: the label is missing"),
    "NaN among texts": (["a", float("nan"), *["b"] * 28], r"y\[1\] is nan: the label is missing"),
    "pandas' NA": (np.array(["a", MISSING, *["b"] * 28], object), r"y\[1\] is <NA>: the label is missing"),
    "masked": (np.ma.masked_equal(np.arange(30) % 3, 2), r"y\[2\] is masked: the label is missing"),
    "floats": (np.arange(30) % 3 * 1.0, "labels are names of classes or integers; give y.astype"),
    "complex": (np.zeros(30, complex), "labels are names"),
    "dates": (np.zeros(30, "M8[s]"), "labels are names"),
    "texts and numbers": (np.array(["a", 1] * 15, object), "int, str; labels are names"),
    "dictionaries": (np.array([{}] * 30, object), "dict; labels are names"),
    "not UTF-8": (np.array([b"\xff"] * 30), "UTF-8"),
    "a scalar": ("a", r"np.ravel"),
    "a column": (np.array(["a"] * 30)[:, None], r"np.ravel"),
    "one-hot": (np.eye(3)[np.arange(30) % 3], "argmax"),
    "ragged": ([["a"], ["a", "b"], *["a"] * 28], "labels are"),
    "too few": (["a"] * 29, "30 samples and y 29"),
    "truth values": (np.arange(30) % 2 == 0, "truth values"),
}


@pytest.mark.parametrize(("y", "message"), BAD.values(), ids=BAD)
def test_what_is_no_label_is_refused_in_words_about_labels(y: Any, message: str) -> None:
    model = classifier(["a", "b", "c"])
    before = model.parameters()
    for call in (model.partial_fit, model.score, model.gradients):
        with pytest.raises(edgeprop.Error, match=message):
            call(X, y)
    assert all(np.array_equal(value, before[name]) for name, value in model.parameters().items())


def test_an_error_lists_some_of_many_classes() -> None:
    with pytest.raises(edgeprop.Error, match=r"c0, c1, .*c19 and 980 more"):
        as_labels(["x"], [f"c{i}" for i in range(1000)], 1000, 1)


def test_names_of_another_number_are_no_names_of_classes() -> None:
    """As those of a sequence's steps, of which each has its own class: no name is the index of one of all scores."""
    net = mlp((6, 8, 6), trainable=2, labels=["a", "b", "c"])
    net.outputs = [("fc1", (0, 2, 3), (0, 1, 2))]
    model = edgeprop.Model(image(net))
    assert model.classes_.tolist() == list(range(6))
    teaches(model, np.arange(30) % 6, np.arange(30) % 6)
    with pytest.raises(edgeprop.Error, match="no names of classes"):
        model.partial_fit(X, ["c"] * 30)


# ---- Two classes, one score -----------------------------------------------------------------------------------------


def binary(labels: Sequence[str] = (), sigmoid: bool = False, **options: Any) -> edgeprop.Model:
    options = {"trainable": 2, "loss": "sigmoid_cross_entropy", **options}
    net = mlp((6, 8, 1), labels=labels, **options)
    if sigmoid:
        y = net.unary("sigmoid_f32", net.outputs[0][0], "p", count=1)
        net.outputs = [(y, (0, 1), (0, 1))]
    return edgeprop.Model(image(net))


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize(
    ("names", "no", "yes"),
    [
        (["no", "yes"], "no", "yes"),
        (["no", "yes"], 0, 1),
        (["no", "yes"], False, True),
        (["False", "True"], False, True),
        (["True", "False"], True, False),
        (["1", "2"], 1, 2),
        (["-1", "1"], -1, 1),
        (["-1", "1"], -1.0, 1.0),
        (["0", "1"], 0, 1),
        (["0", "1"], False, True),
        (["1", "0"], 1, 0),
        (["1", "0"], True, False),
        ([], 0, 1),
        ([], False, True),
        ([], 0.0, 1.0),
    ],
)
def test_two_classes_of_one_score(names: list[str], no: Any, yes: Any, sigmoid: bool) -> None:
    model, truth = binary(names, sigmoid), (X[:, 0] > 0).astype(int)
    labels = np.array([no, yes])[truth]
    expected = binary((), sigmoid).partial_fit(X, truth, lr=0.3, epochs=40)
    model.partial_fit(X, labels, lr=0.3, epochs=40)
    np.testing.assert_array_equal(model.run(X)[0], expected.run(X)[0])
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))
    if labels.dtype.kind != "f" or names:
        assert model.score(X, labels) == expected.score(X, truth) > 0.9
        assert model.score(X, labels[:, None]) == model.score(X, labels)
    assert len(model.classes_) == 2


@pytest.mark.parametrize("y", [-1, 2, 255, -0.01, 1.5])
def test_a_target_that_is_no_probability_is_refused(y: float) -> None:
    model = binary()
    before = model.parameters()
    for labels in (np.full(30, y), np.full((30, 1), y)):
        with pytest.raises(edgeprop.Error, match=r"y\[0, 0\] is .*0 \(no\) to 1 \(yes\)") as error:
            model.partial_fit(X, labels)
        assert error.value.code == "EP_ERR_LABEL"
    assert all(np.array_equal(value, before[name]) for name, value in model.parameters().items())
    assert np.isfinite(model.partial_fit(X, np.full(30, 0.25)).loss_)  # likelihoods may be learned


def test_independent_labels_are_probabilities_too() -> None:
    model = edgeprop.Model(image(mlp((6, 8, 3), trainable=2, loss="sigmoid_cross_entropy")))
    y = (X[:, :3] > 0).astype(int)
    model.partial_fit(X, y, lr=0.3, epochs=100)
    assert model.predict(X).shape == (30, 3)
    assert model.score(X, y) > 0.8
    with pytest.raises(edgeprop.Error, match=r"y\[0, 1\] is 255"):
        model.partial_fit(X, y * [1, 255, 1] + [0, 255, 0] * (y == 0))


def test_one_name_for_one_score_is_that_of_a_yes() -> None:
    model = binary(["cat"])
    assert model.classes_.tolist() == ["not cat", "cat"]
    names = model.classes_[model.predict(X)]
    assert model.score(X, names) == 1


@pytest.mark.parametrize("sigmoid", [False, True])
def test_values_learned_for_two_classes_lie_on_both_sides_of_the_threshold(sigmoid: bool) -> None:
    """mse on one output with two names: its classes must come apart by the rule that `predict` goes by."""
    net = mlp((6, 8, 1), trainable=2, loss="mse", labels=["no", "yes"])
    if sigmoid:
        y = net.unary("sigmoid_f32", net.outputs[0][0], "p", count=1)
        net.outputs, net.logits = [(y, (0, 1), (0, 1))], y
    model, truth = edgeprop.Model(image(net)), (X[:, 0] > 0).astype(int)
    names = model.classes_[truth]
    assert model.partial_fit(X, names, lr=0.3 if sigmoid else 0.02, epochs=200).score(X, names) > 0.9


# ---- Classifiers that do not learn ----------------------------------------------------------------------------------


def ending(op: str, size: int, trainable: int, shape: tuple[int, ...] | None = None) -> edgeprop.Model:
    net = mlp(
        (6, 8, size),
        trainable=trainable,
        loss="sigmoid_cross_entropy" if op == "sigmoid_f32" else "softmax_cross_entropy",
    )
    attrs = {"count": size} if op == "sigmoid_f32" else {"rows": 1, "channels": size}
    y = net.unary(op, net.outputs[0][0], "y", **attrs)
    shape = (0, *(shape or (size,)))
    net.outputs = [(y, shape, tuple(range(len(shape))))]
    return edgeprop.Model(image(net))


@pytest.mark.parametrize(
    ("op", "size"), [("softmax_f32", 3), ("log_softmax_f32", 3), ("sigmoid_f32", 1), ("sigmoid_f32", 3)]
)
def test_what_a_model_is_does_not_depend_on_what_trains(op: str, size: int) -> None:
    learns, frozen = ending(op, size, 1), ending(op, size, 0)
    np.testing.assert_array_equal(frozen.predict(X), learns.predict(X))
    assert frozen.predict(X).dtype == np.int64
    np.testing.assert_array_equal(frozen.predict_proba(X), learns.predict_proba(X))
    np.testing.assert_array_equal(frozen.decision_function(X), learns.decision_function(X))
    np.testing.assert_array_equal(frozen.classes_, learns.classes_)
    y = RANDOM.integers(0, 2, (30, 3)) if size == 3 and op == "sigmoid_f32" else RANDOM.integers(0, 2, 30)
    assert frozen.score(X, y) == learns.score(X, y)
    assert frozen.loss is None


def test_a_picture_of_probabilities_is_no_classifier() -> None:
    """As an autoencoder's, or a class for each pixel."""
    for op in ("sigmoid_f32", "softmax_f32"):
        model = ending(op, 6, 0, (1, 2, 3))
        np.testing.assert_array_equal(model.predict(X), model.run(X)[0])
        assert not hasattr(model, "classes_")


def table(function, scale: float, zero_point: int) -> edgeprop.Model:
    """An int8 model of one output, a function by a table of codes."""
    net = Net(name="table")
    net.add(Tensor("x", (1,), "i1", scale=0.05, zero_point=3))
    real = 0.05 * (np.arange(-128, 128) - 3.0)
    codes = np.clip(np.rint(function(real) / scale) + zero_point, -128, 127).astype("i1")
    net.add(Tensor("t", (256,), "i1", codes))
    net.add(Tensor("y", (1,), "i1", scale=scale, zero_point=zero_point))
    net.nodes.append(Node("lut_s8", ["x", "t"], ["y"], {"count": 1}, "f"))
    net.inputs, net.outputs = [("x", (0, 1), (0, 1))], [("y", (0, 1), (0, 1))]
    return edgeprop.Model(image(net))


def test_a_table_is_a_sigmoid_only_if_it_holds_one() -> None:
    """Others have values from 0 to 1 as well."""
    x = np.linspace(-6, 6, 30)[:, None]
    for scale, zero_point in ((1 / 256, -128), (1 / 255, -128), (0.0039, -128)):
        model = table(lambda r: 1 / (1 + np.exp(-r)), scale, zero_point)
        assert model.classes_.tolist() == [0, 1]
        np.testing.assert_array_equal(model.predict(x), (x[:, 0] > 0.05).astype(int))
    for function in (lambda r: np.clip(r, 0, 1), lambda r: np.exp(-r * r), lambda r: np.clip(r / 6 + 0.5, 0, 1)):
        model = table(function, 1 / 256, -128)
        assert not hasattr(model, "classes_")
        np.testing.assert_array_equal(model.predict(x), model.outputs[0].real(model.run(x)[0]))


@pytest.mark.parametrize(
    ("y", "cure"),
    [
        (np.arange(30) % 3 + 0.5, "give whole numbers"),  # y.astype(int) would cut them
        ((np.arange(30) % 3).astype("f4"), r"give y.astype\(int\)"),
        (np.eye(4)[np.arange(30) % 3], "give one label a sample"),  # np.ravel(y) would give 120
        ((np.arange(30) % 3)[:, None], r"give np.ravel\(y\)"),
        (np.eye(3)[np.arange(30) % 3], r"give y.argmax\(axis=1\)"),
    ],
)
def test_cures_that_do_not_teach_something_else(y: np.ndarray, cure: str) -> None:
    with pytest.raises(edgeprop.Error, match=cure):
        classifier("abc").partial_fit(X, y)
