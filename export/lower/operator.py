"""A row of the exporter's table of ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
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
