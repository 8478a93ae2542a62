"""Time two calls so that what disturbs one disturbs the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any


def pin() -> None:
    """Keep this process on one core, where the system lets it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _loop(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int = 15, seconds: float = 0.02) -> dict[str, float]:
    """Return seconds per call of each, the least over `rounds` that take turns.

    The least, not the mean: what a busy machine adds is never negative.
    """
    times = {name: max(1, int(seconds / max(_loop(call, 3), 1e-9))) for name, call in calls.items()}
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], _loop(call, times[name]))
    return best
