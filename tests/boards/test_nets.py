"""The small networks that hold every op, on some boards beside this machine; the rest is `make boards`."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from boards import compare, models
from boards.nets import NETS
from edgeprop import Model, runtime
from tests.support.boards import boards

#: comes only where a value is an output as it came in
ELSEWHERE = {"copy"}


@functools.cache
def _made(name: str) -> models.Model:
    return models.make(name)


def test_every_op_runs_on_the_boards():
    held = frozenset[str]().union(*(_made(name).ops for name in NETS))
    assert set(runtime.OPS) - held == ELSEWHERE


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("where", boards("m4f", slow=("m0", "a76")))
def test_a_network_of_new_ops(name, where, board):
    result = compare.run(board(where), _made(name))
    assert result.passed, result
    assert not result.skipped
    assert result.int8_different == 0
    assert result.int8 > 5 or not name.endswith("_int8")
    assert result.f32 > 30 or name in ("dynamic", "zeros_int8")


@pytest.mark.parametrize("name", [name for name in NETS if name.endswith("_stream")])
def test_a_stream_goes_on(name):
    """The same frame twice gives two answers, and after a reset the first one again."""
    model = Model(_made(name).header.with_suffix(".ep"))
    x = np.linspace(-1, 1, 4, dtype=np.float32).reshape(1, 1, 4)
    first, second = model.run(x)[0].copy(), model.run(x)[0].copy()
    assert not np.array_equal(first, second)
    model.reset_state()
    np.testing.assert_array_equal(model.run(x)[0], first)
