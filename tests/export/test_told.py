"""What int8 does to the answers is told first, with a cure; what was asked and could not be is told too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.neural_network import MLPClassifier

import edgeprop
from edgeprop import export, trainer
from edgeprop.export import cli
from edgeprop.export.check import check_quantized
from edgeprop.export.quantization.accuracy import AGREEMENT, LITTLE_NOISE, OutputAccuracy, faults, measure
from edgeprop.export.quantization.calibrate import Runner
from edgeprop.export.quantization.features import is_scaled
from edgeprop.export.quantization.quantize import Asked, quantize
from edgeprop.export.quantization.told import quantize_and_tell
from edgeprop.export.writers import report

Array = np.ndarray[Any, np.dtype[Any]]
F32 = onnx.TensorProto.FLOAT
UNITS = np.array([1e-3, 1, 1e3, 1e5, 1, 1], np.float32)


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def n(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op}_{outputs.split()[0]}", **attributes)


def net(
    nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, Any], outputs: str = "y"
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    ends = [helper.make_tensor_value_info(name, F32, None) for name in outputs.split()]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", F32, ["n", *shape])], ends, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def sensors(units: Array = UNITS, first: str = "Gemm") -> onnx.ModelProto:
    """Six sensors in different units -> 8 -> 3, each as important as the others."""
    constants = {
        "w": (weights(6, 8).T / units).T.astype(np.float32),
        "b": weights(8, seed=2),
        "v": weights(8, 3, seed=1),
    }
    last = [n("Relu", "h", "r"), n("MatMul", "r v", "y")]
    if first == "MatMul":
        return net([n("MatMul", "x w", "h"), *last], [6], constants)
    if first == "transB":
        constants["w"] = constants["w"].T.copy()
        return net([n("Gemm", "x w b", "h", transB=1), *last], [6], constants)
    if first == "Flatten":
        return net([n("Flatten", "x", "f"), n("Gemm", "f w b", "h"), *last], [1, 6], constants)
    if first == "MatMul of rows":
        return net([n("MatMul", "x w", "m"), n("Add", "m b", "h"), *last], [5, 6], constants)
    if first == "scaler":
        constants |= {"mean": 3 * units, "factor": np.float32(2) * np.ones(6, np.float32)}
        return net([n("Sub", "x mean", "c"), n("Mul", "c factor", "f"), n("Gemm", "f w b", "h"), *last], [6], constants)
    return net([n("Gemm", "x w b", "h"), *last], [6], constants)


def decibels(exact: Array, found: Array) -> float:
    noise = np.square(exact.astype(np.float64) - found).sum()
    return float(10 * np.log10(np.square(exact, dtype=np.float64).sum() / noise))


def answers(model: onnx.ModelProto, x: Array, output: str = "y") -> Array:
    return np.concatenate([part[output] for part in Runner(model, [output]).run({"x": x})])


def device(exported: export.Exported, x: Array) -> Array:
    model = edgeprop.Model(str(exported.paths["image"]))
    return np.asarray(model.outputs[0].real(model.run(x)[0]))


# ---- Features in different units -------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("first", ["Gemm", "MatMul", "transB", "Flatten", "MatMul of rows", "scaler"])
def test_features_in_different_units_are_scaled(first: str, offset: int, tmp_path: Path) -> None:
    rows = {"Flatten": (1, 6), "MatMul of rows": (5, 6)}.get(first, (6,))
    offset = 0 if first == "MatMul of rows" else offset
    x = ((weights(200, *rows, seed=3) + offset) * UNITS).astype(np.float32)
    model = sensors(first=first)
    exported = export.save(tmp_path / "net", model, x)
    assert decibels(answers(model, x), device(exported, x)) > 25
    assert exported.ruined == []
    assert "the features of the input differ" in str(exported)
    assert exported.accuracy["y"].snr_db > 25
    assert export.check(exported.model, {"x": x}).status == "ok"
    assert "dense_s8" in {op.kind for op in exported.program.ops}


@pytest.mark.parametrize(("group", "pads"), [(1, 0), (2, 0), (1, 1), (2, 1)])
def test_channels_in_different_units_are_scaled(group: int, pads: int) -> None:
    units = np.array([1e-4, 1, 1e3, 1], np.float32).reshape(4, 1, 1)
    x = ((weights(64, 4, 6, 6) + (0 if pads else 4)) * units).astype(np.float32)
    kernel = weights(6, 4 // group, 3, 3, seed=1).reshape(group, -1, 4 // group, 3, 3)
    kernel = (kernel / units.reshape(group, 1, -1, 1, 1)).reshape(6, 4 // group, 3, 3).astype(np.float32)
    model = net([n("Conv", "x k", "y", group=group, pads=[pads] * 4)], [4, 6, 6], {"k": kernel})
    plain, scaled = (quantize(model, x, scale_inputs=way) for way in ("never", "auto"))  # type: ignore[arg-type]
    wanted = answers(model, x)
    assert decibels(wanted, answers(scaled, x)) > 30 > decibels(wanted, answers(plain, x)) + 10
    assert is_scaled(scaled)
    assert not is_scaled(plain)
    assert export.check(scaled, {"x": x[:4]}).status == "ok"


def test_features_alike_and_models_that_bear_it_are_left_alone() -> None:
    x = weights(100, 6)
    assert not is_scaled(quantize(sensors(np.ones(6, np.float32)), x))
    pixels = np.abs(weights(100, 6)) * np.array([1, 1, 1, 1, 1, 0.01], np.float32)  # hardly used, hardly important
    assert not is_scaled(quantize(sensors(np.ones(6, np.float32)), pixels))


def test_a_value_that_others_read_too_stays_as_it_is_for_them() -> None:
    x = (weights(200, 6) * UNITS).astype(np.float32)
    model = sensors()
    model.graph.node.append(n("Sigmoid", "x", "z"))
    model.graph.output.append(helper.make_tensor_value_info("z", F32, ["n", 6]))
    int8 = quantize(model, x)
    assert is_scaled(int8)
    assert decibels(answers(model, x), answers(int8, x)) > 25
    assert export.check(int8, {"x": x}).status == "ok"


def test_a_first_layer_that_learns_is_not_touched() -> None:
    x = (weights(200, 6) * UNITS).astype(np.float32)
    int8 = quantize(sensors(), x, trainable="Gemm_h")
    assert not is_scaled(int8)
    np.testing.assert_allclose(answers(int8, x), answers(sensors(), x), rtol=1e-4, atol=1e-4)
    assert is_scaled(quantize(sensors(), x, trainable="last"))


# ---- Ruin, told first ------------------------------------------------------------------------------------------------


def test_ruin_stands_in_the_first_line_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = (weights(200, 6) * UNITS).astype(np.float32)
    exported = export.save(tmp_path / "net", sensors(), x, scale_inputs="never")
    first = str(exported).splitlines()[0]
    assert first.startswith("note: int8 changes the answers of output 'y': ")
    assert "cure: Gemm_h in float32 (keep_float=['Gemm_h'], --float Gemm_h)" in first
    assert exported.notes[0] == exported.ruined[0]
    assert str(exported).count("int8 changes the answers") == 1
    assert "int8 changes the answers" in exported.paths["markdown"].read_text().splitlines()[0]
    html = exported.paths["html"].read_text()
    assert html.index("int8 changes the answers") < html.index("<h1>")
    figures = report.to_dict(exported.program, exported.snr, exported)
    assert figures["accuracy"]["y"]["snr_db"] < 10
    assert figures["ruined"] == exported.ruined
    onnx.save(sensors(), tmp_path / "float.onnx")
    np.savez(tmp_path / "x.npz", x=x)
    given = [str(tmp_path / "float.onnx"), "--calibration", str(tmp_path / "x.npz"), "--scale-inputs", "never"]
    assert cli.main(["export", *given, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("note: int8 changes the answers of output 'y'")
    cli.main(["check", *given])
    assert "int8 changes the answers" in capsys.readouterr().out.splitlines()[0]
    cli.main(["check", *given, "--json"])
    assert "int8 changes the answers" in json.loads(capsys.readouterr().out)["message"]


def test_the_cure_that_is_told_heals(tmp_path: Path) -> None:
    x = (weights(200, 6) * UNITS).astype(np.float32)
    healed = export.save(tmp_path / "net", sensors(), x, scale_inputs="never", keep_float=["Gemm_h"])
    assert healed.ruined == []
    assert decibels(answers(sensors(), x), device(healed, x)) > 20


def test_another_method_is_a_cure_that_is_tried() -> None:
    """Classes lie close together beside one value far off, which another method cuts."""
    x = weights(2000, 6)
    x[17, 0] = 30
    constants = {"w": weights(6, 3), "b": np.zeros(3, np.float32)}
    model = net([n("Gemm", "x w b", "t"), n("Softmax", "t", "y")], [6], constants)
    told = quantize_and_tell(model, x, Asked())
    assert told.ruined
    method = told.ruined[0].partition("method='")[2].partition("'")[0]
    assert method in ("percentile", "mse")
    assert quantize_and_tell(model, x, Asked(method=method)).ruined == []


def test_a_good_model_is_told_nothing_of(tmp_path: Path) -> None:
    x = weights(200, 6)
    exported = export.save(tmp_path / "net", sensors(np.ones(6, np.float32)), x)
    assert exported.notes == []
    assert str(exported).startswith("net: flash")
    assert exported.accuracy["y"].agreement is not None
    assert exported.accuracy["y"].snr_db > LITTLE_NOISE
    assert export.save(tmp_path / "float", sensors()).accuracy == {}


def test_the_ordinary_samples_do_not_hide_behind_a_large_one() -> None:
    x = weights(400, 6)
    x[17] *= 1e4
    result = check_quantized(sensors(np.ones(6, np.float32)), x, suggest=False)
    found = result.accuracy["y"]
    assert found.snr_db > 20
    assert found.worst_tenth_db < 10
    assert "a tenth of the samples" in result.message


def test_what_the_cure_depends_on(tmp_path: Path) -> None:
    x = weights(400, 6)
    x[17] *= 1e4
    exported = export.save(tmp_path / "net", sensors(np.ones(6, np.float32)), x)
    assert "a few samples are far larger than the rest" in exported.ruined[0]
    few = (weights(8, 6) * UNITS).astype(np.float32)
    assert "cure: " in export.save(tmp_path / "net", sensors(), few, io="int8").ruined[0]


def test_a_small_column_does_not_hide_behind_a_large_one() -> None:
    model = net([n("Gemm", "x w b", "y")], [6], {
        "w": weights(6, 3) * np.array([1000, 1, 1000], np.float32), "b": np.array([0, 50, 0], np.float32),
    })  # fmt: skip
    result = check_quantized(model, weights(300, 6), suggest=False)
    assert result.accuracy["y"].snr_db > 30
    assert "column 1 at" in result.message
    assert result.accuracy["y"].columns_db[0] > 30


def test_an_output_does_not_hide_behind_another() -> None:
    constants = {"w": weights(6, 4), "v": (weights(6, 2).T / UNITS).T.astype(np.float32)}
    model = net([n("Gemm", "x w", "y"), n("Gemm", "x v", "z")], [6], constants, "y z")
    x = (weights(300, 6) * UNITS).astype(np.float32)
    result = check_quantized(model, x, suggest=False, scale_inputs="never")
    assert result.accuracy["y"].snr_db > 30
    assert result.accuracy["z"].snr_db < 10
    assert "output 'z'" in result.message
    assert "output 'y'" not in result.message


def test_classes_that_change_are_told_though_the_noise_is_little() -> None:
    """Scores that are nearly alike beside a large one of no use."""
    w = weights(6, 3) * np.float32(0.03)
    model = net(
        [n("Gemm", "x w b", "t"), n("Softmax", "t", "y")], [6], {"w": w, "b": np.array([5, 5, -40], np.float32)}
    )
    result = check_quantized(model, weights(400, 6), suggest=False)
    found = result.accuracy["y"]
    assert found.classes
    assert found.agreement is not None
    assert found.agreement < AGREEMENT
    assert "of the samples get another class" in result.message


def test_samples_sorted_by_class_are_all_looked_at() -> None:
    x = np.concatenate([weights(1500, 6), weights(1500, 6, seed=1) * np.float32(1e-4)])
    result = check_quantized(sensors(np.ones(6, np.float32), "MatMul"), x, suggest=False)
    assert result.accuracy["y"].worst_tenth_db < 10


def test_raw_wine_is_told_or_right(tmp_path: Path) -> None:
    x, y = load_wine(return_X_y=True)
    fitted = MLPClassifier((16,), max_iter=300, random_state=1).fit(x, y)
    exported = export.save(tmp_path / "wine", fitted, x.astype(np.float32))
    model = edgeprop.Model(str(exported.paths["image"]))
    same = np.mean([str(a) == str(b) for a, b in zip(model.classes_[model.predict(x)], fitted.predict(x), strict=True)])
    assert same > 0.97 or exported.ruined


def test_judgement() -> None:
    """What is ruined, and what is not, by each measure alone."""
    fine = OutputAccuracy(35.0, 30.0, (33.0, 31.0), 0.999)
    assert fine.faults() == []
    assert OutputAccuracy(9.9, 9.0).faults() == ["its signal-to-noise ratio is 9.9 dB"]
    assert OutputAccuracy(35.0, 9.0).faults() == ["a tenth of the samples is at 9.0 dB or below"]
    assert OutputAccuracy(35.0, 30.0, (35.0, 4.0)).faults() == ["column 1 at 4.0 dB or below"]
    assert OutputAccuracy(35.0, 30.0, (35.0, 4.0), 1.0, classes=True).faults() == []
    assert OutputAccuracy(35.0, 30.0, (), 0.9, classes=True).faults() == ["10% of the samples get another class"]
    assert OutputAccuracy(35.0, 30.0, (), 0.9).faults() == []  # they may be no scores
    assert OutputAccuracy(15.0, 12.0, (), 0.9).faults() == [
        "if these are scores, 10% of the samples get another class (15.0 dB)"
    ]
    assert faults({"a": fine, "b": OutputAccuracy(0.0, 0.0)}) == [
        "int8 changes the answers of output 'b': its signal-to-noise ratio is 0.0 dB"
    ]


def test_measured_by_hand() -> None:
    """y = x against y = x + e."""
    exact = net([n("Gemm", "x w", "y")], [2], {"w": np.eye(2, dtype=np.float32)})
    off = net([n("Gemm", "x w", "y")], [2], {"w": np.array([[1.1, 0], [0, 1]], np.float32)})
    x = np.stack([np.arange(1, 41), np.full(40, 7)], 1).astype(np.float32)
    found = measure(exact, off, {"x": x})["y"]
    signal, noise = np.square(x, dtype=np.float64), np.square(0.1 * x[:, 0], dtype=np.float64)
    assert abs(found.snr_db - 10 * np.log10(signal.sum() / noise.sum())) < 1e-3
    ratios = np.sort(10 * np.log10(np.maximum(signal.sum(1), np.quantile(signal.sum(1), 0.1)) / noise))
    assert abs(found.worst_tenth_db - ratios[3]) < 1e-3
    about = signal[:, 0].sum() - x[:, 0].sum(dtype=np.float64) ** 2 / 40
    assert abs(found.columns_db[0] - 10 * np.log10(about / noise.sum())) < 1e-3
    assert found.columns_db[1] == float("inf")
    kept = (x.argmax(1) == (x * np.array([1.1, 1], np.float32)).argmax(1)).mean()
    assert found.agreement == kept


def shared_part(offset: float, noise: float) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Two scores with much in common, and the same with noise in one."""
    exact = net([n("Gemm", "x w b", "y")], [2], {"w": np.eye(2, dtype="f4"), "b": np.full(2, offset, "f4")})
    off = net([n("Gemm", "x w b", "y")], [2], {"w": np.eye(2, dtype="f4"), "b": np.float32([offset + noise, offset])})
    return exact, off


