"""Refusals of the binding that no other test asks for: each is said, with its code, and the model is as it was."""

from __future__ import annotations

import errno
import os
import warnings
from fractions import Fraction
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


BEYOND = 10**400


def values_model() -> edgeprop.Model:
    return edgeprop.Model(image(mlp(loss="mse")))


@pytest.mark.parametrize("x", [[[BEYOND] * 6], [[1.5, BEYOND, 1, 1, 1, 1]], [[Fraction(-BEYOND)] * 6]])
def test_numbers_beyond_float64_are_no_samples_and_no_values(x: list[list[Any]]) -> None:
    """NumPy says so by an error of its own kind."""
    m, values = model(), values_model()
    calls = (
        lambda: m.run(x),
        lambda: values.partial_fit(np.ones((1, 6)), [x[0][:4]]),
        lambda: m.set_parameters({"fc1.bias": x[0][:4]}),
    )
    for call in calls:
        with pytest.raises(edgeprop.Error, match="too large for float64") as caught:
            call()
        assert caught.value.code == "EP_ERR_ARG"


@pytest.mark.parametrize("label", [BEYOND, -BEYOND, 2**70, Fraction(BEYOND)])
def test_a_number_beyond_float64_is_no_label(label: Any) -> None:
    m = model()
    for call in (m.score, m.partial_fit, m.gradients):
        with pytest.raises(edgeprop.Error, match=r"at y\[1\] is outside 0 .. 3") as caught:
            call(np.ones((2, 6)), [1, label])
        assert caught.value.code == "EP_ERR_LABEL"


def test_a_label_that_numpy_would_cut_is_no_class() -> None:
    m = edgeprop.Model(image(mlp(labels=["a", "b", "c", "d"])))
    for y in (["a\0"], np.array(["a\0"], object), [b"a\0"]):
        with pytest.raises(edgeprop.Error, match="zero byte"):
            m.partial_fit(np.ones((1, 6)), y)
    with pytest.raises(edgeprop.Error, match="zero byte") as caught:
        edgeprop.Model(image(mlp(labels=["a", "a\0", "c", "d"])))
    assert caught.value.code == "EP_ERR_IMAGE"


def test_weights_are_refused_as_samples_are() -> None:
    """What a mask hides is not taken; the message names the weight and where, not a step and its learning rate."""
    m = model()
    before = m.parameters()
    said = {
        r"fc1.bias\[1\] is masked": {"fc1.bias": np.ma.masked_array(np.ones(4), [0, 1, 0, 0])},
        r"fc1.bias is not an array": {"fc1.bias": [[1], [1, 2]]},
        r"fc1.bias\[2\] is nan, not finite": {"fc1.bias": [0, 0, np.nan, 0]},
        r"fc1.bias\[0\] is 1e\+300, too large for float32": {"fc1.bias": np.full(4, 1e300)},
        r"weights are a list": [("fc1.bias", np.ones(4))],
    }
    for message, values in said.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(edgeprop.Error, match=message):
                m.set_parameters(values)  # type: ignore[arg-type]
        assert all(np.array_equal(value, before[name]) for name, value in m.parameters().items())


def test_skipping_is_for_single_samples() -> None:
    for more in ({"batch_size": 2}, {"clip_norm": 1.0}):
        for rule in ("skip_below", "skip_share"):
            with pytest.raises(edgeprop.Error, match="skip_share look at single samples") as caught:
                model().partial_fit(np.ones((2, 6)), [0, 1], **more, **{rule: 0.5})  # type: ignore[arg-type]
            assert caught.value.code == "EP_ERR_ARG"


@pytest.mark.parametrize("path", [None, 1.5, True, "a\0b", b"a\0b", "\ud800", bytearray(3)])
def test_what_is_no_path(path: Any) -> None:
    for call in (model().restore, model().save, model().check_save):
        with pytest.raises(edgeprop.Error, match="is no path; give the name of a file") as caught:
            call(path)
        assert caught.value.code == "EP_ERR_ARG"


def test_a_number_is_no_file_that_happens_to_be_open(tmp_path: Path) -> None:
    saved = tmp_path / "head"
    model().save(saved)
    number = os.open(saved, os.O_RDONLY)
    try:
        with pytest.raises(edgeprop.Error, match="is no path"):
            model().restore(number)  # type: ignore[arg-type]
        os.fstat(number)  # still open
    finally:
        os.close(number)


def test_paths_may_be_bytes(tmp_path: Path) -> None:
    m, path = model(), os.fsencode(tmp_path / "head")
    m.partial_fit(np.ones((2, 6)), [0, 1], lr=0.1)
    m.save(path)  # type: ignore[arg-type]
    twin = model().restore(path)  # type: ignore[arg-type]
    np.testing.assert_array_equal(m.run(np.ones((1, 6)))[0], twin.run(np.ones((1, 6)))[0])


def test_a_name_of_thousands_of_digits_is_a_text() -> None:
    """int() refuses so many."""
    m = edgeprop.Model(image(mlp(labels=["9" * 5000, "1", "2", "3"])))
    twin = m.clone().partial_fit(np.ones((2, 6)), ["9" * 5000, "1"])
    m.partial_fit(np.ones((2, 6)), [0, 1])
    assert all(np.array_equal(value, twin.parameters()[name]) for name, value in m.parameters().items())
