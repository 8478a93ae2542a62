"""Files of names of classes, and archives of samples, as users have them: read where they can mean one thing, else told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export import cli
from edgeprop.export.arrays import read_npz

WANTED = ["sit", "run fast", "Gehör"]
TEXT = "\n".join(WANTED)

READ: dict[str, bytes] = {
    "plain": TEXT.encode(),
    "a line end at the end": (TEXT + "\n").encode(),
    "Windows": TEXT.replace("\n", "\r\n").encode(),
    "old Mac": TEXT.replace("\n", "\r").encode(),
    "byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "empty lines and spaces": b"\n  sit \t\n\nrun fast  \r\n   \n" + "\xa0Gehör\n\n".encode(),
    "CSV of one column": '"sit"\n"run fast"\n"Gehör"\n'.encode(),
    "JSON list": json.dumps(WANTED).encode(),
    "JSON list, indented, with a mark": b"\xef\xbb\xbf" + json.dumps(WANTED, indent=2, ensure_ascii=False).encode(),
    "JSON by index": json.dumps({"2": "Gehör", "0": "sit", "1": "run fast"}).encode(),
    "JSON by name": json.dumps({"run fast": 1, "sit": 0, "Gehör": 2}).encode(),
    "JSON of Hugging Face": json.dumps({"hidden": 3, "id2label": {str(i): n for i, n in enumerate(WANTED)}}).encode(),
}


@pytest.mark.parametrize("ending", [".txt", ".csv", ""])
@pytest.mark.parametrize("what", READ)
def test_names_in_files(what: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"names{ending}"
    path.write_bytes(READ[what])
    assert cli.read_labels(str(path)) == WANTED


NAMES: dict[str, list[str]] = {
    "commas within": ["tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark, man-eater"],
    "one comma each": ["dog, hound", "cat, feline"],
    "words of a vocabulary": ["<pad>", "<unk>", "the"],
    "brackets": ["[PAD]", "[UNK]", "the"],
    "numbers": ["0", "1", "2"],
    "separators of Unicode": ["a\u2028b", "c\x85d"],
    "a colon": ["level: low", "level: high"],
    "some commas": ["a,b", "c"],
    "quotes within": ['6" pipe', '8" pipe'],
}


@pytest.mark.parametrize("what", NAMES)
def test_names_that_look_like_something_else(what: str, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES[what]), encoding="utf-8", newline="\n")
    assert cli.read_labels(str(path)) == NAMES[what]


REFUSED: dict[str, tuple[bytes, str]] = {
    "CSV": (
        b"0,sit\n1,run\n2,walk\n",
        "a table of 2 columns .CSV., not one label a line: keep the column of the names alone",
    ),
    "CSV with a header": (b"id,name\n0,sit\n1,run\n", "a table of 2 columns"),
    "CSV of one line": (b"sit,run,walk", "a table of 3 columns .*: write one label a line"),
    "TSV": (b"0\tsit\n1\trun\n", "a table of 2 columns"),
    "semicolons": (b"0;sit\n1;run\n", "a table of 2 columns"),
    "quoted commas": (b'0,"sit, down"\n1,"run"\n', "a table of 2 columns"),
    "HTML": (b"<!DOCTYPE html>\n<title>404</title>", "an HTML page or XML.*fetch the file itself"),
    "HTML, other case": (b"\n <HTML><body>", "an HTML page or XML"),
    "XML": (b"<?xml version='1.0'?>\n<a/>", "an HTML page or XML"),
    "half of a JSON": (b'["a", "b"', "no whole JSON"),
    "other JSON": (b'{"version": 3}', "does not give each index"),
    "JSON of lists": (b'[["a", 1], ["b", 2]]', "JSON of something else than names"),
    "JSON of nothing": (b"[]", "JSON of something else than names"),
    "JSON of twos": (b'{"a": 0, "b": 0}', "does not give each index"),
    "deep JSON": (b"[" * 100000, "no whole JSON"),
    "YAML by number": (b"names:\n  0: sit\n  1: run\n", "is YAML"),
    "YAML list": (b"- sit\n- run\n", "is YAML"),
    "bytes": (bytes(range(1, 32)) * 4, "holds no labels, for it is no text .it has the byte"),
    "zeros": (b"a\0b\0", "holds no labels, for it is no text .it has the byte 0"),
    "UTF-16 without a mark": ("sit\nrun".encode("utf-16-le"), "holds no labels, for it is no text .it has the byte 0"),
    "Latin-1": ("Gehör\n".encode("latin-1"), "no text in UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n" * 4, "a PNG picture"),
    "spaces": (b" \n\t\n", "holds no labels"),
    "twice": (b"sit\nrun\nsit\n", "labels 1 and 3 are both 'sit'"),
    "twice but for spaces": (b"sit\nrun\nsit \n", "labels 1 and 3 are both 'sit'"),
    "twice in JSON": (b'["a", "a "]', "labels 1 and 2 are both 'a'"),
    "none in JSON": (b'["a", ""]', "label 2 is empty"),
    "an essay": (b"word " * 1000, "a line of 4,999 letters"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_files_that_hold_no_names(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, message = REFUSED[what]
    path = tmp_path / "names.txt"
    path.write_bytes(data)
    with pytest.raises(cli.UserError, match=message):
        cli.read_labels(str(path))
    (tmp_path / "m.onnx").write_bytes(b"")
    assert cli.main(["export", str(tmp_path / "m.onnx"), "--labels", str(path), "-o", str(tmp_path / "o")]) == cli.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_too_large_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"a\n" * (1 << 23) + b"b")
    with pytest.raises(cli.UserError, match="more than 16,777,216 bytes"):
        cli.read_labels(str(path))


# ---- Archives --------------------------------------------------------------------------------------------------------

OBJECTS = np.array([{"user": 1}, None], object)


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = t.Sequential(t.Dense(3, name="head"))
    net.build((4,), seed=0)
    folder = tmp_path_factory.mktemp("learner")
    net_onnx = folder / "float.onnx"
    net_onnx.write_bytes(net.to_onnx().SerializeToString())
    export.save(folder / "m", net, trainable="head", loss="softmax_cross_entropy")
    return folder


def samples(**more: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(12, 4)).astype(np.float32), "y": np.arange(12) % 3, **more}


def test_adapt_reads_what_it_needs(learner: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **samples(about=OBJECTS))
    command = ["adapt", str(learner / "m.ep"), "--data", str(tmp_path / "d.npz"), "--save", str(tmp_path / "h")]
    assert cli.main([*command, "--force"]) == cli.OK
    edgeprop.Model(learner / "m.ep").restore(tmp_path / "h")


def test_what_is_needed_must_be_plain(learner: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "d.npz", **samples(y=OBJECTS))
    assert cli.main(["adapt", str(learner / "m.ep"), "--data", str(tmp_path / "d.npz")]) == cli.USAGE
    assert "'y.npy' holds Python objects" in capsys.readouterr().err
    np.savez(tmp_path / "e.npz", a=np.ones(3), b=OBJECTS)
    assert cli.main(["adapt", str(learner / "m.ep"), "--data", str(tmp_path / "e.npz")]) == cli.USAGE
    assert "e.npz holds a; it needs arrays x (samples) and y (targets)" in capsys.readouterr().err


def test_calibration_leaves_objects_out(learner: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "c.npz", x=samples()["x"], about=OBJECTS)
    command = ["check", str(learner / "float.onnx"), "--calibration", str(tmp_path / "c.npz")]
    assert cli.main(command) == cli.OK
    assert "note: " in (told := capsys.readouterr().err)
    assert "about left out, which hold Python objects" in told
    np.savez(tmp_path / "o.npz", about=OBJECTS)
    assert cli.main([*command[:-1], str(tmp_path / "o.npz")]) == cli.USAGE
    assert "'about.npy' holds Python objects" in capsys.readouterr().err


def test_only_what_is_wanted_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprop.export import arrays

    np.savez(tmp_path / "d.npz", x=np.ones(4), big=np.ones(4000))
    monkeypatch.setattr(arrays, "MOST_BYTES", 1000)
    assert read_npz(str(tmp_path / "d.npz"), ["x"])[0].keys() == {"x"}
    with pytest.raises(ValueError, match="at most 1,000 are read"):
        read_npz(str(tmp_path / "d.npz"))
