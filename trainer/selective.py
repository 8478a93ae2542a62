"""Skip the backward pass for what the network already knows (selective backprop)."""

from __future__ import annotations

from collections import deque

import numpy as np

from ._common import Array, require_int, require_number


class SelectiveBackprop:
    """Send samples back with a probability that grows with their loss (Jiang et al. 2019).

    Every sample goes forward, in inference mode. Its loss is ranked among the losses seen last; it takes part in
    training with probability ``(share of them that are not larger) ** beta``. Those chosen are collected and trained on
    in batches of full size, so an epoch has fewer steps, not smaller ones.

    A chosen sample goes forward twice. With a backward that takes twice the time of a forward it pays once less than two
    thirds are chosen; beta = 1 chooses about a half, 2 a third, 3 a quarter. `History.skipped` counts the others.

    Parameters
    ----------
    beta : float
        How much smaller losses are passed over; 0 chooses all.
    window : int
        How many losses to rank among.

    Raises
    ------
    ValueError
        If a setting is unusable.
    """

    def __init__(self, beta: float = 1.0, *, window: int = 1024) -> None:
        self.beta = require_number(beta, "SelectiveBackprop beta")
        self.window = require_int(window, "SelectiveBackprop window")
        self.start(np.random.default_rng(0))

    def start(self, rng: np.random.Generator) -> None:
        """Forget earlier trainings."""
        self._rng = rng
        self._seen: deque[float] = deque(maxlen=self.window)

    def probabilities(self, losses: Array) -> Array:
        """Return the probability (N,) with which each loss (N,) is chosen, ranked among the last ones and these."""
        self._seen.extend(losses.tolist())
        ranked = np.sort(self._seen)
        share = np.searchsorted(ranked, np.asarray(losses, np.float64), side="right") / len(ranked)
        return np.asarray(share**self.beta)

    def choose(self, losses: Array) -> Array:
        """Return which of the losses (N,) are chosen, (N,) of bool."""
        return np.asarray(self._rng.random(len(losses)) < self.probabilities(losses))
