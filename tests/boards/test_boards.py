"""Part of `make boards`: the same program on some emulated boards beside this machine, and every kernel they pick."""

from __future__ import annotations

import functools

import pytest

from boards import build, compare, models
from boards.table import BOARDS
from tests.support.boards import boards as some

SOME = some("m4f", slow=("m0", "m55", "v7", "a53", "a76"))


def _tools(name: str) -> None:
    _, missing = build.available([BOARDS[name]])
    if missing:
        pytest.skip(missing[0])


@functools.cache
def _mlp() -> models.Model:
    return models.make("mlp_64_32_10")


@pytest.mark.parametrize("name", SOME)
def test_kernels(name: str) -> None:
    """Every kernel that the board picks, against the portable one."""
    _tools(name)
    result = compare.run_kernels(BOARDS[name])
    assert result.passed, result.note
    assert result.tables


@pytest.mark.parametrize("name", SOME)
def test_learning(name: str) -> None:
    """Inference, gradients and ten steps of a float32 network."""
    _tools(name)
    result = compare.run(BOARDS[name], _mlp())
    assert result.passed, result.cells()
    assert result.f32 > 30


def test_a_difference_is_seen() -> None:
    """A code with another bit, a float32 value too far away, and a line too few fail."""
    want = "int8 y 00000001\nf32 y 3f800000 40000000\n"
    assert compare.difference(want, want).passed
    assert compare.difference(want.replace("40000000", "40000001"), want).passed
    assert not compare.difference(want.replace("40000000", "40000100"), want).passed
    assert not compare.difference(want.replace("00000001", "00000003"), want).passed
    assert not compare.difference("int8 y 00000001\n", want).passed
