"""Bytes of RAM that boards need, as planned here: the same on every machine."""

from __future__ import annotations

import numpy as np

from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.plan import infer_arena, lower_bounds, train_arena

from . import models


def arenas() -> dict[str, tuple[int, int]]:
    """Return bytes, and the live bound under them (0: not asked), by name."""
    found = {f"{work}_int8_infer": _inference(work) for work in models.BUILDERS}
    found["head_64_10_train"] = _learning(t.Dense(10))
    found["mlp_64_32_10_train"] = _learning(t.Dense(32), t.ReLU(), t.Dense(10))
    return found


def _inference(work: str) -> tuple[int, int]:
    model, source = models.load(work, "int8")
    if source != "MLPerf Tiny":  # as the reference models are: int8 in and out
        net = models.BUILDERS[work]()
        samples = np.random.default_rng(0).normal(size=(16, *net.in_shapes[0])).astype(np.float32)
        model = export.quantize(net.to_onnx(), samples, io="int8")
    program = export.lower(model)
    return infer_arena(program), lower_bounds(program)[0]


def _learning(*layers: t.Layer) -> tuple[int, int]:
    net = t.Sequential(*layers)
    net.build((64,), seed=0)
    program = export.lower(net.to_onnx(), trainable="*", loss="softmax_cross_entropy")
    return train_arena(program), 0
