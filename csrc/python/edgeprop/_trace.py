"""Trace activations and gradients: copies taken by the runtime's hook before the arena's plan overwrites them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._context import Context, Weights
from ._core import ffi, lib
from ._image import DTYPES, Image, aligned
from .errors import check

_VALUE, _GRADIENT = 1, 2  # bits of ep_py_trace.seen


class _Record:
    """Room for n samples of every activation, given to the hook of a context."""

    def __init__(self, context: Context, n: int, gradients: bool) -> None:
        image = self.image = context.image
        self.n = n
        self.tensors = [i for i in range(image.model.n_tensors) if _has_place(image.model, i)]
        sizes = np.zeros(image.model.n_tensors, np.uint64)
        for i in self.tensors:
            # room for float32, which every gradient is, on a 16-byte boundary
            sizes[i] = -(-4 * n * image.model.tensors[i].count // 16) * 16
        self.at = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.uint64)
        self.values, self.gradients = (aligned(int(sizes.sum())) for _ in range(2))
        self.seen = np.zeros(len(sizes), np.uint8)
        self.c = ffi.new(
            "ep_py_trace *",
            {
                "values": ffi.from_buffer("uint8_t[]", self.values),
                "gradients": ffi.from_buffer("uint8_t[]", self.gradients) if gradients else ffi.NULL,
                "at": ffi.from_buffer("uint64_t[]", self.at),
                "seen": ffi.from_buffer("uint8_t[]", self.seen),
                "n": n,
            },
        )
        lib.ep_py_set_trace(context.ep, self.c)

    def take(self, memory: NDArray[np.uint8], bit: int) -> dict[int, NDArray[Any]]:
        """(n, *shape) of the tensors that the hook saw."""
        found = {}
        for i in self.tensors:
            if self.seen[i] & bit:
                tensor = self.image.model.tensors[i]
                dtype = DTYPES[tensor.dtype] if bit == _VALUE else np.dtype("f4")
                start = int(self.at[i])
                values = memory[start : start + self.n * tensor.count * dtype.itemsize].view(dtype)
                found[i] = values.reshape(self.n, *self.image.tensor_shape(i)).copy()
        return found


def _has_place(model: Any, index: int) -> bool:
    """True for an activation that is somewhere in an arena; others may be of any size, as nobody computes them."""
    if model.tensors[index].data != ffi.NULL:
        return False
    plans = [] if model.train == ffi.NULL else [model.train.offset[index], model.train.grad_offset[index]]
    return any(offset != lib.EP_NONE for offset in (model.tensors[index].offset, *plans))


def _by_name(image: Image, found: dict[int, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {image.tensor_name(i): array for i, array in found.items()}


#: bytes of a model's states, as Context has them; None: zeros
States = NDArray[np.uint8] | None


def activations(image: Image, weights: Weights, states: States, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """See Model.trace. `x` (n, count), device layout."""
    context = Context(image, len(x), lib.EP_FOR_RESTORE if weights is not None else 0)
    context.load(weights)
    context.set_states(states)
    record = _Record(context, len(x), gradients=False)
    context.run([x])
    port = image.inputs[0]
    given = x.reshape(len(x), *image.tensor_shape(port.tensor))
    return _by_name(image, {port.tensor: given, **record.take(record.values, _VALUE)})


def gradients(
    image: Image, weights: Weights, states: States, x: NDArray[Any], target: NDArray[Any]
) -> dict[str, NDArray[np.float32]]:
    """See Model.gradients. `x` (n, count), `target` as the loss takes it, device layout."""
    context = Context(image, len(x), lib.EP_FOR_TRAIN | lib.EP_FOR_SUMS)
    context.load(weights)
    context.set_states(states)
    record = _Record(context, len(x), gradients=True)
    check(lib.ep_py_accumulate(context.ep, ffi.from_buffer(x), ffi.from_buffer(target), len(x)))
    samples = np.float32(context.ep.samples)  # the walk adds up, so what it leaves behind is not of the mean yet
    found = {i: array / samples for i, array in record.take(record.gradients, _GRADIENT).items()}
    found.update(_of_logits(context, record.take(record.values, _VALUE), target))
    sums = np.frombuffer(ffi.buffer(lib.ep_py_sums(context.ep), image.model.param_bytes), np.float32)
    mean = sums / samples
    found.update({i: part.copy() for i, part in image.split(mean).items()})
    return _by_name(image, found)


def _of_logits(
    context: Context, values: dict[int, NDArray[Any]], target: NDArray[Any]
) -> dict[int, NDArray[np.float32]]:
    """The gradient that starts the backward walk; the hook sees it only after ops may have masked it in place."""
    train = context.image.model.train
    if train.logits not in values:
        return {}
    logits = np.ascontiguousarray(values[train.logits])
    dlogits = np.empty_like(logits)
    lib.ep_py_dlogits(
        context.ep,
        ffi.from_buffer("float[]", logits),
        ffi.from_buffer(target),
        ffi.from_buffer("float[]", dlogits),
        len(logits),
    )
    return {train.logits: dlogits}
