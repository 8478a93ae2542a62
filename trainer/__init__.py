"""Train small networks with NumPy alone, check their gradients, save them as ONNX."""

from __future__ import annotations

from . import layers, nets
from .callbacks import EarlyStopping
from .embedding_losses import Contrastive, Triplet
from .fit import DivergedError, Evaluation, evaluate, fit, partial_fit
from .gradients import GradientError, GradientReport, TensorCheck, check_gradients
from .graph import Graph, Parameter, Residual, Sequential
from .history import History
from .initializers import INITIALIZERS
from .joint_loss import JointLoss
from .layers import *  # noqa: F403  (every layer that layers.LAYERS lists)
from .layers.elementwise import sigmoid
from .losses import (
    LOSSES,
    Hinge,
    Huber,
    Loss,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    balanced_class_weights,
    softmax,
)
from .optimizers import (
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Optimizer,
    RMSProp,
    add_penalty,
    clip_gradients,
)
from .schedules import SCHEDULES, CosineDecay, ExponentialDecay, Schedule, StepDecay
from .selective import SelectiveBackprop

__all__ = [
    "INITIALIZERS",
    "LOSSES",
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Contrastive",
    "CosineDecay",
    "DivergedError",
    "EarlyStopping",
    "Evaluation",
    "ExponentialDecay",
    "GradientError",
    "GradientReport",
    "Graph",
    "Hinge",
    "History",
    "Huber",
    "JointLoss",
    "Loss",
    "MeanSquaredError",
    "Momentum",
    "Optimizer",
    "Parameter",
    "RMSProp",
    "Residual",
    "Schedule",
    "SelectiveBackprop",
    "Sequential",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "StepDecay",
    "TensorCheck",
    "Triplet",
    "add_penalty",
    "balanced_class_weights",
    "check_gradients",
    "clip_gradients",
    "evaluate",
    "fit",
    "nets",
    "partial_fit",
    "sigmoid",
    "softmax",
]
__all__ += vars(layers)["__all__"]  # made while it runs
