"""Rank layers by sensitivity to int8: what the outputs gain where one more of them is left in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir

from .analysis import output_snr
from .calibrate import Array
from .quantize import Build, find_ranges
from .selection import choose_nodes, is_layer

#: a layer is worth its float32 where the outputs' noise falls by this many dB, and good enough outputs need none
GAIN, ENOUGH = 1.5, 45.0
_SAMPLES = 96


def worth_float(
    normal: onnx.ModelProto,
    trainable: Sequence[str],
    calibration: Mapping[str, Array],
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    keep_float: str | Sequence[str] = (),
    per_channel: bool = True,
    bias_correction: bool = True,
    most: int = 3,
) -> list[tuple[str, float]]:
    """Find the layers whose float32 gains the outputs most, one after the other.

    Parameters
    ----------
    normal, trainable : what `prepare` gives
    calibration : samples by input name
    method, percentile, keep_float, per_channel, bias_correction : as of `quantize`
    most : layers at most

    Returns
    -------
    list of (layer, dB gained at the outputs beside those before it); empty where int8 leaves little noise, or no
    single layer is to blame
    """
    few = {name: array[:_SAMPLES] for name, array in calibration.items()}
    build = Build(normal, calibration, trainable, keep_float, per_channel, bias_correction)
    ranges, _ = find_ranges(build, method, percentile)
    kept = [keep_float] if isinstance(keep_float, str) else list(keep_float)

    def score(names: list[str]) -> float:
        build.keep_float = names
        return output_snr(normal, build(ranges), few)

    graph = ir.from_proto(normal).graph
    left = [str(node.name) for node in choose_nodes(graph, trainable, set()).nodes if is_layer(node)]
    now = score(kept)
    found: list[tuple[str, float]] = []
    while left and len(found) < most and now < ENOUGH:
        scores = {name: score([*kept, name]) for name in left}
        best = max(scores, key=scores.__getitem__)
        if scores[best] < now + GAIN:
            break
        found.append((best, scores[best] - now))
        now = scores[best]
        kept.append(best)
        left.remove(best)
    return found
