"""Small networks around every layer, for whichever test wants to see them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeprop import trainer as t

from . import bodies, sequences


class Case(NamedTuple):
    name: str
    body: Callable[[], list[t.Layer]]  # what stands before the head
    in_shape: tuple[int, ...]
    integers: int = 0  # x is made of whole numbers below it, unless it is 0

    def net(self, outputs: int = 3, dtype: type = np.float32) -> t.Sequential:
        """A built network with no weight at a special place: biases, scales and running statistics are random too."""
        net = t.Sequential(*self.body(), t.Flatten(), t.Dense(outputs, name="head")).astype(dtype)
        net.build(self.in_shape, seed=3)
        rng = np.random.default_rng(4)
        for name, value in net._state().items():
            if not name.endswith("weight") or value.ndim == 1:
                value[...] = rng.uniform(0.5, 1.5, value.shape) * np.where(rng.random(value.shape) < 0.3, 0.3, 1)
        return net

    def x(self, n: int = 4) -> np.ndarray:
        rng, shape = np.random.default_rng(5), (n, *self.in_shape)
        return rng.integers(0, self.integers, shape).astype(float) if self.integers else rng.normal(0, 1.5, shape)


IMAGE = (2, 7, 6)


def residual(**settings: object) -> t.Residual:
    return t.Residual(t.Conv2D(3, 3, padding="same", stride=2), t.Tanh(), **settings)


CASES = [
    Case("dense", lambda: [t.Dense(5)], (4,)),
    Case("dense without bias", lambda: [t.Dense(5, bias=False)], (4,)),
    Case("conv", lambda: [t.Conv2D(3, 3)], IMAGE),
    Case("conv stride", lambda: [t.Conv2D(3, (3, 2), stride=(2, 3))], IMAGE),
    Case("conv padding", lambda: [t.Conv2D(3, (2, 3), padding=(1, 2), stride=(1, 2), bias=False)], IMAGE),
    Case("conv four pads", lambda: [t.Conv2D(2, 3, padding=(0, 1, 2, 0))], IMAGE),
    Case("conv same", lambda: [t.Conv2D(3, (4, 3), padding="same", stride=(2, 2))], IMAGE),
    Case("conv 1x1", lambda: [t.Tanh(), t.Conv2D(4, 1)], IMAGE),
    Case("conv 1x1 stride", lambda: [t.Conv2D(4, 1, stride=2)], IMAGE),
    Case("conv twice", lambda: [t.Conv2D(3, 3), t.Tanh(), t.Conv2D(2, (2, 3))], IMAGE),
    Case("depthwise", lambda: [t.DepthwiseConv2D(3)], IMAGE),
    Case("depthwise multiplier", lambda: [t.DepthwiseConv2D((2, 3), multiplier=2, stride=2, padding=1)], IMAGE),
    Case("depthwise same", lambda: [t.DepthwiseConv2D(3, padding="same", stride=(1, 2), bias=False)], IMAGE),
    Case("max pool", lambda: [t.MaxPool2D(2)], IMAGE),
    Case("max pool overlap", lambda: [t.MaxPool2D((3, 2), stride=(1, 2), padding=(1, 0))], IMAGE),
    Case("max pool gaps", lambda: [t.MaxPool2D(2, stride=3, padding="same")], IMAGE),
    Case("average pool", lambda: [t.AveragePool2D((2, 3))], IMAGE),
    Case("average pool padding", lambda: [t.AveragePool2D(3, stride=(2, 1), padding=(1, 1))], IMAGE),
    Case("average pool counts", lambda: [t.AveragePool2D(3, stride=2, padding=1, count_include_pad=True)], IMAGE),
    Case("average pool same", lambda: [t.AveragePool2D(2, padding="same")], IMAGE),
    Case("global average", lambda: [t.Conv2D(4, 2), t.GlobalAveragePool()], IMAGE),
    Case("relu", lambda: [t.Dense(6), t.ReLU()], (4,)),
    Case("relu6", lambda: [t.Dense(24, init=lambda s, i, o, r: r.normal(0, 3, s)), t.ReLU6()], (4,)),
    Case("leaky relu", lambda: [t.Dense(6), t.LeakyReLU(0.2)], (4,)),
    Case("sigmoid", lambda: [t.Dense(6), t.Sigmoid()], (4,)),
    Case("tanh", lambda: [t.Conv2D(3, 2), t.Tanh()], IMAGE),
    Case("dropout", lambda: [t.Conv2D(3, 2), t.Dropout(0.4), t.Flatten(), t.Dropout(0.2)], IMAGE),
    Case("batch norm", lambda: [t.Dense(5), t.BatchNorm(), t.Sigmoid()], (4,)),
    Case("batch norm image", lambda: [t.Conv2D(3, 2), t.BatchNorm(eps=1e-3, momentum=0.2), t.Tanh()], IMAGE),
    Case("batch norm first", lambda: [t.BatchNorm(), t.Tanh()], IMAGE),
    Case("residual", lambda: [t.Residual(t.Conv2D(2, 3, padding="same"), t.Tanh())], IMAGE),
    Case("residual shortcut", lambda: [residual(shortcut=t.Conv2D(3, 1, stride=2)), t.Sigmoid()], IMAGE),
    Case("residual nested", lambda: [t.Residual(t.Residual(t.Tanh(), t.Conv2D(2, 1)), t.Conv2D(2, 1))], IMAGE),
    Case(
        "gate",
        lambda: [t.Residual(t.Conv2D(2, 1), "sigmoid", shortcut=t.Sequential(t.Conv2D(2, 1)), merge=t.Multiply())],
        IMAGE,
    ),
    *(Case(*row) for row in bodies.ROWS),
    *(Case(*row) for row in sequences.ROWS),
]


def normal(*shape: int) -> np.ndarray:
    """The same random numbers at every call."""
    return np.random.default_rng(3).normal(size=shape)


def run_onnx(model: Any, *xs: Any, **named: Any) -> dict[str, np.ndarray]:
    """What onnxruntime answers, by the names of the outputs; inputs in their order or by name, cast to what each takes."""
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    kinds = {value.name: np.int64 if "int64" in value.type else np.float32 for value in session.get_inputs()}
    inputs = {**dict(zip(kinds, xs, strict=not named)), **named}
    answers = session.run(None, {name: np.asarray(x, kinds[name]) for name, x in inputs.items()})
    return dict(zip([value.name for value in session.get_outputs()], answers, strict=True))


@pytest.fixture(params=CASES, ids=lambda case: case.name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def targets(loss: str, n: int, outputs: int) -> np.ndarray:
    """Random targets of the kind that a loss takes."""
    rng = np.random.default_rng(6)
    return {
        "softmax_cross_entropy": lambda: rng.integers(0, outputs, n),
        "hinge": lambda: rng.integers(0, outputs, n),
        "sigmoid_cross_entropy": lambda: rng.integers(0, 2, (n, outputs)),
        "mse": lambda: rng.normal(size=(n, outputs)),
        "huber": lambda: rng.normal(size=(n, outputs)),
    }[loss]()


@pytest.fixture
def make_targets() -> Callable[[str, int, int], np.ndarray]:
    return targets
