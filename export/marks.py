"""Read what a model says of itself in `edgeprop.*` metadata, and which layers a user's words mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import onnx

_LAST = re.compile(r"last(:[1-9]\d*)?")


def matches(pattern: str, name: str) -> bool:
    """True if a name is the pattern, or has it as whole components, as `fc` in `/fc/Gemm` and `fc.weight`.

    `*`, `?` and `[...]` match as in a shell, against the whole name.
    """
    if pattern == name or (any(c in pattern for c in "*?[") and fnmatchcase(name, pattern)):
        return True
    dotted = "." + name.replace("/", ".").strip(".") + "."
    return bool(pattern) and "." + pattern.replace("/", ".").strip(".") + "." in dotted


@dataclass(frozen=True)
class Mark:
    """What one word of a user's means.

    text : as it was written
    layers : a pattern of layers, or `last`, `last:n`
    bias : their biases train, their weights do not
    """

    text: str
    layers: str
    bias: bool

    @property
    def last(self) -> int:
        """How many of the last layers it means; 0: it is a pattern."""
        return int(self.layers.partition(":")[2] or 1) if _LAST.fullmatch(self.layers) else 0


def parse_mark(text: str) -> Mark:
    """`bias`: the biases of all layers; `fc.bias`, `last:2.bias`: of some; else a pattern of layers."""
    if text == "bias":
        return Mark(text, "*", True)
    layers = re.sub(r"[./]bias$", "", text)
    return Mark(text, layers or text, bool(layers) and layers != text)


def meant(mark: Mark, known: Mapping[str, Sequence[str]]) -> list[str]:
    """The layers that a mark means.

    Parameters
    ----------
    known : the layers that can train, in order, each with the names it may be called by
    """
    aliases = [name for names in known.values() for name in names]
    if mark.last and mark.layers not in aliases:
        return list(known)[-mark.last :] if mark.last <= len(known) else []
    return [layer for layer, names in known.items() if any(matches(mark.layers, name) for name in names if name)]


class Marks:
    """The layers a user wants to train."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.marks = [parse_mark(pattern) for pattern in patterns]

    def __call__(self, names: Iterable[str]) -> bool:
        """True if any of the names is meant."""
        found = list(names)
        return any(matches(mark.layers, name) for mark in self.marks for name in found if name)


def metadata(proto: onnx.ModelProto) -> dict[str, Any]:
    """What the model says of itself: keys `trainable`, `loss`, `loss_output`, `labels`, `states`, `truncate` of `edgeprop.*`
    in metadata_props.

    Raises
    ------
    ValueError : `edgeprop.states` is no JSON object of texts, or `edgeprop.truncate` no number of steps and no JSON
        object of these by node
    """
    props = {prop.key: prop.value for prop in proto.metadata_props}
    result: dict[str, Any] = {}
    for key in ("trainable", "labels", "loss", "loss_output"):
        text = props.get(f"edgeprop.{key}")
        if text:
            result[key] = text if key.startswith("loss") else _list(text)
    if props.get("edgeprop.states"):
        result["states"] = _pairs(props["edgeprop.states"])
    if props.get("edgeprop.truncate"):
        result["truncate"] = _steps(props["edgeprop.truncate"])
    return result


def _steps(text: str) -> int | dict[str, int]:
    try:
        steps = json.loads(text)
    except json.JSONDecodeError:
        steps = None
    numbers = list(steps.values()) if isinstance(steps, dict) else [steps]
    if not all(type(n) is int and 0 <= n < 1 << 31 for n in numbers):
        raise ValueError(
            f'edgeprop.truncate is {text!r}: give a number of steps, 0 for all, or a JSON object such as {{"gru": 8}}'
        )
    return steps  # type: ignore[no-any-return]


def _pairs(text: str) -> dict[str, str]:
    try:
        pairs = json.loads(text)
    except json.JSONDecodeError:
        pairs = None
    if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
        raise ValueError(f'edgeprop.states is {text!r}: give a JSON object such as {{"h": "h_next"}}')
    return pairs


def _list(text: str) -> list[str]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        parsed = [part.strip() for part in text.split(",")]
    return [str(item) for item in (parsed if isinstance(parsed, list) else [parsed])]
