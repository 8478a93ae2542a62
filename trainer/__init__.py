"""Train small networks with NumPy alone, check their gradients, save them as ONNX."""

from __future__ import annotations

from . import layers
from .callbacks import EarlyStopping
from .fit import DivergedError, Evaluation, evaluate, fit, partial_fit
from .gradients import GradientError, GradientReport, TensorCheck, check_gradients
from .graph import Graph, Parameter, Residual, Sequential
from .history import History
from .initializers import INITIALIZERS
from .joint_loss import JointLoss
from .layers import *  # noqa: F403  (every layer that layers.LAYERS lists)
from .layers.activations import sigmoid
from .losses import LOSSES, Hinge, Loss, MeanSquaredError, SigmoidCrossEntropy, SoftmaxCrossEntropy, softmax
from .optimizers import OPTIMIZERS, SGD, Adam, Momentum, Optimizer, clip_gradients
from .schedules import SCHEDULES, CosineDecay, ExponentialDecay, Schedule, StepDecay

__all__ = [
    "INITIALIZERS",
    "LOSSES",
    "OPTIMIZERS",
    "SCHEDULES",
    "Adam",
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
    "JointLoss",
    "Loss",
    "MeanSquaredError",
    "Momentum",
    "Optimizer",
    "Parameter",
    "Residual",
    "SGD",
    "Schedule",
    "Sequential",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "StepDecay",
    "TensorCheck",
    "check_gradients",
    "clip_gradients",
    "evaluate",
    "fit",
    "partial_fit",
    "sigmoid",
    "softmax",
    *layers.__all__,
]
