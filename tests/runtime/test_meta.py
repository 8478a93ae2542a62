"""The meta section of an image, changed in all ways: it is refused at load, or the model is as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeprop
from tests.support.image import Net, Tensor, image, mlp, reseal

X = np.random.default_rng(3).normal(size=(5, 6)).astype("f4")
Y = np.arange(5) % 4
DATA = image(mlp((6, 8, 4), trainable=2, labels=["a", "b", "c", "d"], softmax=True))


def meta_of(data: bytes) -> Any:
    return json.loads(data[len(data) - int.from_bytes(data[88:92], "little") :])


def with_meta(data: bytes, meta: Any) -> bytes:
    """The image with another meta section, its last one."""
    section = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    changed = bytearray(data[: len(data) - int.from_bytes(data[88:92], "little")] + section)
    changed[8:12], changed[88:92] = (size.to_bytes(4, "little") for size in (len(changed), len(section)))
    return reseal(bytes(changed))


def refused(data: bytes, message: str = "") -> None:
    with pytest.raises(edgeprop.Error, match=message) as error:
        edgeprop.Model(data)
    assert error.value.code == "EP_ERR_IMAGE"


def loaded(data: bytes) -> edgeprop.Model | None:
    """The model; None if it is refused for what its image is."""
    try:
        return edgeprop.Model(data)
    except edgeprop.Error as error:
        if error.code != "EP_ERR_IMAGE":
            raise
        return None


def everything(model: edgeprop.Model) -> list[np.ndarray]:
    """What a model does by the sizes of names, ports and labels."""
    labels = model.classes_[Y]
    found = [model.run(X)[0], model.predict(X), model.predict_proba(X), np.array(model.score(X, labels))]
    found += [*model.gradients(X, labels).values(), *model.trace(X).values()]
    found += [*model.clone().partial_fit(X, labels, batch_size=2).parameters().values()]
    model.summary().encode()
    return found


EXPECTED = everything(edgeprop.Model(DATA))

# ---- Any JSON in any place ------------------------------------------------------------------------------------------

SMALL = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.floats(), st.sampled_from(["x", "fc0", "a", "", "f32", "\ud800"])
)
ANY = st.recursive(
    SMALL, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner), max_leaves=6
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value inside another."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in steps for found in places(inner, (*path, key)))]


PLACES = places(meta_of(DATA))[1:]


def changed(meta: Any, path: tuple[Any, ...], how: str, value: Any) -> Any:
    """A copy with one value replaced, left out, doubled or emptied."""
    meta = json.loads(json.dumps(meta))
    holder = meta
    for step in path[:-1]:
        holder = holder[step]
    if how == "replaced":
        holder[path[-1]] = value
    elif how == "left out":
        del holder[path[-1]]
    elif isinstance(holder, list):
        holder.insert(path[-1], holder[path[-1]])
    else:
        holder[path[-1]] = type(holder[path[-1]])()
    return meta


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(["replaced", "left out", "doubled"]), ANY)
def test_meta_changed_in_one_place(path: tuple[Any, ...], how: str, value: Any) -> None:
    data = with_meta(DATA, changed(meta_of(DATA), path, how, value))
    model = loaded(data)
    if model is None:
        return
    if path[0] == "labels" or list(model.classes_) != ["a", "b", "c", "d"]:
        assert len(model.classes_) == 4  # other names for the same classes
        return
    found = everything(model)
    for array, expected in zip(found, EXPECTED, strict=True):
        np.testing.assert_array_equal(array.reshape(expected.shape), expected)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | ANY.map(lambda value: json.dumps(value).encode()))
def test_meta_of_anything(section: bytes) -> None:
    model = loaded(with_meta(DATA, section))
    if model is not None:
        model.summary().encode()


# ---- What is refused, by name ---------------------------------------------------------------------------------------


def edited(**changes: Any) -> bytes:
    return with_meta(DATA, {**meta_of(DATA), **changes})


def row(kind: str, index: int = 0, **changes: Any) -> bytes:
    meta = meta_of(DATA)
    meta[kind][index].update(changes)
    return with_meta(DATA, meta)


BAD = {
    "two tensors of one name": (row("tensors", 1, name="x"), "two tensors are named x"),
    "too few tensors": (edited(tensors=meta_of(DATA)["tensors"][:-1]), "tensors has"),
    "a tensor of another size": (row("tensors", 1, shape=[8, 7]), "shape"),
    "a tensor of negative sizes": (row("tensors", 1, shape=[-8, -6]), "shape"),
    "a tensor of no size": (row("tensors", 1, shape=[8, 6, 0]), "shape"),
    "sizes that are no whole numbers": (row("tensors", 1, shape=[8.0, 6]), "shape"),
    "truth values for sizes": (row("tensors", 1, shape=[48, True]), "shape"),
    "a name that is no text": (row("tensors", 1, name=3), "name of tensor 1 is int"),
    "a name that is half a character": (row("tensors", 1, name="\ud800"), "surrogates"),
    "too many nodes": (edited(nodes=["a"] * 9), "nodes has 9 rows, the model 3"),
    "nodes that are no texts": (edited(nodes=[1, 2, 3]), "nodes is int"),
    "too many labels": (edited(labels=list("abcde")), "5 labels for 4 scores"),
    "too few labels": (edited(labels=list("abc")), "3 labels for 4 scores"),
    "labels twice": (edited(labels=list("abca")), "two classes have the same name"),
    "labels that are no texts": (edited(labels=[1, 2, 3, 4]), "labels is int"),
    "labels as an object": (edited(labels={"a": 1}), "labels is dict"),
    "two inputs": (edited(inputs=meta_of(DATA)["inputs"] * 2), "inputs has 2 rows, the model 1"),
    "no inputs": (edited(inputs=[]), "inputs has 0 rows"),
    "inputs that are no objects": (edited(inputs=["x"]), "no object"),
    "an input of another size": (row("inputs", shape=[0, 7]), "shape"),
    "an input without axes": (row("inputs", shape=[]), "order"),
    "more axes than an array has": (row("inputs", shape=[0, 6] + [1] * 31, perm=list(range(33))), "at most 32"),
    "an order of other axes": (row("inputs", perm=[0, 2]), "order"),
    "an order that moves the batch": (row("inputs", perm=[1, 0]), "order"),
    "an order of truth values": (row("inputs", perm=[False, True]), "order"),
    "another type": (row("inputs", dtype="i8"), "dtype of x"),
    "another scale": (row("inputs", scale=0.5), "scale of x"),
    "no number for a scale": (row("inputs", scale=float("nan")), "scale of x"),
    "a scale beyond float32": (row("inputs", scale=1e308), "scale of x"),
    "a scale beyond all floats": (row("inputs", scale=10**400), "meta"),
    "another zero point": (row("inputs", zero_point=3), "zero_point of x"),
    "another loss": (edited(loss="mse"), "loss mse"),
    "no loss at all": (edited(loss="none"), "loss none"),
    "states there are not": (edited(states=[["h", "h_next"]]), "states has 1 rows"),
    "a source that is no text": (edited(source=3), "source is int"),
    "deep": (with_meta(DATA, b"[" * 100_000 + b"]" * 100_000), "meta"),
    "deep, an object": (with_meta(DATA, b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "meta"),
    "UTF-16": (with_meta(DATA, json.dumps(meta_of(DATA)).encode("utf-16")), "meta"),
    "digits without end": (with_meta(DATA, b'{"x": ' + b"9" * 100_000 + b"}"), "meta"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_meta_that_does_not_fit_is_refused(data: bytes, message: str) -> None:
    refused(data, message)


# ---- What the model itself says -------------------------------------------------------------------------------------


def test_a_loss_of_more_values_than_the_output_is_refused() -> None:
    """Targets are counted by one, answers by the other."""
    net = mlp((6, 8, 4), trainable=2, loss="mse")
    net.outputs = [("fc0", (0, 8), (0, 1))]
    refused(image(net))


def test_sections_that_do_not_add_up_are_refused() -> None:
    longer = bytearray(DATA + bytes(16))
    longer[8:12] = len(longer).to_bytes(4, "little")
    refused(reseal(bytes(longer)), "do not add up")


def large(count: int) -> bytes:
    """A small image of a model whose activations take 8 bytes for each of `count` values."""
    net = Net(name="large")
    net.add(Tensor("x", (count,)))
    net.inputs = [("x", (0, count), (0, 1))]
    net.outputs = [(net.unary("clip_f32", "x", "y", count=count, lo=-1.0, hi=1.0), (0, count), (0, 1))]
    return image(net)


PEAK = """
import resource, sys, edgeprop
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    model = edgeprop.Model(sys.argv[1])
    model.run([[0.0]])