def test_what_scores_have_in_common_hides_no_noise() -> None:
    x = np.random.default_rng(0).normal(size=(200, 2)).astype("f4")
    found = measure(*shared_part(20, 0.5), {"x": x})["y"]
    apart = x[:, 0].astype(np.float64) - x[:, 1]
    assert found.snr_db > 30
    assert abs(found.centred_db - 10 * np.log10(np.square(apart).mean() / 0.25)) < 1e-2
    assert found.quality() <= found.centred_db
    assert "if these are scores" in found.faults()[0]
    assert measure(*shared_part(20, 1e-3), {"x": x})["y"].faults() == []
    numbers = measure(*shared_part(20, 0.5), {"x": x}, loss="mse")["y"]  # which are no scores
    assert (numbers.agreement, numbers.centred_db) == (None, float("inf"))
    assert numbers.faults() == [f"column 0 at {numbers.columns_db[0]:.1f} dB or below"]


def test_raw_features_are_told_or_right(tmp_path: Path) -> None:
    """Logits of features in many units: nothing but their differences tells the classes apart."""
    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype("f4")
    classifier = trainer.Sequential(trainer.Dense(16), trainer.ReLU(), trainer.Dense(2))
    trainer.fit(classifier, x, y, loss="softmax_cross_entropy", epochs=20, seed=3)
    done = export.save(tmp_path / "m", classifier, calibration=x[:400])
    (found,) = done.accuracy.values()
    assert found.agreement is not None
    assert found.snr_db > LITTLE_NOISE
    assert done.ruined or found.agreement >= AGREEMENT


