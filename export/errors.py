"""Define the exporter's exceptions and how their messages are worded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

#: what fits instead of an operator that takes the batch axis for one of its own
ONE_SAMPLE = (
    "axes of 1 or more; or, where one sample is all it takes, inputs whose first axis is 1 and not of varying size"
)
#: letters of one line of a message; lines, one for each cause; nodes of one cause that have lines of their own; names in one
MOST_LETTERS, MOST_LINES, MOST_ALIKE, MOST_NAMES = 400, 24, 3, 3
_DETAILS = re.compile(r"'[^']*'|\d+")


def shortened(text: str) -> str:
    """A text in one line of bearable length: names may be as long as a file."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 40]} ... {line[-30:]}"


class Refusal(Exception):
    """Raised by a lowering function: why this node does not fit the device, and the nearest form that does."""

    def __init__(self, why: str, nearest: str) -> None:
        super().__init__(why)
        self.why = why
        self.nearest = nearest


@dataclass(frozen=True)
class UnsupportedNode:
    """One refused node: its name and operator in the ONNX graph, the reason, the nearest supported form."""

    name: str
    op: str
    why: str
    nearest: str

    def __str__(self) -> str:
        return shortened(f"{self.op} '{self.name}': {self.why}; {self.nearest}")

    @property
    def cause(self) -> tuple[str, str, str]:
        """What it shares with nodes that are refused for the same reason: all but names and sizes."""
        return self.op, _DETAILS.sub("", self.why), _DETAILS.sub("", self.nearest)


class UnsupportedError(ValueError):
    """A graph the device cannot run as it is. `nodes` has every refused node, and the message one line for each cause: for
    each node, or where many are alike, for all of them with the first few names."""

    #: what a node is, and several are
    what = ("unsupported node", "unsupported nodes")

    def __init__(self, nodes: Sequence[UnsupportedNode]) -> None:
        self.nodes = list(nodes)
        count = f"{len(self.nodes)} {self.what[len(self.nodes) != 1]}"
        super().__init__("\n  ".join([count + ":", *_lines(self.nodes)]))


def _lines(nodes: Sequence[UnsupportedNode]) -> list[str]:
    """One line for each cause, in the order in which they come first; at most MOST_LINES."""
    alike: dict[tuple[str, str, str], list[UnsupportedNode]] = {}
    for node in nodes:
        alike.setdefault(node.cause, []).append(node)
    lines: list[str] = []
    for node in nodes:
        group = alike[node.cause]
        if len(group) <= MOST_ALIKE:
            lines.append(str(node))
        elif node is group[0]:
            lines.append(_line(group))
    if len(lines) > MOST_LINES:
        more = len(lines) - MOST_LINES + 1
        lines = [*lines[: MOST_LINES - 1], f"and {more} more like these: put these right first"]
    return lines


def _line(group: Sequence[UnsupportedNode]) -> str:
    """Many nodes of one cause, the first of which is told."""
    first = group[0]
    names = ", ".join(f"'{shortened(node.name)}'" for node in group[:MOST_NAMES])
    more = f"{names} and {len(group) - MOST_NAMES} more"
    return shortened(f"{first.op} ×{len(group)} ({more}): {first.why}; {first.nearest}")


class TrainableError(UnsupportedError):
    """What is marked trainable, or lies behind that, cannot learn on the device; `nodes` has all of it."""

    what = ("obstacle to training", "obstacles to training")


class QuantizeError(ValueError):
    """A model or an option that cannot be quantized as asked."""


class NotTakenError(QuantizeError):
    """A model that the libraries which are to change or run it do not accept."""


class ExportError(ValueError):
    """A call of `save` that cannot be carried out as it stands."""


@contextmanager
def of_libraries() -> Iterator[None]:
    """Make errors of onnx and onnxruntime, which are of many kinds, into `NotTakenError`, with what they say first."""
    try:
        yield
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if not library.startswith("onnx"):
            raise
        does = "does not run" if library == "onnxruntime" else "does not accept"
        raise NotTakenError(f"{library} {does} the model: {first_cause(error)}") from error


def first_cause(error: Exception) -> str:
    """What onnx says first, in one line: it goes on with every node around, and says the same of every node behind."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return shortened(" ".join(line for line in lines if line).partition(" ==> Context:")[0])
