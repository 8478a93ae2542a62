"""Record what happened in training, epoch by epoch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

COLUMNS = ("train_loss", "train_metric", "val_loss", "val_metric", "learning_rate", "seconds")


@dataclass
class History:
    """One entry per epoch in each list.

    Attributes
    ----------
    train_loss, train_metric : list of float
        Means over the epoch's batches, as the weights changed, without the weight decay's penalty.
    val_loss, val_metric : list of float
        On the validation data after the epoch; NaN without any.
    learning_rate : list of float
        At the epoch's start.
    seconds : list of float
        Wall-clock time of the epoch.
    skipped : list of int
        Samples that had no backward pass in the epoch: 0 without selective backprop. With it losses and metrics are
        those in inference mode.
    metric_name : str
        What the metrics measure.
    best_epoch : int or None
        Epoch (from 0) whose weights early stopping kept.
    stopped_early : bool
        Whether training ended before its last epoch.
    """

    metric_name: str = "accuracy"
    train_loss: list[float] = field(default_factory=list)
    train_metric: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_metric: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    best_epoch: int | None = None
    stopped_early: bool = False

    def append(self, **values: float) -> None:
        """Add an epoch: one value for each column."""
        for column in COLUMNS:
            getattr(self, column).append(float(values[column]))

    def __len__(self) -> int:
        return len(self.train_loss)

    def __str__(self) -> str:
        """Show the last epoch."""
        if not len(self):
            return "no epoch yet"
        metric = self.metric_name
        parts = [f"epoch {len(self)}", f"loss {self.train_loss[-1]:.4g}", f"{metric} {self.train_metric[-1]:.4g}"]
        if not math.isnan(self.val_loss[-1]):
            parts += [f"val loss {self.val_loss[-1]:.4g}", f"val {metric} {self.val_metric[-1]:.4g}"]
        return ", ".join(parts)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw loss and metric over the epochs.

        Parameters
        ----------
        path : path, optional
            File to write (the ending gives the format); without it the figure is only returned.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plotting needs matplotlib: pip install matplotlib") from error
        figure = Figure(figsize=(9, 3.5), layout="constrained")
        for place, (what, label) in enumerate((("loss", "loss"), ("metric", self.metric_name)), start=1):
            axes = figure.add_subplot(1, 2, place)
            epochs = range(1, len(self) + 1)
            axes.plot(epochs, getattr(self, f"train_{what}"), label="training")
            if not all(map(math.isnan, self.val_loss)):
                axes.plot(epochs, getattr(self, f"val_{what}"), label="validation")
            if self.best_epoch is not None:
                axes.axvline(self.best_epoch + 1, color="0.6", linestyle=":", label="weights kept")
            axes.set(xlabel="epoch", ylabel=label)
            axes.legend()
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure
