"""Format the table that `net.summary()` returns."""

from __future__ import annotations

from collections.abc import Sequence

from .layers.base import Layer

COLUMNS = ("name", "layer", "output", "parameters", "trains")


def format_summary(layers: Sequence[Layer], built: bool) -> str:
    """Return one line per layer, and the totals."""
    rows = [COLUMNS]
    for layer in layers:
        shape = str(("N", *layer.out_shape)).replace("'", "") if built else "?"
        trains = ("yes" if layer.trainable else "frozen") if layer.params else ""
        rows.append((layer.name, repr(layer), shape, f"{layer.n_params:,}" if built else "?", trains))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    count, learnt = sum(layer.n_params for layer in layers), sum(layer.n_params for layer in layers if layer.learns)
    lines.append(f"{count:,} parameters, {learnt:,} of them train" if built else "not built yet")
    return "\n".join(lines)
