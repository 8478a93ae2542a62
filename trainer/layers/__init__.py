"""The layers. `LAYERS` has one row per layer, by the name that strings and automatic names use."""

from __future__ import annotations

from .activations import LeakyReLU, ReLU, ReLU6, Sigmoid, Tanh
from .base import Layer
from .batch_norm import BatchNorm
from .conv import Conv2D, DepthwiseConv2D
from .dense import Dense
from .dropout import Dropout
from .merge import Add, Multiply
from .pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from .shape import Flatten

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Dense,
        Conv2D,
        DepthwiseConv2D,
        MaxPool2D,
        AveragePool2D,
        GlobalAveragePool,
        Flatten,
        ReLU,
        ReLU6,
        LeakyReLU,
        Sigmoid,
        Tanh,
        Dropout,
        BatchNorm,
        Add,
        Multiply,
    )
}

__all__ = ["LAYERS", "Layer", *(layer.__name__ for layer in LAYERS.values())]
