"""Convert scikit-learn estimators to ONNX: multi-layer perceptrons, linear models, and the scalers before them.

An estimator comes out as its network: Sub and Div of a scaler, a Gemm for a projection and for each layer, the
activations between, and Softmax or Sigmoid at the end. The last layer is marked trainable, with the loss that fits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
#: of the digits of a center, in units of the values' spread: less than this is no loss
_LOST = 1e-5
_ACTIVATIONS = {"relu": "Relu", "logistic": "Sigmoid", "tanh": "Tanh", "identity": None, "softmax": "Softmax"}
#: how an estimator's output ends, and the loss that belongs to it
_LOSSES = {"Softmax": "softmax_cross_entropy", "Sigmoid": "sigmoid_cross_entropy", "margins": "hinge", None: "mse"}


@dataclass
class _Network:
    """Nodes and weights, layer after layer; `value` is the last one's output."""

    value: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array, np.float32, order="C"), name))
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
    estimator : MLPClassifier, MLPRegressor, a linear classifier or regressor (LogisticRegression, LinearSVC, Ridge, ...), or a
        Pipeline of scalers, PCA and the like and one of them; the message of a refusal lists them all
    trainable : layers that learn on the device (metadata `edgeprop.trainable`); None: none

    Returns
    -------
    ModelProto with input "x" (N, n_features) float32 and one output: probabilities (N, n_classes) of a classifier, of
    two classes that of the second (N, 1); of one without probabilities (LinearSVC) the margins (N, n_classes), the largest
    of which is the class; values (N, n_outputs) of a regressor. Labels and loss are in its metadata.

    Raises
    ------
    ValueError : an estimator of another kind, or one that is not fitted
    """
    steps = list(_steps(estimator))
    network = _Network()
    ending: str | None = None
    for place, step in enumerate(steps):
        kind, last = type(step).__name__, place == len(steps) - 1
        table: dict[str, Any] = _WRITERS if last else _BEFORE
        if kind not in table:
            what = f"{kind} is not supported {'as the last step' if last else 'before another'}"
            raise ValueError(
                f"{what}: give one of {', '.join(_WRITERS)}, or a Pipeline of {', '.join(_BEFORE)} before it"
            )
        if not hasattr(step, "n_features_in_"):
            raise ValueError(f"the {kind} is not fitted: call fit() before exporting it")
        ending = table[kind](network, step)
    return _model(network, steps, ending, trainable)


def _steps(estimator: Any) -> Iterator[Any]:
    """What a pipeline does, one after the other, and what the pipelines in it do."""
    if not hasattr(estimator, "steps"):
        yield estimator
        return
    for _, step in estimator.steps:
        if step is not None and step != "passthrough":
            yield from _steps(step)


def _constants(network: _Network, name: str, *steps: tuple[str, Any]) -> None:
    """Element-wise steps with constants, left out where there is none: ("Sub", mean), ("Div", scale)."""
    for op, array in steps:
        if array is not None:
            step = f"{name}_{op.lower()}"
            step = step if all(node.name != step for node in network.nodes) else f"{step}_{len(network.nodes)}"
            network.node(op, step, network.constant(f"{step}.constant", array))


def _scaled(network: _Network, center: Any, scale: Any, start: float = 0.0) -> None:
    """start + (x - center) / scale: moved first, which keeps the digits of values far from zero.

    What float32 does not hold of such a center is taken away behind the division.
    """
    if center is None:
        _constants(network, "scaler", ("Div", scale))
        return
    spread = np.ones_like(center) if scale is None else scale
    rest = (center - np.asarray(center, np.float32)) / spread
    last = start - (rest if np.abs(rest).max() > _LOST else 0.0 * rest)
    _constants(network, "scaler", ("Sub", center), ("Div", scale), ("Add", last if last.any() else None))


def _scaler(network: _Network, scaler: Any) -> None:
    """(x - mean) / scale, either of which may be turned off."""
    _scaled(network, scaler.mean_ if scaler.with_mean else None, scaler.scale_ if scaler.with_std else None)


def _min_max(network: _Network, scaler: Any) -> None:
    """Every feature from the least to the largest that was seen, within that range where the scaler clips."""
    _scaled(network, scaler.data_min_, 1 / scaler.scale_, scaler.feature_range[0])
    if scaler.clip:
        _clip(network, *scaler.feature_range)


def _max_abs(network: _Network, scaler: Any) -> None:
    """x / scale, within -1 .. 1 where the scaler clips."""
    _constants(network, "scaler", ("Div", scaler.scale_))
    if getattr(scaler, "clip", False):  # newer versions do
        _clip(network, -1, 1)


def _clip(network: _Network, low: float, high: float) -> None:
    name = f"scaler_clip_{len(network.nodes)}"
    network.node("Clip", name, network.constant(f"{name}.low", low), network.constant(f"{name}.high", high))


def _robust(network: _Network, scaler: Any) -> None:
    center = scaler.center_ if scaler.with_centering else None
    _scaled(network, center, scaler.scale_ if scaler.with_scaling else None)


def _projection(network: _Network, model: Any) -> None:
    """x @ components.T, of PCA from the mean on and perhaps whitened."""
    weight, mean = np.asarray(model.components_, np.float64).T, getattr(model, "mean_", None)
    if getattr(model, "whiten", False):
        variance = np.asarray(model.explained_variance_, np.float64)
        if (variance <= np.finfo(np.float32).eps ** 2 * variance.max()).any():
            flat = int((variance <= np.finfo(np.float32).eps ** 2 * variance.max()).sum())
            raise ValueError(
                f"PCA(whiten=True) with {flat} components without variance is not supported: whitened, they are rounding "
                f"errors; fit it with n_components={len(variance) - flat}"
            )
        weight = weight / np.sqrt(variance)
    _constants(network, "projection", ("Sub", mean))
    network.dense(f"projection_{len(network.nodes)}", weight, np.zeros(weight.shape[1]))


def _normalizer(network: _Network, model: Any) -> None:
    if model.norm not in ("l1", "l2"):
        raise ValueError(f"Normalizer(norm={model.norm!r}) is not supported: use 'l1' or 'l2'")
    network.node("LpNormalization", f"normalizer_{len(network.nodes)}", axis=-1, p=int(model.norm[1]))


def _selection(network: _Network, model: Any) -> None:
    """The features that are kept."""
    name = f"selected_{len(network.nodes)}"
    network.weights.append(
        numpy_helper.from_array(np.asarray(model.get_support(indices=True), np.int64), f"{name}.which")
    )
    network.node("Gather", name, f"{name}.which", axis=1)


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


def _kind_of_targets(model: Any) -> str | None:
    """What scikit-learn calls what a RidgeClassifier was fitted to."""
    return getattr(getattr(model, "_label_binarizer", None), "y_type_", None)


def _margins(network: _Network, model: Any) -> str:
    """Margins of classes: of two, that of the second and its opposite."""
    weight, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    if "multilabel" in str(_kind_of_targets(model)):
        raise ValueError(
            f"{type(model).__name__} of several labels a sample is not supported: use MLPClassifier, or one model a label"
        )
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    network.dense("head", weight.T, np.broadcast_to(bias, len(weight)))
    return "margins"


def _probabilities(network: _Network, model: Any) -> str:
    """Discriminants of classes, whose Softmax are their probabilities."""
    network.dense("head", model.coef_.T, model.intercept_)
    ending = "Sigmoid" if model.coef_.shape[0] == 1 else "Softmax"
    network.activation("output", ending)
    return ending


def _values(network: _Network, model: Any) -> None:
    weight = np.atleast_2d(model.coef_)
    network.dense("head", weight.T, np.broadcast_to(model.intercept_, len(weight)))


#: what may stand before the last step
_BEFORE: dict[str, Any] = {
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _min_max,
    "Normalizer": _normalizer,
    "PCA": _projection,
    "RobustScaler": _robust,
    "SelectKBest": _selection,
    "StandardScaler": _scaler,
    "TruncatedSVD": _projection,
    "VarianceThreshold": _selection,
}
_WRITERS: dict[str, Any] = {
    **dict.fromkeys(("MLPClassifier", "MLPRegressor"), _perceptron),
    "LogisticRegression": _logistic,
    "LinearDiscriminantAnalysis": _probabilities,
    **dict.fromkeys(("LinearSVC", "Perceptron", "RidgeClassifier", "SGDClassifier"), _margins),
    **dict.fromkeys(("BayesianRidge", "ElasticNet", "HuberRegressor", "Lasso", "LinearRegression"), _values),
    **dict.fromkeys(("LinearSVR", "Ridge", "SGDRegressor"), _values),
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
