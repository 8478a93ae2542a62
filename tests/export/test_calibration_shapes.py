"""Calibration samples of inputs without a batch axis in front: which shapes are taken, and that int8 then answers as float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop import Model, export
from edgeprop.export.check import check_quantized
from edgeprop.export.quantization.calibrate import CalibrationError, Runner, fill_states
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = np.random.default_rng(0)


def weights(*shape: int) -> Array:
    return (RANDOM.normal(size=shape) * 0.4).astype(np.float32)


def lstm() -> onnx.ModelProto:
    """Time first, as PyTorch's LSTM has it: (20, 1, 3)."""
    nodes = [
        node("LSTM", ["x", "W", "R"], ["", "h"], hidden_size=8),
        node("Squeeze", ["h", "zero"], ["s"]),
        node("Gemm", ["s", "V"], ["y"]),
    ]
    constants = {"W": weights(1, 32, 3), "R": weights(1, 32, 8), "V": weights(8, 2), "zero": np.array([0])}
    return model(nodes, {"x": [20, 1, 3]}, ["y"], constants, shapes={"y": [1, 2]})


def policy(outputs: int) -> onnx.ModelProto:
    """An observation of one axis."""
    return model(
        [node("MatMul", ["x", "w"], ["y"])], {"x": [8]}, ["y"], {"w": weights(8, outputs)}, shapes={"y": [outputs]}
    )


def decibels(want: Array, got: Array) -> float:
    noise = float(np.square(want - got).sum())
    return 10 * np.log10(float(np.square(want).sum()) / max(noise, 1e-30))


def run(proto: onnx.ModelProto, one: dict[str, Array]) -> list[Array]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(proto.SerializeToString()).run(None, one))


@pytest.mark.parametrize(
    ("proto", "shape", "as_inputs"),
    [
        (lstm(), (32, 20, 1, 3), lambda a: a),
        (lstm(), (20, 32, 3), lambda a: a.transpose(1, 0, 2)[:, :, None]),
        (lstm(), (20, 1, 3), lambda a: a[None]),
        (policy(2), (32, 8), lambda a: a),
        (policy(8), (32, 8), lambda a: a),
    ],
    ids=["stacked", "samples along axis 1", "one sample", "one axis", "one axis as long as the output"],
)
def test_shapes_that_are_taken(proto: onnx.ModelProto, shape: tuple[int, ...], as_inputs: Any, tmp_path: Path) -> None:
    samples = RANDOM.normal(size=shape).astype(np.float32)
    whole = as_inputs(samples)
    runner = Runner(proto, ["y"])
    got = [batch["y"] for batch in runner.run(runner.check(samples))]
    for one, y in zip(whole, got, strict=True):
        np.testing.assert_allclose(y, run(proto, {"x": one})[0], rtol=1e-5, atol=1e-6)
    done = export.save(tmp_path / "m", proto, calibration=samples)
    device = Model(str(done.paths["image"]))
    found = np.concatenate([np.ravel(device.run(one.reshape(device.inputs[0].shape))[0]) for one in whole])
    assert decibels(np.concatenate([np.ravel(y) for y in got]), found) > 25


def test_shapes_that_are_refused() -> None:
    with pytest.raises(
        CalibrationError, match=r"samples for 'x' have shape \(32, 3\), the model takes \(n, 20, 1, 3\).*--float"
    ):
        Runner(lstm()).check(np.zeros((32, 3), np.float32))
    with pytest.raises(CalibrationError, match=r"have shape \(32, 9\), the model takes \(n, 8\)"):
        Runner(policy(2)).check(np.zeros((32, 9), np.float32))


def layers_in_front() -> onnx.ModelProto:
    """Two recurrent layers whose state is (layers, 1, n), and a frame of (1, n)."""
    nodes = [
        node("Gather", ["h", "i0"], ["h0"], axis=0),
        node("Gather", ["h", "i1"], ["h1"], axis=0),
        node("MatMul", ["x", "W"], ["xw"]),
        node("Add", ["xw", "h0"], ["a"]),
        node("Tanh", ["a"], ["n0"]),
        node("MatMul", ["n0", "W"], ["bw"]),
        node("Add", ["bw", "h1"], ["y"]),
        node("Tanh", ["y"], ["n1"]),
        node("Unsqueeze", ["n0", "z"], ["u0"]),
        node("Unsqueeze", ["n1", "z"], ["u1"]),
        node("Concat", ["u0", "u1"], ["h_next"], axis=0),
    ]
    constants = {"W": weights(8, 8), "i0": np.array(0), "i1": np.array(1), "z": np.array([0])}
    shapes = {"y": [1, 8], "h_next": [2, 1, 8]}
    return model(nodes, {"x": [1, 8], "h": [2, 1, 8]}, ["y", "h_next"], constants, shapes=shapes)


def stream(proto: onnx.ModelProto, frames: Array) -> tuple[list[Array], list[Array]]:
    """Answers, and the state before each frame."""
    state, answers, states = np.zeros((2, 1, 8), np.float32), [], []
    for frame in frames:
        states.append(state)
        y, state = run(proto, {"x": frame[None], "h": state})
        answers.append(y)
    return answers, states


def test_states_without_a_batch_axis_are_filled_in_by_the_stream(tmp_path: Path) -> None:
    """Samples of the frame alone: the state is what it becomes, so its int8 range is that of the stream."""
    proto, frames = layers_in_front(), RANDOM.normal(size=(64, 8)).astype(np.float32)
    answers, states = stream(proto, frames)
    filled = fill_states(proto, frames, {"h": "h_next"})
    np.testing.assert_allclose(filled["h"], np.stack(states), rtol=1e-5, atol=1e-6)
    done = export.save(tmp_path / "m", proto, calibration=frames, states={"h": "h_next"})
    device = Model(str(done.paths["image"]))
    found = [np.ravel(device.run(frame[None, None])[0]) for frame in frames]
    assert decibels(np.concatenate([np.ravel(y) for y in answers]), np.concatenate(found)) > 20


def test_states_may_be_given() -> None:
    proto = layers_in_front()
    given = {"x": np.zeros((4, 1, 8), np.float32), "h": np.ones((4, 2, 1, 8), np.float32)}
    assert fill_states(proto, given, {"h": "h_next"}) is given
    feeds = Runner(proto).check(given)
    assert {name: array.shape for name, array in feeds.items()} == {"x": (4, 1, 8), "h": (4, 2, 1, 8)}


@pytest.mark.parametrize("shape", [[1, 8], ["N", 8], [4, 8], [8]])
def test_check_with_calibration_takes_every_batch(shape: list[Any]) -> None:
    """What int8 costs is told of models with a batch axis that is fixed, too."""
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])], {"x": shape}, ["y"], {"w": weights(8, 3)}, shapes={"y": [*shape[:-1], 3]}
    )
    result = check_quantized(proto, RANDOM.normal(size=(32, 8)).astype(np.float32), suggest=False)
    assert result.status == "ok"
    assert result.output_snr is not None
    assert result.output_snr > 25
