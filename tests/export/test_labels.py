"""Names of classes from an export to the device: in which order, how many, and what a model without any is."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.api import ExportError

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
WANTED = ["sit", "run", "walk"]


def net(*ends: Any, size: int = 3) -> t.Sequential:
    found = t.Sequential(t.Dense(6), t.ReLU(), t.Dense(size, name="head"), *ends)
    found.build((4,), seed=0)
    return found


def saved(folder: Path, model: Any, calibration: Any = None, **options: Any) -> edgeprop.Model:
    return edgeprop.Model(export.save(folder / "m", model, calibration, **options).paths["image"])


IN_ORDER = {
    "list": WANTED,
    "tuple": tuple(WANTED),
    "array": np.array(WANTED),
    "array of objects": np.array(WANTED, object),
    "bytes": [b"sit", b"run", b"walk"],
    "iterator": iter(WANTED),
    "name to index": {"walk": 2, "sit": 0, "run": 1},
    "index to name": {2: "walk", 0: "sit", 1: "run"},
    "index to name, NumPy's": {np.int64(2): "walk", np.int8(0): "sit", np.uint8(1): "run"},
    "index to name, from JSON": {"2": "walk", "0": "sit", "1": "run"},
    "ordered": OrderedDict(walk=2, sit=0, run=1),
}


@pytest.mark.parametrize("labels", IN_ORDER.values(), ids=IN_ORDER)
def test_names_stand_in_the_order_of_the_outputs(labels: Any, tmp_path: Path) -> None:
    model = saved(tmp_path, net(), trainable="head", labels=labels)
    assert model.classes_.tolist() == WANTED
    header = (tmp_path / "m.h").read_text()
    places = [header.index(f"_LABEL_{name.upper()} =") for name in WANTED]
    assert places == sorted(places)


BAD = {
    "set": (set(WANTED), "set has no order"),
    "frozenset": (frozenset(WANTED), "no order"),
    "keys": (dict.fromkeys(WANTED, 0).keys(), "no order"),
    "numbers to numbers": ({0: 2, 1: 1, 2: 0}, "numbers to numbers"),
    "names to names": ({"a": "b", "c": "d", "e": "f"}, "no indices"),
    "an index left out": ({"a": 0, "b": 1, "c": 3}, "0 .. 2"),
    "from 1": ({1: "a", 2: "b", 3: "c"}, "0 .. 2"),
    "an index twice": ({"a": 0, "b": 1, "c": 1}, "two names"),
    "truth values": ({True: "a", False: "b", 2: "c"}, "no indices"),
    "None": (["a", None, "c"], "no name"),
    "NaN": (["a", float("nan"), "c"], "no name"),
    "nothing": (["a", "", "c"], "no name"),
    "rows": (np.eye(3), "no name"),
    "a number": (3, "holds no names"),
    "too many": (list("abcd"), "4 labels for an output of 3"),
    "one": ("a", "1 labels"),
    "twice": (list("aba"), "come twice"),
}


@pytest.mark.parametrize(("labels", "message"), BAD.values(), ids=BAD)
def test_names_without_an_order_or_a_number_are_refused(labels: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        saved(tmp_path, net(), trainable="head", labels=labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sigmoid", [True, False])
def test_one_score_has_two_names(sigmoid: bool, tmp_path: Path) -> None:
    ends, options = ([t.Sigmoid()], {}) if sigmoid else ([], {"loss": "sigmoid_cross_entropy"})
    model = saved(tmp_path, net(*ends, size=1), trainable="head", labels=["no", "yes"], **options)
    assert model.classes_.tolist() == ["no", "yes"]
    truth = (X[:, 0] > 0).astype(int)
    names = model.classes_[truth]
    assert model.partial_fit(X, names, lr=0.5, epochs=40).score(X, names) > 0.8
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X)[:, 1] > 0.5)
    for labels, message in ((["yes"], "'not yes', 'yes'"), (list("abc"), "3 labels")):
        with pytest.raises(ExportError, match=message):
            saved(tmp_path, net(*ends, size=1), trainable="head", labels=labels, **options)


def test_one_value_may_have_one_name(tmp_path: Path) -> None:
    """A regression's, which is no class."""
    model = saved(tmp_path, net(size=1), trainable="head", labels=["temperature"], loss="mse")
    assert not hasattr(model, "classes_")
    assert model.predict(X).dtype == np.float32


def test_names_in_the_model_are_as_many_too(tmp_path: Path) -> None:
    proto = net().to_onnx()
    onnx.helper.set_model_props(proto, {"edgeprop.labels": '["a", "b"]'})
    with pytest.raises(ExportError, match="2 labels for an output of 3"):
        saved(tmp_path, proto)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(("end", "size"), [(t.Softmax, 3), (t.Sigmoid, 1), (t.Sigmoid, 3)])
def test_a_frozen_classifier_is_one(end: Any, size: int, quantized: bool, tmp_path: Path) -> None:
    model = net(end(), size=size)
    frozen = saved(tmp_path, model, X if quantized else None)
    learns = saved(tmp_path, model, X if quantized else None, trainable="head")
    assert not frozen.arena_size() > learns.arena_size() or quantized
    y = np.random.default_rng(1).integers(0, 2, (60, 3) if (end, size) == (t.Sigmoid, 3) else 60)
    assert frozen.predict(X).shape == learns.predict(X).shape == y.shape
    assert frozen.predict(X).dtype == np.int64
    np.testing.assert_allclose(frozen.predict_proba(X), learns.predict_proba(X), atol=0.05 if quantized else 1e-6)
    assert 0 <= frozen.score(X, y) <= 1
    np.testing.assert_array_equal(frozen.classes_, learns.classes_)


def test_a_frozen_model_knows_the_loss_it_was_exported_for(tmp_path: Path) -> None:
    """Logits say nothing of classes, and a Sigmoid may end a regression."""
    assert saved(tmp_path, net(), loss="softmax_cross_entropy").predict(X).shape == (60,)
    assert not hasattr(saved(tmp_path, net()), "classes_")
    values = saved(tmp_path, net(t.Sigmoid(), size=1), loss="mse")
    assert not hasattr(values, "classes_")
    np.testing.assert_array_equal(values.predict(X), values.run(X)[0])


@pytest.mark.parametrize("label", ["\ud800", b"\xff"])
def test_a_label_that_is_not_utf_8(tmp_path: Path, label: Any) -> None:
    with pytest.raises(ExportError, match="among the labels is not UTF-8: give one text per class"):
        saved(tmp_path, net(), labels=[label, "run", "walk"])
    assert list(tmp_path.iterdir()) == []
