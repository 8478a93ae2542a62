"""Two ways to lose less accuracy to int8 without training (Nagel, van Baalen, Blankevoort & Welling 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction")."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from .calibrate import Array, Runner
from .simplify import ACTIVATIONS, channel_axis, clip_bounds, constant, out_channels, set_constant, sole_user

#: a nearly dead channel would ask for more, and its bias would then widen the range of all the others
LARGEST_FACTOR = 8.0

#: what a positive scale per channel passes through unchanged
_HOMOGENEOUS = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool")


def correct_biases(
    model: onnx.ModelProto,
    samples: Array | Mapping[str, Array],
    errors: Mapping[str, tuple[str, Array]],
) -> dict[str, Array]:
    """What rounding the weights adds to each output channel on average: (W_rounded - W) E[x].

    E[x] is the mean of each input channel over the samples (and pixels); pixels that lie in the padding are taken for
    average ones.

    Parameters
    ----------
    model : the float32 model
    samples : calibration samples, as for `calibrate`
    errors : by layer, the name of its input and W_rounded - W in the weight's shape

    Returns
    -------
    dict of layer name to (out_channels,), to be taken from its bias
    """
    layers = {str(node.name): node for node in ir.from_proto(model).graph}
    means = channel_means(model, samples, sorted({name for name, _ in errors.values()}), layers)
    return {layer: _mean_error(layers[layer], means[x], error) for layer, (x, error) in errors.items()}


def channel_means(
    model: onnx.ModelProto, samples: Array | Mapping[str, Array], names: list[str], layers: Mapping[str, ir.Node]
) -> dict[str, Array]:
    """Means of values over samples and, for images, pixels: (channels,) each."""
    images = {str(node.inputs[0].name) for node in layers.values() if node.op_type == "Conv" and node.inputs[0]}
    runner = Runner(model, names)
    sums: dict[str, Array] = {}
    count = 0
    for batch in runner.run(runner.check(samples)):
        weight = len(next(iter(batch.values()))) if batch else 0
        for name, array in batch.items():
            axis = 1 if name in images else array.ndim - 1
            others = tuple(a for a in range(array.ndim) if a != axis)
            sums[name] = sums.get(name, 0) + weight * array.mean(others, dtype=np.float64)
        count += weight
    return {name: total / count for name, total in sums.items()}


def _mean_error(node: ir.Node, mean: Array, error: Array) -> Array:
    """(out_channels,) from the input's mean (in_channels,)."""
    if node.op_type != "Conv":
        axis = 1 - channel_axis(node)
        return np.asarray(np.tensordot(error, mean, (axis, 0)))
    taps = error.reshape(*error.shape[:2], -1).sum(2)  # (out_c, in_c / groups)
    groups = node.attributes.get_int("group", 1)
    per_group = mean.reshape(groups, -1).repeat(len(taps) // groups, 0)  # (out_c, in_c / groups)
    return np.asarray((taps * per_group).sum(1))


def equalize(
    model: onnx.ModelProto,
    fixed: Collection[str] = (),
    rounds: int = 10,
    samples: Array | Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """Even out the channels' ranges of neighbouring Conv layers with nothing but Relu, Clip or pools between them.

    Channel i of the first layer is divided by s_i = sqrt(r1_i r2_i) / r2_i and its reader multiplied by it (equations 8
    to 11), which changes nothing for the float network. r1 is the range of the first layer's weights or, with samples,
    of the values that lie between the layers (as in Meller, Finkelstein, Almog & Grobman 2019, "Same, Same But
    Different"): weights with a scale per channel need no help, values with one scale for all do, so s_i is then the
    geometric mean's share of these, and all of it before a depthwise layer. Through a Clip
    (ReLU6) only channels pass that stay within its bounds on the samples, as far as they go on staying there; without
    samples none does.

    Parameters
    ----------
    model : float32, simplified
    fixed : names of layers to leave alone (those that will be trained)
    rounds : passes over all pairs
    samples : calibration samples, as for `calibrate`
    """
    net = ir.from_proto(model)
    pairs = [pair for node in net.graph if (pair := _pair(node)) and not pair.names & {*fixed}]
    if samples is None:
        pairs = [pair for pair in pairs if all(bounds == (0.0, np.inf) for bounds in pair.clips)]
    else:
        _measure(model, samples, pairs)
    for _ in range(rounds):
        for pair in pairs:
            _equalize_pair(pair)
    return ir.to_proto(net)


def equalizable(model: onnx.ModelProto, fixed: Collection[str] = ()) -> bool:
    """Whether there are two layers that `equalize` may even out."""
    return any((pair := _pair(node)) and not pair.names & {*fixed} for node in ir.from_proto(model).graph)


@dataclass
class _Pair:
    """Two layers, what stands between them, and per channel what has been done to them.

    clips : bounds of each Relu and Clip between
    seen : value name to look at; low, high: its range per channel, before any scaling; None: not measured
    so_far : (channels,) product of all factors up to now
    """

    first: ir.Node
    second: ir.Node
    clips: list[tuple[float, float]]
    so_far: Array
    low: Array | None = None
    high: Array | None = None

    @property
    def names(self) -> set[str]:
        return {str(self.first.name), str(self.second.name)}

    @property
    def seen(self) -> str:
        return str(self.first.outputs[0].name)

    def values(self) -> Array:
        """(channels,) largest absolute values that the second layer saw before any scaling."""
        assert self.low is not None
        assert self.high is not None
        below = 0.0 if any(low == 0 for low, _ in self.clips) else -self.low
        return np.asarray(np.maximum(np.maximum(self.high, below), 0.0))

    def limits(self) -> tuple[Array, Array]:
        """Smallest and largest factor (channels,) in all, under which no Clip does anything it did not before."""
        lowest, highest = np.full(len(self.so_far), 1 / LARGEST_FACTOR), np.full(len(self.so_far), LARGEST_FACTOR)
        if self.low is None or self.high is None:
            return lowest, highest
        for low, high in self.clips:
            lowest = np.maximum(lowest, self.high / high)
            if low < 0:
                lowest = np.maximum(lowest, self.low / low)
            acts = (self.high > high) | ((self.low < low) & (low < 0))
            lowest[acts], highest[acts] = 1.0, 1.0
        return lowest, highest


def _pair(node: ir.Node) -> _Pair | None:
    """The pair of a Conv and the Conv that alone reads its output through homogeneous ops and Clips around 0."""
    channels = out_channels(node) if node.op_type == "Conv" else None
    if channels is None:
        return None
    clips = []
    after = sole_user(node.outputs[0])
    while after is not None and after.op_type in (*_HOMOGENEOUS, "Clip"):
        if after.op_type in ACTIVATIONS:
            low, high = clip_bounds(after)
            if not low <= 0 < high:
                return None
            clips.append((low, high))
        after = sole_user(after.outputs[0])
    if after is None or after.op_type != "Conv" or out_channels(after) is None:
        return None
    return _Pair(node, after, clips, np.ones(channels))


def _measure(model: onnx.ModelProto, samples: Array | Mapping[str, Array], pairs: list[_Pair]) -> None:
    """Note the range of every channel of the values between the pairs."""
    runner = Runner(model, [pair.seen for pair in pairs])
    for batch in runner.run(runner.check(samples)) if pairs else ():
        for pair in pairs:
            values = np.moveaxis(batch[pair.seen], 1, 0).reshape(len(pair.so_far), -1)
            low, high = values.min(1).astype(np.float64), values.max(1).astype(np.float64)
            pair.low = low if pair.low is None else np.minimum(pair.low, low)
            pair.high = high if pair.high is None else np.maximum(pair.high, high)


def _weight_factors(r1: Array, r2: Array) -> Array:
    """(channels,) that give both weights' ranges r1 / s and r2 s one size (equation 11)."""
    s = np.ones(len(r1))
    alive = (r1 > 0) & (r2 > 0)
    s[alive] = np.sqrt(r1[alive] * r2[alive]) / r2[alive]
    return s


def _value_factors(r1: Array, r2: Array, grouped: bool) -> Array:
    """(channels,) that even out values of ranges r1, the largest of which stays as it is.

    A depthwise reader has a scale for each channel, so its values may all fill the range; one that sums over channels
    loses where its weights' ranges r2 spread, and shares the burden.
    """
    s = np.ones(len(r1))
    alive = (r1 > 0) & (r2 > 0)
    if not alive.any():
        return s
    wanted = r1[alive] if grouped else np.sqrt(r1[alive] / r2[alive])
    s[alive] = wanted * (r1[alive] / wanted).max() / r1[alive].max()
    return s


def _equalize_pair(pair: _Pair) -> None:
    """Scale one pair once more."""
    first, second = pair.first, pair.second
    w1, w2 = constant(first.inputs[1]), constant(second.inputs[1])
    assert w1 is not None
    assert w2 is not None
    groups, channels = second.attributes.get_int("group", 1), len(w1)
    # The reader's weight by its input channel: (in_channels, out_c / groups, taps).
    by_input = w2.reshape(groups, len(w2) // groups, channels // groups, -1).transpose(0, 2, 1, 3).reshape(channels, -1)
    r1, r2 = np.abs(w1).reshape(channels, -1).max(1), np.abs(by_input).max(1)
    s = _weight_factors(r1, r2) if pair.high is None else _value_factors(pair.values() / pair.so_far, r2, groups > 1)
    s = np.clip(pair.so_far * s, *pair.limits()) / pair.so_far
    pair.so_far = pair.so_far * s
    set_constant(first, 1, w1 / s.reshape(-1, *[1] * (w1.ndim - 1)), str(first.inputs[1].name))  # type: ignore[union-attr]
    if len(first.inputs) > 2 and (bias := constant(first.inputs[2])) is not None:
        set_constant(first, 2, bias / s, str(first.inputs[2].name))  # type: ignore[union-attr]
    factors = s.reshape(groups, 1, channels // groups, *[1] * (w2.ndim - 2))
    scaled = w2.reshape(groups, -1, *w2.shape[1:]) * factors
    set_constant(second, 1, scaled.reshape(w2.shape), str(second.inputs[1].name))  # type: ignore[union-attr]
