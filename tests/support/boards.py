"""Boards as parameters of tests."""

from __future__ import annotations

from typing import Any

import pytest


def boards(*quick: str, slow: tuple[str, ...] = ()) -> list[Any]:
    """Names of boards. The tests of one board run in one process, which compiles for it once; every board of `slow` costs a
    compilation of its own, and `make boards` runs them all."""
    of_one = {name: pytest.mark.xdist_group(f"board {name}") for name in (*quick, *slow)}
    return [
        *(pytest.param(name, marks=of_one[name]) for name in quick),
        *(pytest.param(name, marks=[of_one[name], pytest.mark.slow]) for name in slow),
    ]
