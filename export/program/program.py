"""Define Program, the device's intermediate representation: ordered ops, tensors in device layout, places in the arena.

`lower` makes a Program from an ONNX graph, `plan` gives its tensors places, and the writers (header, image, report) turn it
into files. Nothing else knows how a file looks, and a Program knows nothing of ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

NONE = 0xFFFFFFFF  # "no offset", EP_NONE in edgeprop.h

#: NumPy's type of each device type, in the order of the codes in edgeprop.h (EP_F32 = 1, ...)
DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "i8": np.dtype("i1"),
    "i32": np.dtype("<i4"),
    "u8": np.dtype("u1"),
}


@dataclass
class Tensor:
    """A value.

    Attributes
    ----------
    name : unique in the program; that of the ONNX value where there is one
    dtype : a key of DTYPES
    shape : device layout (NHWC images, weights as edgeprop.h says); of one sample, without the batch, for activations
    data : the values of a constant or trainable weight, of `shape` and `dtype`; None for an activation
    scale, zero_point : of a quantized activation, real = scale * (q - zero_point)
    trainable : a weight that learns on the device (float32)
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    scale: float = 0.0
    zero_point: int = 0
    trainable: bool = False

    @property
    def count(self) -> int:
        """Elements, of one sample for an activation."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes, of one sample for an activation."""
        return self.count * DTYPES[self.dtype].itemsize

    @property
    def is_activation(self) -> bool:
        """True for a value that is computed, and so lies in the arena."""
        return self.data is None


@dataclass
class Op:
    """One step: `kind` is an op of the runtime (`conv2d_s8`), `name` the ONNX node it came from.

    `inputs` are tensor names in the runtime's order (activations, then weights); `attrs` has one value for every
    field of the runtime's attribute struct.
    """

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Port:
    """An input or output as the ONNX graph has it, beside the device tensor that holds it.

    shape : of the ONNX value with the batch axis first, which is 0 where it may vary
    perm : device axes in terms of ONNX axes, batch included: device = onnx.transpose(perm); identity where equal
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    perm: tuple[int, ...]


@dataclass
class State:
    """A value that one run leaves for the next, and zero at first.

    name, next_name : of the ONNX input and the ONNX output that are the state
    tensor : what ops read
    next : the value, of the same size, that takes its place after a run
    """

    name: str
    next_name: str
    tensor: str
    next: str


@dataclass
class Plan:
    """Places in the arena, in bytes; activations are per sample. See `plan.plan`."""

    infer_offsets: dict[str, int]
    infer_bytes: int
    scratch_bytes: int
    param_offsets: dict[str, int]
    param_bytes: int
    train_offsets: dict[str, int] = field(default_factory=dict)
    grad_offsets: dict[str, int] = field(default_factory=dict)
    accumulate: dict[int, int] = field(default_factory=dict)  # op index -> bit mask over inputs
    train_bytes: int = 0
    train_scratch_bytes: int = 0
    first_op: int = 0
    end_op: int = 0


@dataclass
class Program:
    """What runs on the device.

    Attributes
    ----------
    ops : in an order that runs
    tensors : by name; dict order is the runtime's tensor order
    inputs, outputs : the ports
    loss : a loss of the runtime (`softmax_cross_entropy`), or None where nothing trains
    logits : the tensor the loss looks at
    labels : names of the classes, in order; empty for none
    source : where the model came from, for the header's first screen (a file's name, not its path)
    source_hash : sha256 of the ONNX bytes, hex
    states : of a model that runs on a stream, sample by sample
    notes : what it is otherwise than the model, a sentence each
    """

    name: str
    ops: list[Op]
    tensors: dict[str, Tensor]
    inputs: list[Port]
    outputs: list[Port]
    loss: str | None = None
    logits: str | None = None
    labels: list[str] = field(default_factory=list)
    source: str = ""
    source_hash: str = ""
    plan: Plan | None = None
    states: list[State] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def trainable(self) -> list[Tensor]:
        """The weights that learn, in the runtime's order."""
        return [t for t in self.tensors.values() if t.trainable]
