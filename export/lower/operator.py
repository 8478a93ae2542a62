"""Define a row of the exporter's table of ONNX operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from ..program.traits import TRAITS
from .context import Context

Lowering = Callable[[Context, ir.Node], None]


@dataclass(frozen=True)
class Operator:
    """How the exporter takes one ONNX operator.

    Attributes
    ----------
    lower : adds the device ops of one node, or raises `Refusal`
    kinds : the device ops that it may become; none where it only renames axes. Beside these it may put a `transpose`
        before itself
    """

    lower: Lowering
    kinds: tuple[str, ...] = ()

    def __call__(self, ctx: Context, node: ir.Node) -> None:
        """Lower one node."""
        self.lower(ctx, node)


def operator(lower: Lowering, *kinds: str) -> Operator:
    """A row; the only `kind` of a function that has it as a keyword need not be said twice."""
    if not kinds and isinstance(lower, partial) and "kind" in lower.keywords:
        kinds = (lower.keywords["kind"],)
    unknown = set(kinds) - TRAITS.keys()
    if unknown:
        raise KeyError(f"no device op is called {', '.join(sorted(unknown))}")
    return Operator(lower, kinds)


def merged(*tables: Mapping[str, Operator]) -> dict[str, Operator]:
    """One table of several.

    Raises
    ------
    KeyError : an ONNX operator has a row in two of them, of which one would go unseen
    """
    rows = [row for table in tables for row in table.items()]
    twice = [name for name, count in Counter(name for name, _ in rows).items() if count > 1]
    if twice:
        raise KeyError(f"more than one row for {', '.join(twice)}")
    return dict(rows)
