"""Where int8 ruins the answers: what was tried and helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from . import accuracy, features
from .calibrate import METHODS, Array
from .choose import SCORE_SAMPLES
from .quantize import Asked, Quantized, quantize_normal
from .selection import choose_nodes, find_nodes, is_layer
from .sensitivity import worth_float

#: layers up to which leaving out each in turn is tried at once; `edgeprop check --calibration` does so for any number
MOST_LAYERS = 16
#: samples fewer than these say little of the ranges
FEW_SAMPLES = 20
#: a sample with values this many times those of most is an outlier
FAR = 20.0
#: dB that a cure must gain where it does not heal
HELPS = 3.0


@dataclass
class Patient:
    """A quantization whose answers are ruined, and what its cures are tried with."""

    found: Quantized
    feeds: Mapping[str, Array]
    asked: Asked
    loss: str | None = None
    labels: Sequence[Any] | None = None

    def with_other(self, asked: Asked) -> accuracy.Accuracy:
        """How accurate it is with other options."""
        feeds = self.feeds
        other = quantize_normal(self.found.reference, feeds, self.found.trainable, asked, self.loss, self.labels)
        return accuracy.measure(self.found.reference, other.comparable, feeds, self.loss, self.labels)


def cure(patient: Patient, before: accuracy.Accuracy) -> str:
    """What to do, in the words of `save` and of the command line; what is said to help has been tried."""
    best, gained = "", accuracy.quality(before) + HELPS
    for find in (_other_method, _float_layers):
        for words, try_it in find(patient):
            after = try_it()
            if not accuracy.faults(after):
                return f"cure: {words}"
            if accuracy.quality(after) >= gained:
                best, gained = words, accuracy.quality(after)
    advice = [f"{best} helps some"] if best else []
    if features.unscalable(patient.found.reference, patient.feeds) and not features.is_scaled(patient.found.normal):
        advice.append("scale the inputs to alike ranges before training")
    if any(map(_has_outliers, patient.feeds.values())):
        advice.append("a few samples are far larger than the rest: leave them out of the calibration")
    if len(next(iter(patient.feeds.values()))) < FEW_SAMPLES:
        advice.append("give more calibration samples")
    if best == "" and _layer_count(patient) > MOST_LAYERS:
        advice.append("edgeprop check --calibration says which layers to leave in float32 (--float LAYER)")
    return "cure: " + "; ".join([*advice, "leave all of it in float32 (quantized=False, --float)"])


def _has_outliers(array: Array) -> bool:
    """Whether some sample has values far beyond those of most."""
    if array.dtype.kind != "f" or array.ndim < 2:
        return False
    reach = np.abs(array.reshape(len(array), -1)).max(1)
    return bool(reach.max(initial=0) > FAR * np.median(reach) > 0)


Trial = tuple[str, Callable[[], accuracy.Accuracy]]


def _other_method(patient: Patient) -> list[Trial]:
    """Each of the other ways to choose ranges."""
    others = [method for method in METHODS if method != patient.asked.method and patient.asked.method != "auto"]
    return [
        (f"method={m!r} (--method {m})", partial(patient.with_other, replace(patient.asked, method=m))) for m in others
    ]


def _float_layers(patient: Patient) -> list[Trial]:
    """The layers whose float32 gains most, one more at a time."""
    if _layer_count(patient) > MOST_LAYERS:
        return []
    asked = patient.asked
    kept = [asked.keep_float] if isinstance(asked.keep_float, str) else list(asked.keep_float)
    few = accuracy.spread(patient.feeds, SCORE_SAMPLES)
    options = {"method": asked.method, "percentile": asked.percentile, "per_channel": asked.per_channel}
    found = worth_float(patient.found.normal, patient.found.trainable, few, keep_float=kept, **options)  # type: ignore[arg-type]
    names = [name for name, _ in found]
    trials: list[Trial] = []
    for count in range(1, len(names) + 1):
        some = names[:count]
        words = f"{', '.join(some)} in float32 (keep_float={some!r}, --float {' '.join(some)})"
        trials.append((words, partial(patient.with_other, replace(asked, keep_float=[*kept, *some]))))
    return trials


def _layer_count(patient: Patient) -> int:
    graph = ir.from_proto(patient.found.normal).graph
    kept = find_nodes(graph, patient.asked.keep_float)
    return sum(is_layer(node) for node in choose_nodes(graph, patient.found.trainable, kept).nodes)
