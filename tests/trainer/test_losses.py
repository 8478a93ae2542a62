"""Losses against numbers worked out by hand, and the targets they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeprop import trainer as t

SCORES = np.array([[2.0, 1.0, 0.5], [0.0, 0.0, 3.0]])


def value_and_gradient(loss, target, scores=SCORES):
    target = loss.check(target, len(scores), scores.shape[1:], scores.dtype)
    return loss.forward(scores, target), loss.backward(), loss.metric(scores, target)


def test_softmax_cross_entropy():
    value, dscores, accuracy = value_and_gradient(t.SoftmaxCrossEntropy(), [0, 1])
    e = [math.exp(2) + math.exp(1) + math.exp(0.5), 2 + math.exp(3)]
    assert value == pytest.approx((-2 + math.log(e[0]) + math.log(e[1])) / 2)
    assert dscores[0, 0] == pytest.approx((math.exp(2) / e[0] - 1) / 2)
    assert dscores[1, 2] == pytest.approx(math.exp(3) / e[1] / 2)
    assert accuracy == 0.5
    one_hot = value_and_gradient(t.SoftmaxCrossEntropy(), np.eye(3)[[0, 1]])
    assert one_hot[0] == pytest.approx(value)
    assert one_hot[2] == accuracy
    np.testing.assert_allclose(one_hot[1], dscores, atol=1e-15)


def test_cross_entropies_survive_huge_scores():
    huge = np.array([[1000.0, -1000.0]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert value_and_gradient(t.SoftmaxCrossEntropy(), [1], huge)[0] == 2000
        value, dscores, _ = value_and_gradient(t.SigmoidCrossEntropy(), [[0, 0]], huge)
    assert value == 500
    assert dscores.tolist() == [[0.5, 0]]


def test_sigmoid_cross_entropy_is_a_mean_over_batch_and_outputs():
    target = np.array([[1, 0, 1], [0, 1, 1]])
    value, dscores, accuracy = value_and_gradient(t.SigmoidCrossEntropy(), target)
    s = 1 / (1 + np.exp(-SCORES))
    assert value == pytest.approx(-np.mean(target * np.log(s) + (1 - target) * np.log(1 - s)))
    np.testing.assert_allclose(dscores, (s - target) / 6)
    assert accuracy == pytest.approx(4 / 6)


def test_mse_is_a_mean_over_batch_and_outputs():
    target = np.zeros((2, 3))
    value, dscores, mae = value_and_gradient(t.MeanSquaredError(), target)
    assert value == pytest.approx((4 + 1 + 0.25 + 9) / 6)
    np.testing.assert_allclose(dscores, SCORES / 3)
    assert mae == pytest.approx(6.5 / 6)


def test_hinge_sums_over_the_wrong_classes():
    value, dscores, _ = value_and_gradient(t.Hinge(), [1, 2], np.array([[2.0, 1.5, 0.75], [0.0, 0.0, 3.0]]))
    assert value == pytest.approx((1.5 + 0.25) / 2)
    assert dscores.tolist() == [[0.5, -1, 0.5], [0, 0, 0]]
    _, at_margin, _ = value_and_gradient(t.Hinge(), [0], np.array([[1.0, 0.0]]))
    assert at_margin.tolist() == [[0, 0]]


def test_softmax_rows_sum_to_one():
    p = t.softmax(np.array([[1000.0, 0.0], [0.0, 0.0]]))
    assert p.tolist() == [[1, 0], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("loss", "target", "message"),
    [
        ("softmax_cross_entropy", [0, 3], r"\[0, 3\].*3 outputs"),
        ("softmax_cross_entropy", [-1, 0], r"must lie in \[0, 2\]"),
        ("softmax_cross_entropy", [0.0, 1.0], "integers"),
        ("softmax_cross_entropy", ["a", "b"], "integers"),
        ("softmax_cross_entropy", [0, 1, 2], "one label each"),
        ("softmax_cross_entropy", [[0.5, 0.5, 0.5], [1, 0, 0]], "probabilities"),
        ("softmax_cross_entropy", [[-0.5, 1, 0.5], [1, 0, 0]], "probabilities"),
        ("hinge", [[1, 0, 0], [1, 0, 0]], "one label each"),
        ("sigmoid_cross_entropy", [[0, 2, 0], [0, 0, 0]], r"\[0, 1\]"),
        ("sigmoid_cross_entropy", [0, 1], "reshape"),
        ("mse", [[math.nan] * 3] * 2, "NaN"),
        ("mse", [["x"] * 3] * 2, "numbers"),
    ],
)
def test_bad_targets_are_named(loss, target, message):
    with pytest.raises(ValueError, match=message):
        value_and_gradient(t.LOSSES[loss](), target)


def test_labels_need_flat_outputs():
    with pytest.raises(ValueError, match="Flatten"):
        t.SoftmaxCrossEntropy().check([0], 1, (3, 1, 1), np.float32)
