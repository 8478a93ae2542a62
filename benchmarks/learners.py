"""The networks that learn in the comparisons, as they stand in papers and PyTorch code: pads alike on both sides.

Without batch norm: on the device it is folded into the layer before it, and every contestant does the same work.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeprop import trainer as t


def _conv(filters: int, kernel: int = 3, stride: int = 1) -> list[t.Layer]:
    return [t.Conv2D(filters, kernel, stride=stride, padding=kernel // 2), t.ReLU()]


def _separable(filters: int, stride: int = 1) -> list[t.Layer]:
    return [t.DepthwiseConv2D(3, stride=stride, padding=1), t.ReLU(), *_conv(filters, 1)]


def _head(classes: int) -> list[t.Layer]:
    return [t.GlobalAveragePool(), t.Flatten(), t.Dense(classes, name="head")]


def mlp() -> t.Sequential:
    """784-128-10."""
    net = t.Sequential(t.Dense(128), t.ReLU(), t.Dense(10, name="head"))
    net.build((784,), seed=0)
    return net


def lenet() -> t.Sequential:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pools, on 28 x 28 pixels."""
    features = [*_conv(6, 5), t.MaxPool2D(2), t.Conv2D(16, 5), t.ReLU(), t.MaxPool2D(2), t.Flatten()]
    net = t.Sequential(*features, t.Dense(120), t.ReLU(), t.Dense(84), t.ReLU(), t.Dense(10, name="head"))
    net.build((1, 28, 28), seed=0)
    return net


def ds_cnn() -> t.Sequential:
    """DS-CNN (Zhang et al. 2017) of MLPerf Tiny: 49 frames of 10 coefficients."""
    stem = [t.Conv2D(64, (10, 4), stride=2, padding=(5, 1)), t.ReLU()]
    blocks = [layer for _ in range(4) for layer in _separable(64)]
    net = t.Sequential(*stem, *blocks, *_head(12))
    net.build((1, 49, 10), seed=0)
    return net


def _residual(filters: int, stride: int) -> list[t.Layer]:
    body = [*_conv(filters, 3, stride), t.Conv2D(filters, 3, padding=1)]
    shortcut = None if stride == 1 else t.Conv2D(filters, 1, stride=stride)
    return [t.Residual(*body, shortcut=shortcut), t.ReLU()]


def resnet8() -> t.Sequential:
    """ResNet-8 of MLPerf Tiny: 32 x 32 pixels."""
    stacks = [*_residual(16, 1), *_residual(32, 2), *_residual(64, 2)]
    net = t.Sequential(*_conv(16), *stacks, *_head(10))
    net.build((3, 32, 32), seed=0)
    return net


def mobilenet_v1() -> t.Sequential:
    """MobileNetV1-0.25 (Howard et al. 2017) on 96 x 96 pixels."""
    plan = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
    blocks = [layer for filters, stride in plan for layer in _separable(filters, stride)]
    net = t.Sequential(*_conv(8, 3, 2), *blocks, *_head(2))
    net.build((3, 96, 96), seed=0)
    return net


LEARNERS: dict[str, Callable[[], t.Sequential]] = {
    "mlp": mlp,
    "lenet": lenet,
    "ds_cnn": ds_cnn,
    "resnet8": resnet8,
    "mobilenet_v1": mobilenet_v1,
}
