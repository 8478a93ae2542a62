"""Time contestants so that what disturbs one disturbs the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Call = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How long to look for the least time.

    Attributes
    ----------
    rounds : turns of each contestant
    seconds : of a turn, about; one call takes as long as it takes
    budget : seconds for all turns of a contestant; slow ones get fewer, but `fewest`
    """

    rounds: int = 60
    seconds: float = 1e-3
    budget: float = 6.0
    fewest: int = 10


class Contestant(Protocol):
    """Something that can be timed."""

    def turn(self, times: int) -> float:
        """Return seconds per call over `times` calls, after one that is not timed and fills the caches."""


class Local:
    """A call in this process.

    Timed by processor time, all threads of this process counted, not by the clock on the wall: on one core they are
    the same but for what other processes take away.
    """

    def __init__(self, call: Call) -> None:
        self.call = call

    def turn(self, times: int) -> float:
        """See `Contestant`."""
        call = self.call
        call()
        start = time.process_time()
        for _ in range(times):
            call()
        return (time.process_time() - start) / times


def pin() -> int | None:
    """Keep this process, and those it starts, on one core, where the system lets it; returns which."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))  # interrupts tend to go to the first
    os.sched_setaffinity(0, {core})
    return core


def interleaved(contestants: dict[str, Contestant], effort: Effort) -> dict[str, float]:
    """Return seconds per call of each, the least over rounds in which they take turns.

    The least, not the mean: what a busy machine adds is never negative. Turns are short, so that some are undisturbed.
    """
    for contestant in contestants.values():
        contestant.turn(1)
    once = {name: max(1e-8, contestant.turn(2)) for name, contestant in contestants.items()}
    times = {name: max(1, int(effort.seconds / seconds)) for name, seconds in once.items()}
    slowest = max(2 * once[name] * times[name] for name in contestants)
    rounds = min(effort.rounds, max(effort.fewest, int(effort.budget / slowest)))
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, contestant in contestants.items():
            best[name] = min(best[name], contestant.turn(times[name]))
    return best