except edgeprop.Error as error:
    print(error.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_small_image_cannot_take_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "large.ep").write_bytes(large(100_000_000))
    with pytest.raises(
        edgeprop.Error, match=r"800,\d+,\d+ bytes of memory for one sample, more than .*max_memory="
    ) as error:
        edgeprop.Model(tmp_path / "large.ep")
    assert error.value.code == "EP_ERR_ARENA"
    assert edgeprop.Model(tmp_path / "large.ep", max_memory=None).inputs[0].sample_shape == (100_000_000,)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "large.ep")], capture_output=True, text=True, check=True
    )
    code, grown = done.stdout.split()
    assert code == "EP_ERR_ARENA"
    assert int(grown) < 50_000  # KiB


def test_memory_is_what_is_allowed() -> None:
    data = large(1000)
    need = edgeprop.Model(data).arena_size()
    assert need > 8000
    model = edgeprop.Model(data, max_memory=need)
    assert model.clone().run(np.full((2, 1000), 2.0))[0].max() == 1
    with pytest.raises(edgeprop.Error, match=f"max_memory={need}"):
        edgeprop.Model(data, max_memory=need - 1)
    for wrong in (0, -1, 1.5, True, "1"):
        with pytest.raises(edgeprop.Error, match="max_memory") as error:
            edgeprop.Model(data, max_memory=wrong)  # type: ignore[arg-type]
        assert error.value.code == "EP_ERR_ARG"


def test_learning_takes_no_more_than_is_allowed_either() -> None:
    data = image(mlp((6, 8, 4), trainable=2))
    model = edgeprop.Model(data)
    need = model.arena_size(train=True)
    limit = max(model.arena_size(restore=True), len(data))
    assert need > limit
    with pytest.raises(edgeprop.Error, match=f"max_memory={need}") as error:
        edgeprop.Model(data, max_memory=limit).partial_fit(X, Y)
    assert error.value.code == "EP_ERR_ARENA"
    edgeprop.Model(data, max_memory=need).partial_fit(X, Y)
