"""Hold one `ep_t` with its arena: what a thread needs to run a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core import ffi, lib
from ._image import Image, aligned
from .errors import Error, check

#: samples at once, at most: beyond that batches gain nothing
_MAX_BATCH = 32
#: bytes of activations at once: about what stays in a second-level cache
_MAX_BYTES = 1 << 20

#: learned weights, float32 (n,), never written to once published; None: as exported
Weights = NDArray[np.float32] | None


def capacity(bytes_per_sample: int, wanted: int) -> int:
    """Samples to run at once: `wanted`, within reason, at least 1."""
    return max(1, min(wanted, _MAX_BATCH, _MAX_BYTES // max(1, bytes_per_sample)))


@dataclass(frozen=True)
class Snapshot:
    """Everything a context is, to go back to."""

    arena: NDArray[np.uint8]
    ep: bytes


class Context:
    """A model bound to an arena of its own. For one thread at a time.

    Parameters
    ----------
    image : the model
    batch : samples that fit at once
    what : EP_FOR_* bits
    optimizer : `const ep_optimizer *`, NULL for SGD

    Raises
    ------
    Error : the model has nothing to train (EP_ERR_FROZEN), or the arena would pass 2 GiB or, for one sample, what the
        image is allowed (EP_ERR_ARENA)
    """

    def __init__(self, image: Image, batch: int = 1, what: int = 0, optimizer: Any = ffi.NULL) -> None:
        self.image = image
        self.batch = batch
        self.what = what
        self.weights: Weights = None
        image.check_memory(what, optimizer)
        size = image.arena_size(batch, what, optimizer)
        if size == 0:
            if what and not image.trainable():
                raise Error("EP_ERR_FROZEN", "the model has nothing to train; export it again with trainable layers")
            raise Error("EP_ERR_ARENA", "the arena would pass 2 GiB; take smaller batches")
        self.arena = aligned(size)
        self.ep = ffi.new("ep_t *")
        arena = ffi.from_buffer(self.arena)
        check(lib.ep_init_batch(self.ep, image.model, arena, size, batch, what, optimizer))

    def states(self) -> NDArray[np.uint8]:
        """A copy of the states of the first stream, their bytes one after the other."""
        parts = [self.arena[at : at + size] for at, size in self._state_places(0)]
        return np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def set_states(self, states: NDArray[np.uint8] | None) -> None:
        """Sets the states of all streams to those of one; None: to zero."""
        if states is None:
            check(lib.ep_reset_state(self.ep))
            return
        for stream in range(self.batch):
            start = 0
            for at, size in self._state_places(stream):
                self.arena[at : at + size] = states[start : start + size]
                start += size

    def _state_places(self, stream: int) -> list[tuple[int, int]]:
        """Where each state of a stream lies in the arena: (place, bytes)."""
        model = self.image.model
        tensors = [model.tensors[model.states[2 * i]] for i in range(model.n_states)]
        return [(self.ep.acts_at + self.batch * t.offset + stream * 4 * t.count, 4 * t.count) for t in tensors]

    def load(self, weights: Weights) -> None:
        """Takes `weights` if it does not hold them already; optimizer state and sums are zeroed then."""
        if self.weights is weights:
            return
        check(lib.ep_reset(self.ep))
        if weights is not None:
            check(lib.ep_set_params(self.ep, ffi.from_buffer("float[]", weights), len(weights)))
        self.weights = weights

    def params(self) -> NDArray[np.float32]:
        """A copy of the weights it holds, (n,)."""
        count = ffi.new("uint32_t *")
        pointer = lib.ep_params(self.ep, count)
        weights: NDArray[np.float32] = np.frombuffer(ffi.buffer(pointer, 4 * count[0]), np.float32).copy()
        return weights

    def snapshot(self) -> Snapshot:
        """What `rollback` goes back to."""
        return Snapshot(self.arena.copy(), bytes(ffi.buffer(self.ep)))

    def rollback(self, snapshot: Snapshot) -> None:
        """Weights, optimizer state and counters as they were; the arena holds no pointers, so a copy is enough."""
        self.arena[:] = snapshot.arena
        ffi.buffer(self.ep)[:] = snapshot.ep

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs the model.

        Parameters
        ----------
        inputs : for each input (n, count), device layout and dtype, contiguous

        Returns
        -------
        for each output (n, count), device layout and dtype
        """
        ports, n = self.image.outputs, len(inputs[0])
        outputs = [np.empty((n, self.image.model.tensors[port.tensor].count), port.dtype) for port in ports]
        if len(inputs) == len(outputs) == 1:
            x, y = ffi.from_buffer(inputs[0]), ffi.from_buffer(outputs[0])
            check(lib.ep_infer_batch(self.ep, x, y, n))
            return outputs
        for start in range(0, n, self.batch):
            self._run_chunk(inputs, outputs, slice(start, min(start + self.batch, n)))
        return outputs

    def _run_chunk(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], part: slice) -> None:
        for i, x in enumerate(inputs):
            ffi.memmove(lib.ep_input(self.ep, i), ffi.from_buffer(x[part]), x[part].nbytes)
        check(lib.ep_run(self.ep, part.stop - part.start))
        for i, y in enumerate(outputs):
            ffi.memmove(ffi.from_buffer(y[part]), lib.ep_output(self.ep, i), y[part].nbytes)
