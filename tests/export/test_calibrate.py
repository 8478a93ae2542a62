"""Ranges of activations: what the methods choose, how samples stream, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeprop.export.quantization.calibrate import (
    METHODS,
    CalibrationError,
    Histogram,
    Range,
    Runner,
    calibrate,
    mse_range,
    percentile_range,
    quantization_error,
)
from tests.support import graphs


def make_model(op: str = "Relu", shape: tuple[object, ...] = ("n", 4), **attributes: object) -> onnx.ModelProto:
    """x -> op -> y."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    node = helper.make_node(op, ["x"], ["y"], name="op", **attributes)
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def histogram(values: np.ndarray) -> Histogram:
    return Histogram(values.min(), values.max(), np.histogram(values, 2048)[0])


# ---- Affine parameters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 255.0, 1.0, -128),
        (-128.0, 127.0, 1.0, 0),
        (-255.0, 0.0, 1.0, 127),
        (5.0, 255.0, 1.0, -128),  # zero must be among them
        (-255.0, -9.0, 1.0, 127),
        (3.0, 3.0, 3 / 255, -128),  # constant
        (0.0, 0.0, 1 / 255, -128),  # nothing
        (1e-30, 1e-30, 1 / 255, -128),  # noise
    ],
)
def test_affine(low: float, high: float, scale: float, zero_point: int) -> None:
    params = Range(low, high).affine()
    assert params.zero_point == zero_point
    assert params.scale == pytest.approx(scale, rel=1e-6)
    assert params.scale == np.float32(params.scale)


def test_zero_is_exact_and_the_ends_are_covered_to_half_a_step() -> None:
    rng = np.random.default_rng(0)
    for low, high in np.sort(rng.normal(size=(200, 2)), axis=1):
        scale, zero_point = Range(low, high).affine()
        assert -128 <= zero_point <= 127
        assert scale * (-128 - zero_point) <= min(low, 0) + scale * 0.51
        assert scale * (127 - zero_point) >= max(high, 0) - scale * 0.51


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-1.0, 1.0), (-0.5, 3.0), (0.0, np.inf)])
@pytest.mark.parametrize("seen", [(-1.0, 7.0), (-0.3, 0.9), (0.0, 2.5), (0.0, 0.0)])
def test_bounded_parameters_have_no_code_outside_the_bounds(
    bounds: tuple[float, float], seen: tuple[float, float]
) -> None:
    scale, zero_point = Range(*seen).clipped(*bounds).affine(*bounds)
    assert np.rint(bounds[0] / scale) + zero_point <= -128  # what onnxruntime asks before it drops a Clip
    assert np.rint(min(bounds[1], 1e9) / scale) + zero_point >= 127


# ---- Methods --------------------------------------------------------------------------------------------------------


def test_percentile_cuts_outliers_off() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=100_000), [400.0]])
    chosen = percentile_range(histogram(values), 99.9)
    assert -5 < chosen.low < -2
    assert 2 < chosen.high < 5
    whole = percentile_range(histogram(values), 100.0)
    assert (whole.low, whole.high) == (values.min(), 400.0)


@pytest.mark.parametrize(("percentile", "left"), [(90.0, 0.9), (50.001, 0.5), (99.0, 0.99)])
def test_a_percentile_is_shared_by_both_ends(percentile: float, left: float) -> None:
    """Of values spread evenly over -1 .. 1 what is left lies evenly around 0."""
    chosen = percentile_range(Histogram(-1.0, 1.0, np.full(2000, 5)), percentile)
    assert (chosen.low, chosen.high) == (pytest.approx(-left, abs=2e-3), pytest.approx(left, abs=2e-3))


@pytest.mark.parametrize("bounds", [(-2.0, 0.0), (-1.0, 1.0), (-1.0, 1.006), (-3.0, 0.1), (0.0, 6.0)])
def test_no_code_lies_inside_the_bounds_at_either_end(bounds: tuple[float, float]) -> None:
    """The scale is the largest of which the lowest and the highest code still reach both bounds."""
    scale, zero_point = Range(-9.0, 9.0).clipped(*bounds).affine(*bounds)
    low, high = scale * (-128 - zero_point), scale * (127 - zero_point)
    assert low >= bounds[0] - scale * 0.51
    assert high <= bounds[1] + scale * 0.51
    assert bounds[0] == 0 or low >= bounds[0] * (1 + 1e-6) or zero_point == -128
    assert bounds[1] == 0 or high <= bounds[1] * (1 + 1e-6) or zero_point == 127


@pytest.mark.parametrize("kind", ["normal", "laplace", "skewed"])
def test_mse_finds_the_best_range(kind: str) -> None:
    """No range of a fine grid over both ends is better by more than a part in a hundred; none is wider than the values."""
    rng = np.random.default_rng(2)
    draw = {"normal": rng.normal, "laplace": rng.laplace, "skewed": lambda size: rng.exponential(size=size) - 0.2}
    values = draw[kind](size=4000)
    seen = histogram(values)
    chosen = mse_range(seen, 0)
    assert seen.low <= chosen.low <= 0 <= chosen.high <= seen.high
    used = seen.counts > 0
    centres, weights = ((seen.edges[:-1] + seen.edges[1:]) / 2)[used], seen.counts[used].astype(float)
    grid = np.linspace(0.2, 1, 33)
    best = min(quantization_error(centres, weights, Range(seen.low * a, seen.high * b)) for a in grid for b in grid)
    assert quantization_error(centres, weights, chosen) <= 1.01 * best


