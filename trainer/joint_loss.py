"""Add up the losses of a network with several outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._common import Array, require_number
from .losses import Loss, get_loss


class JointLoss(Loss):
    """Weighted sum of one loss per output (Caruana 1997). Scores and targets are tuples; the metric is the first one's.

    Parameters
    ----------
    *losses : str or Loss
        One per output, in the order of the network's `outputs`.
    weights : sequence of float, optional
        One per loss; all 1 if left out.
    """

    kind = "joint"

    def __init__(self, *losses: str | Loss, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.losses = tuple(copy.deepcopy(get_loss(loss)) for loss in losses)  # each keeps what its backward needs
        weights = [1.0] * len(losses) if weights is None else weights
        if not losses or len(weights) != len(losses):
            raise ValueError(f"{len(losses)} losses with {len(weights)} weights: give one of each per output")
        self.weights = tuple(require_number(weight, "loss weight") for weight in weights)
        self.metric_name = self.losses[0].metric_name  # type: ignore[misc]
        self.higher_is_better = self.losses[0].higher_is_better  # type: ignore[misc]

    def check(self, target: Any, n: int, out_shape: Any, dtype: Any) -> Any:
        """Return one array of targets per output, each as its loss wants it."""
        if not isinstance(target, (tuple, list)) or len(target) != len(out_shape):
            raise ValueError(f"the network has {len(out_shape)} outputs: give a tuple of as many targets")
        each = zip(self.losses, target, out_shape, strict=True)
        return tuple(loss.check(t, n, shape, dtype) for loss, t, shape in each)

    def forward(self, scores: Any, target: Any) -> float:
        """Return the weighted sum of the losses."""
        each = zip(self.losses, self.weights, scores, target, strict=True)
        return float(sum(weight * loss.forward(s, t) for loss, weight, s, t in each))

    def backward(self) -> Any:
        """Return dscores, one array per output."""
        each = zip(self.losses, self.weights, strict=True)
        return tuple(np.asarray(loss.backward() * weight) for loss, weight in each)

    def samples(self, scores: Any, target: Any) -> Array:
        """Return the weighted sum of each sample's losses (N,)."""
        each = zip(self.losses, self.weights, scores, target, strict=True)
        return np.asarray(sum(weight * loss.samples(s, t) for loss, weight, s, t in each))

    def metric(self, scores: Any, target: Any) -> float:
        """Return the metric of the first output."""
        return self.losses[0].metric(scores[0], target[0])


def loss_for(loss: Any, outputs: int) -> Loss:
    """Return the loss of a network with so many outputs, from a name, an object, or a tuple with one per output.

    Raises
    ------
    ValueError
        If there is not one loss per output.
    """
    if outputs == 1 and not isinstance(loss, (tuple, list, JointLoss)):
        return get_loss(loss)
    if isinstance(loss, (str, Loss)) and not isinstance(loss, JointLoss):
        loss = (loss,) * outputs
    count = len(loss.losses if isinstance(loss, JointLoss) else loss)
    if outputs == 1 or count != outputs:
        raise ValueError(f"{count} losses for a network of {outputs} output{'s' * (outputs > 1)}: give one per output")
    return loss if isinstance(loss, JointLoss) else JointLoss(*loss)
