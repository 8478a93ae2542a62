"""What a model's output holds, scores or probabilities, found by the binding from the last ops; its summary, to the letter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop.export.program.plan import infer_arena, restore_arena, train_arena
from edgeprop.export.program.program import Program
from edgeprop.export.writers.image import to_image
from tests.support.programs import Builder

Array = np.ndarray[Any, np.dtype[Any]]
X = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


def built(end: str, loss: str | None = "softmax_cross_entropy", classes: int = 3, before: bool = True) -> Program:
    """A dense layer and what `end` says, in turn; the loss is of the dense layer's scores, or of the output."""
    b = Builder("net")
    x = b.input((6,))
    scores = last = b.dense(x, classes, "fc", trainable=loss is not None)
    for i, part in enumerate(end.split()):
        if part == "softmax":
            last = b.softmax(last)
        elif part == "log":
            last = b._op("log_softmax_f32", f"log{i}", [last], b.like(last, f"log{i}_out"), rows=1, channels=classes)
        elif part == "sigmoid":
            last = b.unary("sigmoid_f32", last, f"sigmoid{i}")
        elif part == "tanh":
            last = b.unary("tanh_f32", last, f"tanh{i}")
        elif part == "copy":
            last = b.unary("copy", last, f"copy{i}")
        elif part == "codes":
            last = b.dequantize(b.quantize(last, f"q{i}", 1 / 256, -128), f"dq{i}")
    if loss is not None:
        b.learn(scores if before else last, loss)
    b.output(last)
    return b.program


def reference(program: Program) -> Array:
    """Scores of the dense layer, (n, classes), in float64."""
    weight, bias = program.tensors["fc.weight"].data, program.tensors["fc.bias"].data
    assert weight is not None
    return np.asarray(X.astype(np.float64) @ weight.T.astype(np.float64) + bias)


def softmax(v: Array) -> Array:
    e = np.exp(v - v.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


@pytest.mark.parametrize("end", ["", "softmax", "softmax copy", "softmax codes", "copy", "log"])
def test_probabilities_of_classes(end: str) -> None:
    """Each class has its share, once: what is a probability already is not made one again."""
    program = built(end)
    found = edgeprop.Model(to_image(program)).predict_proba(X)
    np.testing.assert_allclose(found, softmax(reference(program)), atol=1 / 256 if "codes" in end else 1e-6)


@pytest.mark.parametrize("end", ["", "softmax", "softmax copy", "log"])
def test_scores_of_classes(end: str) -> None:
    """Scores differ by what the logarithms of probabilities differ by."""
    program = built(end)
    found = edgeprop.Model(to_image(program)).decision_function(X)
    wanted = reference(program)
    np.testing.assert_allclose(found - found.max(1, keepdims=True), wanted - wanted.max(1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("end", ["", "sigmoid", "sigmoid copy"])
def test_probabilities_of_several_labels(end: str) -> None:
    program = built(end, "sigmoid_cross_entropy")
    model = edgeprop.Model(to_image(program))
    np.testing.assert_allclose(model.predict_proba(X), 1 / (1 + np.exp(-reference(program))), atol=1e-6)
    np.testing.assert_array_equal(model.predict(X) > 0, reference(program) > 0)


@pytest.mark.parametrize("end", ["", "sigmoid", "sigmoid copy"])
@pytest.mark.parametrize("classes", [1, 3])
def test_scores_of_labels(end: str, classes: int) -> None:
    """The logarithm of the odds, p / (1 - p): what the sigmoid was of."""
    program = built(end, "sigmoid_cross_entropy", classes)
    found = edgeprop.Model(to_image(program)).decision_function(X)
    np.testing.assert_allclose(found, reference(program), atol=1e-4)


def test_scores_of_what_is_certain_are_finite() -> None:
    """A probability that is 0 or 1 in float32 has a score of its sign, as far as float32 goes."""
    program = built("sigmoid", "sigmoid_cross_entropy", 2)
    weight, bias = program.tensors["fc.weight"].data, program.tensors["fc.bias"].data
    assert weight is not None
    assert bias is not None
    weight[:], bias[:] = 0, (200, -200)
    found = edgeprop.Model(to_image(program)).decision_function(X[:1])
    assert np.isfinite(found).all()
    assert found[0, 0] > 80
    assert found[0, 1] < -80


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_what_gives_likelihoods_does_where_the_loss_reads_them_too(end: str) -> None:
    image = edgeprop.Model(to_image(built(end, "mse", before=False)))._image
    assert image.ending == end
    assert edgeprop.Model(to_image(built(end, "mse")))._image.ending == end


@pytest.mark.parametrize(
    ("end", "ending"),
    [("", "logits"), ("softmax", "softmax"), ("softmax codes copy", "softmax"), ("sigmoid copy", "sigmoid"),
     ("softmax tanh", "logits"), ("tanh", "logits")],
)  # fmt: skip
def test_endings_of_a_model_that_does_not_learn(end: str, ending: str) -> None:
    image = edgeprop.Model(to_image(built(end, None)))._image
    assert image.ending == ending
    assert image.loss is None


def test_summary() -> None:
    """Every figure in its place."""
    program = built("softmax")
    program.source, program.labels = "net.onnx", ["a", "b", "c"]
    image = to_image(program)
    model = edgeprop.Model(image)
    lines = [line.rstrip() for line in model.summary().splitlines()]
    record = next(line for line in lines if line.startswith("saved head"))
    assert lines == [
        f"net, from net.onnx, fingerprint {model.fingerprint}",
        "  input  x nx6 float32",
        "  output softmax_out nx3 float32",
        "  labels a, b, c",
        "  loss   softmax_cross_entropy",
        "",
        "  layer    op           output  weights  trains",
        "  -------  -----------  ------  -------  ------",
        "  fc       dense_f32    3            21      21",
        "  softmax  softmax_f32  3",
        "",
        f"image {len(image):,} bytes; RAM for inference {infer_arena(program):,} bytes",
        f"RAM to restore {restore_arena(program):,} bytes; to learn, one sample a step: "
        f"SGD in place {train_arena(program):,}, momentum {train_arena(program, optimizer='momentum'):,}, "
        f"Adam {train_arena(program, optimizer='adam'):,}",
        record,
    ]
