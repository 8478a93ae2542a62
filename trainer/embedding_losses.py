"""Compute losses of metric learning: what is alike lies close together, what is not apart. Rows of `LOSSES` too."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ._common import Array, Shape, lookup, require_number
from .losses import LOSSES, Loss


class EmbeddingLoss(Loss):
    """What they share: scores (N, D) are embeddings, targets integers (N,) that say what is alike.

    Their metric is the share of samples of a batch whose nearest neighbour in it is alike.
    """

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return labels (n,) as intp; any integers."""
        if len(out_shape) != 1:
            raise ValueError(f"embeddings have shape (N, D), got {('N', *out_shape)}: end with Flatten() or Dense(D)")
        labels = np.asarray(target)
        if labels.shape != (n,) or labels.dtype.kind not in "iub":
            raise ValueError(f"labels must be integers of shape ({n},), got {labels.dtype} {labels.shape}")
        return labels.astype(np.intp)

    def samples(self, scores: Array, target: Array) -> Array:
        """Raise ValueError: a sample alone has no such loss."""
        raise ValueError(f"{self.kind} compares samples: it has no loss of each one")

    def metric(self, scores: Array, target: Array) -> float:
        """Return the share of samples whose nearest neighbour has their label."""
        if len(scores) < 2:
            return 0.0
        distances = squared_distances(scores)
        np.fill_diagonal(distances, np.inf)
        return float(np.mean(target[distances.argmin(axis=1)] == target))


