"""What is taught by labels of any form is what comes out, on models as the exporter writes them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import edgeprop
from edgeprop import trainer as t
from edgeprop._labels import as_labels
from edgeprop.export import lower, plan
from edgeprop.export.writers.image import to_image


def learner(labels: list[str], loss: str, ends: str = "") -> edgeprop.Model:
    """A layer of one score that learns."""
    net = t.Sequential(t.Dense(1, name="head"), *([t.Sigmoid()] if ends else []))
    net.build((4,), seed=0)
    proto = net.to_onnx()
    program = lower(proto, name="net", trainable="head", loss=loss, labels=labels)
    plan(program)
    return edgeprop.Model(to_image(program))


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "mse"])
@pytest.mark.parametrize(
    ("labels", "yes", "no"),
    [
        (["1.0", "0.0"], 1, 0),
        (["+1", "0"], 1, 0),
        (["1", "0"], True, False),
        (["true", "false"], True, False),
        (["yes", "no"], True, False),
        (["no", "yes"], True, False),
        (["0", "1"], 1, 0),
        (["a", "b"], 1, 0),
    ],
)
def test_what_is_taught_is_what_comes_out(labels: list[str], yes: object, no: object, loss: str) -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    truth = x[:, 0] > 0
    y = np.array([yes if one else no for one in truth])
    model = learner(labels, loss).partial_fit(x, y, lr=0.05, epochs=10)
    assert model.score(x, y) > 0.8
    found = [model.classes_[i] for i in model.predict(x)]
    high = {"1.0", "+1", "1", "true", "yes", "b"} & set(labels)
    assert np.mean([name in high for name in found] == truth) > 0.8


@pytest.mark.parametrize("labels", [["cat", "dog"], ["yes", "maybe"]])
def test_truth_values_do_not_say_which_of_two_names(labels: list[str]) -> None:
    with pytest.raises(edgeprop.Error, match="give their names"):
        learner(labels, "sigmoid_cross_entropy").partial_fit(np.ones((2, 4), np.float32), [True, False])


def test_an_index_that_is_another_class_is_refused() -> None:
    assert as_labels([0, 1], ["a", "b"], 2, 2).tolist() == [0, 1]
    with pytest.raises(edgeprop.Error, match="the name of one class and the index of another"):
        as_labels([0, 1], ["unknown", "0", "1"], 3, 2)


def test_scores_of_one_axis() -> None:
    """A sample may be a single number, as behind PyTorch's squeeze(-1)."""
    x, y = helper.make_tensor_value_info("x", 1, ["N", 4]), helper.make_tensor_value_info("y", 1, ["N"])
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    program = lower(proto, name="net")
    plan(program)
    model = edgeprop.Model(to_image(program))
    assert model.predict(np.ones((3, 4), np.float32)).shape == (3,)
    assert not hasattr(model, "classes_")


def test_the_smallest_of_floats_are_learned_as_zero() -> None:
    learner(["a", "b"], "sigmoid_cross_entropy").partial_fit(np.ones((2, 4), np.float32), [1e-42, 1.0])
