"""What the exporter refuses, and how it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: letters of one line of a message, and lines of one cause each
MOST_LETTERS, MOST_LINES = 400, 24


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
        return f"{self.op} '{self.name}': {self.why}; {self.nearest}"


class UnsupportedError(ValueError):
    """A graph the device cannot run as it is. `nodes` has every refused node, and the message one line for each."""

    #: what a node is, and several are
    what = ("unsupported node", "unsupported nodes")

    def __init__(self, nodes: Sequence[UnsupportedNode]) -> None:
        self.nodes = list(nodes)
        count = f"{len(self.nodes)} {self.what[len(self.nodes) != 1]}"
        super().__init__("\n  ".join([count + ":"] + [str(node) for node in self.nodes]))


class TrainableError(UnsupportedError):
    """What is marked trainable, or lies behind that, cannot learn on the device; `nodes` has all of it."""

    what = ("obstacle to training", "obstacles to training")


class QuantizeError(ValueError):
    """A model or an option that cannot be quantized as asked."""
