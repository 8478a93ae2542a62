"""Boards in tests: a board whose tools are not installed is skipped, and says so; in CI that is a failure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from boards import build
from boards.table import BOARDS, Board


@pytest.fixture(scope="session")
def board() -> Callable[[str], Board]:
    """`board("m4f")`: the board, if its compiler and emulator are installed."""

    def find(name: str) -> Board:
        _, missing = build.available([BOARDS[name]])
        if missing and build.skips_fail(missing):
            pytest.fail(missing[0])
        if missing:
            pytest.skip(missing[0])
        return BOARDS[name]

    return find
