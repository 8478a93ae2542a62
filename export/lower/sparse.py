"""Store dense layers of few non-zero weights in compressed sparse form."""

from __future__ import annotations

import numpy as np

from ..program.program import Op, Program, Tensor

#: what users may ask for
CHOICES = ("auto", "never", "always")

#: share of non-zero weights up to which `auto` stores them alone. One costs 6 bytes in place of 4, and a microcontroller
#: takes about three times as long for it; at a quarter both are well won
AUTO_DENSITY = 0.25

_MOST_COLUMNS = 1 << 16


def make_sparse(program: Program, choice: str = "auto") -> None:
    """Turn dense_f32 into sparse_dense_f32 where `choice` says so; the stored values keep the weight's name.

    Parameters
    ----------
    choice : "never"; "auto": frozen layers of at most AUTO_DENSITY non-zero weights; "always": every layer with a zero
        among its weights, trainable ones too, whose zeros then stay zero whatever they learn (which is why `auto`
        leaves those dense)

    Raises
    ------
    ValueError : `choice` is none of them
    """
    if choice not in CHOICES:
        raise ValueError(f"sparse={choice!r} (--sparse) is none of {', '.join(CHOICES)}")
    for op in program.ops:
        if op.kind == "dense_f32" and choice != "never" and _worth_it(program, op, choice):
            _convert(program, op)


def _worth_it(program: Program, op: Op, choice: str) -> bool:
    weight = program.tensors[op.inputs[1]]
    assert weight.data is not None
    stored = int(np.count_nonzero(weight.data))
    shared = sum(weight.name in other.inputs for other in program.ops) > 1
    if shared or not 0 < stored < weight.count or op.attrs["n_in"] > _MOST_COLUMNS:
        return False
    return choice == "always" or (stored <= AUTO_DENSITY * weight.count and not weight.trainable)


def _convert(program: Program, op: Op) -> None:
    weight = program.tensors[op.inputs[1]]
    assert weight.data is not None
    matrix = weight.data.reshape(op.attrs["n_out"], op.attrs["n_in"])
    rows, columns = np.nonzero(matrix)
    starts = np.searchsorted(rows, np.arange(len(matrix) + 1)).astype("<i4")
    values = np.ascontiguousarray(matrix[rows, columns])
    program.tensors[weight.name] = Tensor(weight.name, "f32", values.shape, values, trainable=weight.trainable)
    places = {"starts": (starts, "i32"), "columns": (columns.astype("<u2").view("u1").reshape(-1, 2), "u8")}
    for what, (array, dtype) in places.items():
        name = _unique(program, f"{weight.name}.{what}")
        program.tensors[name] = Tensor(name, dtype, array.shape, array)
        op.inputs.append(name)
    op.kind = "sparse_dense_f32"
    op.attrs["stored"] = len(values)


def _unique(program: Program, name: str) -> str:
    while name in program.tensors:
        name += "_"
    return name
