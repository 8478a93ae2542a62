"""Format the text of `Model.summary()`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._core import lib
from ._image import Image, Port

if TYPE_CHECKING:
    from .model import Model


def text(model: Model, image: Image) -> str:
    """Head, table of layers and memory, one line each."""
    return "\n".join([*_head(image), "", *_table(_layers(image)), "", *_memory(model, image)])


def _head(image: Image) -> list[str]:
    source = f", from {image.meta.source}" if image.meta.source else ""
    lines = [f"{image.name}{source}, fingerprint {image.fingerprint}"]
    lines += [f"  input  {_port(port)}" for port in image.inputs]
    lines += [f"  output {_port(port)}" for port in image.outputs]
    lines += [f"  state  {name}, then {following}" for name, following in image.meta.states]
    if image.labels:
        lines.append(f"  labels {', '.join(image.labels)}")
    if image.loss:
        lines.append(f"  loss   {image.loss}")
    return lines


def _port(port: Port) -> str:
    shape = "x".join(["n", *map(str, port.sample_shape)])
    scale = f", real = {port.scale:.9g} * (q - {port.zero_point})" if port.scale else ""
    return f"{port.name} {shape} {port.dtype}{scale}"


def _layers(image: Image) -> list[tuple[str, ...]]:
    """Rows of text, the first of titles."""
    rows: list[tuple[str, ...]] = [("layer", "op", "output", "weights", "trains")]
    for index in range(image.model.n_nodes):
        node = image.model.nodes[index]
        inputs = [image.model.tensors[node.io[i]] for i in range(node.n_in)]
        weights = sum(t.count for t in inputs if t.flags & (lib.EP_CONST | lib.EP_PARAM))
        trains = sum(t.count for t in inputs if t.flags & lib.EP_PARAM)
        shape = "x".join(map(str, image.tensor_shape(node.io[node.n_in])))
        cells = (image.node_name(index), image.op_name(index), shape, f"{weights:,}" if weights else "")
        rows.append((*cells, f"{trains:,}" if trains else ""))
    return rows


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    sides = [str.ljust] * 3 + [str.rjust] * 2  # words, then numbers
    lines = []
    for row in rows:
        cells = (side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True))
        lines.append(("  " + "  ".join(cells)).rstrip())
    lines.insert(1, "  " + "  ".join("-" * width for width in widths))
    return lines


def _memory(model: Model, image: Image) -> list[str]:
    lines = [f"image {len(image.bytes):,} bytes; RAM for inference {model.arena_size():,} bytes"]
    if image.trainable():
        kinds = {"sgd": "SGD in place", "momentum": "momentum", "adam": "Adam"}
        sizes = ", ".join(f"{text} {model.arena_size(train=True, optimizer=key):,}" for key, text in kinds.items())
        lines.append(f"RAM to restore {model.arena_size(restore=True):,} bytes; to learn, one sample a step: {sizes}")
        lines.append(f"saved head {lib.ep_record_size(image.model, 1):,} bytes")
    return lines
