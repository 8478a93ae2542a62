"""The layers. `LAYERS` has one row per layer, by the name that strings and automatic names use."""

from __future__ import annotations

from .activations import (
    ELU,
    GELU,
    SELU,
    Clip,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .base import Layer
from .batch_norm import BatchNorm
from .conv import Conv1D, Conv2D, DepthwiseConv1D, DepthwiseConv2D
from .conv_transpose import ConvTranspose1D, ConvTranspose2D
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .merge import Add, Concat, Divide, MatMul, Maximum, Minimum, Multiply, Subtract
from .normalization import GroupNorm, InstanceNorm, LayerNorm
from .pooling import AveragePool1D, AveragePool2D, GlobalAveragePool, GlobalMaxPool, MaxPool1D, MaxPool2D
from .recurrent import GRU, LSTM, SimpleRNN, TimeDense
from .reduce import ReduceMax, ReduceMean, ReduceSum
from .resample import Pad, Resize
from .shape import Flatten, Reshape, Slice, Squeeze, Transpose, Unsqueeze
from .sparse_dense import SparseDense, prune

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
        Conv1D,
        DepthwiseConv1D,
        ConvTranspose2D,
        ConvTranspose1D,
        MaxPool1D,
        AveragePool1D,
        GlobalMaxPool,
        LayerNorm,
        GroupNorm,
        InstanceNorm,
        Clip,
        PReLU,
        ELU,
        SELU,
        GELU,
        SiLU,
        HardSigmoid,
        HardSwish,
        Softplus,
        Softmax,
        LogSoftmax,
        Subtract,
        Divide,
        Minimum,
        Maximum,
        Concat,
        MatMul,
        Reshape,
        Transpose,
        Squeeze,
        Unsqueeze,
        Slice,
        Pad,
        Resize,
        ReduceMean,
        ReduceSum,
        ReduceMax,
        Embedding,
        SparseDense,
        SimpleRNN,
        LSTM,
        GRU,
        TimeDense,
    )
}

__all__ = ["LAYERS", "Layer", "prune", *(layer.__name__ for layer in LAYERS.values())]
