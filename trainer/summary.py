"""The table that `net.summary()` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .graph import Graph

COLUMNS = ("name", "layer", "output", "parameters", "trains")


def format_summary(net: Graph) -> str:
    """Return one line per layer, and the totals."""
    rows = [COLUMNS]
    for layer in net.leaves():
        shape = str(("N", *layer.out_shape)).replace("'", "") if net.built else "?"
        trains = ("yes" if layer.trainable else "frozen") if layer.params else ""
        rows.append((layer.name, repr(layer), shape, f"{layer.n_params:,}" if net.built else "?", trains))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    learnt = sum(layer.n_params for layer in net.leaves() if layer.learns)
    lines.append(f"{net.n_params:,} parameters, {learnt:,} of them train" if net.built else "not built yet")
    return "\n".join(lines)
