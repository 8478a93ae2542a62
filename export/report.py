"""What a model costs, layer by layer, for people (Markdown, HTML) and programs (a dict).

Flash is of constants and weights; RAM of a layer is what lives while it runs; the signal-to-noise ratio against the
float model comes from the caller (`export.snr`), by the layer's name or by that of its output.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from .layers import Layer, layers, shape_text, table_bytes
from .plan import infer_arena, lower_bounds, plan, restore_arena, sums_bytes, train_arena
from .program import Port, Program

Snr = Mapping[str, float]

_COLUMNS = ("layer", "type", "output", "learns", "flash, B", "RAM, B", "MACs")
_NUMBERS_FROM = 3  # columns from here on are numbers
_RECORD_HEADER = 32  # bytes in front of the weights of a saved head


def to_dict(program: Program, snr: Snr | None = None) -> dict[str, Any]:
    """All figures of a report; plain types only, so `json.dumps` takes it.

    Parameters
    ----------
    program : planned first if it has no plan yet
    snr : dB of layers' outputs against float, infinity for no difference; by name of the layer or of its output

    Returns
    -------
    dict with `name`, `source`, `source_hash`, `inputs`, `outputs`, `labels`, `loss`, `layers` (a dict each, with
    `snr_db` where it is known, None for infinity), `totals`, `ram` (bytes of arenas, batch 1) and `plan` (bytes of
    activations, the most that live at one time, and how far above that the plan is).
    """
    arena = program.plan or plan(program)
    found = layers(program)
    weights = sum(layer.flash for layer in found)
    structs = table_bytes(program)
    return {
        "name": program.name,
        "source": program.source,
        "source_hash": program.source_hash,
        "inputs": [_port(program, port) for port in program.inputs],
        "outputs": [_port(program, port) for port in program.outputs],
        "labels": [str(label) for label in program.labels],
        "loss": program.loss if arena.param_bytes else None,
        "layers": [_layer(layer, snr or {}) for layer in found],
        "totals": {
            "flash": weights + structs,
            "weights": weights,
            "tables": structs,
            "macs": sum(layer.macs for layer in found),
            "parameters": sum(layer.parameters for layer in found),
            "trainable": arena.param_bytes // 4,
            "record": _RECORD_HEADER + arena.param_bytes if arena.param_bytes else 0,
        },
        "ram": _ram(program),
        "plan": _plan(program),
    }


def _port(program: Program, port: Port) -> dict[str, Any]:
    tensor = program.tensors[port.tensor]
    found: dict[str, Any] = {"name": port.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
    if tensor.scale:
        found |= {"scale": tensor.scale, "zero_point": tensor.zero_point}
    return found


def _layer(layer: Layer, snr: Snr) -> dict[str, Any]:
    found: dict[str, Any] = {**vars(layer), "shape": list(layer.shape)}
    for name in (layer.name, layer.output):
        if name in snr:
            return found | {"snr_db": float(snr[name]) if isfinite(snr[name]) else None}
    return found


def _ram(program: Program) -> dict[str, int]:
    ram = {"infer": infer_arena(program)}
    if program.trainable():
        ram |= {
            "restore": restore_arena(program),
            "train": train_arena(program),
            "train_momentum": train_arena(program, optimizer="momentum"),
            "train_adam": train_arena(program, optimizer="adam"),
            "sums": sums_bytes(program),
        }
    return ram


def _plan(program: Program) -> dict[str, Any]:
    assert program.plan is not None
    bounds = dict(zip(("infer", "train"), lower_bounds(program), strict=True))
    used = {"infer": program.plan.infer_bytes, "train": program.plan.train_bytes}
    return {
        what: {"bytes": used[what], "bound": bound, "above_bound": used[what] / bound - 1}
        for what, bound in bounds.items()
        if bound
    }


# ---- Rows and lines that Markdown and HTML share


def _cells(layer: dict[str, Any], with_snr: bool) -> list[str]:
    learns = f"{layer['trainable']:,}" if layer["trainable"] else ""
    cells = [
        layer["name"],
        layer["kind"],
        shape_text(tuple(layer["shape"])),
        learns,
        f"{layer['flash']:,}",
        f"{layer['ram']:,}",
        f"{layer['macs']:,}",
    ]
    return [*cells, _decibels(layer)] if with_snr else cells


def _decibels(layer: dict[str, Any]) -> str:
    if "snr_db" not in layer:
        return ""
    return "exact" if layer["snr_db"] is None else f"{layer['snr_db']:.1f}"


def _table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Head, rows, totals."""
    with_snr = any("snr_db" in layer for layer in figures["layers"])
    head = [*_COLUMNS, "SNR, dB"] if with_snr else list(_COLUMNS)
    rows = [_cells(layer, with_snr) for layer in figures["layers"]]
    totals = figures["totals"]
    rows.append(["tables", "", "", "", f"{totals['tables']:,}", "", "", ""][: len(head)])
    learns = f"{totals['trainable']:,}" if totals["trainable"] else ""
    ram = max((layer["ram"] for layer in figures["layers"]), default=0)
    end = ["total", "", "", learns, f"{totals['flash']:,}", f"{ram:,}", f"{totals['macs']:,}", ""]
    return head, rows, end[: len(head)]


