"""Losses against numbers worked out by hand, and the targets they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeprop import trainer as t
from edgeprop.trainer.embedding_losses import semi_hard

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
        ("sigmoid_cross_entropy", [0, 1], "one target for each output"),
        ("mse", [[math.nan] * 3] * 2, "NaN"),
        ("mse", [["x"] * 3] * 2, "numbers"),
        ("mse", [["1"] * 3] * 2, "numbers"),
        ("mse", [[1j] * 3] * 2, "numbers"),
        ("mse", [0, 1], "one target for each output"),
        ("mse", [[0], [1]], "one target for each output"),
        ("hinge", [[0], [1]], "one label each"),
        ("softmax_cross_entropy", [[0], [1]], "np.ravel"),
        ("softmax_cross_entropy", [[0, 0, 255], [255, 0, 0]], "probabilities"),
        ("sigmoid_cross_entropy", [[-1, 1, 1], [1, 1, 1]], r"\[0, 1\]"),
        ("sigmoid_cross_entropy", [[0, 255, 0], [0, 0, 0]], r"\[0, 1\]"),
    ],
)
def test_bad_targets_are_named(loss, target, message):
    with pytest.raises(ValueError, match=message):
        value_and_gradient(t.LOSSES[loss](), target)


def test_labels_need_flat_outputs():
    with pytest.raises(ValueError, match="Flatten"):
        t.SoftmaxCrossEntropy().check([0], 1, (3, 1, 1), np.float32)


# ---- Options ---------------------------------------------------------------------------------------------------------

P = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)


def test_label_smoothing_by_hand():
    value, dscores, accuracy = value_and_gradient(t.SoftmaxCrossEntropy(label_smoothing=0.3), [0, 1])
    q = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert value == pytest.approx(-(q * np.log(P)).sum() / 2)
    np.testing.assert_allclose(dscores, (P - q) / 2)
    assert accuracy == 0.5
    again = value_and_gradient(t.SoftmaxCrossEntropy(label_smoothing=0.3), np.eye(3)[[0, 1]])
    assert again[0] == pytest.approx(value)


def test_class_weights_by_hand():
    loss = t.SoftmaxCrossEntropy(class_weights=[1, 3, 0])
    value, dscores, _ = value_and_gradient(loss, [0, 1])
    assert value == pytest.approx(-(math.log(P[0, 0]) + 3 * math.log(P[1, 1])) / 4)
    np.testing.assert_allclose(dscores, (P - np.eye(3)[[0, 1]]) * [[1 / 4], [3 / 4]])
    p = np.array([[0.5, 0.25, 0.25], [0, 1, 0]])
    value, _, _ = value_and_gradient(loss, p)
    assert value == pytest.approx(-(np.array([1, 3, 0]) * p * np.log(P)).sum() / 2)
    assert value_and_gradient(loss, [2, 2])[0] == 0  # a batch that counts for nothing


def test_sigmoid_weights_by_hand():
    target = np.array([[1, 0, 1], [0, 1, 1]])
    weights, positive = np.array([1, 2, 0.5]), np.array([3, 1, 4])
    loss = t.SigmoidCrossEntropy(class_weights=weights, positive_weights=positive)
    value, dscores, _ = value_and_gradient(loss, target)
    s = 1 / (1 + np.exp(-SCORES))
    each = -weights * (positive * target * np.log(s) + (1 - target) * np.log(1 - s))
    assert value == pytest.approx(each.mean())
    np.testing.assert_allclose(dscores, weights * ((1 - target) * s - positive * target * (1 - s)) / 6)
    assert value_and_gradient(t.SigmoidCrossEntropy(positive_weights=3.0), target)[0] == pytest.approx(
        -(3 * target * np.log(s) + (1 - target) * np.log(1 - s)).mean()
    )
    with np.errstate(all="raise", under="ignore"):
        huge = np.array([[1000.0, -1000.0]], np.float32)
        assert value_and_gradient(t.SigmoidCrossEntropy(positive_weights=2.0), [[0, 1]], huge)[0] == 1500


def test_huber_by_hand():
    value, dscores, mae = value_and_gradient(t.Huber(delta=1.5), np.zeros((2, 3)))
    assert value == pytest.approx((1.5 * (2 - 0.75) + 0.5 + 0.125 + 1.5 * (3 - 0.75)) / 6)
    np.testing.assert_allclose(dscores, np.array([[1.5, 1, 0.5], [0, 0, 1.5]]) / 6)
    assert mae == pytest.approx(6.5 / 6)


def test_balanced_class_weights():
    weights = t.balanced_class_weights([0, 0, 0, 1, 2, 2], 3)
    assert weights == pytest.approx([2 / 3, 2, 1])
    with pytest.raises(ValueError, match=r"classes \[0, 2\]"):
        t.balanced_class_weights([0, 2], 3)


WEIGHTED = [
    t.SoftmaxCrossEntropy(label_smoothing=0.2),
    t.SoftmaxCrossEntropy(class_weights=[1, 2, 0.5, 0]),
    t.SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=[1, 2, 0.5, 3]),
    t.SigmoidCrossEntropy(class_weights=[1, 2, 0.5, 3]),
    t.SigmoidCrossEntropy(class_weights=[1, 2, 0.5, 3], positive_weights=4.0),
    t.Huber(delta=0.3),
]


def drawn(loss, n=6, k=4):
    """Targets that the loss takes."""
    rng = np.random.default_rng(1)
    if isinstance(loss, t.SigmoidCrossEntropy):
        return rng.integers(0, 2, (n, k))
    return rng.normal(size=(n, k)) if isinstance(loss, t.Huber) else rng.integers(0, k, n)


@pytest.mark.parametrize("loss", WEIGHTED, ids=lambda loss: loss.kind)
def test_options_pass_gradient_checks(loss):
    net = t.Sequential(t.Dense(5), t.Tanh(), t.Dense(4))
    x = np.random.default_rng(0).normal(size=(6, 3))
    assert t.check_gradients(net, x, drawn(loss), loss).error < 1e-6
    if isinstance(loss, t.SoftmaxCrossEntropy):
        p = np.random.default_rng(2).dirichlet(np.ones(4), 6)
        assert t.check_gradients(net, x, p, loss).error < 1e-6


@pytest.mark.parametrize("loss", WEIGHTED, ids=lambda loss: loss.kind)
def test_options_give_what_pytorch_gives(loss):
    torch = pytest.importorskip("torch")
    scores, target = np.random.default_rng(3).normal(size=(6, 4)), drawn(loss)

    def tensor(value):
        return None if value is None else torch.tensor(value)

    if isinstance(loss, t.SoftmaxCrossEntropy):
        theirs = torch.nn.CrossEntropyLoss(tensor(loss.class_weights), label_smoothing=loss.label_smoothing)
    elif isinstance(loss, t.SigmoidCrossEntropy):
        theirs = torch.nn.BCEWithLogitsLoss(tensor(loss.class_weights), pos_weight=tensor(loss.positive_weights))
    else:
        theirs = torch.nn.HuberLoss(delta=loss.delta)
    s = torch.tensor(scores, requires_grad=True)
    wanted = theirs(s, torch.tensor(target if target.ndim == 1 else target.astype(float)))
    wanted.backward()
    value, dscores, _ = value_and_gradient(loss, target, scores)
    assert value == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(dscores, s.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "loss",
    [
        t.SoftmaxCrossEntropy(),
        t.SoftmaxCrossEntropy(label_smoothing=0.2),
        t.SigmoidCrossEntropy(positive_weights=2.0),
        t.MeanSquaredError(),
        t.Hinge(),
        t.Huber(),
    ],
)
def test_samples_are_what_is_averaged(loss):
    scores, target = np.random.default_rng(3).normal(size=(6, 4)), drawn(loss)
    if isinstance(loss, t.MeanSquaredError):
        target = np.ones((6, 4))
    target = loss.check(target, 6, (4,), np.float64)
    each = loss.samples(scores, target)
    assert each.shape == (6,)
    assert each.mean() == pytest.approx(loss.forward(scores, target), rel=1e-12)
    np.testing.assert_allclose(t.Loss.samples(loss, scores, target), each)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.SoftmaxCrossEntropy(label_smoothing=1.0), "label_smoothing"),
        (lambda: t.SoftmaxCrossEntropy(class_weights=[0, 0]), "not all 0"),
        (lambda: t.SoftmaxCrossEntropy(class_weights=[1, -1]), ">= 0"),
        (lambda: t.SoftmaxCrossEntropy(class_weights="balanced"), "one number per class"),
        (lambda: value_and_gradient(t.SoftmaxCrossEntropy(class_weights=[1, 2]), [0, 1]), r"2 class_weights.*\(3,\)"),
        (lambda: t.Huber(delta=0), "Huber delta"),
        (lambda: t.Triplet(mining="semi-hard"), "Did you mean 'semi_hard'"),
        (lambda: t.Contrastive(margin=0), "Contrastive margin"),
        (lambda: t.Contrastive(pairs="some"), "Known: all, given"),
        (lambda: value_and_gradient(t.Triplet(mining="given"), [0, 1]), "do not make triplets"),
        (lambda: value_and_gradient(t.Contrastive(), [0.5, 1]), "labels must be integers"),
        (lambda: t.Contrastive(pairs="given").check([0, 1, 2], 3, (2,), float), "do not make pairs"),
        (lambda: t.Triplet().check([0, 1], 2, (2, 3), float), "embeddings have shape"),
        (lambda: t.Triplet().samples(SCORES, np.array([0, 1])), "compares samples"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


#: a loss, scores on an edge, and the target
EDGES = {
    "hinge with a margin just met": (t.Hinge(), [[2.0, 1.0, 0.5], [0.0, -1.0, 3.0]], [0, 0]),
    "a weight of 0 for every sample": (t.SoftmaxCrossEntropy(class_weights=[1, 3, 0]), SCORES, [2, 2]),
    "a weight of 0 for one": (t.SoftmaxCrossEntropy(class_weights=[0, 3, 1]), SCORES, [0, 1]),
    "smoothing and a weight of 0": (
        t.SoftmaxCrossEntropy(class_weights=[0, 3, 1], label_smoothing=0.2),
        SCORES,
        [1, 2],
    ),
    "one class": (t.SoftmaxCrossEntropy(label_smoothing=0.2), [[1.0], [2.0]], [0, 0]),
    "sigmoid with weights of 0": (
        t.SigmoidCrossEntropy(class_weights=[0, 1, 2], positive_weights=[0, 0, 3]),
        SCORES,
        [[1, 1, 0], [0, 1, 1]],
    ),
    "huber at delta": (t.Huber(delta=0.5), [[0.5, -0.5, 0.0], [0.51, -0.49, 7.0]], np.zeros((2, 3))),
}


@pytest.mark.parametrize("name", EDGES)
def test_gradients_on_edges(name):
    """Against differences of the loss in float64, to the side where a margin is met."""
    loss, scores, target = EDGES[name]
    scores = np.array(scores)
    value, dscores, _ = value_and_gradient(loss, target, scores)
    assert np.isfinite(value)
    assert np.isfinite(dscores).all()
    for at in np.ndindex(scores.shape):
        slopes = []
        for step in (1e-6, -1e-6):
            moved = scores.copy()
            moved[at] += step
            slopes.append((value_and_gradient(loss, target, moved)[0] - value) / step)
        low, high = sorted(slopes)
        assert low - 1e-6 <= dscores[at] <= high + 1e-6, (at, slopes)
        assert high - low < 1e-5 or dscores[at] in (0, pytest.approx(min(slopes, key=abs), abs=1e-6))


def test_gradient_at_a_hinge_of_exactly_one_is_0():
    value, dscores, _ = value_and_gradient(t.Hinge(), [0, 1], np.array([[2.0, 1.0], [-1.0, 0.0]]))
    assert value == 0
    assert not dscores.any()


# ---- Embeddings ------------------------------------------------------------------------------------------------------


def test_triplets_by_hand():
    points = np.array([[0.0], [1.0], [1.2], [3.0]])  # of the labels 0 0 1 1
    labels = [0, 0, 1, 1]
    # (a, p) -> n: (0, 1) -> 2, (1, 0) -> 3 (2 is closer than 0), (2, 3) -> none is farther, the farthest is 0, (3, 2) -> 1
    losses = [1 - 1.44 + 0.5, 0, 3.24 - 1.44 + 0.5, 3.24 - 4 + 0.5]
    value, _, _ = value_and_gradient(t.Triplet(margin=0.5), labels, points)
    assert value == pytest.approx(sum(max(0, loss) for loss in losses) / 4)
    losses = [1 - 1.44 + 0.5, 1 - 0.04 + 0.5, 3.24 - 0.04 + 0.5, 3.24 - 4 + 0.5]
    value, _, accuracy = value_and_gradient(t.Triplet(margin=0.5, mining="hard"), labels, points)
    assert value == pytest.approx(sum(max(0, loss) for loss in losses) / 4)
    assert accuracy == 0.5  # 1.0 and 1.2 are nearest to each other
    tie = np.array([[0.0], [1.0], [-1.0], [1.2]])  # of 0's negatives the one as far as its positive is not farther
    a, _, n = semi_hard(tie, np.array([0, 0, 1, 1]))
    assert n[a == 0].tolist() == [3]
    given = np.array([[0.0, 0], [1, 0], [0, 1], [0, 0], [0, 0], [5, 0]])
    value, dscores, _ = value_and_gradient(t.Triplet(margin=0.5, mining="given"), [0] * 6, given)
    assert value == pytest.approx(0.25)
    assert dscores.tolist() == [[-1, 1], [1, 0], [0, -1], [0, 0], [0, 0], [0, 0]]


def test_contrastive_by_hand():
    points = np.array([[0.0, 0], [3, 4], [0, 0.5]])
    value, dscores, _ = value_and_gradient(t.Contrastive(margin=1.0), [0, 0, 1], points)
    assert value == pytest.approx((25 + 0.25) / 2 / 3)
    np.testing.assert_allclose(dscores, np.array([[-3, -4 + 0.5], [3, 4], [0, -0.5]]) / 3)
    value, _, _ = value_and_gradient(
        t.Contrastive(margin=1.0, pairs="given"), [0, 0, 1, 1], np.tile(points[:2], (2, 1))
    )
    assert value == pytest.approx(12.5)
    value, dscores, _ = value_and_gradient(t.Contrastive(), [0, 1], np.zeros((2, 2)))  # no way to part them
    assert value == 0.5
    assert not dscores.any()


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "given"])
def test_a_triplet_that_just_meets_its_margin_is_at_rest(mining):
    """|a - p|^2 = 1, |a - n|^2 = 4: a margin of 3 is met, one a hair larger pulls."""
    points, labels = np.array([[0.0, 0], [1, 0], [0, 2]]), [0, 0, 1]
    anchors = 1 if mining == "given" else 2  # 1 is an anchor too: its negative is farther by far
    for margin, pulls in ((3.0, False), (3.0 + 1e-6, True)):
        value, dscores, _ = value_and_gradient(t.Triplet(margin=margin, mining=mining), labels, points)
        assert value == pytest.approx(1e-6 / anchors if pulls else 0, abs=1e-9)
        assert dscores.any() == pulls
    np.testing.assert_allclose(dscores, np.array([[-2, 4], [2, 0], [0, -4]]) / anchors)


def test_equal_embeddings_of_one_label_are_a_triplet():
    """The farthest positive may lie on the anchor, and a sample is never its own."""
    points = np.array([[1.0, 0], [1, 0], [1.1, 0]])
    value, dscores, _ = value_and_gradient(t.Triplet(margin=1.0, mining="hard"), [0, 0, 1], points)
    assert value == pytest.approx(1 - 0.01)
    assert dscores.any()
    alone, _, _ = value_and_gradient(t.Triplet(margin=1.0, mining="hard"), [0, 2, 1], points)
    assert alone == 0


@pytest.mark.parametrize("pairs", ["all", "given"])
def test_a_pair_that_just_meets_its_margin_is_at_rest(pairs):
    points = np.array([[0.0, 0], [3, 4]])
    for margin, pull in ((5.0, 0), (5.0 + 1e-6, 1e-6)):
        value, dscores, _ = value_and_gradient(t.Contrastive(margin=margin, pairs=pairs), [0, 1], points)
        assert value == pytest.approx(pull**2 / 2, abs=1e-15)
        np.testing.assert_allclose(dscores, pull * np.array([[0.6, 0.8], [-0.6, -0.8]]), atol=1e-14)
    value, dscores, _ = value_and_gradient(t.Contrastive(pairs=pairs), [0, 0], np.zeros((2, 2)))  # alike and equal
    assert value == 0
    assert not dscores.any()
    with np.errstate(all="raise"):
        value, dscores, _ = value_and_gradient(t.Contrastive(), [3], np.ones((1, 2)))  # no pair
    assert (value, dscores.tolist()) == (0, [[0, 0]])


def test_batches_without_triplets_and_pairs_are_worth_nothing():
    for loss, labels in ((t.Triplet(), [0, 0]), (t.Triplet(mining="hard"), [0, 1]), (t.Triplet(), [0, 1])):
        value, dscores, _ = value_and_gradient(loss, labels, np.eye(2))
        assert value == 0
        assert not dscores.any()


@pytest.mark.parametrize(
    "loss",
    [
        t.Triplet(margin=2.0),
        t.Triplet(margin=2.0, mining="hard"),
        t.Triplet(margin=2.0, mining="given"),
        t.Contrastive(margin=2.0),
        t.Contrastive(margin=2.0, pairs="given"),
    ],
)
def test_embeddings_pass_gradient_checks(loss):
    net = t.Sequential(t.Dense(5), t.Tanh(), t.Dense(2, bias=False))  # a shift of all changes nothing
    report = t.check_gradients(net, np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 4, loss)
    assert report.error < 1e-5
    assert all(np.abs(check.analytic).max() > 1e-3 for check in report.tensors)


@pytest.mark.parametrize("loss", [t.Triplet(), t.Contrastive(), t.Triplet(mining="hard")])
def test_embeddings_learn_what_is_alike(loss):
    """Ten classes that differ in two of twelve features, under noise in the others; five of them are never seen."""
    rng = np.random.default_rng(0)
    angles = 2 * np.pi * np.arange(10) / 10
    labels = rng.integers(0, 10, 900)
    x = rng.normal(0, 1, (900, 12))
    x[:, :2] = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)[labels] + rng.normal(0, 0.1, (900, 2))
    known, new = labels % 2 == 0, labels % 2 == 1
    net = t.Sequential(t.Dense(3))
    net.build(12, seed=1)
    before = t.evaluate(net, x[new], labels[new], loss=loss).metric
    t.fit(net, x[known], labels[known], loss=loss, epochs=15, optimizer=t.Adam(0.01))
    after = t.evaluate(net, x[new], labels[new], loss=loss).metric
    assert before < 0.6
    assert after > 0.9
