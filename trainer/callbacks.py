"""Stop training early, or do what a user wants after each epoch: the callbacks of `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from ._common import lookup, require_int, require_number
from .graph import Graph
from .history import History

Callback = Callable[[Graph, History], Any]


class EarlyStopping:
    """Stop when a number has not improved for a while, and give the network its best weights back.

    The best weights come back however training ends: early, or after all its epochs.

    Parameters
    ----------
    patience : int
        Epochs without improvement before stopping.
    min_delta : float
        What counts as an improvement.
    monitor : str
        A column of `History`: "val_loss", "val_metric", "train_loss" or "train_metric".
    """

    MONITORS: ClassVar[dict[str, str]] = {
        "val_loss": "down",
        "val_metric": "metric",
        "train_loss": "down",
        "train_metric": "metric",
    }

    def __init__(self, patience: int = 5, *, min_delta: float = 0.0, monitor: str = "val_loss") -> None:
        self.patience = require_int(patience, "patience")
        self.min_delta = require_number(min_delta, "min_delta")
        self.direction = lookup(self.MONITORS, monitor, "monitor")
        self.monitor = monitor
        self.start(True)

    def start(self, metric_is_higher_better: bool) -> None:
        """Forget earlier trainings."""
        up = self.direction == "metric" and metric_is_higher_better
        self._sign = -1.0 if up else 1.0
        self._best, self._waited = math.inf, 0
        self._state: dict[str, Any] | None = None

    def __call__(self, net: Graph, history: History) -> bool:
        """Keep the weights if they are the best so far; return whether to stop."""
        value = self._sign * getattr(history, self.monitor)[-1]
        if math.isnan(value):
            raise ValueError(f"early stopping watches {self.monitor}: give fit validation=(x, y), or watch train_loss")
        if value < self._best - self.min_delta or self._state is None:
            self._best, self._waited = value, 0
            self._state = net.state_dict()
            history.best_epoch = len(history) - 1
        else:
            self._waited += 1
        return self._waited >= self.patience

    def finish(self, net: Graph) -> None:
        """Give the network its best weights."""
        if self._state is not None:
            net.load_state_dict(self._state)
