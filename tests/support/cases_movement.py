"""Random cases of the ops that move, gather, reduce, resample and multiply: see cases_f32.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.cases_f32 import Case, Draw


def box(d: Draw) -> Case:
    """A box of up to six axes with steps of either sign, or a step of 0, to anywhere in a larger or equal y."""
    shape = [d.size(1, 4) for _ in range(6)]
    x_steps = [int(np.prod(shape[k + 1 :])) for k in range(6)]
    dims, x_strides, x_offset = [], [], 0
    for size, step in zip(shape, x_steps, strict=True):
        by = [1, 1, 1, -1, 2, 0][d.size(0, 5)]
        reach = (size - 1) // abs(by) if by else d.size(0, 2)
        dims.append(d.size(1, reach + 1))
        x_strides.append(by * step)
        x_offset += step * (size - 1) if by < 0 else 0
    padded = d.size(0, 1)
    y_shape = [size + padded * d.size(0, 2) for size in dims]
    y_strides = [int(np.prod(y_shape[k + 1 :])) for k in range(6)]
    y_offset = sum(d.size(0, whole - size) * s for whole, size, s in zip(y_shape, dims, y_strides, strict=True))
    a = {"dims": dims, "x_strides": x_strides, "y_strides": y_strides, "x_offset": x_offset, "y_offset": y_offset}
    a |= {"size": 4, "fill": float(d.size(-1, 1))}
    count = int(np.prod(y_shape))
    return Case("box", a, [d.values(d.n, int(np.prod(shape)))], (d.n, count), extra={"elements": count})


def concat(d: Draw) -> Case:
    """One to eight inputs."""
    outer = d.size(1, 5)
    inputs = [d.values(d.n, outer, d.size(1, 9)) for _ in range(d.size(1, 8))]
    total = sum(x.shape[2] for x in inputs)
    return Case("concat", {"outer": outer, "size": 4}, inputs, (d.n, outer, total))


def gather(d: Draw) -> Case:
    """Any rows, also several times."""
    a = {"outer": d.size(1, 4), "in": d.size(1, 6), "out": d.size(1, 8), "inner": d.size(1, 12)}
    index = d.rng.integers(0, a["in"], a["out"]).astype(np.int32)
    x = d.values(d.n, a["outer"], a["in"], a["inner"])
    return Case("gather", {**a, "size": 4}, [x], (d.n, a["outer"], a["out"], a["inner"]), [index], fixed={1})


def embedding(d: Draw) -> Case:
    """Ids in the table, from its end, and outside it."""
    a = {"rows": d.size(1, 6), "vocabulary": d.size(1, 7), "width": d.size(1, 40)}
    ids = d.rng.integers(-a["vocabulary"] - 1, a["vocabulary"] + 1, (d.n, a["rows"])).astype(np.int32)
    if d.size(0, 4) == 0:
        ids[0, 0] = [2**31 - 1, -(2**31)][d.size(0, 1)]
    table = d.values(a["vocabulary"], a["width"])
    return Case("embedding_f32", a, [ids], (d.n, a["rows"], a["width"]), [table], fixed={0})


def reduce(d: Draw) -> Case:
    """All kinds."""
    a = {"outer": d.size(1, 4), "size": d.size(1, 9), "inner": d.size(1, 9), "which": d.size(0, 5)}
    x = d.values(d.n, a["outer"], a["size"], a["inner"])
    return Case("reduce_f32", a, [x], (d.n, a["outer"], a["inner"]))


def resample(d: Draw) -> Case:
    """Any taps, some of weight 0."""
    a = {"outer": d.size(1, 3), "in": d.size(1, 6), "out": d.size(1, 8), "inner": d.size(1, 12), "taps": d.size(1, 4)}
    index = d.rng.integers(0, a["in"], (a["out"], a["taps"])).astype(np.int32)
    weight = d.values(a["out"], a["taps"]) * d.rng.integers(0, 2, (a["out"], a["taps"])).astype(np.float32)
    x = d.values(d.n, a["outer"], a["in"], a["inner"])
    shape = (d.n, a["outer"], a["out"], a["inner"])
    return Case("resample_f32", a, [x], shape, [index, weight], fixed={1, 2})


def matmul(d: Draw) -> Case:
    """Both memory orders of the second matrix."""
    batch, rows, count, columns = d.size(1, 3), d.size(1, 9), d.size(1, 40), d.size(1, 20)
    a = {"batch": batch, "rows": rows, "count": count, "columns": columns, "transposed": d.size(0, 1)} | d.limits()
    second = (columns, count) if a["transposed"] else (count, columns)
    inputs = [d.values(d.n, batch, rows, count), d.values(d.n, batch, *second)]
    return Case("matmul_f32", a, inputs, (d.n, batch, rows, columns))


def conv_transpose2d(d: Draw) -> Case:
    """A convolution's geometry seen from its output; any groups."""
    a = {k: v for k, v in d.windows().items() if k not in ("pad_bottom", "pad_right")}
    for axis in ("h", "w"):
        a[f"in_{axis}"], a[f"out_{axis}"] = a[f"out_{axis}"], a[f"in_{axis}"]
    groups = d.size(1, 3) if d.size(0, 1) else 1
    wide = d.size(0, 3) == 0
    in_c, out_c = groups * d.size(1, 20 if wide else 5), groups * d.size(1, 40 if wide else 6)
    a |= {"in_c": in_c, "out_c": out_c, "groups": groups} | d.limits()
    x = d.values(d.n, a["in_h"], a["in_w"], in_c)
    w = d.values(in_c, a["kernel_h"], a["kernel_w"], out_c // groups)
    return Case("conv_transpose2d_f32", a, [x], (d.n, a["out_h"], a["out_w"], out_c), [w, d.values(out_c)])


CASES: dict[str, Callable[[Draw], Case]] = {
    "box": box,
    "concat": concat,
    "gather": gather,
    "embedding_f32": embedding,
    "reduce_f32": reduce,
    "resample_f32": resample,
    "matmul_f32": matmul,
    "conv_transpose2d_f32": conv_transpose2d,
}
