"""Lower casts that change no value."""

from __future__ import annotations

import onnx_ir as ir

from ..errors import Refusal
from .context import Context
from .operator import Operator, operator

_INDICES = (ir.DataType.INT32, ir.DataType.INT64)


def cast(ctx: Context, node: ir.Node) -> None:
    """Cast to the type that it has already, and among integers that are indices."""
    source = node.inputs[0]
    target = ir.DataType(node.attributes.get_int("to", 1)) if node.op_type == "Cast" else node.inputs[1].dtype  # type: ignore[union-attr]
    have = source.dtype if source is not None else None
    if have != target and not (have in _INDICES and target in _INDICES):
        kinds = [kind.name if kind is not None else "an unknown type" for kind in (have, target)]
        raise Refusal(f"it casts {kinds[0]} to {kinds[1]}", "float32 throughout")
    value = ctx.value(node)
    ctx.alias(node, value.dims)


OPERATORS: dict[str, Operator] = {"Cast": operator(cast), "CastLike": operator(cast)}
