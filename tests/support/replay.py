"""Replays a plan byte by byte: every read must find what was written for it. Shares nothing with the planner.

Memory is two arrays, who wrote each byte and which byte of the value it is. Each op reads its inputs, writes its
outputs, and so does each backward; a value that somebody else overwrote is found out at its next read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeprop.export.program.program import Op, Plan, Program

#: ops that compute element i of y from element i of their inputs, so y may lie exactly on one of them
ELEMENTWISE = {
    "add_f32", "add_s8", "clip_f32", "leaky_relu_f32", "sigmoid_f32", "tanh_f32", "affine_f32", "softmax_f32",
    "softmax_s8", "lut_s8", "quantize", "copy", "gelu_f32", "softplus_f32", "prelu_f32", "mul_f32",
}  # fmt: skip
#: ops whose derivative is written in terms of y, and of x
READS_Y = {"max_pool2d_f32", "reduce_f32", "clip_f32", "leaky_relu_f32", "sigmoid_f32", "tanh_f32", "softmax_f32"}
READS_Y |= {"softplus_f32"}
READS_X = {"max_pool2d_f32", "reduce_f32", "matmul_f32", "gelu_f32", "prelu_f32", "mul_f32"}


class Clobbered(AssertionError):
    """A plan lets one value overwrite another that is still needed."""


@dataclass
class Memory:
    """An arena of `size` bytes."""

    size: int
    owner: np.ndarray = field(init=False)  # (size,) number of the value that each byte belongs to
    index: np.ndarray = field(init=False)  # (size,) which byte of it
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.owner = np.full(self.size, -1)
        self.index = np.full(self.size, -1)

    def write(self, value: str, at: int, size: int) -> None:
        if at % 16 or at + size > self.size:
            raise Clobbered(f"{value} at {at}, {size} bytes, in an arena of {self.size}")
        self.owner[at : at + size] = self.names.setdefault(value, len(self.names))
        self.index[at : at + size] = np.arange(size)

    def read(self, value: str, at: int, size: int) -> None:
        owners, number = self.owner[at : at + size], self.names.get(value)
        if number is None or len(owners) < size or np.any(owners != number):
            found = sorted({name for name, i in self.names.items() if i in owners} - {value})
            raise Clobbered(f"{value} is needed, but {found or 'nothing'} is there")
        if np.any(self.index[at : at + size] != np.arange(size)):
            raise Clobbered(f"{value} is there, but shifted")


class _Replay:
    def __init__(
        self, program: Program, offsets: dict[str, int], size: int, gradients: dict[str, int] | None = None
    ) -> None:
        self.program, self.offsets, self.gradients = program, offsets, gradients or {}
        self.memory = Memory(size)

    def _size(self, name: str) -> int:
        return self.program.tensors[name].nbytes

    def _is_value(self, name: str) -> bool:
        return self.program.tensors[name].data is None

    def write(self, name: str) -> None:
        self.memory.write(name, self.offsets[name], self._size(name))

    def read(self, name: str) -> None:
        self.memory.read(name, self.offsets[name], self._size(name))

    def _apart(self, op: Op, y: tuple[int, int], xs: list[tuple[int, int]]) -> None:
        """An output may not touch an input, unless the op is element-wise and they start together."""
        for x in xs:
            touches = y[0] < x[0] + x[1] and x[0] < y[0] + y[1]
            if touches and not (op.kind in ELEMENTWISE and x[0] == y[0] and y[1] <= x[1]):
                raise Clobbered(f"{op.name}: output at {y} over input at {x}")

    def forward(self, op: Op) -> None:
        inputs = [name for name in op.inputs if self._is_value(name)]
        for name in inputs:
            self.read(name)
        for name in op.outputs:
            places = [(self.offsets[x], self._size(x)) for x in inputs]
            self._apart(op, (self.offsets[name], self._size(name)), places)
            self.write(name)

    def start(self) -> None:
        for port in self.program.inputs:
            self.write(port.tensor)
        for port in self.program.inputs:  # one must not lie on another
            self.read(port.tensor)

    # ---- gradients: values named "d " + tensor, and "d tensor (masked)" once the op has applied its clamp

    def grad(self, name: str, write: bool, state: str = "") -> None:
        touch = self.memory.write if write else self.memory.read
        touch(f"d {name}{state}", self.gradients[name], self._size(name))

    def backward(self, op: Op, mask: int) -> None:
        y = op.outputs[0]
        self.grad(y, write=False)
        kept = self._reads_of_backward(op)
        for name in kept:
            self.read(name)
        self.grad(y, write=True, state=" (masked)")
        # an op writes the dX that lies on dY last, after all that it computes from dY
        wanted = [(i, name) for i, name in enumerate(op.inputs) if name in self.gradients]
        for i, name in sorted(wanted, key=lambda pair: self.gradients[pair[1]] == self.gradients[y]):
            self.grad(y, write=False, state=" (masked)")
            dx, dy = (self.gradients[name], self._size(name)), (self.gradients[y], self._size(y))
            if mask >> i & 1:
                self.grad(name, write=False)
                if dx[0] == dy[0]:
                    raise Clobbered(f"{op.name}: d {name} is added up on d {y}")
            self._apart(op, dx, [dy])
            for other in kept:
                self._apart(Op("", op.name, [], []), dx, [(self.offsets[other], self._size(other))])
            self.grad(name, write=True)

    def _reads_of_backward(self, op: Op) -> list[str]:
        low, high = op.attrs.get("lo", -np.inf), op.attrs.get("hi", np.inf)
        reads = [name for name in op.inputs if self._is_value(name)] if op.kind in READS_X else []
        if op.kind in READS_Y or np.isfinite(low) or np.isfinite(high):
            reads.append(op.outputs[0])
        return reads

    def update(self, op: Op) -> None:
        trained = [i for i, name in enumerate(op.inputs) if self.program.tensors[name].trainable]
        if trained:
            y = op.outputs[0]
            self.memory.names.setdefault(f"d {y} (masked)", -2)
            self.grad(y, write=False, state=" (masked)")
        if 1 in trained:
            self.read(op.inputs[0])


def replay_inference(program: Program, plan: Plan) -> None:
    """Raises Clobbered if an op or the caller would read something else than what it should."""
    run = _Replay(program, plan.infer_offsets, plan.infer_bytes)
    run.start()
    for op in program.ops:
        run.forward(op)
    for port in program.outputs:
        run.read(port.tensor)


def replay_training(program: Program, plan: Plan) -> None:
    """The same for a training step: forward, loss, backward, and then the gradients of all weights."""
    run = _Replay(program, plan.train_offsets, plan.train_bytes, plan.grad_offsets)
    run.start()
    for op in program.ops[: plan.end_op]:
        run.forward(op)
    assert program.logits is not None
    run.read(program.logits)
    run.grad(program.logits, write=True)
    walked = [
        (i, op)
        for i, op in reversed(list(enumerate(program.ops)))
        if plan.first_op <= i < plan.end_op and op.outputs[0] in plan.grad_offsets
    ]
    for i, op in walked:
        run.backward(op, plan.accumulate.get(i, 0))
    for _, op in walked:
        run.update(op)
    trained = {name for _, op in walked for name in op.inputs if program.tensors[name].trainable}
    assert trained == {t.name for t in program.trainable()}
