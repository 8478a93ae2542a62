"""Plan memory: when each value of a Program must be in memory, and where, for inference and for training.

Both plans come from one description, a list of steps with what each reads and writes. From it follow lifetimes, from
these the blocks that share memory, and `packing` gives the blocks places.

Training walks the ops forward up to the logits, then the loss, then the ops backward to the first one with trainable
weights, and updates at the end: a step that would make a weight NaN or infinite is refused whole, so no weight moves
before all gradients are known to be fine. Hence what the gradients of the weights are computed from (x and dY of each
trainable layer) is alive together at that last moment, and nothing else is kept. Frozen layers in front of the first
trainable one cost what they cost in inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from ... import runtime
from .packing import EFFORT, Packing, Span, live_at, live_bound, pack, rounded
from .program import Op, Plan, Program
from .traits import GRADIENT_IN_PLACE, TRAITS, Traits

__all__ = [
    "STATE_SLOTS",
    "infer_arena",
    "live_bytes",
    "lower_bounds",
    "plan",
    "restore_arena",
    "sums_bytes",
    "train_arena",
]

#: float32 arrays of state per weight that an optimizer of the runtime keeps
STATE_SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2}


class Key(NamedTuple):
    """A value in the arena: an activation, or its gradient."""

    tensor: str
    gradient: bool = False


@dataclass
class Step:
    """One moment of the timeline.

    Attributes
    ----------
    reads, writes : what must be in memory at that moment
    in_place : (written, read): the two may be the same memory if nobody reads the second later
    """

    reads: list[Key] = field(default_factory=list)
    writes: list[Key] = field(default_factory=list)
    in_place: list[tuple[Key, Key]] = field(default_factory=list)


def traits(op: Op) -> Traits:
    """The row of an op in the table.

    Raises
    ------
    ValueError : the runtime has no such op
    """
    if op.kind not in TRAITS:
        raise ValueError(f"op '{op.name}': the runtime has no '{op.kind}'")
    return TRAITS[op.kind]


def plan(program: Program) -> Plan:
    """Give every activation, gradient and trainable weight of a program a place; stores it as `program.plan` too.

    Offsets of activations and gradients are multiples of 16 bytes, of one sample. Trainable weights are packed in
    tensor order without gaps. A program without trainable weights has no training plan: its training fields are empty.

    Raises
    ------
    ValueError : the program does not run as it stands (an op before its inputs, a value nobody computes), or cannot
        learn what it marks trainable (no loss, a weight the loss does not depend on, an op without a backward between)
    """
    _check_order(program)
    timeline = list(_inference(program))
    packing, places = _pack(program, timeline)
    states, base = _state_places(program)
    result = Plan(
        infer_offsets={**states, **{key.tensor: base + at for key, at in places.items()}},
        infer_bytes=base + packing.bytes,
        scratch_bytes=max((traits(op).scratch(op.attrs) for op in program.ops), default=0),
        param_offsets={},
        param_bytes=0,
    )
    for tensor in program.trainable():
        result.param_offsets[tensor.name] = result.param_bytes
        result.param_bytes += tensor.nbytes
    if result.param_offsets:
        _plan_training(program, result)
    program.plan = result
    return result


def _plan_training(program: Program, result: Plan) -> None:
    path = _Path(program)
    packing, places = _pack(program, list(_training(program, path)))
    states, base = _state_places(program)
    result.first_op, result.end_op = path.first, path.end
    result.accumulate = path.accumulate
    result.train_bytes = base + packing.bytes
    result.train_offsets = {**states, **{key.tensor: base + at for key, at in places.items() if not key.gradient}}
    result.grad_offsets = {key.tensor: base + at for key, at in places.items() if key.gradient}
    forward = [traits(op).scratch(op.attrs) for op in program.ops[: path.end]]
    backward = [traits(program.ops[i]).backward_scratch(program.ops[i].attrs) for i in path.backward]
    result.train_scratch_bytes = max(forward + backward)


# ---- States


def _state_places(program: Program) -> tuple[dict[str, int], int]:
    """States lie in front of all else, at the same place in both plans, and what lies there is theirs for good."""
    places, at = {}, 0
    for state in program.states:
        places[state.tensor] = at
        at += rounded(program.tensors[state.tensor].nbytes)
    return places, at


def _without_states(program: Program, timeline: Iterator[Step]) -> Iterator[Step]:
    """A timeline of what shares memory."""
    apart = {state.tensor for state in program.states}
    for step in timeline:
        yield Step(
            [key for key in step.reads if key.tensor not in apart],
            [key for key in step.writes if key.tensor not in apart],
            [pair for pair in step.in_place if apart.isdisjoint(key.tensor for key in pair)],
        )


# ---- Timelines


def _activations(program: Program, names: Sequence[str]) -> list[str]:
    return [name for name in names if program.tensors[name].is_activation]


def _read(program: Program) -> set[str]:
    """Values that an op or the caller reads."""
    ends = {port.tensor for port in program.outputs} | {state.next for state in program.states}
    return {name for op in program.ops for name in op.inputs} | ends


def _forward_step(program: Program, op: Op, wanted: AbstractSet[str]) -> Step:
    """`wanted`: an output that may be left out has a place only if it is one of these."""
    inputs = _activations(program, op.inputs)
    optional = {op.outputs[i] for i in traits(op).optional_outputs if i < len(op.outputs)}
    return Step(
        reads=[Key(name) for name in inputs],
        writes=[Key(name) for name in op.outputs if name in wanted or name not in optional],
        in_place=[(Key(op.outputs[0]), Key(op.inputs[i])) for i in traits(op).in_place if op.inputs[i] in inputs],
    )


def _inference(program: Program) -> Iterator[Step]:
    return _without_states(program, _inference_steps(program))


def _inference_steps(program: Program) -> Iterator[Step]:
    """Inputs are there from the start, outputs at the end."""
    yield Step(writes=[Key(port.tensor) for port in program.inputs])
    wanted = _read(program)
    for op in program.ops:
        yield _forward_step(program, op, wanted)
    yield Step(reads=[Key(port.tensor) for port in program.outputs] + [Key(state.next) for state in program.states])


def _training(program: Program, path: _Path) -> Iterator[Step]:
    return _without_states(program, _training_steps(program, path))


def _training_steps(program: Program, path: _Path) -> Iterator[Step]:
    """Forward, loss, backward, and the update, for which all that the weights' gradients need is still there."""
    assert program.logits is not None
    yield Step(writes=[Key(port.tensor) for port in program.inputs])
    wanted = _read(program).union(*(program.ops[i].outputs for i in path.backward))
    for op in program.ops[: path.end]:
        yield _forward_step(program, op, wanted)
    logits, dlogits = Key(program.logits), Key(program.logits, gradient=True)
    yield Step(reads=[logits], writes=[dlogits], in_place=[(dlogits, logits)])
    update = Step()
    for index in path.backward:
        yield _backward_step(program, path, index)
        update.reads += _update_reads(program, program.ops[index])
    yield update


