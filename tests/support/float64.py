"""A Program in float64, forward and backward, each value in memory of its own: what the runtime's plan must not change."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeprop.export.program.program import Op, Program
from edgeprop.export.program.traits import TRAITS

from . import reference, reference_norms

Array = np.ndarray[Any, np.dtype[Any]]

OPS = {
    **reference.OPS,
    "group_norm_f32": (reference_norms.group_norm, reference_norms.group_norm_backward),
    "sparse_dense_f32": (reference_norms.sparse_dense, reference_norms.sparse_dense_backward),
}

#: attributes that are the shape of a sample of an op's inputs, by its attribute struct
_SHAPES = {
    "ep_conv2d_attr": ("in_h", "in_w", "in_c"),
    "ep_pool2d_attr": ("in_h", "in_w", "channels"),
    "ep_dense_attr": ("rows", "n_in"),
    "ep_sparse_dense_attr": ("rows", "n_in"),
    "ep_affine_attr": ("rows", "channels"),
    "ep_softmax_attr": ("rows", "channels"),
    "ep_group_norm_attr": ("rows", "size", "channels"),
    "ep_gather_attr": ("outer", "in", "inner"),
    "ep_resample_attr": ("outer", "in", "inner"),
    "ep_reduce_attr": ("outer", "size", "inner"),
}


def _shape(op: Op, index: int) -> tuple[int, ...]:
    """Of a sample of an input, as the reference takes it."""
    a = op.attrs
    if op.kind == "concat":
        return (a["outer"], -1)
    if op.kind == "matmul_f32":
        second = (a["columns"], a["count"]) if a["transposed"] else (a["count"], a["columns"])
        return (a["batch"], *((a["rows"], a["count"]), second)[index])
    return tuple(a[name] for name in _SHAPES.get(TRAITS[op.kind].attr, ())) or (-1,)


class Replay:
    """A forward pass over n samples.

    values : (n, count) of each activation by name, float64; weights and other constants as they are stored
    """

    def __init__(self, program: Program, inputs: dict[str, Array]) -> None:
        """`inputs` (n, ...) by port, in the ONNX layout."""
        self.program = program
        self.values: dict[str, Array] = {}
        for port in program.inputs:
            x = np.asarray(inputs[port.name], np.float64)
            self.n = len(x)
            self.values[port.tensor] = x.transpose(port.perm).reshape(self.n, -1)
        self.before_clamp: dict[str, Array] = {}
        for op in program.ops:
            self._forward(op)

    def _operands(self, op: Op) -> list[Array]:
        """Activations in the shape that the reference wants; constants, repeated where an activation might stand."""
        found = []
        for i, name in enumerate(op.inputs):
            tensor = self.program.tensors[name]
            if tensor.data is None:
                found.append(self.values[name].reshape(self.n, *_shape(op, i)))
            elif TRAITS[op.kind].attr == "ep_binary_attr" or op.kind in ("concat", "matmul_f32"):
                array = tensor.data.astype(np.float64)
                found.append(np.repeat(array.reshape(1, *_shape(op, i)), self.n, 0))
            else:
                found.append(tensor.data.astype(np.float64))
        return found

    def _attrs(self, op: Op) -> dict[str, Any]:
        return {**op.attrs, "elements": self.program.tensors[op.outputs[0]].count}

    def _forward(self, op: Op) -> None:
        y = OPS[op.kind][0](*self._operands(op), self._attrs(op)).reshape(self.n, -1)
        self.before_clamp[op.outputs[0]] = y
        self.values[op.outputs[0]] = reference.clamp(y, op.attrs) if TRAITS[op.kind].clamps else y

    def gradients(self, dlogits: Array) -> dict[str, Array]:
        """Of weights and activations by name, from that of the logits (n, count): (n, count), of weights summed over samples."""
        assert self.program.logits is not None
        gradients: dict[str, Array] = {self.program.logits: dlogits}
        at = next(i for i, op in enumerate(self.program.ops) if self.program.logits in op.outputs)
        for op in reversed(self.program.ops[: at + 1]):
            dy = gradients.get(op.outputs[0])
            if dy is None:
                continue
            v = self.before_clamp[op.outputs[0]]
            dy = reference.clamp_backward(v, dy, op.attrs) if TRAITS[op.kind].clamps else dy
            operands, attrs = self._operands(op), self._attrs(op)
            shaped = dy.reshape(OPS[op.kind][0](*operands, attrs).shape)
            for name, gradient in zip(op.inputs, OPS[op.kind][1](*operands, shaped, attrs), strict=False):
                if gradient is None or not (
                    self.program.tensors[name].data is None or self.program.tensors[name].trainable
                ):
                    continue
                tensor = self.program.tensors[name]
                flat = gradient.reshape(self.n, -1) if tensor.data is None else gradient.reshape(tensor.shape)
                gradients[name] = gradients[name] + flat if name in gradients else flat
        return gradients
