"""Build the networks that learn in the comparisons: those of `trainer.nets`, with pads as PyTorch code has them.

Without batch norm: on the device it is folded into the layer before it, and every contestant does the same work.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeprop import trainer as t
from edgeprop.trainer import nets


def _learner(net: t.Sequential, **pads: tuple[int, int]) -> t.Sequential:
    """Build `net` anew with convolutions padded alike on both sides and a last layer named head.

    Where `pads` does not name a layer, it is padded by half its kernel.
    """
    for layer in net.leaves():
        if isinstance(layer, t.Conv2D | t.DepthwiseConv2D) and layer.padding == "same":
            layer.padding = pads.get(layer.name, (layer.kernel[0] // 2, layer.kernel[1] // 2))
    net[-1].name, net[-1].named_by_user = "head", True
    net.build(*net.in_shapes, seed=0)
    return net


def mlp() -> t.Sequential:
    """784-128-10."""
    return _learner(nets.mlp())


def lenet() -> t.Sequential:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pools, on 28 x 28 pixels."""
    return _learner(nets.lenet5(in_shape=(1, 28, 28), max_pool=True, activation="relu"))


def ds_cnn() -> t.Sequential:
    """DS-CNN (Zhang et al. 2017) of MLPerf Tiny: 49 frames of 10 coefficients."""
    return _learner(nets.ds_cnn(batch_norm=False), conv2d_1=(5, 1))


def resnet8() -> t.Sequential:
    """ResNet-8 of MLPerf Tiny: 32 x 32 pixels."""
    return _learner(nets.resnet8(batch_norm=False))


def mobilenet_v1() -> t.Sequential:
    """MobileNetV1-0.25 (Howard et al. 2017) on 96 x 96 pixels."""
    return _learner(nets.mobilenet_v1(batch_norm=False))


LEARNERS: dict[str, Callable[[], t.Sequential]] = {
    learner.__name__: learner for learner in (mlp, lenet, ds_cnn, resnet8, mobilenet_v1)
}
