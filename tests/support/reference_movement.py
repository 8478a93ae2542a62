"""Ops that move, gather, reduce, resample and multiply, in plain NumPy and float64: see reference.py, which lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Attrs = dict[str, Any]


def _box(a: Attrs) -> tuple[Array, Array]:
    """Where each element of the box is in x, and where in y."""
    index = np.indices(a["dims"]).reshape(6, -1)
    sides = ((a["x_strides"], a["x_offset"]), (a["y_strides"], a["y_offset"]))
    x, y = ((index * np.array(strides)[:, None]).sum(0) + offset for strides, offset in sides)
    return x, y


def box(x: Array, a: Attrs) -> Array:
    """y (n, elements)."""
    source, target = _box(a)
    y = np.full((len(x), a["elements"]), a["fill"], x.dtype)
    y[:, target] = x.reshape(len(x), -1)[:, source]
    return y


def box_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """dx."""
    source, target = _box(a)
    dx = np.zeros((x[0].size, len(x)))
    np.add.at(dx, source, dy.reshape(len(x), -1)[:, target].T)
    return (dx.T.reshape(x.shape),)


def concat(*operands: Any) -> Array:
    """Inputs (n, outer, inner_i)."""
    return np.concatenate(operands[:-1], 2)


def concat_backward(*operands: Any) -> tuple[Array, ...]:
    """A part of dy each."""
    *inputs, dy, _ = operands
    ends = np.cumsum([x.shape[2] for x in inputs])
    return tuple(dy[:, :, end - x.shape[2] : end] for x, end in zip(inputs, ends, strict=True))


def gather(x: Array, index: Array, a: Attrs) -> Array:
    """x (n, outer, in, inner)."""
    return x[:, :, index.astype(int)]


def gather_backward(x: Array, index: Array, dy: Array, a: Attrs) -> tuple[Array, None]:
    """dx."""
    dx = np.zeros(x.shape)
    for j, i in enumerate(index.astype(int)):
        dx[:, :, i] += dy[:, :, j]
    return dx, None


def _rows(ids: Array, a: Attrs) -> tuple[Array, Array]:
    rows = ids.astype(int)
    rows = np.where(rows < 0, rows + a["vocabulary"], rows)
    known = (rows >= 0) & (rows < a["vocabulary"])
    return np.where(known, rows, 0), known


def embedding(ids: Array, table: Array, a: Attrs) -> Array:
    """ids (n, rows), table (vocabulary, width); zeros for ids that are not in it."""
    rows, known = _rows(ids, a)
    return table[rows] * known[..., None]


def embedding_backward(ids: Array, table: Array, dy: Array, a: Attrs) -> tuple[None, Array]:
    """dtable."""
    rows, known = _rows(ids, a)
    dtable = np.zeros(table.shape)
    np.add.at(dtable, rows, dy * known[..., None])
    return None, dtable


_REDUCE: list[Callable[[Array], Array]] = [
    lambda x: x.sum(2),
    lambda x: x.max(2),
    lambda x: x.min(2),
    lambda x: np.abs(x).sum(2),
    lambda x: np.sqrt((x * x).sum(2)),
    lambda x: (x * x).sum(2),
]


def reduce(x: Array, a: Attrs) -> Array:
    """x (n, outer, size, inner)."""
    return _REDUCE[a["which"]](x)


def reduce_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """The first of several maxima takes it all."""
    y = np.expand_dims(reduce(x, a), 2)
    if a["which"] in (1, 2):
        hit = x == y
        slope = hit & (np.cumsum(hit, 2) == 1)
    elif a["which"] == 4:
        slope = np.divide(x, y, out=np.zeros(x.shape), where=y > 0)
    else:
        slope = {0: np.ones(x.shape), 3: np.sign(x), 5: 2 * x}[a["which"]]
    return (slope * np.expand_dims(dy, 2),)


def _matrix(index: Array, weight: Array, a: Attrs) -> Array:
    """(out, in)."""
    m = np.zeros((a["out"], a["in"]))
    for j, t in np.ndindex(a["out"], a["taps"]):
        m[j, int(index[j, t])] += weight[j, t]
    return m


def resample(x: Array, index: Array, weight: Array, a: Attrs) -> Array:
    """x (n, outer, in, inner)."""
    return np.einsum("noik,ji->nojk", x, _matrix(index, weight, a))


def resample_backward(x: Array, index: Array, weight: Array, dy: Array, a: Attrs) -> tuple[Array, None, None]:
    """dx."""
    return np.einsum("nojk,ji->noik", dy, _matrix(index, weight, a)), None, None


def matmul(p: Array, q: Array, a: Attrs) -> Array:
    """p (n, batch, rows, count)."""
    return p @ (q.swapaxes(2, 3) if a["transposed"] else q)


def matmul_backward(p: Array, q: Array, dy: Array, a: Attrs) -> tuple[Array, Array]:
    """dp, dq."""
    if a["transposed"]:
        return dy @ q, dy.swapaxes(2, 3) @ p
    return dy @ q.swapaxes(2, 3), p.swapaxes(2, 3) @ dy


def _covered(a: Attrs) -> Any:
    """All (iy, ix, ky, kx, oy, ox) where tap (ky, kx) of input (iy, ix) lies in the output, at (oy, ox)."""
    for iy, ix, ky, kx in np.ndindex(a["in_h"], a["in_w"], a["kernel_h"], a["kernel_w"]):
        oy = iy * a["stride_h"] - a["pad_top"] + ky * a["dilation_h"]
        ox = ix * a["stride_w"] - a["pad_left"] + kx * a["dilation_w"]
        if 0 <= oy < a["out_h"] and 0 <= ox < a["out_w"]:
            yield iy, ix, ky, kx, oy, ox


def _groups(a: Attrs) -> list[tuple[slice, slice]]:
    gi, go = a["in_c"] // a["groups"], a["out_c"] // a["groups"]
    return [(slice(g * gi, (g + 1) * gi), slice(g * go, (g + 1) * go)) for g in range(a["groups"])]


def conv_transpose2d(x: Array, w: Array, b: Array, a: Attrs) -> Array:
    """w (in_c, kernel_h, kernel_w, out_c / groups)."""
    y = np.zeros((len(x), a["out_h"], a["out_w"], a["out_c"])) + b
    for iy, ix, ky, kx, oy, ox in _covered(a):
        for i, o in _groups(a):
            y[:, oy, ox, o] += x[:, iy, ix, i] @ w[i, ky, kx]
    return y


def conv_transpose2d_backward(x: Array, w: Array, b: Array, dy: Array, a: Attrs) -> tuple[Array, Array, Array]:
    """dx, dw, db."""
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for iy, ix, ky, kx, oy, ox in _covered(a):
        for i, o in _groups(a):
            dx[:, iy, ix, i] += dy[:, oy, ox, o] @ w[i, ky, kx].T
            dw[i, ky, kx] += x[:, iy, ix, i].T @ dy[:, oy, ox, o]
    return dx, dw, dy.sum((0, 1, 2))


OPS: dict[str, tuple[Callable[..., Array], Callable[..., tuple[Array | None, ...]]]] = {
    "box": (box, box_backward),
    "concat": (concat, concat_backward),
    "gather": (gather, gather_backward),
    "embedding_f32": (embedding, embedding_backward),
    "reduce_f32": (reduce, reduce_backward),
    "resample_f32": (resample, resample_backward),
    "matmul_f32": (matmul, matmul_backward),
    "conv_transpose2d_f32": (conv_transpose2d, conv_transpose2d_backward),
}
CLAMPED = {"matmul_f32", "conv_transpose2d_f32"}
