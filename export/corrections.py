"""Two ways to lose less accuracy to int8 without training (Nagel, van Baalen, Blankevoort & Welling 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction")."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from .calibrate import Array, Runner
from .simplify import channel_axis, constant, out_channels, set_constant, sole_user

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


def equalize(model: onnx.ModelProto, fixed: Collection[str] = (), rounds: int = 10) -> onnx.ModelProto:
    """Even out the channels' weight ranges of neighbouring Conv layers with nothing but Relu or pools between them.

    Channel i of the first layer is divided by s_i = sqrt(r1_i r2_i) / r2_i and its reader multiplied by it (equations 8
    to 11), which changes nothing for the float network. Helps where depthwise layers spread their ranges widely.

    Parameters
    ----------
    model : float32, simplified
    fixed : names of layers to leave alone (those that will be trained)
    rounds : passes over all pairs
    """
    net = ir.from_proto(model)
    pairs = [(node, after) for node in net.graph if (after := _reader(node)) and not {node.name, after.name} & {*fixed}]
    so_far = [np.ones(out_channels(first) or 0) for first, _ in pairs]
    for _ in range(rounds):
        for (first, second), factors in zip(pairs, so_far, strict=True):
            _equalize_pair(first, second, factors)
    return ir.to_proto(net)


def _reader(node: ir.Node) -> ir.Node | None:
    """The Conv that alone reads a Conv's output through homogeneous ops."""
    if node.op_type != "Conv" or out_channels(node) is None:
        return None
    after = sole_user(node.outputs[0])
    while after is not None and after.op_type in _HOMOGENEOUS:
        after = sole_user(after.outputs[0])
    return after if after is not None and after.op_type == "Conv" and out_channels(after) is not None else None


def _equalize_pair(first: ir.Node, second: ir.Node, so_far: Array) -> None:
    """Scale one pair. `so_far` (channels,): product of all factors of this pair up to now; changed in place."""
    w1, w2 = constant(first.inputs[1]), constant(second.inputs[1])
    assert w1 is not None
    assert w2 is not None
    groups = second.attributes.get_int("group", 1)
    channels = len(w1)
    # The reader's weight by its input channel: (in_channels, out_c / groups, taps).
    by_input = w2.reshape(groups, len(w2) // groups, channels // groups, -1).transpose(0, 2, 1, 3).reshape(channels, -1)
    r1, r2 = np.abs(w1).reshape(channels, -1).max(1), np.abs(by_input).max(1)
    s = np.ones(channels)
    alive = (r1 > 0) & (r2 > 0)
    s[alive] = np.sqrt(r1[alive] * r2[alive]) / r2[alive]
    s = np.clip(so_far * s, 1 / LARGEST_FACTOR, LARGEST_FACTOR) / so_far
    so_far *= s
    set_constant(first, 1, w1 / s.reshape(-1, *[1] * (w1.ndim - 1)), str(first.inputs[1].name))  # type: ignore[union-attr]
    if len(first.inputs) > 2 and (bias := constant(first.inputs[2])) is not None:
        set_constant(first, 2, bias / s, str(first.inputs[2].name))  # type: ignore[union-attr]
    factors = s.reshape(groups, 1, channels // groups, *[1] * (w2.ndim - 2))
    scaled = w2.reshape(groups, -1, *w2.shape[1:]) * factors
    set_constant(second, 1, scaled.reshape(w2.shape), str(second.inputs[1].name))  # type: ignore[union-attr]
