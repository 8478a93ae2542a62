"""`save`: the whole road from a model to files, what it accepts and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export import api
from edgeprop.export.graph import reference
from edgeprop.export.quantization.quantize import KEY_LABELS, KEY_TRAINABLE

Array = np.ndarray[Any, np.dtype[Any]]
ENDINGS = [".ep", ".h", ".onnx", ".report.html", ".report.md"]


@cache
def net() -> t.Sequential:
    made = t.Sequential(
        t.Conv2D(4, 3, name="conv"), t.ReLU(), t.MaxPool2D(2), t.Flatten(), t.Dense(5, name="head"), name="tiny"
    )
    made.build((1, 8, 8), seed=0)
    return made


def samples(n: int = 64) -> Array:
    return np.random.default_rng(0).random((n, 1, 8, 8), dtype=np.float32)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def metadata(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


# ---- What it writes -------------------------------------------------------------------------------------------------


def test_int8_with_a_head_that_trains(tmp_path: Path) -> None:
    result = export.save(tmp_path / "new" / "tiny", net(), samples(), trainable="head", labels=range(5))
    assert files(tmp_path / "new") == [f"tiny{ending}" for ending in ENDINGS]
    assert {path.name for path in result.paths.values()} == set(files(tmp_path / "new"))
    assert metadata(result.paths["onnx"])[KEY_TRAINABLE] == '["head"]'
    assert result.program.loss == "softmax_cross_entropy"
    assert result.program.labels == ["0", "1", "2", "3", "4"]
    assert [tensor.name for tensor in result.program.trainable()] == ["head.weight", "head.bias"]
    assert 0 < result.infer_arena < result.train_arena
    assert min(result.snr.values()) > 20
    assert "tiny.ep" in str(result)


def test_the_device_computes_what_the_onnx_file_says(tmp_path: Path) -> None:
    result = export.save(tmp_path / "tiny", net(), samples(), trainable="head", labels=list("abcde"))
    model = edgeprop.Model(result.paths["image"])
    x = samples(9)
    expected = reference.run(result.paths["onnx"], {"input": x})["output"]
    np.testing.assert_allclose(model.run(x)[0], expected, rtol=1e-5, atol=1e-6)
    assert list(model.classes_) == list("abcde")
    before = model.score(x, np.zeros(9, int))
    assert model.partial_fit(x, np.zeros(9, int), lr=0.1, epochs=20).score(x, np.zeros(9, int)) >= max(before, 0.9)


def test_without_calibration_it_is_float32(tmp_path: Path) -> None:
    result = export.save(tmp_path / "tiny", net(), trainable="last", labels=range(5))
    assert {tensor.dtype for tensor in result.program.tensors.values()} == {"f32"}
    assert result.snr == {}
    x = samples(5)
    np.testing.assert_allclose(edgeprop.Model(result.paths["image"]).run(x)[0], net().predict(x), rtol=1e-5, atol=1e-5)


def test_quantized_false_leaves_the_calibration_unused(tmp_path: Path) -> None:
    result = export.save(tmp_path / "tiny", net(), samples(), quantized=False)
    assert {tensor.dtype for tensor in result.program.tensors.values()} == {"f32"}
    assert result.train_arena == 0


@pytest.mark.parametrize("form", ["path", "text", "bytes", "proto", "net"])
def test_forms_of_a_model_give_the_same_files(form: str, tmp_path: Path) -> None:
    proto = net().to_onnx()
    source = tmp_path / "source.onnx"
    onnx.save(proto, source)
    given = {"path": source, "text": str(source), "bytes": source.read_bytes(), "proto": proto, "net": net()}[form]
    result = export.save(str(tmp_path / "out" / "tiny"), given, samples())
    again = export.save(tmp_path / "again" / "tiny", net(), samples())
    for kind, path in result.paths.items():
        assert path.read_bytes() == again.paths[kind].read_bytes(), kind


def test_a_quantized_model_goes_through_as_it_is(tmp_path: Path) -> None:
    first = export.save(tmp_path / "one" / "tiny", net(), samples(), trainable="head", labels=range(5))
    second = export.save(tmp_path / "two" / "tiny", first.paths["onnx"])
    assert second.paths["image"].read_bytes() == first.paths["image"].read_bytes()
    other = export.save(tmp_path / "three" / "tiny", first.paths["onnx"], labels=list("vwxyz"))
    assert other.program.labels == list("vwxyz")


def test_options_reach_the_quantizer(tmp_path: Path) -> None:
    result = export.save(tmp_path / "tiny", net(), samples(), method="mse", io="int8", per_channel=False)
    assert edgeprop.Model(result.paths["image"]).inputs[0].dtype == np.int8


@pytest.mark.parametrize(
    ("stem", "name", "found"),
    [("my-net v2", None, "my_net_v2"), ("2fast", None, "m_2fast"), ("a.b", "Digits", "Digits")],
)
def test_names(stem: str, name: str | None, found: str, tmp_path: Path) -> None:
    result = export.save(tmp_path / stem, net(), name=name)
    assert result.program.name == found
    assert result.paths["image"].name == f"{stem}.ep"


def test_labels_of_any_kind_become_texts(tmp_path: Path) -> None:
    result = export.save(tmp_path / "tiny", net(), labels=np.array([1, 2, 3, 4, 5]))
    assert result.program.labels == ["1", "2", "3", "4", "5"]
    assert metadata(result.paths["onnx"])[KEY_LABELS] == '["1", "2", "3", "4", "5"]'


# ---- What it refuses, and that nothing is left behind then ----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"percentil": 99}, "unknown option 'percentil': those of quantize are method, percentile, "),
        ({"trainable": "tail", "labels": range(5)}, "'tail': it matches no layer; layers that can train: conv, head"),
        ({"trainable": "head"}, "loss"),
        ({"trainable": "head", "loss": "absolute"}, "absolute"),
        ({"labels": range(4)}, "4 labels for an output of 5"),
        ({"labels": ["a", "b", "c", "d", "a"]}, "'a'"),
        ({"name": "my net"}, "no C identifier"),
        ({"calibration": np.zeros((3, 2))}, r"shape \(3, 2\)"),
        ({"calibration": samples(4), "method": "guess"}, "guess"),
        ({"model": 3}, "int is no model"),
        ({"model": b"nonsense"}, "not an ONNX model"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = arguments.pop("model", net())
    with pytest.raises(ValueError, match=message):
        export.save(tmp_path / "tiny", model, **arguments)
    assert files(tmp_path) == []


def test_a_model_is_not_overwritten_by_its_export(tmp_path: Path) -> None:
    onnx.save(net().to_onnx(), tmp_path / "tiny.onnx")
    with pytest.raises(export.ExportError, match="overwritten"):
        export.save(tmp_path / "tiny", tmp_path / "tiny.onnx")
    assert files(tmp_path) == ["tiny.onnx"]


@pytest.mark.parametrize("target", ["m.onnx", "m.ep", "m.h"])
@pytest.mark.parametrize("source", ["source.onnx", "weights.bin"])
def test_what_a_model_was_read_from_is_not_overwritten(target: str, source: str, tmp_path: Path) -> None:
    """Nor through a link, nor where it holds its weights."""
    onnx.save(
        net().to_onnx(), tmp_path / "source.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / target).symlink_to(source)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(export.ExportError, match=f"{source} would be overwritten by its own export"):
        export.save(tmp_path / "m", tmp_path / "source.onnx")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_are_not_overwritten_by_an_image_of_their_name(tmp_path: Path) -> None:
    onnx.save(net().to_onnx(), tmp_path / "source.onnx", save_as_external_data=True, location="m.ep", size_threshold=0)
    with pytest.raises(export.ExportError, match=r"m\.ep would be overwritten"):
        export.save(tmp_path / "m", tmp_path / "source.onnx")
    assert export.save(tmp_path / "other", tmp_path / "source.onnx").paths["image"].exists()


def test_no_two_files_are_one(tmp_path: Path) -> None:
    (tmp_path / "m.ep").symlink_to("m.onnx")
    with pytest.raises(export.ExportError, match=r"m\.onnx and .*m\.ep are the same file"):
        export.save(tmp_path / "m", net())
    assert files(tmp_path) == ["m.ep"]


@pytest.mark.parametrize("name", ["nothing", "tiny"])
def test_a_missing_file(name: str, tmp_path: Path) -> None:
    """Also where its export would have its name."""
    with pytest.raises(FileNotFoundError, match=name):
        export.save(tmp_path / "tiny", tmp_path / f"{name}.onnx")


def test_a_failed_write_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = export.save(tmp_path / "tiny", net())
    before = {path: path.read_bytes() for path in old.paths.values()}
    written: list[Path] = []

    def fail_at_the_third(path: Path, content: bytes) -> None:
        written.append(path)
        path.write_bytes(content[: len(content) // 2])
        if len(written) == 3:
            raise OSError("disk full")

    monkeypatch.setattr(api, "_write", fail_at_the_third)
    with pytest.raises(OSError, match="disk full"):
        export.save(tmp_path / "tiny", net(), samples())
    assert {path: path.read_bytes() for path in old.paths.values()} == before
    assert len(files(tmp_path)) == len(before)


# ---- The package ----------------------------------------------------------------------------------------------------


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_functions_win_over_modules_of_their_name() -> None:
    code = """
import edgeprop.export.check, edgeprop.export.quantization.quantize, edgeprop.export.lower.training
from edgeprop.export.quantization.calibrate import Range
from edgeprop import export
print(all(callable(getattr(export, name)) for name in export.__all__), set(export.__all__) <= set(dir(export)))
"""
    assert run_python(code) == "True True"


def test_without_onnx_the_message_names_the_cure() -> None:
    code = """
import sys
sys.modules["onnx"] = None
from edgeprop import export
try:
    export.save
except ImportError as error:
    print(error)
"""
    assert "pip install edgeprop[export]" in run_python(code)


def test_importing_the_package_imports_no_onnx() -> None:
    assert run_python("import sys, edgeprop.export; print('onnx' in sys.modules)") == "False"