def test_well_scaled_logits_are_not_told_of(tmp_path: Path) -> None:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("f4")
    classifier = trainer.Sequential(trainer.Dense(32), trainer.ReLU(), trainer.Dense(10))
    trainer.fit(classifier, x, y, loss="softmax_cross_entropy", epochs=10, seed=0)
    done = export.save(tmp_path / "m", classifier, calibration=x[:400])
    assert done.ruined == []
    assert min(found.centred_db for found in done.accuracy.values()) > 30


@pytest.mark.parametrize("output", ["e", "y"])
def test_loss_and_labels_are_of_the_output_that_the_loss_looks_at(output: str, tmp_path: Path) -> None:
    nodes = [n("MatMul", "x u", "r"), n("Relu", "r", "e"), n("MatMul", "e v", "y")]
    two = net(nodes, [6], {"u": weights(6, 3), "v": weights(3, 3, seed=1)}, "e y")
    x = weights(200, 6, seed=2)
    done = export.save(tmp_path / "m", two, calibration=x, labels=["a", "b", "c"], loss_output=output)
    assert {name: found.classes for name, found in done.accuracy.items()} == {"e": output == "e", "y": output == "y"}
    again = {prop.key: prop.value for prop in onnx.load(done.paths["onnx"]).metadata_props}
    assert again["edgeprop.loss_output"] == output
    assert not any(prop.key == "edgeprop.loss_output" for prop in two.metadata_props)


