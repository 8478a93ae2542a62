"""Refusals of the binding that no other test asks for: each is said, with its code, and the model is as it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop import _files, _image
from edgeprop._context import Context
from edgeprop.export.writers.image import to_image
from tests.support.image import image, mlp
from tests.support.programs import Builder


def model() -> edgeprop.Model:
    return edgeprop.Model(image(mlp()))


def two_inputs() -> edgeprop.Model:
    """A sum of two inputs, behind a layer that learns."""
    b = Builder("two")
    y = b.dense(b.add(b.input((4,), "a"), b.input((4,), "b"), "sum"), 3, "fc", trainable=True)
    b.output(y)
    b.learn(y, "mse")
    return edgeprop.Model(to_image(b.program))


def test_a_target_for_each_sample() -> None:
    """Of values as of labels: neither more nor fewer, and not none."""
    b = Builder("values")
    y = b.dense(b.input((6,)), 1, "fc", trainable=True)
    b.output(y)
    b.learn(y, "mse")
    x = np.ones((3, 6), np.float32)
    for m in (model(), edgeprop.Model(to_image(b.program))):
        before = m.run(x)[0].copy()
        for n in (2, 4):
            with pytest.raises(edgeprop.Error) as caught:
                m.partial_fit(x, np.zeros(n, int), lr=0.1)
            assert caught.value.code == "EP_ERR_ARG"
        np.testing.assert_array_equal(m.run(x)[0], before)


def test_a_model_of_two_inputs_neither_learns_nor_is_traced() -> None:
    m = two_inputs()
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(m.run(x, x)[0], m.run(x, x)[0])
    for call in (lambda: m.partial_fit(x, np.zeros((2, 3)), lr=0.1), lambda: m.gradients(x, np.zeros((2, 3)))):
        with pytest.raises(edgeprop.Error, match="has 2 inputs; only models of one input learn"):
            call()
    with pytest.raises(edgeprop.Error, match="has 2 inputs; trace takes models of one"):
        m.trace(x)


def test_a_loss_before_anything_was_learned() -> None:
    m = model()
    with pytest.raises(AttributeError, match="after partial_fit"):
        _ = m.loss_


def test_more_memory_than_an_arena_can_have() -> None:
    """A batch of a million samples of a kilobyte each is more than an arena's 2 GiB."""
    b = Builder("wide")
    b.output(b.unary("clip_f32", b.input((1 << 16,)), "clip", lo=0.0, hi=1.0))
    m = edgeprop.Model(to_image(b.program))
    Context(m._image, 2)
    with pytest.raises(edgeprop.Error, match="smaller batches") as caught:
        Context(m._image, 1 << 20)
    assert caught.value.code == "EP_ERR_ARENA"


@pytest.mark.parametrize("by_path", [False, True])
def test_an_image_larger_than_what_is_allowed(by_path: bool, tmp_path: Path) -> None:
    data = image(mlp())
    path = tmp_path / "m.ep"
    path.write_bytes(data)
    source: Any = path if by_path else data
    with pytest.raises(edgeprop.Error, match=f"it has {len(data):,} bytes.*max_memory={len(data)}") as caught:
        edgeprop.Model(source, max_memory=len(data) - 1)
    assert caught.value.code == "EP_ERR_ARENA"


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder("large")
    b.output(b.dense(b.input((128,)), 256, "fc"))
    path = tmp_path / "m.ep"
    path.write_bytes(to_image(b.program))
    whole = path.stat().st_size
    assert edgeprop.Model(path).run(np.zeros((1, 128)))[0].shape == (1, 256)

    def cut(*given: Any) -> int:
        size = size_of(*given)
        os.truncate(path, whole // 2)
        return size

    size_of = _image._size
    monkeypatch.setattr(_image, "_size", cut)
    with pytest.raises(edgeprop.Error, match="it became shorter while it was read"):
        edgeprop.Model(path)


def test_arrays_that_are_not_what_c_reads() -> None:
    """The last look before memory is handed over: rows and bytes of each."""
    m = model()
    count = m._image.model.tensors[m._image.model.inputs[0]].count
    xs, labels = np.zeros((2, count), np.float32), np.zeros(2, np.int32)
    m._image.check_sizes(xs, labels)
    for bad in (
        (xs[:, :-1], labels), (xs, labels[:1]), (xs.astype(np.float64), labels), (xs, labels.astype(np.float32)),
        (xs, labels.astype(np.int64)), (xs, np.zeros((2, 2), np.int32)),
    ):  # fmt: skip
        with pytest.raises(edgeprop.Error, match="are not what"):
            m._image.check_sizes(*bad)


def test_no_name_is_left_for_a_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are being written by others: nothing is touched, and the error says why."""
    path = tmp_path / "head"
    names = list(_files._names(path))
    for name in names:
        name.write_bytes(b"of another")
    with pytest.raises(OSError, match="others are writing") as caught:
        _files._create(path, 0o600)
    assert caught.value.errno == errno.EBUSY
    assert all(name.read_bytes() == b"of another" for name in names)
    assert not path.exists()