_RAM_LINES = {
    "infer": "inference",
    "restore": "inference with weights that a saved record brings back",
    "train": "learning, one sample at a time, SGD",
    "train_momentum": "the same with momentum",
    "train_adam": "the same with Adam",
    "sums": "more for mini-batches",
}


def _facts(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What stands above the table: (name, value)."""
    source = figures["source"] or "unknown"
    yield "Source", f"{source}, SHA-256 {figures['source_hash']}" if figures["source_hash"] else source
    for what in ("inputs", "outputs"):
        for port in figures[what]:
            yield what[:-1].capitalize(), _port_text(port)
    if figures["labels"]:
        yield "Labels", ", ".join(figures["labels"])
    totals = figures["totals"]
    yield (
        "Flash",
        f"{totals['flash']:,} B: weights {totals['weights']:,}, tables {totals['tables']:,} (on a 32-bit target)",
    )
    for key, size in figures["ram"].items():
        yield "RAM", f"{size:,} B for {_RAM_LINES[key]}" if key != "sums" else f"{size:,} B {_RAM_LINES[key]}"
    if totals["trainable"]:
        yield (
            "Learns",
            f"{totals['trainable']:,} weights, by {figures['loss']}; a saved record takes {totals['record']:,} B",
        )
    for what, name in (("infer", "inference"), ("train", "learning")):
        if what in figures["plan"]:
            yield "Plan", _plan_text(name, figures["plan"][what])


def _port_text(port: dict[str, Any]) -> str:
    text = f"{port['name']}: {port['dtype']}, {shape_text(tuple(port['shape']))}"
    if "scale" in port:
        text += f", real value = {port['scale']:.9g} * (code - {port['zero_point']})".replace("- -", "+ ")
    return text


def _plan_text(name: str, figures: dict[str, Any]) -> str:
    distance = f"{100 * figures['above_bound']:.1f} % above" if figures["above_bound"] else "equal to"
    return f"{name} holds {figures['bytes']:,} B of activations, {distance} the most that lives at one time"


# ---- Markdown


def to_markdown(program: Program, snr: Snr | None = None) -> str:
    """The report as Markdown; parameters as of `to_dict`."""
    figures = to_dict(program, snr)
    head, rows, total = _table(figures)
    lines = [f"# {_markdown(figures['name'])}", ""]
    lines += [f"- {name}: {_markdown(value)}" for name, value in _facts(figures)]
    ruler = ["---" if i < _NUMBERS_FROM else "---:" for i in range(len(head))]
    lines += ["", *(f"| {' | '.join(map(_markdown, row))} |" for row in (head, ruler, *rows, total))]
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    """Names on one line, that open no tag, link or column."""
    shown = " ".join(text.split())
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in shown)


# ---- HTML


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; }
th, td { padding: .2em .8em; text-align: left; border-bottom: 1px solid #ddd; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.total { font-weight: 600; }
dt { float: left; clear: left; width: 5em; color: #666; } dd { margin-left: 5.5em; }
.bar { background: #4a7db5; height: .7em; min-width: 1px; } td.bars { width: 16em; }
"""


def to_html(program: Program, snr: Snr | None = None) -> str:
    """The report as one HTML page that loads nothing; parameters as of `to_dict`."""
    figures = to_dict(program, snr)
    name = html.escape(figures["name"])
    facts = "\n".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in _facts(figures))
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style></head>
<body>
<h1>{name}</h1>
<dl>
{facts}
</dl>
<table>
{_html_table(figures)}
</table>
</body>
</html>
"""


def _html_table(figures: dict[str, Any]) -> str:
    head, rows, total = _table(figures)
    most = max((layer["ram"] for layer in figures["layers"]), default=1)
    bars = [f'<div class="bar" style="width:{100 * layer["ram"] / most:.1f}%"></div>' for layer in figures["layers"]]
    lines = [_html_row(head, "th", "RAM")]
    lines += [_html_row(row, "td", bar) for row, bar in zip(rows, [*bars, ""], strict=True)]
    return "\n".join([*lines, _html_row(total, "td", "", ' class="total"')])


def _html_row(cells: list[str], tag: str, last: str, attributes: str = "") -> str:
    classes = ["" if i < _NUMBERS_FROM else ' class="n"' for i in range(len(cells))]
    inner = "".join(f"<{tag}{c}>{html.escape(text)}</{tag}>" for c, text in zip(classes, cells, strict=True))
    return f'<tr{attributes}>{inner}<{tag} class="bars">{last}</{tag}></tr>'
