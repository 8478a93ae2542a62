"""What is known before anything runs: bytes of RAM and multiply-accumulates, the same on every board."""

from __future__ import annotations

import numpy as np
import onnx

from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.program.plan import infer_arena, lower_bounds, train_arena
from edgeprop.export.program.program import Program

from . import models, peak
from .learners import LEARNERS

LOSS = "softmax_cross_entropy"


def arenas() -> dict[str, tuple[int, int]]:
    """Return bytes of arena, and the live bound under them (0: not asked), by name."""
    found = {}
    for work in models.BUILDERS:
        program = _int8(work)
        found[f"{work}_int8_infer"] = infer_arena(program), lower_bounds(program)[0]
    for name, program in _small().items():
        found[f"{name}_train"] = train_arena(program), 0
    return found


def macs() -> dict[str, tuple[int, int]]:
    """Return int8 and float32 multiply-accumulates of each work that boards count, by name."""
    found = {}
    for work, build in models.BUILDERS.items():
        found[f"{work}_int8_infer"] = peak.inference(_int8(work))
        found[f"{work}_f32_infer"] = peak.inference(export.lower(build().to_onnx()))
    for name, program in _small().items():
        found[f"{name}_sgd_step"] = peak.step(program, 1)
    for name, learner in {"mlp_784_128_10": "mlp", "ds_cnn_f32": "ds_cnn"}.items():
        program = export.lower(LEARNERS[learner]().to_onnx(), trainable="*", loss=LOSS)
        found[f"{name}_sgd_step"] = peak.step(program, 1)
    found["ds_cnn_head_sgd_step"] = peak.step(export.lower(_quantized("ds_cnn", trainable="last", loss=LOSS)), 1)
    return {name: (work.int8_macs, work.f32_macs) for name, work in found.items()}


def _quantized(work: str, **options: str) -> onnx.ModelProto:
    net = models.BUILDERS[work]()
    samples = np.random.default_rng(0).normal(size=(16, *net.in_shapes[0])).astype(np.float32)
    return export.quantize(net.to_onnx(), samples, **options)


def _int8(work: str) -> Program:
    """The reference model, or one of its shapes that is int8 in and out like it."""
    model, source = models.load(work, "int8")
    return export.lower(model if source == "MLPerf Tiny" else _quantized(work, io="int8"))


def _small() -> dict[str, Program]:
    nets = {
        "head_64_10": t.Sequential(t.Dense(10)),
        "mlp_64_32_10": t.Sequential(t.Dense(32), t.ReLU(), t.Dense(10)),
    }
    for net in nets.values():
        net.build((64,), seed=0)
    return {name: export.lower(net.to_onnx(), trainable="*", loss=LOSS) for name, net in nets.items()}
