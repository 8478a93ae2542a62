"""Report what a model costs, layer by layer, for people (Markdown, HTML) and programs (a dict).

Flash is of constants and weights; RAM of a layer is what lives while it runs; the signal-to-noise ratio against the
float model comes from the caller (`export.snr`), by the layer's name or by that of its output.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any, Protocol

from ..program.layers import Layer, arithmetic, layers, shape_text, table_bytes
from ..program.plan import infer_arena, lower_bounds, plan, restore_arena, sums_bytes, train_arena
from ..program.program import Port, Program, State
from ..quantization.accuracy import OutputAccuracy

Snr = Mapping[str, float]


class Told(Protocol):
    """What an export says of itself: `api.Exported`."""

    accuracy: dict[str, OutputAccuracy]
    ruined: list[str]
    notes: list[str]


_COLUMNS = ("layer", "op", "output", "type", "learns", "flash B", "RAM B", "MACs", "SNR dB")
_NUMBERS_FROM = 5  # columns from here on are numbers
_RECORD_HEADER = 32  # bytes in front of the weights of a saved head


def to_dict(program: Program, snr: Snr | None = None, told: Told | None = None) -> dict[str, Any]:
    """All figures of a report, as plain types.

    Parameters
    ----------
    program : planned first if it has no plan yet
    snr : dB of layers' outputs against float, infinity where nothing differs; by name of the layer or of its output
        (see `analysis.snr`); None for a float32 model
    told : what int8 does to the answers, and notes; None where nothing is to be said

    Returns
    -------
    dict with
        `ruined`, a sentence for each output that int8 ruins, `notes`, the others, `accuracy`, by output a dict of
        snr_db, worst_tenth_db, columns_db and agreement ;
        `name`, `source`, `source_hash`, `inputs`, `outputs`, `labels` ;
        `arithmetic`, a sentence: which layers are int8, which float32 ;
        `layers`, a dict each: name, op, output, shape, dtype, arithmetic ("int8", "float32", ""), parameters, trainable,
        flash_bytes, ram_bytes (of activations that live while it runs), macs, snr_db (None where it is not known) ;
        `flash_bytes`, with `table_bytes` of structs on a 32-bit board, `macs`, `parameters` ;
        `infer_arena_bytes`, and `infer_bound_bytes`: the most that lives at one time, no plan needs less.
    For a model with states also `states`, a dict each: name, next, shape, bytes.
    For a model that learns also `loss`, `trainable_weights`, `record_bytes` of a saved head, `restore_arena_bytes`,
    `train_arena_bytes` (SGD, one sample at a time), the same `_momentum` and `_adam`, `sums_bytes` that mini-batches
    add, `train_bytes` of activations and gradients and `train_bound_bytes`.
    """
    found = layers(program)
    tables = table_bytes(program)
    figures: dict[str, Any] = {
        "ruined": list(told.ruined) if told else [],
        "notes": [note for note in told.notes if note not in told.ruined] if told else [],
        "accuracy": {name: asdict(output) for name, output in told.accuracy.items()} if told else {},
        "name": program.name,
        "source": program.source,
        "source_hash": program.source_hash,
        "inputs": [_port(program, port) for port in program.inputs],
        "outputs": [_port(program, port) for port in program.outputs],
        "labels": [str(label) for label in program.labels],
        "arithmetic": arithmetic(found),
        "layers": [_layer(layer, snr or {}) for layer in found],
        "flash_bytes": sum(layer.flash for layer in found) + tables,
        "table_bytes": tables,
        "macs": sum(layer.macs for layer in found),
        "parameters": sum(layer.parameters for layer in found),
        "infer_arena_bytes": infer_arena(program),
        "infer_bound_bytes": lower_bounds(program)[0],
    }
    if program.states:
        figures["states"] = [_state(program, state) for state in program.states]
    return figures | _learning(program) if program.trainable() else figures


def _state(program: Program, state: State) -> dict[str, Any]:
    tensor = program.tensors[state.tensor]
    return {"name": state.name, "next": state.next_name, "shape": list(tensor.shape), "bytes": tensor.nbytes}


def _learning(program: Program) -> dict[str, Any]:
    arena = program.plan or plan(program)
    return {
        "loss": program.loss,
        "trainable_weights": arena.param_bytes // 4,
        "record_bytes": _RECORD_HEADER + arena.param_bytes,
        "restore_arena_bytes": restore_arena(program),
        "train_arena_bytes": train_arena(program),
        "train_arena_bytes_momentum": train_arena(program, optimizer="momentum"),
        "train_arena_bytes_adam": train_arena(program, optimizer="adam"),
        "sums_bytes": sums_bytes(program),
        "train_bytes": arena.train_bytes,
        "train_bound_bytes": lower_bounds(program)[1],
    }


def _port(program: Program, port: Port) -> dict[str, Any]:
    tensor = program.tensors[port.tensor]
    found: dict[str, Any] = {"name": port.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
    return found | ({"scale": tensor.scale, "zero_point": tensor.zero_point} if tensor.scale else {})


def _layer(layer: Layer, snr: Snr) -> dict[str, Any]:
    return {
        "name": layer.name,
        "op": layer.kind,
        "output": layer.output,
        "shape": list(layer.shape),
        "dtype": layer.dtype,
        "arithmetic": layer.arithmetic,
        "parameters": layer.parameters,
        "trainable": layer.trainable > 0,
        "flash_bytes": layer.flash,
        "ram_bytes": layer.ram,
        "macs": layer.macs,
        "snr_db": next((float(snr[name]) for name in (layer.name, layer.output) if name in snr), None),
    }


# ---- Rows and lines that Markdown and HTML share


def _cells(layer: dict[str, Any]) -> list[str]:
    return [
        layer["name"],
        layer["op"],
        shape_text(tuple(layer["shape"])),
        layer["dtype"],
        "yes" if layer["trainable"] else "",
        f"{layer['flash_bytes']:,}",
        f"{layer['ram_bytes']:,}",
        f"{layer['macs']:,}" if layer["macs"] else "",
        _decibels(layer["snr_db"]),
    ]


def _decibels(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if isfinite(value) else ("exact" if value > 0 else "no signal")


def _rows(figures: dict[str, Any]) -> list[list[str]]:
    """A row per layer, the tables around them, and the sums."""
    ram = max(layer["ram_bytes"] for layer in figures["layers"])
    return [
        *(_cells(layer) for layer in figures["layers"]),
        ["tables", "", "", "", "", f"{figures['table_bytes']:,}", "", "", ""],
        ["total", "", "", "", "", f"{figures['flash_bytes']:,}", f"{ram:,}", f"{figures['macs']:,}", ""],
    ]


def _facts(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What stands above the table: (name, value)."""
    source = figures["source"] or "made in memory"
    yield "Source", f"{source}, SHA-256 {figures['source_hash']}" if figures["source_hash"] else source
    for what in ("inputs", "outputs"):
        for port in figures[what]:
            yield what[:-1].capitalize(), _port_text(port)
    if figures["labels"]:
        yield "Labels", ", ".join(figures["labels"])
    yield "Arithmetic", figures["arithmetic"]
    for name, output in figures["accuracy"].items():
        yield f"Accuracy of {name}", str(OutputAccuracy(**output))
    for note in figures["notes"]:
        yield "Note", note
    yield (
        "Flash",
        f"{figures['flash_bytes']:,} bytes: weights, constants and tables on a 32-bit board; code comes on top",
    )
    bound = _distance(figures["infer_arena_bytes"], figures["infer_bound_bytes"])
    yield "RAM to infer", f"{figures['infer_arena_bytes']:,} bytes, {bound}"
    if "train_arena_bytes" in figures:
        yield from _learning_facts(figures)