class Triplet(EmbeddingLoss):
    """Mean over triplets of ``max(0, |a - p|**2 - |a - n|**2 + margin)`` (Schroff, Kalenichenko & Philbin 2015).

    Anchor a and positive p have one label, negative n another.

    Parameters
    ----------
    margin : float
        How much further than the positive, squared, the negative should lie.
    mining : "semi_hard", "hard" or "given"
        Where triplets come from. "semi_hard": all pairs (a, p) of the batch, each with the nearest negative that lies
        further than p, or where there is none, with the farthest one. "hard": each anchor with its farthest positive
        and its nearest negative (Hermans, Beyer & Leibe 2017). "given": rows are a, p, n, a, p, n and so on, whatever
        the labels; train with ``shuffle=False`` and batches of a multiple of 3.
    """

    kind = "triplet"

    def __init__(self, *, margin: float = 0.2, mining: str = "semi_hard") -> None:
        super().__init__()
        self.margin = require_number(margin, "Triplet margin", open_low=True)
        self.mining = mining
        lookup(MININGS, mining, "mining")

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return labels (n,) as intp."""
        if self.mining == "given" and n % 3:
            raise ValueError(f"{n} samples do not make triplets: give rows a, p, n, a, p, n and so on")
        return super().check(target, n, out_shape, dtype)

    def forward(self, scores: Array, target: Array) -> float:
        """Return the mean loss; 0 where the batch has no triplet."""
        if self.mining == "given" and len(scores) % 3:
            raise ValueError(f"a batch of {len(scores)} samples cuts a triplet: let batch_size be a multiple of 3")
        a, p, n = MININGS[self.mining](scores, target)
        to_p = np.square(scores[a] - scores[p]).sum(axis=1)
        to_n = np.square(scores[a] - scores[n]).sum(axis=1)
        losses = np.maximum(0, to_p - to_n + self.margin)
        active = losses > 0
        self._saved = (scores, a[active], p[active], n[active], max(1, len(a)))
        return float(losses.sum() / max(1, len(a)))

    def backward(self) -> Array:
        """Return dscores (N, D)."""
        scores, a, p, n, count = self._saved
        dscores = np.zeros_like(scores)
        np.add.at(dscores, a, scores[n] - scores[p])
        np.add.at(dscores, p, scores[p] - scores[a])
        np.add.at(dscores, n, scores[a] - scores[n])
        return np.asarray(dscores * dscores.dtype.type(2 / count))


class Contrastive(EmbeddingLoss):
    """Mean over pairs of ``d**2 / 2`` if alike, else ``max(0, margin - d)**2 / 2`` (Hadsell, Chopra & LeCun 2006).

    d is the distance of the two. Between equal embeddings that are not alike the gradient is 0.

    Parameters
    ----------
    margin : float
        How far apart those should be that are not alike.
    pairs : "all" or "given"
        All pairs of the batch, or rows 0 and 1, 2 and 3, and so on; train those with ``shuffle=False`` and batches of an
        even size.
    """

    kind = "contrastive"
    PAIRS: ClassVar[tuple[str, ...]] = ("all", "given")

    def __init__(self, *, margin: float = 1.0, pairs: str = "all") -> None:
        super().__init__()
        self.margin = require_number(margin, "Contrastive margin", open_low=True)
        self.pairs = pairs
        lookup(dict.fromkeys(self.PAIRS), pairs, "pairs")

    def check(self, target: Any, n: int, out_shape: Shape, dtype: Any) -> Array:
        """Return labels (n,) as intp."""
        if self.pairs == "given" and n % 2:
            raise ValueError(f"{n} samples do not make pairs: give an even number")
        return super().check(target, n, out_shape, dtype)

    def forward(self, scores: Array, target: Array) -> float:
        """Return the mean loss; 0 where the batch has no pair."""
        if self.pairs == "given" and len(scores) % 2:
            raise ValueError(f"a batch of {len(scores)} samples cuts a pair: let batch_size be even")
        rows = np.arange(len(scores))
        a, b = (rows[::2], rows[1::2]) if self.pairs == "given" else np.triu_indices(len(scores), 1)
        difference, alike = scores[a] - scores[b], target[a] == target[b]
        distance = np.sqrt(np.square(difference).sum(axis=1))
        short = np.maximum(0, self.margin - distance)
        self._saved = (scores, a, b, difference, alike, distance, short)
        return float(np.where(alike, distance * distance, short * short).sum() / (2 * max(1, len(a))))

    def backward(self) -> Array:
        """Return dscores (N, D)."""
        scores, a, b, difference, alike, distance, short = self._saved
        apart = np.divide(-short, distance, out=np.zeros_like(distance), where=distance > 0)
        pull = difference * (np.where(alike, 1, apart) / max(1, len(a))).astype(scores.dtype)[:, None]
        dscores: Array = np.zeros_like(scores)
        np.add.at(dscores, a, pull)
        np.subtract.at(dscores, b, pull)
        return dscores


def squared_distances(x: Array) -> Array:
    """Return the squared distances (N, N) between the rows of x (N, D)."""
    squares = np.square(x).sum(axis=1)
    return np.asarray(np.maximum(0, squares[:, None] + squares - 2 * (x @ x.T)))


def semi_hard(x: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return rows (a, p, n) of x (N, D): all pairs, with negatives a little further away."""
    distances, found = squared_distances(x), []
    for anchor, label in enumerate(labels):
        alike = np.flatnonzero(labels == label)
        positives, negatives = alike[alike != anchor], np.flatnonzero(labels != label)
        if not len(positives) or not len(negatives):
            continue
        negatives = negatives[np.argsort(distances[anchor, negatives], kind="stable")]
        place = np.searchsorted(distances[anchor, negatives], distances[anchor, positives], side="right")
        chosen = negatives[np.minimum(place, len(negatives) - 1)]
        found.append((np.full(len(positives), anchor), positives, chosen))
    return joined(found)


def hard(x: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return rows (a, p, n) of x (N, D): each anchor with its farthest positive and nearest negative."""
    distances = squared_distances(x)
    alike = labels[:, None] == labels
    positives, negatives = np.where(alike, distances, -1.0), np.where(alike, np.inf, distances)
    np.fill_diagonal(positives, -1.0)
    p, n = positives.argmax(axis=1), negatives.argmin(axis=1)
    (a,) = np.nonzero((positives.max(axis=1) >= 0) & (negatives.min(axis=1) < np.inf))
    return a, p[a], n[a]


def given(x: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return rows (a, p, n) of x (N, D): one after the other."""
    rows = np.arange(len(x))
    return rows[::3], rows[1::3], rows[2::3]


def joined(found: list[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    """Return triplets as three arrays; empty ones where none was found."""
    if not found:
        return (np.empty(0, np.intp),) * 3
    a, p, n = (np.concatenate(part) for part in zip(*found, strict=True))
    return a, p, n


MININGS = {function.__name__: function for function in (semi_hard, hard, given)}

LOSSES.update({loss.kind: loss for loss in (Triplet, Contrastive)})
