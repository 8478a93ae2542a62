"""Six sensors in different units, normalised inside the graph or not at all: int8 leaves every one of them audible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import edgeprop
from edgeprop import export
from edgeprop.export.quantization.calibrate import Runner
from edgeprop.export.quantization.features import is_scaled, normalising, scale_features
from edgeprop.export.quantization.quantize import quantize
from edgeprop.export.quantization.simplify import simplify
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]
UNITS = np.array([1e-3, 1, 1e3, 1e5, 1, 20], np.float32)
MEAN = 3 * UNITS
SHAPES = {"nc": (6,), "ntc": (8, 6), "nct": (6, 8), "nchw": (6, 5, 5)}
#: operators with their constants by feature, whether the features are alike behind them
FRONTS: dict[str, tuple[list[tuple[str, Array]], bool]] = {
    "sub, mul": ([("Sub", MEAN), ("Mul", 1 / UNITS)], True),
    "sub, div": ([("Sub", MEAN), ("Div", UNITS)], True),
    "mul, add": ([("Mul", 1 / UNITS), ("Add", -MEAN / UNITS)], True),
    "mul": ([("Mul", 1 / UNITS)], True),
    "div": ([("Div", UNITS)], True),
    "sub": ([("Sub", MEAN)], False),
    "none": ([], False),
}


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def along(kind: str, array: Array) -> Array:
    """A number for each feature, as arrays of that shape want it."""
    return array.reshape([-1] + [1] * {"nc": 0, "ntc": 0, "nct": 1, "nchw": 2}[kind]).astype(np.float32)


def samples(kind: str, count: int = 200) -> Array:
    return ((weights(count, *SHAPES[kind], seed=3) + 3) * along(kind, UNITS)).astype(np.float32)


def first_layer(kind: str, between: str, units: Array) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """From `f` to `h`: a layer for which every feature counts as much as the others."""
    if between == "Flatten":
        count = int(np.prod(SHAPES[kind]))
        w = np.broadcast_to(along(kind, units), SHAPES[kind]).reshape(-1, 1)
        constants = {"w": weights(count, 8) / w, "b": weights(8, seed=2)}
        return [node("Flatten", ["f"], ["l"]), node("Gemm", ["l", "w", "b"], ["h"])], constants
    if between == "Transpose":
        order, kind = {"ntc": ([0, 2, 1], "nct"), "nct": ([0, 2, 1], "ntc"), "nchw": ([0, 2, 3, 1], "ntc")}[kind]
        nodes, constants = first_layer(kind, "", units)
        nodes[0].input[0] = "l"
        return [node("Transpose", ["f"], ["l"], perm=order), *nodes], constants
    if between == "Unsqueeze":
        nodes = [node("Unsqueeze", ["f", "axes"], ["l"]), node("Conv", ["l", "w"], ["h"])]
        return nodes, {"axes": np.array([1]), "w": weights(8, 1, *[3] * len(SHAPES[kind]))}
    if kind in ("nct", "nchw"):
        taps = [3] * (len(SHAPES[kind]) - 1)
        w = weights(8, 6, *taps) / units.reshape(-1, *[1] * len(taps))
        return [node("Conv", ["f", "w"], ["h"])], {"w": w.astype(np.float32)}
    constants = {"w": (weights(6, 8) / units.reshape(-1, 1)).astype(np.float32), "b": weights(8, seed=2)}
    if kind == "nc":
        return [node("Gemm", ["f", "w", "b"], ["h"])], constants
    return [node("MatMul", ["f", "w"], ["p"]), node("Add", ["p", "b"], ["h"])], constants


def sensors(kind: str, front: str, between: str = "", as_nodes: bool = False, shift: str = "") -> onnx.ModelProto:
    """x -> normalisation -> what stands between -> first layer -> Relu -> y."""
    constants: dict[str, Array] = {}
    nodes, value = [], "x"
    steps, alike = FRONTS[front]
    if shift:
        nodes, value = [node(shift, ["x"], ["x0"], **({"to": TensorProto.FLOAT} if shift == "Cast" else {}))], "x0"
    for i, (op, array) in enumerate(steps):
        constants[f"c{i}"] = along(kind, array)
        nodes.append(node(op, [value, f"c{i}"], [f"f{i}"], name=f"{op}_{i}"))
        value = f"f{i}"
    layer, more = first_layer(kind, between, np.ones(6, np.float32) if alike else UNITS)
    for made in layer:
        made.input[0] = value if made.input[0] == "f" else made.input[0]
    constants |= {name: array if array.dtype == np.int64 else array.astype(np.float32) for name, array in more.items()}
    nodes += [*layer, node("Relu", ["h"], ["y"])]
    if as_nodes:
        stored = [node("Constant", [], [name], value=numpy_helper.from_array(a)) for name, a in constants.items()]
        nodes, constants = [*stored, *nodes], {}
    made_of = model(nodes, {"x": ["n", *SHAPES[kind]]}, ["y"], constants)
    return onnx.shape_inference.infer_shapes(made_of)


def decibels(exact: Array, found: Array) -> float:
    noise = np.square(exact.astype(np.float64) - found.reshape(exact.shape)).sum()
    return float(10 * np.log10(np.square(exact, dtype=np.float64).sum() / noise))


def answers(graph: onnx.ModelProto, x: Array) -> Array:
    name = graph.graph.output[0].name
    return np.concatenate([part[name] for part in Runner(graph, [name]).run({graph.graph.input[0].name: x})])


def device(exported: export.Exported, x: Array) -> Array:
    runs = edgeprop.Model(str(exported.paths["image"]))
    return np.asarray(runs.outputs[0].real(runs.run(x)[0]))


def told_or_right(exported: export.Exported, graph: onnx.ModelProto, x: Array) -> None:
    """Right, in this case: nothing is to be told of."""
    assert exported.ruined == []
    found = device(exported, x) if answers(graph, x).ndim == 2 else answers(exported.model, x)
    assert decibels(answers(graph, x), found) > 25
    assert any(op.kind.endswith("_s8") for op in exported.program.ops)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", SHAPES)
def test_features_are_heard_whatever_normalises_them(kind: str, front: str, tmp_path: Path) -> None:
    graph, x = sensors(kind, front), samples(kind)
    exported = export.save(tmp_path / "m", graph, x)
    told_or_right(exported, graph, x)
    assert export.check(exported.model, {"x": x[:4]}).status == "ok"
    assert normalising(exported.model) == {
        "sub, mul": ["Mul_1"], "mul, add": ["Mul_0", "Add_1"], "mul": ["Mul_0"]}.get(front, [])  # fmt: skip
    assert is_scaled(exported.model) == (front in ("sub", "none"))


@pytest.mark.parametrize("front", ["sub, mul", "none"])
@pytest.mark.parametrize(
    ("kind", "between"),
    [(k, b) for b in ("Flatten", "Transpose", "Unsqueeze") for k in SHAPES if not (k == "nc" and b != "Unsqueeze")],
)
def test_what_moves_them_in_between_changes_nothing(kind: str, between: str, front: str, tmp_path: Path) -> None:
    if between == "Unsqueeze" and (front == "none" or kind == "nchw"):
        return  # one kernel reads features of different units, or volumes
    graph, x = sensors(kind, front, between), samples(kind, 100)
    told_or_right(export.save(tmp_path / "m", graph, x), graph, x)


@pytest.mark.parametrize("shift", ["Cast", "Relu", "Identity"])
@pytest.mark.parametrize("as_nodes", [False, True])
def test_what_stands_before_and_constants_as_nodes_change_nothing(as_nodes: bool, shift: str, tmp_path: Path) -> None:
    for front in ("sub, mul", "none"):
        graph, x = sensors("nc", front, as_nodes=as_nodes, shift=shift), samples("nc")
        told_or_right(export.save(tmp_path / "m", graph, x), graph, x)


def test_whole_numbers_cast_and_normalised(tmp_path: Path) -> None:
    graph = sensors("nc", "sub, mul", shift="Cast")
    graph.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    x = samples("nc").round().astype(np.int32)
    exported = export.save(tmp_path / "m", graph, x)
    assert exported.ruined == []
    assert exported.accuracy["y"].snr_db > 25


def test_batch_normalization_in_front(tmp_path: Path) -> None:
    for kind in ("nc", "nct", "nchw"):
        graph = sensors(kind, "mul")
        constants = {"g": np.ones(6), "e": np.zeros(6), "m": MEAN, "v": np.square(UNITS, dtype=np.float64)}
        for name, array in constants.items():
            graph.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        at = [made.name for made in graph.graph.node].index("Mul_0")
        graph.graph.node[at].CopyFrom(
            node("BatchNormalization", ["x", "g", "e", "m", "v"], ["f0"], name="norm", epsilon=1e-12)
        )
        told_or_right(export.save(tmp_path / "m", graph, samples(kind)), graph, samples(kind))


def test_inputs_of_their_own_joined_behind_their_normalisation(tmp_path: Path) -> None:
    nodes, constants = [], {"w": weights(6, 3), "b": weights(3, seed=1)}
    for i in range(6):
        constants |= {f"m{i}": MEAN[i : i + 1], f"s{i}": 1 / UNITS[i : i + 1]}
        nodes += [node("Sub", [f"x{i}", f"m{i}"], [f"c{i}"]), node("Mul", [f"c{i}", f"s{i}"], [f"f{i}"])]
    nodes += [node("Concat", [f"f{i}" for i in range(6)], ["f"], axis=1), node("Gemm", ["f", "w", "b"], ["y"])]
    graph = model(nodes, {f"x{i}": ["n", 1] for i in range(6)}, ["y"], constants)
    x = samples("nc")
    exported = export.save(tmp_path / "m", graph, {f"x{i}": x[:, i : i + 1] for i in range(6)})
    assert exported.ruined == []
    assert exported.accuracy["y"].snr_db > 25


def test_normalised_before_a_recurrent_layer_that_stays_float(tmp_path: Path) -> None:
    nodes = [
        node("Sub", ["x", "m"], ["c"]), node("Mul", ["c", "s"], ["f"], name="norm"),
        node("Transpose", ["f"], ["t"], perm=[1, 0, 2]), node("GRU", ["t", "W", "R"], ["", "hn"], hidden_size=4),
        node("Squeeze", ["hn", "axes"], ["h"]), node("Gemm", ["h", "w"], ["y"]),
    ]  # fmt: skip
    constants = {"m": MEAN, "s": 1 / UNITS, "W": weights(1, 12, 6), "R": weights(1, 12, 4), "w": weights(4, 3)}
    graph = model(nodes, {"x": ["n", 8, 6]}, ["y"], constants | {"axes": np.array([0])})
    exported = export.save(tmp_path / "m", graph, samples("ntc"))
    assert exported.ruined == []
    assert exported.accuracy["y"].snr_db > 20
    assert "norm" in normalising(exported.model)


def test_it_is_said_and_can_be_refused(tmp_path: Path) -> None:
    graph, x = sensors("nc", "sub, mul"), samples("nc")
    exported = export.save(tmp_path / "m", graph, x)
    assert any("Mul_1 before the first layer stays float32" in note for note in exported.notes)
    never = export.save(tmp_path / "m", graph, x, scale_inputs="never")
    assert normalising(never.model) == []
    assert never.ruined
    assert decibels(answers(graph, x), device(never, x)) < 10


def test_a_front_that_int8_takes_well_becomes_int8() -> None:
    ones = np.ones(6, np.float32)
    constants = {"m": 0.5 * ones, "s": 2 * ones, "w": weights(6, 8), "b": weights(8)}
    nodes = [node("Sub", ["x", "m"], ["c"]), node("Mul", ["c", "s"], ["f"]), node("Gemm", ["f", "w", "b"], ["y"])]
    int8 = quantize(model(nodes, {"x": ["n", 6]}, ["y"], constants), weights(100, 6))
    assert normalising(int8) == []


def test_a_name_alone_makes_nothing_float() -> None:
    nodes = [node("Gemm", ["x", "w"], ["h"], name="h.scaled"), node("Gemm", ["h", "v"], ["y"], name="y.by_feature")]
    graph = model(nodes, {"x": ["n", 6]}, ["y"], {"w": weights(6, 8), "v": weights(8, 3)})
    int8 = quantize(graph, weights(50, 6))
    assert not is_scaled(int8)
    assert len([made for made in int8.graph.node if made.op_type == "QuantizeLinear"]) == 3


def far(bias: bool) -> tuple[onnx.ModelProto, Array]:
    """Pressure 101325 +- 500, temperature 293 +- 5: without an offset few codes are left of what varies."""
    away, varies = np.array([1e5, 293, 0, 1], np.float32), np.array([500, 5, 1, 1e-3], np.float32)
    x = (weights(100, 5, 4) * varies + away).astype(np.float32)
    w = (weights(4, 3, seed=1) / varies[:, None]).astype(np.float32)
    nodes = [node("MatMul", ["x", "w"], ["p"])]
    nodes += [node("Add", ["p", "b"], ["h"]), node("Relu", ["h"], ["r"])] if bias else [node("Relu", ["p"], ["r"])]
    nodes += [node("MatMul", ["r", "v"], ["y"])]
    constants = {"w": w, "v": weights(3, 2)} | ({"b": (-away @ w).astype(np.float32)} if bias else {})
    return onnx.shape_inference.infer_shapes(model(nodes, {"x": ["n", 5, 4]}, ["y"], constants)), x


def test_rows_far_from_zero_get_an_offset_though_a_matmul_has_no_bias() -> None:
    graph, x = far(bias=True)
    int8 = quantize(graph, x)
    assert is_scaled(int8)
    assert decibels(answers(graph, x), answers(int8, x)) > 20
    assert export.check(int8, {"x": x[:4]}).status == "ok"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("also", ["", "p"])
def test_scaled_features_leave_the_network_what_it_was(bias: bool, also: str) -> None:
    graph, x = far(bias)
    if also:  # the product itself is an output too
        graph.graph.output.append(onnx.helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    normal = simplify(graph)
    scaled = scale_features(normal, {"x": x})
    onnx.checker.check_model(scaled, full_check=True)
    for name in ("y", also) if also else ("y",):
        pairs = zip(Runner(normal, [name]).run({"x": x}), Runner(scaled, [name]).run({"x": x}), strict=True)
        assert all(decibels(exact[name], found[name]) > 60 for exact, found in pairs)


def test_a_regressor_behind_a_scaler(tmp_path: Path) -> None:
    x = samples("nc")
    targets = np.stack([(x / UNITS).sum(1), np.square(x / UNITS).sum(1)], 1)
    for scaler in (StandardScaler(), MinMaxScaler()):
        fitted = make_pipeline(scaler, MLPRegressor(hidden_layer_sizes=(12,), max_iter=60, random_state=0)).fit(
            x, targets
        )
        exported = export.save(tmp_path / "m", fitted, x)
        assert decibels(fitted.predict(x), device(exported, x)) > 20 or exported.ruined