# ---- Options that cannot be met --------------------------------------------------------------------------------------


def noted(*said: str, exported: export.Exported) -> None:
    for text in said:
        assert any(text in note for note in exported.notes), exported.notes


def test_samples_that_say_nothing(tmp_path: Path) -> None:
    model, x = sensors(np.ones(6, np.float32)), weights(5, 6)
    for samples, said in (
        (np.zeros_like(x), "are all 0"),
        (np.full_like(x, 3), "are all 3"),
        (x[:1], "one calibration sample"),
        (np.repeat(x[:1], 4, 0), "4 times the same"),
    ):
        noted(said, exported=export.save(tmp_path / "net", model, samples))
    with pytest.raises(ValueError, match="NaN or infinity"):
        export.save(tmp_path / "net", model, x * np.float32(np.nan))
    assert not any("calibration" in note for note in export.save(tmp_path / "net", model, x).notes)


def test_layers_that_stay_float32_unasked(tmp_path: Path) -> None:
    gru = trainer.Sequential(trainer.GRU(4, name="gru"), trainer.Dense(3, name="head"))
    x = weights(20, 5, 3)
    gru.predict(x)
    exported = export.save(tmp_path / "gru", gru, x)
    noted("GRU", "float32", exported=exported)
    alone = export.save(tmp_path / "gru", gru, x, keep_float="head")
    noted("nothing was quantized", exported=alone)
    learning = export.save(tmp_path / "gru", gru, x, trainable=["gru", "head"], loss="mse")
    noted("nothing was quantized", exported=learning)


