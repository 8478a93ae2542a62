"""An epoch of the NumPy trainer beside PyTorch eager: same net, same data, mini-batches of 32, plain SGD."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np

from edgeprop import trainer as t

from . import peak
from .learners import LEARNERS
from .learning import TOLERANCE, Mismatch, Task, program
from .rows import Row, row
from .timing import Contestant, Effort, Local, interleaved

BATCH = 32
RATE = 1e-3
#: samples of an epoch
SAMPLES = {"mlp": 4096, "lenet": 1024, "ds_cnn": 256}


def works() -> list[str]:
    """Names of the rows."""
    return [f"{name}_epoch" for name in SAMPLES]


def compare(work: str, effort: Effort) -> Row:
    """Return the row of a work."""
    name = work.removesuffix("_epoch")
    net, n, rng = LEARNERS[name](), SAMPLES[name], np.random.default_rng(0)
    x = rng.normal(size=(n, *net.in_shapes[0])).astype(np.float32)
    y = rng.integers(0, net.out_shape[0], n)
    optimizer = t.SGD(RATE)
    contestants: dict[str, Contestant] = {}
    losses = {}

    def ours() -> float:
        return t.fit(net, x, y, optimizer=optimizer, epochs=1, batch_size=BATCH, shuffle=False).train_loss[0]

    notes = [f"{n} samples; NumPy with {blas()}"]
    try:
        from . import pytorch

        theirs = pytorch.epoch(pytorch.convert(net), x, y, BATCH, RATE)
        losses["PyTorch"] = theirs()
        contestants["PyTorch"] = Local(theirs)
    except ImportError as reason:
        notes.append(f"PyTorch skipped: {reason}")
    losses["ours"] = ours()
    contestants["ours"] = Local(ours)
    require_agreement(losses)
    best = interleaved(contestants, effort)
    step = peak.step(program(Task.of(name, False, BATCH), "f32"), BATCH)
    distance = peak.distance(step, best["ours"] * BATCH / n)
    distance = {key: value * n / BATCH if key in ("limit_us", "macs") else value for key, value in distance.items()}
    spent = by_layer(net, ours, best["ours"])
    return row(work, "f32", BATCH, best, ["PyTorch"], notes=notes, spent_us=spent, **distance)


def by_layer(net: t.Sequential, epoch: Callable[[], float], total: float) -> dict[str, float]:
    """Return microseconds of an epoch by kind of layer, forward and backward; the rest of `total` seconds is what the
    loss, the update and everything around them take. The least of a few epochs."""
    rounds = [_one_epoch_by_layer(net, epoch) for _ in range(3)]
    spent = {kind: 1e6 * min(seconds[kind] for seconds in rounds) for kind in rounds[0]}
    spent["loss, update and the rest"] = max(0.0, 1e6 * total - sum(spent.values()))
    return {kind: round(micro, 2) for kind, micro in sorted(spent.items(), key=lambda item: -item[1])}


def _one_epoch_by_layer(net: t.Sequential, epoch: Callable[[], float]) -> dict[str, float]:
    seconds: dict[str, float] = {}

    def timed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = function(*args, **kwargs)
            seconds[kind] = seconds.get(kind, 0.0) + time.process_time() - start
            return result

        return call

    with ExitStack() as patches:
        for layer in net.leaves():
            for name in ("forward", "backward"):
                kind = f"{layer.kind} {name}"
                patches.enter_context(patch.object(layer, name, timed(kind, getattr(layer, name))))
        epoch()
    return seconds


def require_agreement(losses: dict[str, float]) -> None:
    """Raise Mismatch if the mean losses of the first epoch differ: they would not do the same work."""
    if not np.allclose([*losses.values()], losses["ours"], rtol=TOLERANCE):
        raise Mismatch(f"mean losses of an epoch: {losses}")


def blas() -> str:
    """Return which BLAS NumPy runs, and with which kernel, where that can be found out."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "an unknown BLAS"
    found = [f"{lib['internal_api']} {lib['architecture']}" for lib in threadpool_info() if "architecture" in lib]
    return found[0] if found else "an unknown BLAS"