@pytest.mark.parametrize("kind", ["normal", "relu", "outlier", "uniform"])
def test_mse_is_no_worse_than_minmax_and_percentile(kind: str) -> None:
    rng = np.random.default_rng(1)
    values = {
        "normal": rng.normal(size=20_000),
        "relu": np.maximum(rng.normal(size=20_000), 0),
        "outlier": np.append(rng.normal(size=20_000), 60.0),
        "uniform": rng.uniform(-1, 2, 20_000),
    }[kind]
    ones = np.ones(len(values))
    best = quantization_error(values, ones, mse_range(histogram(values), 0))
    others = [Range(values.min(), values.max()), percentile_range(histogram(values), 99.99)]
    assert best <= 1.01 * min(quantization_error(values, ones, other) for other in others)


@pytest.mark.parametrize("method", METHODS)
def test_batches_do_not_matter(method: str) -> None:
    x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    assert calibrate(make_model(), x, method=method, batch_size=7) == calibrate(make_model(), x, method=method)


def test_ranges_are_those_of_the_values() -> None:
    x = np.array([[-3, 1, 2, 5]], np.float32)
    assert calibrate(make_model(), x) == {"x": Range(-3.0, 5.0), "y": Range(0.0, 5.0)}


@pytest.mark.parametrize("method", METHODS)
def test_the_extremes_may_lie_in_any_batch(method: str) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (12, 4)).astype(np.float32)
    x[1, 2], x[7, 0] = 9.0, -7.0
    for rows in (x, x[::-1]):
        found = calibrate(make_model(), np.ascontiguousarray(rows), batch_size=3, method=method)
        assert found == calibrate(make_model(), x, batch_size=12, method=method)
    assert calibrate(make_model(), x, batch_size=3)["x"] == Range(-7.0, 9.0)


# ---- Samples --------------------------------------------------------------------------------------------------------


def test_a_fixed_batch_axis_is_kept() -> None:
    model = make_model(shape=(3, 4))
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    assert calibrate(model, x)["y"] == Range(0.0, 19.0)
    runner = Runner(model)
    assert [len(batch["y"]) for batch in runner.run(runner.check(x))] == [3, 3]


def test_a_batch_axis_that_varies_by_name_alone() -> None:
    """A Reshape inside says 1: the samples go one by one."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Relu", ["r"], ["y"])]
    shape = onnx.numpy_helper.from_array(np.array([1, 4]), "shape")
    graph = helper.make_graph(nodes, "g", [x], [y], [shape])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = calibrate(proto, np.arange(20, dtype=np.float32).reshape(5, 4) - 3)
    assert (found["x"], found["y"]) == (Range(-3.0, 16.0), Range(0.0, 16.0))


def test_several_inputs_go_by_name() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", 2)) for name in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    ones = np.ones((3, 2))
    assert calibrate(model, {"a": ones, "b": 2 * ones})["c"] == Range(3.0, 3.0)
    with pytest.raises(CalibrationError, match="as a dict"):
        calibrate(model, ones)
    with pytest.raises(CalibrationError, match="the model's inputs are a, b"):
        calibrate(model, {"a": ones})
    with pytest.raises(CalibrationError, match="equally many"):
        calibrate(model, {"a": ones, "b": ones[:2]})


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((3, 5)), r"shape \(3, 5\), the model takes \(n, 4\)"),
        (np.zeros(4), r"shape \(4,\).*x\[None\]"),
        (np.zeros((4, 3)), r"give x\.T"),
        (np.zeros((3, 2, 2)), r"give x\.reshape\(len\(x\), 4\)"),
        (np.zeros((0, 4)), "at least one"),
        (np.full((2, 4), np.nan), "NaN or infinity"),
        (np.full((2, 4), np.inf), "NaN or infinity"),
    ],
)
def test_samples_that_do_not_fit(samples: np.ndarray, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        calibrate(make_model(), samples)


def test_a_value_that_is_not_finite_is_named() -> None:
    with pytest.raises(CalibrationError, match="'y' holds NaN"):
        calibrate(make_model("Log"), np.full((2, 4), -1.0))


@pytest.mark.parametrize("options", [{"method": "entropy"}, {"percentile": 50.0}, {"percentile": 101}])
def test_unknown_options(options: dict[str, object]) -> None:
    with pytest.raises(CalibrationError, match=next(iter(options))):
        calibrate(make_model(), np.zeros((1, 4)), **options)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.ma.masked_less(np.ones((5, 4), np.float32) * -9999, 0), "masked values"),
        (np.ones((5, 4)) * 1j, "are complex128, the model takes float32"),
        (np.full((5, 4), "1.5"), "give numbers"),
        ([[1.0, 2.0], [3.0]], "not an array of numbers"),
    ],
)
def test_samples_that_are_no_numbers_of_the_model(samples: Any, says: str) -> None:
    proto = graphs.model([graphs.node("Relu", ["x"], ["y"])], {"x": ("N", 4)}, ["y"])
    with pytest.raises(CalibrationError, match=says):
        calibrate(proto, samples)


@pytest.mark.parametrize("samples", [np.full((5, 2), 1.5), np.full((5, 2), 2**40), np.full((5, 2), -1e30)])
def test_indices_that_int32_does_not_hold(samples: Any) -> None:
    nodes = [graphs.node("Gather", ["t", "x"], ["g"]), graphs.node("Relu", ["g"], ["y"])]
    kinds = {"dtype": onnx.TensorProto.INT32, "out_dtype": onnx.TensorProto.FLOAT}
    proto = graphs.model(nodes, {"x": ("N", 2)}, ["y"], {"t": np.ones((3, 4), np.float32)}, **kinds)
    with pytest.raises(CalibrationError, match="whole numbers within its range"):
        calibrate(proto, samples)
