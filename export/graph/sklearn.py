"""Estimators of scikit-learn as ONNX: multi-layer perceptrons, logistic regression, and a StandardScaler before them.

An estimator comes out as its network: Sub and Div of the scaler, a Gemm for each layer, the activations between, and
Softmax or Sigmoid at the end. The last layer is marked trainable, with the loss that fits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
_ACTIVATIONS = {"relu": "Relu", "logistic": "Sigmoid", "tanh": "Tanh", "identity": None, "softmax": "Softmax"}
#: how an estimator's output ends, and the loss that belongs to it
_LOSSES = {"Softmax": "softmax_cross_entropy", "Sigmoid": "sigmoid_cross_entropy", None: "mse"}


@dataclass
class _Network:
    """Nodes and weights, layer after layer; `value` is the last one's output."""

    value: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def node(self, op: str, name: str, *constants: str, **attributes: Any) -> None:
        output = f"{name}_out"
        self.nodes.append(helper.make_node(op, [self.value, *constants], [output], name=name, **attributes))
        self.value = output

    def dense(self, name: str, weight: Any, bias: Any) -> None:
        """weight (n_in, n_out), bias (n_out,)."""
        self.node(
            "Gemm",
            name,
            self.constant(f"{name}.weight", np.transpose(weight)),
            self.constant(f"{name}.bias", bias),
            transB=1,
        )

    def activation(self, name: str, op: str | None) -> None:
        if op is not None:
            self.node(op, name, **({"axis": -1} if op == "Softmax" else {}))


def is_estimator(model: Any) -> bool:
    """True for what looks like an estimator of scikit-learn, fitted or not."""
    return hasattr(model, "get_params") and (hasattr(model, "fit") or hasattr(model, "steps"))


def from_sklearn(estimator: Any, *, trainable: str | None = "last") -> onnx.ModelProto:
    """Make an ONNX model of a fitted estimator, without skl2onnx.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor, LogisticRegression, or a Pipeline of StandardScaler and one of them
    trainable : layers that learn on the device (metadata `edgeprop.trainable`); None: none

    Returns
    -------
    ModelProto with input "x" (N, n_features) float32 and one output: probabilities (N, n_classes) of a classifier, of
    two classes that of the second (N, 1); values (N, n_outputs) of a regressor. Labels and loss are in its metadata.

    Raises
    ------
    ValueError : an estimator of another kind, or one that is not fitted
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    steps = [step for step in steps if step is not None and step != "passthrough"]
    network = _Network()
    ending: str | None = None
    for place, step in enumerate(steps):
        kind = type(step).__name__
        if kind not in _WRITERS or (kind == "StandardScaler") != (place < len(steps) - 1):
            raise ValueError(
                f"{kind} is not supported here: give an MLPClassifier, MLPRegressor or LogisticRegression, "
                "or a Pipeline of StandardScaler and one of them"
            )
        if not hasattr(step, "n_features_in_"):
            raise ValueError(f"the {kind} is not fitted: call fit() before exporting it")
        ending = _WRITERS[kind](network, step)
    return _model(network, steps, ending, trainable)


def _scaler(network: _Network, scaler: Any) -> None:
    """(x - mean) / scale, either of which may be turned off."""
    if scaler.mean_ is not None and scaler.with_mean:
        network.node("Sub", "scaler_mean", network.constant("scaler_mean.offset", scaler.mean_))
    if scaler.scale_ is not None and scaler.with_std:
        network.node("Div", "scaler_scale", network.constant("scaler_scale.divisor", scaler.scale_))


def _perceptron(network: _Network, mlp: Any) -> str | None:
    last = len(mlp.coefs_) - 1
    unknown = {mlp.activation, mlp.out_activation_} - set(_ACTIVATIONS)
    if unknown:
        raise ValueError(f"activation {unknown.pop()!r} is not supported: use one of {', '.join(_ACTIVATIONS)}")
    for i, (weight, bias) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
        name = "head" if i == last else f"dense_{i + 1}"
        network.dense(name, weight, bias)
        if i < last:
            network.activation(f"{name}_{mlp.activation}", _ACTIVATIONS[mlp.activation])
    ending = _ACTIVATIONS[mlp.out_activation_]
    network.activation("output", ending)
    return ending


def _logistic(network: _Network, model: Any) -> str:
    """Softmax over all classes, Sigmoid for two; one-versus-rest, which older versions offer, is not a Softmax."""
    if model.coef_.shape[0] > 1 and (getattr(model, "multi_class", "auto") == "ovr" or model.solver == "liblinear"):
        raise ValueError("LogisticRegression one-versus-rest is not supported: fit it with solver='lbfgs'")
    network.dense("head", model.coef_.T, model.intercept_)
    ending = "Sigmoid" if model.coef_.shape[0] == 1 else "Softmax"
    network.activation("output", ending)
    return ending


_WRITERS = {
    "StandardScaler": _scaler,
    "MLPClassifier": _perceptron,
    "MLPRegressor": _perceptron,
    "LogisticRegression": _logistic,
}


def _model(network: _Network, steps: list[Any], ending: str | None, trainable: str | None) -> onnx.ModelProto:
    n_in = steps[0].n_features_in_
    n_out = next(w.dims[0] for w in network.weights if w.name == "head.bias")
    make = helper.make_tensor_value_info
    graph = helper.make_graph(
        network.nodes,
        type(steps[-1]).__name__,
        [make("x", TensorProto.FLOAT, ["N", n_in])],
        [make(network.value, TensorProto.FLOAT, ["N", n_out])],
        network.weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="edgeprop"
    )
    said = {"loss": _LOSSES[ending]}
    if trainable is not None:
        said["trainable"] = json.dumps([trainable])
    if hasattr(steps[-1], "classes_") and np.ndim(steps[-1].classes_) == 1:
        said["labels"] = json.dumps([str(label) for label in steps[-1].classes_])
    helper.set_model_props(model, {f"edgeprop.{key}": value for key, value in said.items()})
    onnx.checker.check_model(model)
    return model
