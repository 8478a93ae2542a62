"""Schedule the learning rate over the epochs, a float that grows with every batch. One row of `SCHEDULES` each."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ._common import lookup, require_number


class Schedule:
    """The learning rate at each moment of training.

    Parameters
    ----------
    learning_rate : float
        The rate after warmup, before decay.
    warmup : float
        Epochs over which the rate rises linearly from 0 to what the schedule says (Goyal et al. 2017).
    """

    kind: ClassVar[str] = "constant"

    def __init__(self, learning_rate: float, *, warmup: float = 0.0) -> None:
        self.learning_rate = require_number(learning_rate, "learning_rate")
        self.warmup = require_number(warmup, "warmup")

    def __call__(self, epoch: float, step: float = 0.0) -> float:
        """Return the rate at `epoch` (0 at the start, 1.5 in the middle of the second epoch).

        `step`, the length of a batch in epochs, lets the first batch of a warmup take a step too.
        """
        ramp = min(1.0, (epoch + step) / self.warmup) if self.warmup else 1.0
        return self.learning_rate * ramp * self.decay(epoch)

    def decay(self, epoch: float) -> float:
        """Return the factor at `epoch`."""
        return 1.0


class StepDecay(Schedule):
    """Times `factor` after each `every` epochs."""

    kind = "step"

    def __init__(self, learning_rate: float, *, every: float, factor: float = 0.1, warmup: float = 0.0) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.every = require_number(every, "every", open_low=True)
        self.factor = require_number(factor, "factor")

    def decay(self, epoch: float) -> float:
        """Return factor ** (number of whole periods)."""
        return float(self.factor ** math.floor(epoch / self.every + 1e-9))


class ExponentialDecay(Schedule):
    """Times `factor` per epoch, smoothly."""

    kind = "exponential"

    def __init__(self, learning_rate: float, *, factor: float, warmup: float = 0.0) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.factor = require_number(factor, "factor", open_low=True)

    def decay(self, epoch: float) -> float:
        """Return factor ** epoch."""
        return float(self.factor**epoch)


class CosineDecay(Schedule):
    """Half a cosine from the rate down to `floor` times it over `epochs` (Loshchilov & Hutter 2017)."""

    kind = "cosine"

    def __init__(self, learning_rate: float, *, epochs: float, floor: float = 0.0, warmup: float = 0.0) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.epochs = require_number(epochs, "epochs", open_low=True)
        self.floor = require_number(floor, "floor")
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup={warmup!r} leaves nothing of {epochs!r} epochs to decay over: make it shorter")

    def decay(self, epoch: float) -> float:
        """Return the cosine's value; the decay starts where the warmup ends."""
        progress = min(1.0, max(0.0, (epoch - self.warmup) / (self.epochs - self.warmup)))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, type[Schedule]] = {s.kind: s for s in (Schedule, StepDecay, ExponentialDecay, CosineDecay)}


def get_schedule(schedule: float | str | Schedule, **settings: Any) -> Schedule:
    """Return a schedule: itself, a constant one for a number, or by name in `SCHEDULES` with its settings.

    Raises
    ------
    ValueError
        If the number is negative or the name unknown.
    """
    if isinstance(schedule, Schedule):
        return schedule
    return lookup(SCHEDULES, schedule, "schedule")(**settings) if isinstance(schedule, str) else Schedule(schedule)
