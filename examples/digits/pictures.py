"""The picture that the demo leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

INK, BLUE, ORANGE, GREY = "#1f2933", "#2a6f97", "#d97706", "#9aa5b1"


def draw(
    path: Path,
    *,
    originals: Array,
    shifted: Array,
    history: Any,
    losses: Array,
    truth: Array,
    before: Array,
    after: Array,
) -> None:
    """Write one picture: some digits in both worlds, learning on the desktop and on the device, confusion matrices.

    Parameters
    ----------
    originals, shifted : (10, 1, 8, 8), the same digits
    history : of `trainer.fit`
    losses : (epochs,), mean loss of the device in each
    truth, before, after : (n,) classes of the shifted test digits, as they are and as predicted
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK})
    figure = plt.figure(figsize=(11, 7.5), layout="constrained")
    rows = figure.subfigures(3, 1, height_ratios=[1.1, 1.9, 2.4])
    _digits(rows[0], originals, shifted)
    left, right = rows[1].subplots(1, 2)
    _curves(left, right, history, losses)
    for axes, predicted, when in zip(rows[2].subplots(1, 2), (before, after), ("before", "after"), strict=True):
        _confusion(axes, truth, predicted, f"Shifted digits {when} adapting")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _digits(figure: Any, originals: Array, shifted: Array) -> None:
    axes = figure.subplots(2, len(originals))
    for row, images, name in zip(axes, (originals, shifted), ("as trained", "shifted"), strict=True):
        for cell, image in zip(row, images, strict=True):
            cell.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
            cell.set_xticks([])
            cell.set_yticks([])
        row[0].set_ylabel(name)


def _curves(left: Any, right: Any, history: Any, losses: Array) -> None:
    epochs = np.arange(1, len(history.train_metric) + 1)
    left.plot(epochs, history.train_metric, color=GREY, label="train")
    left.plot(epochs, history.val_metric, color=BLUE, label="validation")
    left.set(title="Desktop: training the whole net", xlabel="epoch", ylabel="accuracy", ylim=(0.8, 1.005))
    left.legend(frameon=False, loc="lower right")
    right.plot(np.arange(1, len(losses) + 1), losses, color=ORANGE, marker="o", markersize=3)
    right.set(
        title="Device: adapting the head", xlabel="pass over the stored digits", ylabel="mean loss", ylim=(0, None)
    )


def _confusion(axes: Any, truth: Array, predicted: Array, title: str) -> None:
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (truth, predicted), 1)
    axes.imshow(counts, cmap="Blues")
    for i, j in zip(*np.nonzero(counts), strict=True):
        axes.text(j, i, counts[i, j], ha="center", va="center", color="white" if counts[i, j] > 25 else INK, fontsize=7)
    accuracy = np.trace(counts) / counts.sum()
    axes.set(
        title=f"{title}: {accuracy:.1%} right", xlabel="predicted", ylabel="digit", xticks=range(10), yticks=range(10)
    )
