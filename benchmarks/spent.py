"""Where the time of an inference goes: each node run by itself, over and over, on what the last inference left behind."""

from __future__ import annotations

from typing import Any

from cffi import FFI

from edgeprop import Model
from edgeprop._core import ffi as core

from .timing import Local

#: The head of `ep_op` in edgeprop.h. The binding hides it; nobody else calls an op by itself.
_ABI = FFI()
_ABI.cdef("typedef struct { void (*forward)(const void *ep, const void *node, uint32_t n); } op; int abs(int);")

ROUNDS, CALLS = 8, 20


def by_op(device: Model, ep: Any) -> dict[str, float]:
    """Return microseconds by kind of op, the dearest first, for batch 1; `ep` has run at least once."""
    image = device._image
    empty = _least(_ABI.dlopen(None).abs, 1)  # what the call itself takes
    spent: dict[str, float] = {}
    for place in range(image.model.n_nodes):
        node = image.model.nodes[place]
        forward = _ABI.cast("op *", _address(node.op)).forward
        pointers = (_ABI.cast("void *", _address(ep)), _ABI.cast("void *", _address(core.addressof(node))))
        micro = 1e6 * max(0.0, _least(forward, *pointers, 1) - empty)
        spent[image.op_name(place)] = spent.get(image.op_name(place), 0.0) + micro
    return {kind: round(micro, 2) for kind, micro in sorted(spent.items(), key=lambda item: -item[1])}


def _address(pointer: Any) -> int:
    return int(core.cast("uintptr_t", pointer))


def _least(function: Any, *arguments: Any) -> float:
    call = Local(lambda: function(*arguments))
    return min(call.turn(CALLS) for _ in range(ROUNDS))
