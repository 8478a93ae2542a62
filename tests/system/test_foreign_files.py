"""Files that are something else than what was asked for: told by their first bytes, in one line, with the cure."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprop.export.check import check
from edgeprop.export.cli import main, read_arrays, read_labels
from edgeprop.export.recognize import by_magic, by_text, decode
from tests.support.graphs import model, node


def archive(*names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name in names:
            made.writestr(name, b"content")
    return packed.getvalue()


def arrays(save: Any, *args: Any, **named: Any) -> bytes:
    packed = io.BytesIO()
    save(packed, *args, **named)
    return packed.getvalue()


SAFETENSORS = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()

#: contents -> what they are called, and part of the cure as a model, and as samples
KINDS: dict[str, tuple[bytes, str, str, str]] = {
    "tflite": (
        b"\x1c\0\0\0TFL3" + bytes(100),
        "a TensorFlow Lite model",
        "tf2onnx.convert --tflite",
        "samples as an .npz",
    ),
    "ort": (
        b"\x1c\0\0\0ORTM" + bytes(100),
        "onnxruntime's own format",
        "the .onnx file it was made from",
        "as an .npz",
    ),
    "h5": (
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        "an HDF5 file",
        "model.export('model.onnx', format='onnx')",
        "numpy.savez",
    ),
    "keras": (
        archive("metadata.json", "config.json", "model.weights.h5"),
        "a Keras model",
        "format='onnx'",
        "numpy.savez",
    ),
    "pt": (archive("net/data.pkl", "net/version", "net/data/0"), "a PyTorch file", "torch.onnx.export(", "numpy.savez"),
    "pickle": (pickle.dumps({"a": 1}, 4), "a Python pickle", "skl2onnx", "numpy.savez"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer",
        "git lfs pull",
        "git lfs pull",
    ),
    "zip": (archive("a.txt"), "a zip archive", "unpack it", "unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "compressed by gzip", "gunzip", "gunzip"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG picture", "the .onnx file", "numpy.savez"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG picture", "the .onnx file", "numpy.savez"),
    "safetensors": (
        len(SAFETENSORS).to_bytes(8, "little") + SAFETENSORS + bytes(4),
        "a safetensors file",
        "torch.onnx.export(",
        "numpy.savez",
    ),
    "image": (b"EPM1" + bytes(100), "an image of the device", "the ONNX model", "samples as an .npz"),
    "head": (b"EPH1" + bytes(100), "a saved head", "the ONNX model", "samples as an .npz"),
    "json": (b'\xef\xbb\xbf{"a": [1]}', "JSON text", "the .onnx file", "numpy.savez"),
    "csv": (b"a,b\n1.5,2\n3,4\n", "a table of text", "the .onnx file", "numpy.loadtxt"),
    "csv in UTF-16": ("a;b\n1;2\n".encode("utf-16"), "a table of text", "the .onnx file", "numpy.loadtxt"),
    "html": (b"<!DOCTYPE html><html>404</html>", "an HTML page", "fetch the file itself", "fetch the file itself"),
    "text": (b"hello there\n", "a text", "the .onnx file", "numpy.savez"),
    "empty": (b"", "is empty", "write or fetch it again", "write or fetch it again"),
}
MODELS = {
    "npz": (arrays(np.savez, x=np.zeros(3)), "an .npz of arrays", "--calibration"),
    "npy": (arrays(np.save, np.zeros(3)), "an .npy array", "--calibration"),
}


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(list(command)) != 0
    told = capsys.readouterr()
    return told.err or told.out


@pytest.mark.parametrize("kind", [*KINDS, *MODELS])
def test_given_as_a_model(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, what, cure = KINDS[kind][:3] if kind in KINDS else MODELS[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for message in (said(capsys, "export", str(path), "-o", str(tmp_path / "out")), check(path).message):
        assert what in message
        assert cure in message
        assert "model.onnx" in message
        assert len(message.splitlines()) == 1
        assert len(message) < 300 + len(str(path))
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("kind", KINDS)
def test_given_as_samples(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, what, _, cure = KINDS[kind]
    (tmp_path / "x.npz").write_bytes(content)
    (tmp_path / "m.onnx").write_bytes(model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"]).SerializeToString())
    for command in ("check", "export"):
        message = said(capsys, command, str(tmp_path / "m.onnx"), "--calibration", str(tmp_path / "x.npz"))
        assert what in message
        assert cure in message
        assert len(message.splitlines()) == 1


def test_a_model_given_as_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"])
    for name in ("m.onnx", "other.npz"):
        (tmp_path / name).write_bytes(proto.SerializeToString())
        message = said(capsys, "check", str(tmp_path / "m.onnx"), "--inputs", str(tmp_path / name))
        assert "an ONNX model" in message


def test_given_as_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((1, 4)), y=np.zeros(1))
    proto = model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"])
    for content, what in (
        (proto.SerializeToString(), "an ONNX model"),
        (KINDS["tflite"][0], "a TensorFlow Lite model"),
    ):
        (tmp_path / "m.ep").write_bytes(content)
        message = said(capsys, "adapt", str(tmp_path / "m.ep"), "--data", str(tmp_path / "data.npz"))
        assert f"{what}, not an image (.ep): edgeprop export writes one" in message


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert "--saved-model" in said(capsys, "export", str(tmp_path))
    (tmp_path / "saved_model.pb").unlink()
    assert "give the .onnx file in it" in said(capsys, "export", str(tmp_path))


@pytest.mark.parametrize("command", [("export",), ("check",), ("inspect",), ("check", "m.onnx", "--inputs")])
def test_what_never_ends_is_not_read(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"]).SerializeToString())
    os.mkfifo("pipe")
    for name in ("pipe", "/dev/zero"):
        assert "no regular file" in said(capsys, *command, name)


def test_models_are_no_text_or_archive() -> None:
    """An ONNX file is none of these, however it begins: its fields may stand in any order."""
    proto = model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"])
    data = proto.SerializeToString()
    assert by_magic(data) is by_text(data) is None
    graph = proto.graph.SerializeToString()
    swapped = b"\x3a" + bytes([len(graph)]) + graph + data[:2]
    assert by_magic(swapped) is by_text(swapped) is None


# ---- Arrays that claim more than they are ----------------------------------------------------------------------------


def header(shape: Any, dtype: str = "<f4") -> bytes:
    """An .npy that ends with its header."""
    packed = io.BytesIO()
    np.lib.format.write_array_header_1_0(packed, {"descr": dtype, "fortran_order": False, "shape": shape})
    return packed.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((1 << 44,)), "needs 70,368,744,177,664 bytes and has 0"),
        (header((1 << 40, 1 << 40)) + bytes(64), "and has 64"),
        (header((-1, 4)) + bytes(64), "no axis has fewer than 0"),
        (arrays(np.save, np.array([None, {}])), "holds Python objects"),
        (arrays(np.save, np.zeros(100))[:-1], "needs 800 bytes and has 799"),
        (b"\x93NUMPY\x09\x09" + bytes(100), "version 9.9 of .npy"),
    ],
    ids=["TiB", "overflow", "negative", "objects", "cut", "version"],
)
def test_arrays_that_lie(content: bytes, message: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    if packed:
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(Exception, match=message):
        read_arrays(str(path))


def test_arrays_come_as_numpy_reads_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = {
        "a": random.normal(size=(3, 4)),
        "b": np.asfortranarray(random.normal(size=(2, 3, 4))),
        "c": np.array(5, np.int8),
        "d": np.zeros((0, 3)),
        "e": np.array(["x", "yz"]),
        "f": np.arange(4, dtype=">i4"),
    }
    np.savez(tmp_path / "x.npz", **given)
    np.savez_compressed(tmp_path / "y.npz", **given)
    for name in ("x.npz", "y.npz"):
        found = read_arrays(str(tmp_path / name))
        assert list(found) == list(given)
        for key, array in given.items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype
            assert found[key].flags.writeable or not array.size
    np.save(tmp_path / "z.npy", given["b"])
    np.testing.assert_array_equal(read_arrays(str(tmp_path / "z.npy"))["x"], given["b"])


# ---- Labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with mark", "utf-16-be with mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_labels_of_every_editor(encoding: str, newline: str, tmp_path: Path) -> None:
    text = newline.join(["Löwe", "cat ", "", "犬"]) + newline
    name = encoding.removesuffix(" with mark")
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(name, b"")
    (tmp_path / "labels.txt").write_bytes(mark + text.encode(name))
    assert read_labels(str(tmp_path / "labels.txt")) == ["Löwe", "cat", "犬"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Löwe".encode("latin-1"), "no text in UTF-8"),
        (b"\n \n", "holds no labels"),
        (b"", "is empty"),
        (b'["a", "b"', "no whole JSON"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"a\0b\0", "holds no labels"),
    ],
)
def test_labels_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(Exception, match=message):
        read_labels(str(tmp_path / "labels.txt"))


def test_a_file_of_labels_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be the one label of a network of one class."""
    (tmp_path / "m.onnx").write_bytes(model([node("Relu", ["x"], ["y"])], {"x": ["N", 1]}, ["y"]).SerializeToString())
    for missing in ("labels.txt", "folder/labels", "classes.names"):
        assert "no such file of labels" in said(
            capsys, "export", str(tmp_path / "m.onnx"), "--labels", missing, "-o", str(tmp_path)
        )
    assert not list(tmp_path.glob("*.ep"))


def test_decode_takes_halves_of_utf_16() -> None:
    assert decode(b"\xff\xfea\0b") == "a"
