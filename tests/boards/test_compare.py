"""A small int8 network whose head learns, on some boards beside this machine; the rest is `make boards`."""

from __future__ import annotations

import pytest

from boards import compare, models
from boards.table import BOARDS, HOST
from tests.support.boards import boards


@pytest.mark.parametrize("name", boards(HOST.name, "m4f", slow=("mb", "v6", "a76")))
def test_a_small_int8_network_with_a_learning_head(name, board):
    where = HOST if name == HOST.name else board(name)
    result = compare.run(where, models.make("small_int8"))
    assert result.passed, result
    assert not result.skipped
    assert result.int8 > 20
    assert result.int8_different == 0
    assert result.f32 > 20


@pytest.mark.slow
@pytest.mark.xdist_group("board mb")
def test_a_board_without_room_says_so(board):
    result = compare.run(board("mb"), models.make("resnet8_int8"))
    assert result.skipped
    assert result.note == "no room"


def test_every_row_can_be_installed():
    for row in BOARDS.values():
        assert row.packages
        assert row.emulator
        assert row.compiler.endswith("-gcc")
