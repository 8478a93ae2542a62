"""What is taken where a caller says nothing: the published constants of each method, and what other libraries take."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from edgeprop import trainer as t
from edgeprop.trainer import nets

#: by name, the arguments that have a default which is not None
DEFAULTS: dict[str, dict[str, Any]] = {
    "Adagrad": {"learning_rate": 0.01, "eps": 1e-10, "weight_decay": 0.0},
    "Adam": {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-08, "weight_decay": 0.0},
    "AdamW": {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-08, "weight_decay": 0.01},
    "AveragePool1D": {"padding": "valid"},
    "AveragePool2D": {"count_include_pad": False},
    "BatchNorm": {"momentum": 0.1, "eps": 1e-05},
    "Concat": {"axis": 1},
    "Contrastive": {"margin": 1.0, "pairs": "all"},
    "Conv1D": {"stride": 1, "padding": "valid", "dilation": 1},
    "Conv2D": {"stride": 1, "padding": "valid", "dilation": 1, "groups": 1, "bias": True, "init": "he_normal"},
    "ConvTranspose1D": {"stride": 1, "padding": "valid", "output_padding": 0, "dilation": 1},
    "ConvTranspose2D": {
        "stride": 1,
        "padding": "valid",
        "output_padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": True,
        "init": "he_normal",
    },
    "CosineDecay": {"floor": 0.0, "warmup": 0.0},
    "Dense": {"bias": True, "init": "he_normal"},
    "DepthwiseConv1D": {"stride": 1, "padding": "valid", "dilation": 1},
    "DepthwiseConv2D": {
        "multiplier": 1,
        "stride": 1,
        "padding": "valid",
        "dilation": 1,
        "bias": True,
        "init": "he_normal",
    },
    "Dropout": {"rate": 0.5},
    "ELU": {"alpha": 1.0},
    "EarlyStopping": {"patience": 5, "min_delta": 0.0, "monitor": "val_loss"},
    "Embedding": {"init": "glorot_uniform"},
    "ExponentialDecay": {"warmup": 0.0},
    "GELU": {"approximate": "none"},
    "GRU": {"linear_before_reset": True},
    "Graph": {"outputs": ()},
    "GroupNorm": {"eps": 1e-05},
    "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5},
    "Huber": {"delta": 1.0},
    "InstanceNorm": {"eps": 1e-05},
    "LSTM": {"forget_bias": 1.0},
    "LayerNorm": {"axis": -1, "eps": 1e-05},
    "LeakyReLU": {"alpha": 0.01},
    "LogSoftmax": {"axis": -1},
    "MaxPool1D": {"padding": "valid"},
    "MaxPool2D": {"padding": "valid"},
    "Momentum": {"learning_rate": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    "Optimizer": {"weight_decay": 0.0},
    "PReLU": {"alpha": 0.25},
    "Pad": {"mode": "constant", "value": 0.0},
    "RMSProp": {
        "learning_rate": 0.01,
        "rho": 0.99,
        "eps": 1e-08,
        "momentum": 0.0,
        "centered": False,
        "weight_decay": 0.0,
    },
    "ReduceMax": {"keepdims": False},
    "ReduceMean": {"keepdims": False},
    "ReduceSum": {"keepdims": False},
    "Resize": {"scale": 2, "mode": "nearest"},
    "SGD": {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "Schedule": {"warmup": 0.0},
    "SelectiveBackprop": {"beta": 1.0, "window": 1024},
    "SimpleRNN": {"activation": "tanh"},
    "Slice": {"step": 1, "axis": 1},
    "Softmax": {"axis": -1},
    "SoftmaxCrossEntropy": {"label_smoothing": 0.0},
    "SparseDense": {"bias": True, "init": "he_normal"},
    "StepDecay": {"factor": 0.1, "warmup": 0.0},
    "TimeDense": {"bias": True, "init": "he_normal"},
    "Triplet": {"margin": 0.2, "mining": "semi_hard"},
    "add_penalty": {"l1": 0.0, "l2": 0.0},
    "check_gradients": {
        "loss": "softmax_cross_entropy",
        "eps": 1e-06,
        "tolerance": 1e-05,
        "seed": 0,
        "raise_on_failure": True,
    },
    "evaluate": {"loss": "softmax_cross_entropy", "batch_size": 256},
    "fit": {
        "loss": "softmax_cross_entropy",
        "optimizer": "adam",
        "epochs": 10,
        "batch_size": 32,
        "shuffle": True,
        "seed": 0,
        "l1": 0.0,
        "l2": 0.0,
        "callbacks": (),
    },
    "partial_fit": {"loss": "softmax_cross_entropy", "l1": 0.0, "l2": 0.0},
    "autoencoder": {
        "inputs": 640,
        "hidden": (128, 128, 128, 128, 8, 128, 128, 128, 128),
        "batch_norm": True,
        "seed": 0,
    },
    "ds_cnn": {
        "classes": 12,
        "in_shape": (1, 49, 10),
        "filters": 64,
        "blocks": 4,
        "batch_norm": True,
        "dropout": 0.0,
        "seed": 0,
    },
    "kws_gru": {"classes": 12, "in_shape": (25, 10), "units": 154, "stateful": False, "seed": 0},
    "kws_lstm": {"classes": 12, "in_shape": (25, 10), "units": 118, "stateful": False, "seed": 0},
    "lecun1989": {"classes": 10, "dropout": 0.0, "seed": 0},
    "lenet5": {"classes": 10, "in_shape": (1, 32, 32), "max_pool": False, "activation": "tanh", "seed": 0},
    "mlp": {"inputs": 784, "hidden": (128,), "outputs": 10, "activation": "relu", "seed": 0},
    "mobilenet_v1": {"classes": 2, "in_shape": (3, 96, 96), "alpha": 0.25, "batch_norm": True, "seed": 0},
    "mobilenet_v2": {"classes": 10, "in_shape": (3, 96, 96), "alpha": 0.35, "batch_norm": True, "seed": 0},
    "resnet8": {"classes": 10, "in_shape": (3, 32, 32), "batch_norm": True, "seed": 0},
    "tcn": {"classes": 12, "in_shape": (10, 49), "channels": (32, 32, 32, 32), "kernel": 3, "dropout": 0.0, "seed": 0},
    "vgg": {
        "depth": 11,
        "in_shape": (3, 32, 32),
        "classes": 10,
        "width": 64,
        "hidden": (512, 512),
        "batch_norm": False,
        "dropout": 0.0,
        "seed": 0,
    },
    "xor": {"hidden": 2, "seed": 0},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name: str) -> None:
    known = inspect.signature(getattr(t, name, None) or getattr(nets, name)).parameters.values()
    given = {p.name: p.default for p in known if p.default is not p.empty and p.default is not None}
    assert given == DEFAULTS[name]
    assert all(type(a) is type(b) for a, b in zip(given.values(), DEFAULTS[name].values(), strict=True))
