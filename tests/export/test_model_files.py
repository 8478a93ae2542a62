"""A model's file and the files of weights beside it: found from anywhere, whole or refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprop import Model, export
from edgeprop.export.check import check
from edgeprop.export.graph.importer import load
from edgeprop.export.lower import lower
from tests.support.graphs import model, node


def dense(value: float = 1.0) -> onnx.ModelProto:
    weights = np.full((4, 3), value, np.float32)
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])]
    return model(nodes, {"x": ["N", 4]}, ["y"], {"w": weights, "b": np.zeros(3, np.float32)})


def written(folder: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """A model with its weights beside it, as PyTorch writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    onnx.save_model(proto, path, save_as_external_data=True, location=f"{name}.data", size_threshold=0)
    return path


@pytest.mark.parametrize("kind", ["path", "text"])
def test_weights_are_those_beside_the_model(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standing in the folder of another run, whose weights have the same file names."""
    written(tmp_path / "a", dense(1))
    path = written(tmp_path / "b", dense(2))
    monkeypatch.chdir(tmp_path / "a")
    given: Any = path if kind == "path" else "../b/model.onnx"
    done = export.save(tmp_path / "out" / "m", given)
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(Model(str(done.paths["image"])).run(x)[0], np.full((1, 3), 8, np.float32))
    assert not any(t.external_data for t in onnx.load(done.paths["onnx"], load_external_data=False).graph.initializer)
    assert check(given).status == "ok"


def test_the_hash_is_of_the_weights_too(tmp_path: Path) -> None:
    first, second = (load(written(tmp_path / str(v), dense(v))).source_hash for v in (1, 2))
    assert first != second
    assert first == load(written(tmp_path / "again", dense(1))).source_hash


def test_a_model_in_memory_says_that_it_has_no_folder(tmp_path: Path) -> None:
    path = written(tmp_path, dense())
    for given in (path.read_bytes(), onnx.load(path, load_external_data=False)):
        with pytest.raises(ValueError, match=r"initializer '[wb]' stands in a file.*give the path of the .onnx file"):
            lower(given)
    assert lower(onnx.load(path)).ops


def outside(tensor: TensorProto, **entries: str) -> TensorProto:
    """The same tensor with its bytes elsewhere."""
    result = TensorProto(
        name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, data_location=TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        result.external_data.add(key=key, value=value)
    return result


DATA = np.arange(12, dtype=np.float32)
TENSOR = numpy_helper.from_array(DATA.reshape(4, 3), "w")


def with_weight(tensor: TensorProto, foreign: bool = False) -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["z" if foreign else "y"])]
    if foreign:
        nodes.append(node("Gelu", ["z"], ["y"], domain="com.microsoft"))
    proto = model(nodes, {"x": ["N", 4]}, ["y"], shapes={"y": ["N", 3]})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto.graph.initializer.append(tensor)
    return proto


def _link(folder: Path) -> None:
    (folder / "w.bin").symlink_to("/etc/passwd")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "w.bin")


def _folder(folder: Path) -> None:
    (folder / "w.bin").mkdir()


REFUSED: dict[str, tuple[dict[str, str], Callable[[Path], None] | None, str]] = {
    "above": ({"location": "../../../../../etc/passwd"}, None, "not in the model's folder"),
    "above within": ({"location": "a/../../w.bin"}, None, "not in the model's folder"),
    "absolute": ({"location": "/etc/passwd"}, None, "not in the model's folder"),
    "absolute on Windows": ({"location": "C:\\weights"}, None, "not in the model's folder"),
    "a device": ({"location": "/dev/zero"}, None, "not in the model's folder"),
    "a link out": ({"location": "w.bin"}, _link, "not in the model's folder"),
    "a pipe": ({"location": "w.bin"}, _pipe, "no regular file"),
    "a folder": ({"location": "w.bin"}, _folder, "no regular file"),
    "nothing": ({"location": "nowhere.bin"}, None, "which is not there"),
    "no name": ({}, None, "not in the model's folder"),
    "zero byte": ({"location": "w\0.bin"}, None, "not in the model's folder"),
    "too short": ({"location": "good.bin", "offset": "4"}, None, "up to byte 52, and that has 48"),
    "far behind": ({"location": "good.bin", "offset": str(1 << 60)}, None, "and that has 48"),
    "negative": ({"location": "good.bin", "offset": "-4"}, None, "no number of bytes"),
    "no number": ({"location": "good.bin", "length": "many"}, None, "no number of bytes"),
    "length of another": ({"location": "good.bin", "length": "44"}, None, "needs 48 bytes, 'good.bin' is to have 44"),
    "a length of none": ({"location": "good.bin", "length": "0"}, None, "needs 48 bytes"),
}


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("what", REFUSED)
def test_places_that_are_refused(what: str, foreign: bool, tmp_path: Path) -> None:
    """Whatever domains the nodes are of: nothing is read from elsewhere, and the tensor is named."""
    entries, prepare, message = REFUSED[what]
    (tmp_path / "good.bin").write_bytes(DATA.tobytes())
    if prepare:
        prepare(tmp_path)
    (tmp_path / "m.onnx").write_bytes(with_weight(outside(TENSOR, **entries), foreign).SerializeToString())
    with pytest.raises(ValueError, match="initializer 'w'.*" + message):
        lower(tmp_path / "m.onnx")
    assert check(tmp_path / "m.onnx").status == "error"


def test_a_link_within_the_folder_and_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.bin").write_bytes(b"head" + DATA.tobytes())
    (tmp_path / "w.bin").symlink_to("deep/good.bin")
    for location in ("w.bin", "deep/good.bin"):
        proto = with_weight(outside(TENSOR, location=location, offset="4", length="48"))
        (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
        np.testing.assert_array_equal(
            numpy_helper.to_array(load(tmp_path / "m.onnx").proto.graph.initializer[0]), DATA.reshape(4, 3)
        )


def _constant(tensor: TensorProto) -> onnx.ModelProto:
    return model([node("Constant", [], ["w"], value=tensor), node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 4]}, ["y"])


def _branch(tensor: TensorProto) -> onnx.ModelProto:
    """In both branches of an If, once as an initializer and once as a Constant."""
    value = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    then = helper.make_graph([node("MatMul", ["x", "w"], ["r"])], "then", [], [value], [tensor])
    other = helper.make_graph(
        [node("Constant", [], ["w"], value=tensor), node("MatMul", ["x", "w"], ["r"])], "else", [], [value]
    )
    return model(
        [node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        {"x": ["N", 4]},
        ["y"],
        {"c": True},
        shapes={"y": ["N", 3]},
    )


def _function(tensor: TensorProto) -> onnx.ModelProto:
    body = [node("Constant", [], ["w"], value=tensor), node("MatMul", ["a", "w"], ["b"])]
    opset = [helper.make_opsetid("", 17)]
    proto = model([node("F", ["x"], ["y"], domain="own")], {"x": ["N", 4]}, ["y"], shapes={"y": ["N", 3]})
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, opset))
    return proto


def _sparse(tensor: TensorProto) -> onnx.ModelProto:
    """The sparse form of a matrix that has all its elements."""
    values = TensorProto()
    values.CopyFrom(tensor)
    del values.dims[:]
    values.dims.append(12)
    made = onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.arange(12), ""), dims=[4, 3])
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 4]}, ["y"], shapes={"y": ["N", 3]})
    proto.graph.sparse_initializer.append(made)
    return proto


@pytest.mark.parametrize("make", [_constant, _branch, _function, _sparse])
def test_tensors_wherever_they_stand(make: Callable[[TensorProto], onnx.ModelProto], tmp_path: Path) -> None:
    """Found beside the model, and refused from elsewhere, in Constants, branches, functions and sparse tensors."""
    (tmp_path / "w.bin").write_bytes(DATA.tobytes())
    proto = load_of(make(outside(TENSOR, location="w.bin")), tmp_path)
    assert not any(tensor.external_data for tensor in _all_tensors(proto))
    with pytest.raises(ValueError, match="not in the model's folder"):
        load_of(make(outside(TENSOR, location="/etc/passwd")), tmp_path)


def load_of(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return load(folder / "m.onnx").proto


def _all_tensors(proto: onnx.ModelProto) -> list[TensorProto]:
    found = [*proto.graph.initializer, *(s.values for s in proto.graph.sparse_initializer)]
    graphs = [a.g for n in proto.graph.node for a in n.attribute]
    return found + [a.t for g in (proto.graph, *graphs) for n in g.node for a in n.attribute if a.HasField("t")]


SIZES: dict[str, tuple[Callable[[TensorProto], Any], str]] = {
    "14 TiB": (lambda t: t.dims.append(1 << 40), "more than a model can hold"),
    "an axis below zero": (lambda t: t.dims.append(-1), "no axis has fewer than 0"),
    "bytes missing": (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "needs 48 bytes and has 47"),
    "elements missing": (
        lambda t: (t.ClearField("raw_data"), t.float_data.extend([1.0] * 11)),
        "needs 12 elements and has 11",
    ),
    "another type": (lambda t: setattr(t, "data_type", TensorProto.DOUBLE), "needs 96 bytes and has 48"),
}


@pytest.mark.parametrize("what", SIZES)
def test_sizes_that_disagree_with_bytes(what: str) -> None:
    change, message = SIZES[what]
    tensor = TensorProto()
    tensor.CopyFrom(TENSOR)
    change(tensor)
    with pytest.raises(ValueError, match="initializer 'w'.*" + message):
        load(with_weight(tensor))


# ---- Links -----------------------------------------------------------------------------------------------------------


def cached(root: Path, proto: onnx.ModelProto, below: str = "") -> Path:
    """A model as Hugging Face's cache holds it: both files are links to blobs that are called by their hashes."""
    made = written(root / "made", proto)
    blobs, snapshot = root / "blobs", root / "snapshots" / "0a1b" / below
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    up = "../" * (2 + bool(below))
    for name, blob in (("model.onnx", "c0ffee"), ("model.onnx.data", "decade")):
        (made.parent / name).rename(blobs / blob)
        (snapshot / name).symlink_to(f"{up}blobs/{blob}")
    return snapshot / "model.onnx"


@pytest.mark.parametrize("below", ["", "onnx"])
def test_a_cache_of_links(below: str, tmp_path: Path) -> None:
    path = cached(tmp_path, dense(2), below)
    done = export.save(tmp_path / "out" / "m", path)
    np.testing.assert_array_equal(Model(done.paths["image"]).run(np.ones((1, 4), "f4"))[0], np.full((1, 3), 8, "f4"))
    (tmp_path / "out" / "n.onnx").symlink_to(tmp_path / "blobs" / "decade")
    with pytest.raises(ValueError, match="would be overwritten by its own export"):
        export.save(tmp_path / "out" / "n", path)


def test_a_link_to_a_model_whose_weights_are_beside_that(tmp_path: Path) -> None:
    path = written(tmp_path / "there", dense(2))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "m.onnx").symlink_to(path)
    x = np.ones((1, 4), np.float32)
    assert load(tmp_path / "here" / "m.onnx").source_hash == load(path).source_hash
    assert check(tmp_path / "here" / "m.onnx", {"x": x}).status == "ok"
    (tmp_path / "folder").symlink_to(tmp_path / "there")
    assert load(tmp_path / "folder" / "model.onnx").source_hash == load(path).source_hash


