"""What a model costs and how well it was quantized, layer by layer: Markdown, HTML or a dict."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from .layers import Layer, layers, shape_text, table_bytes
from .plan import infer_arena, lower_bounds, restore_arena, train_arena
from .program import Program

#: columns: title, how a row shows it; numbers stand on the right
_COLUMNS: dict[str, str] = {
    "layer": "<",
    "op": "<",
    "output": "<",
    "type": "<",
    "learns": "<",
    "flash B": ">",
    "RAM B": ">",
    "MACs": ">",
    "SNR dB": ">",
}


def to_dict(program: Program, snr: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return the figures.

    Parameters
    ----------
    program : planned or not
    snr : signal-to-noise ratio in dB by ONNX node name (see `analysis.snr`); None for a float32 model

    Returns
    -------
    dict with `layers` (a dict each: name, op, shape, dtype, trainable, flash_bytes, ram_bytes, macs, snr_db) and totals:
    `flash_bytes` (with `table_bytes`, the structs on a 32-bit board), `macs`, `infer_arena_bytes`,
    `infer_bound_bytes` (no arrangement needs less), and for a model that learns
    `restore_arena_bytes`, `train_arena_bytes`, `trainable_weights`, `loss`
    """
    rows = layers(program)
    result: dict[str, Any] = {
        "name": program.name,
        "source": program.source,
        "layers": [_row_dict(row, snr) for row in rows],
        "flash_bytes": sum(row.flash for row in rows) + table_bytes(program),
        "table_bytes": table_bytes(program),
        "macs": sum(row.macs for row in rows),
        "infer_arena_bytes": infer_arena(program),
        "infer_bound_bytes": lower_bounds(program)[0],
    }
    if program.trainable():
        result["restore_arena_bytes"] = restore_arena(program)
        result["train_arena_bytes"] = train_arena(program)
        result["trainable_weights"] = sum(tensor.count for tensor in program.trainable())
        result["loss"] = program.loss
    return result


def _row_dict(row: Layer, snr: Mapping[str, float] | None) -> dict[str, Any]:
    return {
        "name": row.name,
        "op": row.kind,
        "shape": row.shape,
        "dtype": row.dtype,
        "trainable": row.trainable > 0,
        "flash_bytes": row.flash,
        "ram_bytes": row.ram,
        "macs": row.macs,
        "snr_db": (snr or {}).get(row.name),
    }


def _decibels(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if math.isfinite(value) else ("exact" if value > 0 else "no signal")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["op"],
        shape_text(row["shape"]),
        row["dtype"],
        "yes" if row["trainable"] else "",
        f"{row['flash_bytes']:,}",
        f"{row['ram_bytes']:,}",
        f"{row['macs']:,}" if row["macs"] else "",
        _decibels(row["snr_db"]),
    ]


def _facts(figures: dict[str, Any]) -> list[tuple[str, str]]:
    over = figures["infer_arena_bytes"] - figures["infer_bound_bytes"]
    bound = "as little as any plan can" if over <= 0 else f"{over:,} bytes over the least any plan can have"
    facts = [
        ("Source", figures["source"] or "made in memory"),
        (
            "Flash",
            f"{figures['flash_bytes']:,} bytes: weights, constants and tables on a 32-bit board; code comes on top",
        ),
        ("Multiply-accumulates", f"{figures['macs']:,}"),
        ("Arena to infer", f"{figures['infer_arena_bytes']:,} bytes, {bound}"),
    ]
    if "train_arena_bytes" in figures:
        weights = f"{figures['trainable_weights']:,} weights learn, loss {figures['loss']}"
        facts.append(("Arena to infer with restored weights", f"{figures['restore_arena_bytes']:,} bytes"))
        facts.append(
            ("Arena to learn", f"{figures['train_arena_bytes']:,} bytes (SGD, one sample at a time); {weights}")
        )
    return facts


_NOTE = (
    "RAM: bytes of values that live while the layer runs. SNR: power of the float32 output over that of its int8 error; "
    "20 dB is little noise, below 10 dB answers change."
)


def to_markdown(program: Program, snr: Mapping[str, float] | None = None) -> str:
    """Return the report as Markdown; parameters as `to_dict`."""
    figures = to_dict(program, snr)

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = "|" + "|".join("---:" if side == ">" else "---" for side in _COLUMNS.values()) + "|"
    parts = [f"# {figures['name']}", "", *(f"- {title}: {text}" for title, text in _facts(figures)), ""]
    parts += [line(list(_COLUMNS)), rule, *(line(_cells(row)) for row in figures["layers"]), "", _NOTE]
    return "\n".join(parts) + "\n"


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:left}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}dt{font-weight:600}dd{margin:0 0 .4em}"
)


def to_html(program: Program, snr: Mapping[str, float] | None = None) -> str:
    """Return the report as one self-contained page; parameters as `to_dict`."""
    figures = to_dict(program, snr)

    def line(tag: str, cells: list[str]) -> str:
        sides = [" class=n" if side == ">" else "" for side in _COLUMNS.values()]
        return (
            "<tr>" + "".join(f"<{tag}{s}>{html.escape(c)}</{tag}>" for s, c in zip(sides, cells, strict=True)) + "</tr>"
        )

    name = html.escape(figures["name"])
    facts = "".join(f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in _facts(figures))
    body = "\n".join(line("td", _cells(row)) for row in figures["layers"])
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>\n'
        f"<h1>{name}</h1>\n<dl>{facts}</dl>\n<table>\n{line('th', list(_COLUMNS))}\n{body}\n</table>\n"
        f"<p>{_NOTE}</p></html>\n"
    )
