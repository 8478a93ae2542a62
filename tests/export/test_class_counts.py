"""Names of classes by every entrance: as many as there are classes, each once, of an output that the model has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeprop
from edgeprop import export
from edgeprop.export import cli
from edgeprop.export.check import check, check_quantized
from edgeprop.export.classes import check_count
from edgeprop.export.lower import lower
from edgeprop.export.program.plan import plan
from edgeprop.export.writers.image import to_image
from tests.support.graphs import model, node

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(16, 4)).astype(np.float32)
FIVE = list("abcde")


def dense(**properties: str) -> onnx.ModelProto:
    weights = {"w": RANDOM.normal(size=(4, 2)).astype(np.float32), "v": RANDOM.normal(size=(4, 3)).astype(np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["a"], name="one"), node("MatMul", ["x", "v"], ["b"], name="two")]
    proto = model(nodes, {"x": ["N", 4]}, ["a", "b"], weights, shapes={"a": ["N", 2], "b": ["N", 3]})
    onnx.helper.set_model_props(proto, properties)
    return proto


def pooled() -> onnx.ModelProto:
    """A classifier as PyTorch writes one that ends in global pooling."""
    weights = {"w": RANDOM.normal(size=(5, 3, 1, 1)).astype(np.float32)}
    nodes = [node("Conv", ["x", "w"], ["h"], name="head"), node("GlobalAveragePool", ["h"], ["y"])]
    return model(nodes, {"x": ["N", 3, 4, 4]}, ["y"], weights, shapes={"y": ["N", 5, 1, 1]})


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("trains", [False, True])
def test_trailing_axes_of_one_are_no_axes(calibrated: bool, trains: bool, tmp_path: Path) -> None:
    x = RANDOM.normal(size=(12, 3, 4, 4)).astype(np.float32)
    options: dict[str, Any] = {"trainable": "head", "loss": "softmax_cross_entropy"} if trains else {}
    done = export.save(tmp_path / "m", pooled(), x if calibrated else None, labels=FIVE, **options)
    found = edgeprop.Model(done.paths["image"])
    assert found.classes_.tolist() == FIVE
    assert found.predict(x).shape == (12,)
    assert found.score(x, found.classes_[found.predict(x)]) == 1
    if trains:
        found.partial_fit(x, ["a", "b", "c", "d", "e", "a"] * 2)
    with pytest.raises(ValueError, match="4 labels for an output of 5 values"):
        export.save(tmp_path / "n", pooled(), labels=FIVE[:4])


COUNTS: list[tuple[list[int], int, bool]] = [
    ([0, 5], 5, True),
    ([0, 5], 4, False),
    ([0, 5, 1, 1], 5, True),
    ([0, 1, 1, 5], 5, True),
    ([0, 5, 7, 7], 5, True),
    ([0, 7, 7, 5], 5, True),
    ([0, 1], 1, True),
    ([0, 1, 1, 1], 2, True),
    ([0, 1], 3, False),
    ([0, 0], 3, True),
    ([5], 5, True),
]


@pytest.mark.parametrize(("shape", "count", "fits"), COUNTS)
def test_how_many_names_fit_a_shape(shape: list[int], count: int, fits: bool) -> None:
    texts = [str(i) for i in range(count)]
    if fits:
        return check_count(texts, [shape])
    with pytest.raises(ValueError, match=f"{count} labels for an output of"):
        check_count(texts, [shape])
    return None


@pytest.mark.parametrize("labels", [["a", "a"], {"a", "b"}, ["a", None], [1, 1.0, "1"]])
def test_bad_names_are_refused_by_every_entrance(labels: Any, tmp_path: Path) -> None:
    match = "come twice|has no order|is no name"
    calls = [
        lambda: lower(dense(), labels=labels),
        lambda: export.quantize(dense(), X, labels=labels),
        lambda: export.save(tmp_path / "m", dense(), labels=labels),
        lambda: export.save(tmp_path / "m", dense(), X, labels=labels),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=match):
            call()
    assert check_quantized(dense(), X, labels=labels).status == "error"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("labels", [["a", "a"], ["a", "b", "c", "d"]])
def test_bad_names_in_the_metadata(labels: list[str], tmp_path: Path) -> None:
    proto = dense(**{"edgeprop.labels": json.dumps(labels)})
    with pytest.raises(ValueError, match=r"come twice|4 labels for an output of 2"):
        lower(proto)
    with pytest.raises(ValueError, match=r"come twice|4 labels for an output of 2"):
        export.save(tmp_path / "m", proto)
    assert check(proto).status == "error"


@pytest.mark.parametrize("labels", [["no", "yes"], {"yes": 1, "no": 0}, iter(["no", "yes"])])
def test_names_that_lower_takes_load(labels: Any) -> None:
    program = lower(dense(), labels=labels)
    plan(program)
    assert edgeprop.Model(to_image(program)).classes_.tolist() == ["no", "yes"]


def test_quantize_takes_names_by_index() -> None:
    quantized = export.quantize(dense(), X, labels={"yes": 1, "no": 0})
    assert lower(quantized).labels == ["no", "yes"]


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("calibrated", [False, True])
def test_the_output_of_the_loss_is_one_of_the_model(trains: bool, calibrated: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"trainable": "two", "loss": "softmax_cross_entropy"} if trains else {}
    with pytest.raises(ValueError, match=r"'c'.*is no output of the model: give one of a, b"):
        export.save(tmp_path / "m", dense(), X if calibrated else None, loss_output="c", **options)
    with pytest.raises(ValueError, match=r"'c'.*is no output of the model: give one of a, b"):
        export.save(tmp_path / "m", dense(**{"edgeprop.loss_output": "c"}), **options)
    with pytest.raises(ValueError, match=r"'c'.*is no output of the model: give one of [ab], [ab]"):
        lower(dense(), loss_output="c", **options)
    assert not list(tmp_path.iterdir())


def test_the_command_names_the_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(dense(), tmp_path / "m.onnx")
    assert (
        cli.main(["export", str(tmp_path / "m.onnx"), "--loss-output", "c", "-o", str(tmp_path / "out")]) == cli.USAGE
    )
    assert "(--loss-output c) is no output of the model: give one of a, b" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", ["asked", "metadata"])
@pytest.mark.parametrize("trains", [False, True])
def test_labels_name_the_classes_of_that_output(trains: bool, way: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"trainable": "two", "loss": "softmax_cross_entropy"} if trains else {}
    if way == "asked":
        done = export.save(tmp_path / "m", dense(), labels=FIVE[:3], loss_output="b", **options)
    else:
        done = export.save(tmp_path / "m", dense(**{"edgeprop.loss_output": "b"}), labels=FIVE[:3], **options)
    found = edgeprop.Model(done.paths["image"])
    assert found.outputs[0].name == "b"
    assert found.classes_.tolist() == FIVE[:3]
    with pytest.raises(ValueError, match="2 labels for an output of 3 values"):
        export.save(tmp_path / "n", dense(), labels=FIVE[:2], loss_output="b", **options)