def _backward_step(program: Program, path: _Path, index: int) -> Step:
    """dX from dY, which is masked in place; also x and y where the op's derivative is written in terms of them."""
    op = program.ops[index]
    row, dy = traits(op), Key(op.outputs[0], gradient=True)
    step = Step(reads=[Key(name, gradient=True) for name in op.outputs if name in path.gradients])
    if row.recurrent:
        step.reads += [Key(name) for name in [*_activations(program, op.inputs), *op.outputs]]
    if "x" in row.backward_reads:
        step.reads += [Key(name) for name in _activations(program, op.inputs)]
    if row.reads_y(op):
        step.reads += [Key(op.outputs[0])]
    wanted = [(i, name) for i, name in enumerate(op.inputs) if name in path.gradients]
    for i, name in wanted:
        dx = Key(name, gradient=True)
        adds = path.accumulate.get(index, 0) >> i & 1
        (step.reads if adds else step.writes).append(dx)
        # with one tensor in both places of an Add, the second addition still needs dY as it was
        if not adds and op.kind in GRADIENT_IN_PLACE and [n for _, n in wanted].count(name) == 1:
            step.in_place.append((dx, dy))
    return step


def _update_reads(program: Program, op: Op) -> list[Key]:
    row = traits(op)
    trained = [i for i in row.weights if program.tensors[op.inputs[i]].trainable]
    if row.recurrent:
        return [Key(name) for name in [*_activations(program, op.inputs), *op.outputs]] if trained else []
    reads = [Key(op.outputs[0], gradient=True)] if trained else []
    if set(trained) & set(row.gradient_reads_x):
        reads.append(Key(op.inputs[0]))
    return reads


def backward_ops(program: Program) -> list[Op]:
    """The ops whose backward runs, in that order.

    Raises
    ------
    ValueError : as `plan`
    """
    return [program.ops[i] for i in _Path(program).backward]


