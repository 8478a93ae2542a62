"""Random graphs on the device: what it computes against onnxruntime, what it learns against float64.

`EDGEPROP_GRAPHS=5000 pytest tests/export/test_random_graphs.py` runs many more of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

import edgeprop
from edgeprop.export import UnsupportedError, lower, plan
from edgeprop.export.program.program import Program
from edgeprop.export.writers.image import to_image
from tests.support import random_graphs
from tests.support.float64 import Replay
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]

GRAPHS = int(os.environ.get("EDGEPROP_GRAPHS", "300"))
#: graphs of one test; a multiple of it gives several tests
PART = 75
#: no more than this share may be refused: what is refused works along the axis of the batch
REFUSED = 0.08


def parts(count: int) -> list[range]:
    return [range(start, min(start + PART, count)) for start in range(0, count, PART)]


def device(proto: onnx.ModelProto, **options: Any) -> tuple[Program, edgeprop.Model]:
    program = lower(proto, **options)
    plan(program)
    return program, edgeprop.Model(to_image(program))


def run(proto: onnx.ModelProto, inputs: dict[str, Array]) -> dict[str, Array]:
    """What the device computes, by name. A graph whose first axis is no batch is one sample."""
    ready = device(proto)[1]
    given = [inputs[port.name].reshape(-1, *port.shape[1:]) for port in ready.inputs]
    return dict(zip([port.name for port in ready.outputs], ready.run(*given), strict=True))


def nudged(inputs: dict[str, Array], by: float) -> dict[str, Array]:
    """Inputs that differ in their last digits: by how much a result moves is how exact it can be."""
    random = np.random.default_rng(0)
    return {k: (v * (1 + by * random.standard_normal(v.shape))).astype(np.float32) for k, v in inputs.items()}


def assert_near(got: Array, want: Array, moved: Array, what: str, terms: float = 0) -> None:
    """Within 1e-5 of the largest element, or what is left of its digits where sums cancel; `terms`: size of what adds up
    to it."""
    assert got.size == want.size, f"{what}: {got.shape} for {want.shape}"
    far = np.abs(got.reshape(want.shape) - want).max()
    allowed = 1e-5 * np.abs(want).max() + 20 * np.abs(moved - want).max() + 2e-6 * terms + 5e-7
    assert far <= allowed, f"{what}: {far} off, {allowed} allowed"


def compare(proto: onnx.ModelProto, inputs: dict[str, Array], what: str = "") -> None:
    """The device against onnxruntime, every output."""
    session = random_graphs.session(proto)
    got = run(proto, inputs)
    names = [output.name for output in session.get_outputs()]
    assert list(got) == names, f"{what}: outputs {list(got)} for {names}"
    for name, want, moved in zip(
        names, session.run(None, inputs), session.run(None, nudged(inputs, 3e-7)), strict=True
    ):
        assert_near(got[name], want, moved, f"{what} {name}")


@pytest.mark.parametrize("seeds", parts(GRAPHS), ids=str)
def test_forward(seeds: range) -> None:
    refused: Counter[str] = Counter()
    for seed in seeds:
        case = random_graphs.draw(seed)
        try:
            compare(case.model, case.inputs, f"graph {seed}")
        except UnsupportedError as error:
            refused[str(error.nodes[0])] += 1
    assert sum(refused.values()) <= max(REFUSED * len(seeds), 3), refused


def _marks(seed: int) -> str:
    return ["*", "*", "bias", "last:2", "*", "last:3"][seed % 6]


def _mse(replay: Replay, target: Array) -> Array:
    """Gradient of the mean squared error over the logits."""
    logits = replay.values[str(replay.program.logits)]
    return 2 * (logits - target) / logits.size


@pytest.mark.parametrize("seeds", parts(GRAPHS // 2), ids=str)
def test_gradients(seeds: range) -> None:
    for seed, case in _trainable(seeds):
        try:
            program, ready = device(case.model, trainable=_marks(seed), loss="mse")
        except UnsupportedError as error:
            if not str(error.nodes[0]).startswith("trainable 'last:"):
                raise
            continue  # it has fewer layers
        x = case.inputs["x0"]
        target = np.random.default_rng(seed).standard_normal((len(x), 3)).astype(np.float32)
        replay, moved = Replay(program, case.inputs), Replay(program, nudged(case.inputs, 1e-6))
        want, other = replay.gradients(_mse(replay, target)), moved.gradients(_mse(moved, target))
        got = ready.gradients(x, target)
        assert {tensor.name for tensor in program.trainable()} <= set(got)
        largest = max(float(np.abs(gradient).max()) for gradient in want.values())
        for name, gradient in got.items():
            exact, near = (found[name].reshape(gradient.shape) for found in (want, other))
            assert_near(gradient, exact, near, f"graph {seed}, gradient of {name}", largest)
        for batch, optimizer in ((1, "sgd"), (len(x), "sgd"), (1, "momentum")):
            _assert_learns_alike(program, ready, x, target, batch, optimizer, lr=0.01 / max(largest, 1))


def _trainable(seeds: range) -> Iterator[tuple[int, random_graphs.Case]]:
    for seed in seeds:
        try:
            yield seed, random_graphs.draw_trained(seed)
        except random_graphs.Unfit:
            continue


def _assert_learns_alike(
    program: Program, ready: edgeprop.Model, x: Array, target: Array, batch: int, optimizer: str, lr: float
) -> None:
    """One epoch on the device and in float64: the weights move alike."""
    weights = program.trainable()
    before = [np.array(tensor.data) for tensor in weights]
    velocity = {tensor.name: np.zeros(tensor.shape) for tensor in weights}
    learner = ready.clone().partial_fit(x, target, lr=lr, batch_size=batch, optimizer=optimizer)
    for at in range(0, len(x), batch):
        replay = Replay(program, {"x0": x[at : at + batch]})
        gradients = replay.gradients(_mse(replay, target[at : at + batch]))
        for tensor in weights:
            keep = 0.9 * velocity[tensor.name] if optimizer == "momentum" else 0
            velocity[tensor.name] = gradients[tensor.name] + keep
            tensor.data = (tensor.data - lr * velocity[tensor.name]).astype(np.float32)
    learned = learner.parameters()
    for tensor, start in zip(weights, before, strict=True):
        after, tensor.data = tensor.data, start
        off = np.abs(learned[tensor.name].reshape(tensor.shape) - after).max()
        allowed = 1e-3 * np.abs(after - start).max() + 3e-7 * np.abs(after).max() + 1e-7
        assert off <= allowed, f"{program.name} {tensor.name}, batches of {batch}, {optimizer}: {off} off"


# ---- What random graphs have found -----------------------------------------------------------------------------------


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_two_outputs_with_one_value() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Identity", ["a"], ["b"]), node("Tanh", ["b"], ["c"])]
    compare(model(nodes, {"x": ["N", 4]}, ["a", "b", "c"]), {"x": normal(3, 4)})


def test_padding_in_front_of_a_convolution_without() -> None:
    """As Keras writes ZeroPadding2D."""
    nodes = [
        node("Pad", ["x", "pads"], ["p"]),
        node("Conv", ["p", "w"], ["y"], auto_pad="VALID", kernel_shape=[3, 3]),
    ]
    constants = {"pads": np.array([0, 0, 1, 0, 0, 0, 1, 2]), "w": normal(2, 3, 3, 3)}
    compare(model(nodes, {"x": ["N", 3, 5, 5]}, ["y"], constants), {"x": normal(2, 3, 5, 5)})


@pytest.mark.parametrize("operator", ["GroupNormalization", "InstanceNormalization"])
@pytest.mark.parametrize("scale", [normal(4), np.ones(4, np.float32)])
def test_normalization_where_the_first_axis_is_no_batch(operator: str, scale: Array) -> None:
    given = {"num_groups": 2} if operator[0] == "G" else {}
    nodes = [node("Reshape", ["x", "shape"], ["r"]), node(operator, ["r", "s", "b"], ["y"], **given)]
    constants = {"shape": np.array([3, 4, 2, 2]), "s": scale, "b": np.zeros(4, np.float32)}
    compare(model(nodes, {"x": [1, 12, 4]}, ["y"], constants, opset=21), {"x": normal(1, 12, 4)})


@pytest.mark.parametrize("front", [True, False])
def test_a_wider_constant_beside_a_reshaped_value(front: bool) -> None:
    """The value's axes split those of the result, after the constant's place among them was known."""
    nodes = [
        node("PRelu", ["x", "slope"], ["p"]),
        node("Reshape", ["p", "shape"], ["r"]),
        node("Max", ["w", "r"] if front else ["r", "w"], ["y"]),
    ]
    constants = {"slope": normal(8), "shape": np.array([0, 1, 1, 2, 16]), "w": normal(1, 3, 1, 2, 16)}
    compare(model(nodes, {"x": ["N", 4, 8]}, ["y"], constants), {"x": normal(2, 4, 8)})


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_with_a_stride_far_beyond_the_kernel(mode: str) -> None:
    """onnxruntime begins inside the input, TensorFlow at its edge."""
    constants = {"w": normal(2, 3, 3)}
    for stride, fits in ((4, True), (6, False)):
        conv = node("Conv", ["x", "w"], ["y"], auto_pad=mode, kernel_shape=[3], strides=[stride])
        proto = model([conv], {"x": ["N", 3, 12]}, ["y"], constants)
        if fits:
            compare(proto, {"x": normal(2, 3, 12)})
        else:
            with pytest.raises(UnsupportedError, match="leaves out elements"):
                lower(proto)
