"""Runs one op of the C runtime on NumPy arrays: forward, backward and the gradients of its weights, without the core.

`run("dense_f32", attrs, [x, weight, bias], [y], train=(1, 2), dy=dy)` gives everything that came out. EP_TEST_CFLAGS adds
compiler flags, CC names the compiler.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI

from tests.support import compiler
from tests.support.run_op import CODES, pack

Array = np.ndarray[Any, np.dtype[Any]]

FORWARD, BACKWARD, PARAMS = 1, 2, 4
CONST, PARAM = 1, 2
EP_ERR_IMAGE = -5
HERE = Path(__file__).resolve().parent

ffi = FFI()
ffi.cdef((HERE / "harness.h").read_text())


@dataclass
class Tensor:
    """An operand that is more than a float32 activation. Activations have the batch axis first."""

    data: Array
    scale: float = 0.0
    zero_point: int = 0
    flags: int = 0


@dataclass
class Result:
    """What came out: the outputs, dX by input (None: not asked for), and of each trained weight its gradient."""

    rc: int
    y: list[Array]
    dx: list[Array | None] = field(default_factory=list)
    gradients: dict[int, Array] = field(default_factory=dict)
    emitted: dict[int, Array] = field(default_factory=dict)
    bound: float = 0.0
    dy: Array | None = None


@functools.cache
def attribute_structs() -> dict[str, str]:
    """Name of every op's attribute struct."""
    return dict(re.findall(r"X\(\d+, (\w+), (\w+), [GN]\)", (compiler.CSRC / "edgeprop_ops.h").read_text()))


def compile_with(
    target: Path,
    *flags: str,
    main: str = "harness.c",
    build: Sequence[str] = compiler.PLAIN,
    cc: str | None = None,
) -> Path:
    """All ops and the harness, as `target`; `flags` for the harness alone."""
    cc, sources = cc or compiler.default(), (*compiler.OPS, *compiler.KERNELS)
    command = [*cc.split(), *compiler.STANDARD, *compiler.STRICT, *build, *flags]
    compiler.run([*command, HERE / main, *compiler.objects(cc, *build, sources=sources), "-lm", "-o", target])
    return target


@functools.cache
def library() -> Any:
    """The ops and the harness as a shared library."""
    return ffi.dlopen(str(compile_with(compiler.scratch() / "ops.so", "-shared")))


def _pointer(array: Array | None, kind: str = "void *") -> Any:
    return ffi.NULL if array is None else ffi.cast(kind, array.ctypes.data)


def _describe(slot: Any, tensor: Tensor, n: int) -> None:
    """Everything about an operand but its gradient."""
    assert tensor.data.flags.c_contiguous
    slot.data, slot.gradient, slot.emitted = _pointer(tensor.data), ffi.NULL, ffi.NULL
    slot.count = tensor.data.size // (1 if tensor.flags else n)
    slot.scale, slot.zero_point = tensor.scale, tensor.zero_point
    slot.dtype, slot.flags = CODES[tensor.data.dtype], tensor.flags
    slot.place_of = slot.gradient_of = slot.same_as = -1


def run(
    op: str,
    attrs: dict[str, Any],
    inputs: Sequence[Array | Tensor],
    outputs: Sequence[Array | Tensor],
    *,
    weights: Sequence[Array] = (),
    train: Sequence[int] = (),
    dy: Array | None = None,
    want: Sequence[int] = (),
    add_to: dict[int, Array] | None = None,
    phases: int | None = None,
    sums: bool = False,
    y_over: int = -1,
    dx_over_dy: bool = False,
    same: bool = False,
) -> Result:
    """Run a node.

    Parameters
    ----------
    inputs, outputs : activations, batch first; outputs are written (or, without FORWARD, read)
    weights : constants that follow the inputs; those at positions `train` (counted from the first input) are trainable
    dy : gradient of the output; then the backward and the weights' gradients are run too
    want : inputs whose gradient is wanted
    add_to : gradients of inputs that another consumer has written
    y_over : the input whose memory the output shares
    dx_over_dy : the gradient of input 0 shares the output's gradient's memory
    same : input 1 is input 0
    """
    tensors = [t if isinstance(t, Tensor) else Tensor(np.ascontiguousarray(t)) for t in inputs]
    n_act, n = len(tensors), tensors[0].data.shape[0]
    for i, weight in enumerate(weights, n_act):
        tensors.append(Tensor(np.ascontiguousarray(weight), flags=PARAM if i in train else CONST))
    n_in = len(tensors)
    tensors += [t if isinstance(t, Tensor) else Tensor(t) for t in outputs]
    slots = ffi.new("operand[]", len(tensors))
    for slot, tensor in zip(slots, tensors, strict=True):
        _describe(slot, tensor, n)
    slots[n_in].place_of = y_over
    result = Result(0, [t.data for t in tensors[n_in:]], [None] * n_act)
    accumulate = 0
    if dy is not None:
        result.dy = np.array(dy, np.float32, order="C")
        slots[n_in].gradient = _pointer(result.dy, "float *")
        slots[0].gradient_of = n_in if dx_over_dy else -1
        for i in want:
            before = (add_to or {}).get(i)
            accumulate |= (before is not None) << i
            result.dx[i] = np.full(tensors[i].data.shape, 7e9, np.float32) if before is None else before.copy()
            slots[i].gradient = _pointer(result.dx[i], "float *")
        for i in train:
            result.gradients[i] = np.zeros(tensors[i].data.shape, np.float32)
            result.emitted[i] = np.zeros(tensors[i].data.shape, np.uint32)
            slots[i].gradient = _pointer(result.gradients[i], "float *")
            slots[i].emitted = _pointer(result.emitted[i], "uint32_t *")
    if same:
        slots[1].same_as = 0
        accumulate |= 2
    if phases is None:
        phases = FORWARD | (BACKWARD | PARAMS if dy is not None else 0)
    args, found = ffi.new("run_args *"), ffi.new("run_result *")
    args.operands, args.n_in, args.n_out, args.n = slots, n_in, len(tensors) - n_in, n
    args.phases, args.sums, args.accumulate = phases, sums, accumulate
    packed = pack(attribute_structs()[op], attrs)
    result.rc = library().run_node(op.encode(), ffi.from_buffer(packed), args, found)
    result.bound = found.bound
    return result
