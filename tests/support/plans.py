"""Plans of memory that are not the planner's."""

from __future__ import annotations

from dataclasses import replace

from edgeprop.export.program.plan import plan
from edgeprop.export.program.program import Plan, Program


def apart(model: Program) -> Plan:
    """A plan in which nothing shares memory, with 16 bytes between neighbours."""
    made, free = plan(model), 16
    places: dict[str, dict[str, int]] = {}
    ends: dict[str, int] = {}
    for table in ("infer_offsets", "train_offsets", "grad_offsets"):
        places[table] = {}
        for name in getattr(made, table):
            places[table][name] = free
            ends[table] = free + (model.tensors[name].nbytes + 15) // 16 * 16
            free = ends[table] + 16
    train = max(ends.get("train_offsets", 0), ends.get("grad_offsets", 0))
    return replace(made, **places, infer_bytes=ends["infer_offsets"], train_bytes=train)