def _learning_facts(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "RAM to infer with restored weights", f"{figures['restore_arena_bytes']:,} bytes"
    bound = _distance(figures["train_bytes"], figures["train_bound_bytes"])
    work = f"{figures['train_bytes']:,} of them for activations and gradients, {bound}"
    yield "RAM to learn", f"{figures['train_arena_bytes']:,} bytes (SGD, one sample at a time); {work}"
    others = f"{figures['train_arena_bytes_momentum']:,} bytes with momentum, {figures['train_arena_bytes_adam']:,} with Adam"
    yield "RAM to learn otherwise", f"{others}; mini-batches add {figures['sums_bytes']:,}"
    record = f"a saved head takes {figures['record_bytes']:,} bytes"
    yield "Learns", f"{figures['trainable_weights']:,} weights, loss {figures['loss']}; {record}"


def _port_text(port: dict[str, Any]) -> str:
    text = f"{port['name']}: {port['dtype']}, {shape_text(tuple(port['shape']))}"
    if "scale" in port:
        text += f", real value = {port['scale']:.9g} * (code - {port['zero_point']})".replace("- -", "+ ")
    return text


def _distance(used: int, bound: int) -> str:
    over = used - bound
    return f"{over:,} over the least any plan can have" if over > 0 else "as little as any plan can have"


_NOTE = (
    "RAM: bytes of values that live while the layer runs. SNR: power of the float32 output over that of its int8 error; "
    "20 dB is little noise, below 10 dB answers change."
)


# ---- Markdown


def to_markdown(program: Program, snr: Snr | None = None, told: Told | None = None) -> str:
    """The report as Markdown; parameters as of `to_dict`. What int8 ruins stands in the first line."""
    figures = to_dict(program, snr, told)

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(map(_markdown, cells))} |"

    facts = [f"- {_markdown(name)}: {_markdown(value)}" for name, value in _facts(figures)]
    rule = ["---" if i < _NUMBERS_FROM else "---:" for i in range(len(_COLUMNS))]
    table = [line(list(_COLUMNS)), f"| {' | '.join(rule)} |", *map(line, _rows(figures))]
    first = [line for text in figures["ruined"] for line in (f"**Note: {_markdown(text)}**", "")]
    return "\n".join([*first, f"# {_markdown(figures['name'])}", "", *facts, "", *table, "", _NOTE]) + "\n"


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
tr.total, .ruined { font-weight: 600; } .ruined { color: #a00; }
dt { color: #666; } dd { margin: 0 0 .4em; }
.bar { background: #4a7db5; height: .7em; min-width: 1px; } td.bars { width: 16em; }
"""


def to_html(program: Program, snr: Snr | None = None, told: Told | None = None) -> str:
    """The report as one HTML page that loads nothing; parameters as of `to_dict`."""
    figures = to_dict(program, snr, told)
    ruined = "".join(f'<p class="ruined">Note: {html.escape(text)}</p>\n' for text in figures["ruined"])
    name = html.escape(figures["name"])
    facts = "\n".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in _facts(figures))
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style></head>
<body>
{ruined}<h1>{name}</h1>
<dl>
{facts}
</dl>
<table>
{_html_table(figures)}
</table>
<p>{_NOTE}</p>
</body>
</html>
"""


def _html_table(figures: dict[str, Any]) -> str:
    most = max(layer["ram_bytes"] for layer in figures["layers"])
    bars = [
        f'<div class="bar" style="width:{100 * layer["ram_bytes"] / most:.1f}%"></div>' for layer in figures["layers"]
    ]
    *rows, total = _rows(figures)
    lines = [_html_row(list(_COLUMNS), "th", "RAM")]
    lines += [_html_row(row, "td", bar) for row, bar in zip(rows, [*bars, ""], strict=True)]
    return "\n".join([*lines, _html_row(total, "td", "", ' class="total"')])


def _html_row(cells: list[str], tag: str, last: str, attributes: str = "") -> str:
    classes = ["" if i < _NUMBERS_FROM else ' class="n"' for i in range(len(cells))]
    inner = "".join(f"<{tag}{c}>{html.escape(text)}</{tag}>" for c, text in zip(classes, cells, strict=True))
    return f'<tr{attributes}>{inner}<{tag} class="bars">{last}</{tag}></tr>'
