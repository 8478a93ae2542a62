"""Time calls so that what disturbs one disturbs the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How long to look for the least time: `rounds` turns of about `seconds` for each call."""

    rounds: int = 60
    seconds: float = 1e-3


def pin() -> int | None:
    """Keep this process on one core, where the system lets it; returns which."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))  # interrupts tend to go to the first
    os.sched_setaffinity(0, {core})
    return core


def loop(call: Call, times: int) -> float:
    """Return the seconds of processor time that a call takes, all threads of this process counted.

    Processor time, not the clock on the wall: on one core they are the same but for what other processes take away.
    """
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def repeats(call: Call, seconds: float) -> int:
    """Return how many calls take about `seconds`, after warming up."""
    loop(call, 2)
    return max(1, int(seconds / max(loop(call, 3), 1e-8)))


def turn(call: Call, times: int) -> float:
    """Return seconds per call, the caches filled by a call that is not timed."""
    call()
    return loop(call, times)


def interleaved(calls: dict[str, Call], effort: Effort) -> dict[str, float]:
    """Return seconds per call of each, the least over rounds in which they take turns.

    The least, not the mean: what a busy machine adds is never negative. Turns are short, so that some are undisturbed.
    """
    times = {name: repeats(call, effort.seconds) for name, call in calls.items()}
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(effort.rounds):
        for name, call in calls.items():
            best[name] = min(best[name], turn(call, times[name]))
    return best