def _plain_model(root: Path) -> Path:
    """A plain file, whose weights are a link that leads out."""
    path = cached(root, dense())
    (root / "snapshots" / "plain").mkdir()
    copy = root / "snapshots" / "plain" / "model.onnx"
    copy.write_bytes(path.read_bytes())
    (copy.parent / "model.onnx.data").symlink_to("../../blobs/decade")
    return copy


def _elsewhere(root: Path) -> Path:
    """A link as in a cache, beside weights that are a link to neither the cache's folder nor the model's."""
    path = cached(root, dense())
    (root / "secret").mkdir()
    (root / "blobs" / "decade").rename(root / "secret" / "key")
    (path.parent / "model.onnx.data").unlink()
    (path.parent / "model.onnx.data").symlink_to("../../secret/key")
    return path


def _through_a_blob(root: Path) -> Path:
    """A blob that is itself a link out."""
    path = cached(root, dense())
    (root / "secret").mkdir()
    (root / "blobs" / "decade").rename(root / "secret" / "key")
    (root / "blobs" / "decade").symlink_to("../secret/key")
    return path


def _from_within(root: Path) -> Path:
    """A link to a model that came with it does not open the world."""
    made = written(root / "made" / "real", dense())
    (root / "made" / "model.onnx").symlink_to("real/model.onnx")
    (made.parent / "model.onnx.data").rename(root / "key")
    (root / "made" / "model.onnx.data").symlink_to("../key")
    return root / "made" / "model.onnx"


def _upwards(root: Path) -> Path:
    """A name that climbs, of weights that lie where the link's target is."""
    path = root / "s" / "m.onnx"
    (root / "blobs").mkdir()
    path.parent.mkdir()
    (root / "blobs" / "w.bin").write_bytes(DATA.tobytes())
    (root / "blobs" / "m").write_bytes(with_weight(outside(TENSOR, location="../blobs/w.bin")).SerializeToString())
    path.symlink_to("../blobs/m")
    return path


@pytest.mark.parametrize("make", [_plain_model, _elsewhere, _through_a_blob, _from_within, _upwards])
def test_links_that_lead_out_are_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=r"initializer '[wb]' stands in .*not in the model's folder"):
        load(path)
    assert check(path).status == "error"


def test_a_blob_that_is_no_regular_file(tmp_path: Path) -> None:
    path = cached(tmp_path, dense())
    (tmp_path / "blobs" / "decade").unlink()
    with pytest.raises(ValueError, match="which is not there: copy it there"):
        load(path)
    os.mkfifo(tmp_path / "blobs" / "decade")
    with pytest.raises(ValueError, match="no regular file"):
        load(path)