class _Path:
    """The way of the gradient, from the logits back to the first trainable weight.

    Attributes
    ----------
    end : ops in front of it run in learning: up to the one that computes the logits
    gradients : names of the activations that get a gradient
    backward : indices of the ops whose backward runs, in that order
    first : the last of them
    accumulate : of an op, bit mask of the inputs whose gradient another op has written before
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.end = 1 + self._producer_of_logits()
        self.gradients = self._depends_on_weights() & self._leads_to_logits()
        self.backward = [i for i in reversed(range(self.end)) if not self.gradients.isdisjoint(program.ops[i].outputs)]
        self._check()
        self.first = self.backward[-1]
        self.accumulate = self._accumulate()

    def _producer_of_logits(self) -> int:
        program = self.program
        if program.loss is None or program.logits is None:
            raise ValueError("the program has trainable weights, but no loss or no logits")
        if program.loss not in runtime.LOSSES:
            raise ValueError(f"the runtime has no loss '{program.loss}', only {', '.join(runtime.LOSSES)}")
        for index, op in enumerate(program.ops):
            if program.logits in op.outputs:
                if program.tensors[program.logits].dtype != "f32":
                    raise ValueError(f"the loss needs float32, and the logits '{program.logits}' are not")
                return index
        raise ValueError(f"no op computes the logits '{program.logits}'")

    def _depends_on_weights(self) -> set[str]:
        found: set[str] = set()
        for op in self.program.ops[: self.end]:
            if any(name in found or self.program.tensors[name].trainable for name in op.inputs):
                found.update(op.outputs)
        return found

    def _leads_to_logits(self) -> set[str]:
        found = {self.program.logits or ""}
        for op in reversed(self.program.ops[: self.end]):
            if not found.isdisjoint(op.outputs):
                found.update(op.inputs)
        return found

    def _check(self) -> None:
        """Every trainable weight gets a gradient, once."""
        program = self.program
        users: dict[str, str] = {}
        for op in (program.ops[i] for i in self.backward):
            if not runtime.OPS[op.kind].has_grad:
                raise ValueError(f"op '{op.name}': '{op.kind}' has no backward, and trainable weights lie before it")
            for position, name in enumerate(op.inputs):
                if not program.tensors[name].trainable:
                    continue
                if position not in traits(op).weights or program.tensors[name].dtype != "f32":
                    raise ValueError(f"op '{op.name}': its input {position}, '{name}', cannot be trained")
                if name in users:
                    raise ValueError(f"trainable weight '{name}' is used by both '{users[name]}' and '{op.name}'")
                users[name] = op.name
        for tensor in program.trainable():
            if tensor.name not in users:
                raise ValueError(f"the logits do not depend on the trainable weight '{tensor.name}'")

    def _accumulate(self) -> dict[int, int]:
        written: set[str] = set()
        masks: dict[int, int] = {}
        for index in self.backward:
            for position, name in enumerate(self.program.ops[index].inputs):
                if name in self.gradients and name in written:
                    masks[index] = masks.get(index, 0) | 1 << position
                written.add(name)
        return masks


def _check_order(program: Program) -> None:
    """Every value is computed once, before it is used."""
    known = {tensor.name for tensor in program.tensors.values() if not tensor.is_activation}
    known.update(port.tensor for port in program.inputs)
    known.update(state.tensor for state in program.states)
    for op in program.ops:
        traits(op)
        for name in op.inputs:
            if name not in known:
                raise ValueError(f"op '{op.name}' reads '{name}', which nothing has computed before")
        for name in op.outputs:
            if name in known:
                raise ValueError(f"op '{op.name}' computes '{name}', which is there already")
            known.add(name)
    for name in program.tensors:
        if name not in known:
            raise ValueError(f"nothing computes '{name}'")
    for port in program.outputs:
        if port.tensor not in program.tensors or not program.tensors[port.tensor].is_activation:
            raise ValueError(f"output '{port.name}' is no value that the program computes")
    if not (program.ops and program.inputs and program.outputs):
        raise ValueError("the program has no ops, no inputs or no outputs")


# ---- Lifetimes and blocks


class _Tenant(NamedTuple):
    """What lives in a place, from when to when."""

    key: Key
    span: Span


def _lifetimes(program: Program, timeline: Sequence[Step]) -> dict[Key, Span]:
    """From the step that first writes a value to the last that touches it. A gradient is float32, whatever it is of."""
    first: dict[Key, int] = {}
    last: dict[Key, int] = {}
    for time, step in enumerate(timeline):
        for key in [*step.writes, *step.reads]:
            first.setdefault(key, time)
            last[key] = time
    return {key: Span(first[key], last[key], program.tensors[key.tensor].nbytes) for key in first}


def _aliases(timeline: Sequence[Step], lives: dict[Key, Span]) -> dict[Key, Key]:
    """What is written over what: a value takes the place of one that dies in the step that makes it."""
    over: dict[Key, Key] = {}
    for time, step in enumerate(timeline):
        for written, read in step.in_place:
            fits = lives[written].size <= lives[read].size
            if fits and lives[read].end == time and written not in over and read not in over.values():
                over[written] = read
    return over


def _chains(lives: dict[Key, Span], over: dict[Key, Key]) -> list[list[_Tenant]]:
    """Values in one place, in the order in which they take it from each other."""
    chains: dict[Key, list[_Tenant]] = {}
    home: dict[Key, Key] = {}
    for key, span in lives.items():  # in order of their start, so the one taken over is there already
        home[key] = home[over[key]] if key in over else key
        chains.setdefault(home[key], []).append(_Tenant(key, span))
    return list(chains.values())


def _blocks(chains: list[list[_Tenant]]) -> list[tuple[Span, ...]]:
    return [tuple(tenant.span for tenant in chain) for chain in chains]


#: pairs of blocks packed anew, all in all, to see whether one of them should not be in place: of a large graph not all are tried
_REPACKED = 300_000


def _pack(program: Program, timeline: Sequence[Step]) -> tuple[Packing, dict[Key, int]]:
    """Packs with everything in place that may be; where that misses the bound, also without one of these at a time."""
    lives = _lifetimes(program, timeline)
    over = _aliases(timeline, lives)
    chains = _chains(lives, over)
    best = pack(_blocks(chains))
    if best.bytes > best.bound:
        left = EFFORT  # for all of them: what a small graph takes is little, and a large one is not solved anyway
        for key in list(over)[: _REPACKED // len(chains) ** 2]:
            other = _chains(lives, {k: v for k, v in over.items() if k != key})
            packing = pack(_blocks(other), left)
            left -= packing.effort
            if packing.bytes < best.bytes:
                best, chains = packing, other
    places = {tenant.key: at for chain, at in zip(chains, best.offsets, strict=True) for tenant in chain}
    return best, places


def lower_bounds(program: Program) -> tuple[int, int]:
    """The most bytes that live at one time in inference and in training (0 without a training plan).

    No arena of this order of ops, with these ops in place, can be smaller.
    """
    timelines = [list(_inference(program))]
    if program.trainable():
        timelines.append(list(_training(program, _Path(program))))
    bounds = []
    base = _state_places(program)[1]
    for timeline in timelines:
        lives = _lifetimes(program, timeline)
        bounds.append(base + live_bound(_blocks(_chains(lives, _aliases(timeline, lives)))))
    return bounds[0], bounds[1] if len(bounds) > 1 else 0


def live_bytes(program: Program) -> list[int]:
    """Bytes of activations that live while each op runs, in inference; what is written in place counts once."""
    timeline = list(_inference(program))
    lives = _lifetimes(program, timeline)
    blocks = _blocks(_chains(lives, _aliases(timeline, lives)))
    base, count = _state_places(program)[1], len(program.ops)
    return [base + size for size in live_at(blocks, count + 1)[1:]]


# ---- Sizes of arenas, as ep_arena_size() computes them


def _planned(program: Program) -> Plan:
    return program.plan or plan(program)


def _arena(program: Program, batch: int, params: bool, train: bool, sums: bool, slots: int) -> int:
    """The parts of an arena in their order, each rounded up to the alignment: see the top of edgeprop.h."""
    p = _planned(program)
    if batch < 1:
        raise ValueError(f"a batch of {batch} samples")
    if params and not p.param_bytes:
        raise ValueError("the program has no trainable weights")
    activations = rounded(max(p.infer_bytes, p.train_bytes if train else 0))
    scratch = max(p.scratch_bytes, p.train_scratch_bytes if train else 0)
    weights = int(params) + int(sums) + slots  # parts as large as the weights
    return rounded(p.param_bytes) * weights + activations * batch + rounded(scratch)


def infer_arena(program: Program, batch: int = 1) -> int:
    """Bytes of arena for inference of `batch` samples at once."""
    return _arena(program, batch, params=False, train=False, sums=False, slots=0)


def restore_arena(program: Program, batch: int = 1) -> int:
    """Bytes of arena for inference with the weights in RAM, where learned ones can be restored."""
    return _arena(program, batch, params=True, train=False, sums=False, slots=0)


def train_arena(program: Program, batch: int = 1, optimizer: str = "sgd", sums: bool = False) -> int:
    """Bytes of arena for learning `batch` samples at once.

    Parameters
    ----------
    optimizer : a key of STATE_SLOTS
    sums : with room for gradient sums (mini-batches)
    """
    if optimizer not in STATE_SLOTS:
        raise ValueError(f"the runtime has no optimizer '{optimizer}', only {', '.join(STATE_SLOTS)}")
    return _arena(program, batch, params=True, train=True, sums=sums, slots=STATE_SLOTS[optimizer])


def sums_bytes(program: Program) -> int:
    """Bytes that gradient sums add to an arena."""
    return rounded(_planned(program).param_bytes)
