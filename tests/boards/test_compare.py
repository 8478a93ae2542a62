"""One network on some boards beside this machine; all of them on all boards is `make boards`."""

from __future__ import annotations

import pytest

from boards import compare, models
from boards.table import BOARDS, HOST


@pytest.mark.parametrize("name", [HOST.name, "m0", "mb", "m4f", "m55", "v6", "a76"])
def test_a_small_int8_network_with_a_learning_head(name, board):
    where = HOST if name == HOST.name else board(name)
    result = compare.run(where, models.make("small_int8"))
    assert result.passed, result
    assert not result.skipped
    assert result.int8 > 20
    assert result.int8_different == 0
    assert result.f32 > 20


def test_a_board_without_room_says_so(board):
    result = compare.run(board("mb"), models.make("resnet8_int8"))
    assert result.skipped
    assert result.note == "no room"


PRINTED = "int8 y 12345678\nf32 loss 3f800000 c0000000\ndone 00000000\n"


def test_equal_bits_pass():
    result = compare.difference(PRINTED, PRINTED)
    assert (result.int8, result.f32, result.largest, result.passed) == (1, 1, 0.0, True)


@pytest.mark.parametrize(
    ("changed", "passed"),
    [
        (PRINTED.replace("12345678", "12345679"), False),  # one int8 bit
        (PRINTED.replace("3f800000", "3f800001"), True),  # the last bit of a float
        (PRINTED.replace("3f800000", "3f800200"), False),  # 6e-5 of 1, 3e-5 of the largest value
        (PRINTED.replace("3f800000", "7fc00000"), False),  # NaN
        (PRINTED.replace("int8 y 12345678\n", ""), False),  # a tensor less
    ],
)
def test_differences_are_seen(changed, passed):
    assert compare.difference(changed, PRINTED).passed is passed


def test_every_row_can_be_installed():
    for row in BOARDS.values():
        assert row.packages
        assert row.emulator
        assert row.compiler.endswith("-gcc")
