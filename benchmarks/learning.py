"""One step of SGD, full net and last layer only, beside PyTorch eager and ORT-training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop._context import Context, capacity
from edgeprop._core import ffi, lib
from edgeprop.errors import check
from edgeprop.export.program.program import Program
from edgeprop.export.writers.image import to_image

from . import peak
from .learners import LEARNERS
from .peers import bound
from .rows import Row, row
from .timing import Contestant, Effort, Local, interleaved

BATCHES = (1, 32)
RATE = 1e-3
LOSS = "softmax_cross_entropy"
#: steps whose losses must agree before anything is timed, and by how much, relatively
CHECKED_STEPS, TOLERANCE = 3, 1e-3


class Mismatch(RuntimeError):
    """Two contestants do not do the same work."""


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Attributes
    ----------
    net : the network, built
    x : (batch, ...) float32, NCHW
    y : (batch,) labels
    trainable : names of the layers that learn
    """

    net: t.Sequential
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    trainable: list[str]

    @classmethod
    def of(cls, name: str, last: bool, batch: int) -> Task:
        """Return the task of a net in `LEARNERS`."""
        net, rng = LEARNERS[name](), np.random.default_rng(0)
        x = rng.normal(size=(batch, *net.in_shapes[0])).astype(np.float32)
        y = rng.integers(0, net.out_shape[0], batch)
        names = [layer.name for layer in net.leaves() if layer.params]
        return cls(net, x, y, names[-1:] if last else names)


#: takes one step and returns the loss before it
Step = Callable[[], float]


def works() -> list[str]:
    """Names of the rows."""
    return [f"{name}_sgd_step_{part}" for name in LEARNERS for part in ("full", "last")]


def dtypes(work: str) -> tuple[str, ...]:
    """A frozen backbone may be int8 too; the layers that learn are float32."""
    return ("f32", "int8") if work.endswith("_last") else ("f32",)


def compare(work: str, dtype: str, batch: int, effort: Effort) -> Row:
    """Return the row of a work; `dtype` is that of the backbone."""
    name, part = work.split("_sgd_step_")
    task = Task.of(name, part == "last", batch)
    contestants, notes = rivals(task)
    steps = {"ours": ours(task, "f32"), **contestants}
    require_agreement({name: step for name, (step, _) in steps.items()})
    if dtype == "int8":
        steps["ours"] = ours(task, "int8")
        notes.append("ours with an int8 backbone, theirs float32")
    timed = {name: contestant for name, (_, contestant) in steps.items()}
    best = interleaved({**timed, "forward": forward(task, dtype)}, effort)
    ahead = min(best.pop("forward"), best["ours"])
    spent = {"forward": round(1e6 * ahead, 2), "backward and update": round(1e6 * (best["ours"] - ahead), 2)}
    distance = peak.distance(peak.step(program(task, dtype), batch), best["ours"])
    return row(work, dtype, batch, best, [*contestants], notes=notes, spent_us=spent, **distance)


def rivals(task: Task) -> tuple[dict[str, tuple[Step, Contestant]], list[str]]:
    """Return the peers that are there, and what is to be said about the others."""
    from . import ort_training, pytorch

    found: dict[str, tuple[Step, Contestant]] = {}
    notes = []
    for name, make in (("PyTorch", pytorch.learner), ("ORT-training", ort_training.learner)):
        try:
            found[name] = make(task)
        except ImportError as reason:
            notes.append(f"{name} skipped: {reason}")
    return found, notes


def require_agreement(steps: dict[str, Step]) -> None:
    """Let all take a few steps, and raise Mismatch if their losses differ: they would not do the same work."""
    losses = {name: [step() for _ in range(CHECKED_STEPS)] for name, step in steps.items()}
    for name, values in losses.items():
        if not np.allclose(values, losses["ours"], rtol=TOLERANCE):
            raise Mismatch(f"losses of {CHECKED_STEPS} steps: ours {losses['ours']}, {name} {values}")


def program(task: Task, dtype: str) -> Program:
    """Return what runs on the device."""
    model: onnx.ModelProto = task.net.to_onnx()
    if dtype == "int8":
        rng = np.random.default_rng(1)
        samples = rng.normal(size=(16, *task.x.shape[1:])).astype(np.float32)
        model = export.quantize(model, samples, trainable=task.trainable, loss=LOSS)
        return export.lower(model)
    return export.lower(model, trainable=task.trainable, loss=LOSS)


def ours(task: Task, dtype: str) -> tuple[Step, Contestant]:
    """The C runtime: `ep_learn`, or `ep_learn_batch` in an arena as `partial_fit` chooses it."""
    model = edgeprop.Model(to_image(program(task, dtype)))
    x, y = model._samples(task.x, task.y)
    n = len(x)
    batch = 0 if n == 1 else n
    what = lib.EP_FOR_TRAIN | (lib.EP_FOR_SUMS if batch else 0)
    context = Context(model._image, capacity(model._image.model.train.bytes, n), what)
    step, loss = ffi.new("ep_step *", {"lr": RATE}), ffi.new("double *")
    pointers = ffi.from_buffer(x), x[0].nbytes, ffi.from_buffer(y), y[0].nbytes
    call = bound(lib.ep_py_fit, context.ep, *pointers, n, batch, step, loss, keep=(model, x, y, context))

    def one() -> float:
        loss[0] = 0
        check(call())
        return float(loss[0]) / n

    return one, Local(call)


def forward(task: Task, dtype: str) -> Contestant:
    """Only the forward part of a step: an inference of the same samples in an arena of the same kind."""
    model = edgeprop.Model(to_image(program(task, dtype)))
    x, _ = model._samples(task.x, task.y)
    context = Context(model._image, capacity(model._image.model.train.bytes, len(x)), lib.EP_FOR_TRAIN)
    y = np.empty((len(x), *task.net.out_shape), np.float32)
    arguments = (context.ep, ffi.from_buffer(x), ffi.from_buffer(y), len(x))
    return Local(bound(lib.ep_infer_batch, *arguments, keep=(model, context, x, y)))