def test_options_without_effect(tmp_path: Path) -> None:
    model, x = sensors(np.ones(6, np.float32)), weights(50, 6)
    noted("method", "no calibration samples", exported=export.save(tmp_path / "net", model, method="mse"))
    noted("per_channel", exported=export.save(tmp_path / "net", model, per_channel=False))
    noted("quantized=False", exported=export.save(tmp_path / "net", model, x, quantized=False, method="mse"))
    assert export.save(tmp_path / "net", model).notes == []
    assert export.save(tmp_path / "net", model, x, quantized=False).notes == []
    noted("no two convolutions", exported=export.save(tmp_path / "net", model, x, equalization=True))
    noted("percentile=99", exported=export.save(tmp_path / "net", model, x, percentile=99.0))
    int8 = quantize(model, x)
    noted("quantized already", exported=export.save(tmp_path / "again", int8, method="mse"))
    with pytest.raises(ValueError, match="quantized already"):
        export.save(tmp_path / "again", int8, x)
    noted("were not used", exported=export.save(tmp_path / "again", int8, x, quantized=False))
    with pytest.raises(ValueError, match="no node is called 'nothing'"):
        export.save(tmp_path / "net", model, x, keep_float="nothing")
    with pytest.raises(ValueError, match="scale_inputs"):
        export.save(tmp_path / "net", model, x, scale_inputs="always")


def test_ends_that_stay_float32(tmp_path: Path) -> None:
    model, x = sensors(np.ones(6, np.float32)), weights(50, 6)
    assert export.save(tmp_path / "net", model, x, io="int8").notes == []
    noted(
        "io='int8' does not reach x", exported=export.save(tmp_path / "net", model, x, io="int8", keep_float="Gemm_h")
    )
    units = export.save(tmp_path / "net", sensors(), (weights(50, 6) * UNITS).astype(np.float32), io="int8")
    noted("share one scale", exported=units)
    assert units.ruined


def test_a_pool_that_cannot_stay_float32(tmp_path: Path) -> None:
    nodes = [n("Conv", "x k", "a"), n("AveragePool", "a", "p", kernel_shape=[2, 2]), n("Conv", "p l", "y")]
    model = net(nodes, [2, 6, 6], {"k": weights(3, 2, 2, 2), "l": weights(3, 3, 2, 2)})
    noted("keep_float does not reach AveragePool_p", exported=export.save(
        tmp_path / "net", model, weights(20, 2, 6, 6), keep_float="AveragePool_p"))  # fmt: skip
