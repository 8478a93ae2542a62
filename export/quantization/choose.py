"""Choose a calibration method for each value ("auto"): the one that leaves least noise in the network's outputs.

The mean squared error of a value says little of what its noise does further on, so the outputs are looked at: the best
single method first, then, value by value, the others where they would choose a clearly different scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from .calibrate import METHODS, Array, Range, Runner, candidates

#: builds the quantized model, float at its inputs and outputs, from ranges
Build = Callable[[Mapping[str, Range]], onnx.ModelProto]

#: samples that the noise is measured on, and how many values are looked at one by one
SCORE_SAMPLES, LOOKED_AT = 96, 24
#: a scale that differs by less is the same, a gain in noise that is less is chance
SAME_SCALE, SAME_NOISE = 0.03, 0.01


def choose(
    model: onnx.ModelProto, samples: Array | Mapping[str, Array], build: Build, percentile: float = 99.99
) -> tuple[dict[str, Range], dict[str, str]]:
    """Choose the range of every value.

    Parameters
    ----------
    model : the float32 model
    samples : calibration samples, as for `calibrate`
    build : makes the quantized model, whose noise is measured
    percentile : of the method of that name

    Returns
    -------
    ranges by value name, and the name of the method each came from
    """
    found = candidates(model, samples, percentile)
    noise = _Noise(model, samples)
    scores = {method: noise(build(ranges)) for method, ranges in found.items()}
    first = min(scores, key=scores.__getitem__)
    ranges, chosen, least = dict(found[first]), dict.fromkeys(found[first], first), scores[first]
    for name in _disputed(found):
        for method in METHODS:
            if method == chosen[name] or not _differs(found[method][name], ranges[name]):
                continue
            tried = {**ranges, name: found[method][name]}
            score = noise(build(tried))
            if score < least * (1 - SAME_NOISE):
                ranges, least, chosen[name] = tried, score, method
    return ranges, chosen


def _differs(a: Range, b: Range) -> bool:
    """Whether two ranges give scales that are not nearly the same."""
    one, other = a.affine().scale, b.affine().scale
    return abs(one - other) > SAME_SCALE * max(one, other)


def _disputed(found: Mapping[str, Mapping[str, Range]]) -> list[str]:
    """Values on whose scale the methods differ most, in the order of the graph."""
    spread = {}
    for name in found["minmax"]:
        scales = [ranges[name].affine().scale for ranges in found.values()]
        spread[name] = max(scales) / min(scales)
    most = sorted(spread, key=spread.__getitem__, reverse=True)[:LOOKED_AT]
    return [name for name in found["minmax"] if name in most and spread[name] > 1 + SAME_SCALE]


class _Noise:
    """Power of a quantized model's errors as parts of the outputs' power, summed over the outputs."""

    def __init__(self, model: onnx.ModelProto, samples: Array | Mapping[str, Array]) -> None:
        self.outputs = [output.name for output in model.graph.output]
        runner = Runner(model, self.outputs)  # which leaves those of float32
        self.feeds = {name: array[:SCORE_SAMPLES] for name, array in runner.check(samples).items()}
        self.exact = list(runner.run(self.feeds))
        self.batch_size = runner.batch_size

    def __call__(self, quantized: onnx.ModelProto) -> float:
        runner = Runner(quantized, list(self.outputs), self.batch_size)
        signal, noise = dict.fromkeys(self.outputs, 0.0), dict.fromkeys(self.outputs, 0.0)
        for exact, rounded in zip(self.exact, runner.run(self.feeds), strict=True):
            for name, array in exact.items():
                signal[name] += float(np.square(array, dtype=np.float64).sum())
                noise[name] += float(np.square(array - rounded[name], dtype=np.float64).sum())
        return sum(noise[name] / signal[name] if signal[name] else noise[name] for name in noise)
