"""Run steps and epochs over samples: from what users ask to what C takes."""

from __future__ import annotations

import math
import numbers
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._context import Context
from ._core import ffi, lib
from .errors import Error, check

#: optimizers by name
OPTIMIZERS: dict[str, Any] = {
    ffi.string(row.name).decode(): row.optimizer
    for row in (lib.ep_py_optimizers[i] for i in range(lib.ep_py_n_optimizers))
}

#: of the numbers that every processor computes with
_SMALLEST = float(np.finfo(np.float32).tiny)

#: seconds in C between two looks at Ctrl-C
_PATIENCE = 0.1


def find_optimizer(name: str) -> Any:
    """`const ep_optimizer *`. Raises Error (EP_ERR_ARG) where there is none of this name."""
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise Error("EP_ERR_ARG", f"no optimizer {name!r}; there are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def check_counts(**counts: int) -> None:
    """Raises Error (EP_ERR_ARG) for the first that is not a whole number of 1 or more."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise Error("EP_ERR_ARG", f"{name} is {count!r}; give a whole number, 1 or more")


def make_random(seed: int | np.random.SeedSequence | None) -> np.random.Generator:
    """What orders are drawn from. Raises Error (EP_ERR_ARG) for a seed that is no whole number of 0 or more."""
    if seed is None or isinstance(seed, np.random.SeedSequence):
        return np.random.default_rng(seed)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise Error("EP_ERR_ARG", f"seed is {seed!r}; give a whole number, 0 or more")
    return np.random.default_rng(int(seed))


def _float32(name: str, value: Any) -> float:
    """The number as C gets it. There a zero means the default, so one too small for float32 would mean another."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise Error("EP_ERR_ARG", f"{name} is {value!r}; give a number")
    try:
        with np.errstate(over="ignore", under="ignore"):
            rounded = float(np.float32(float(value)))
    except OverflowError:  # a whole number beyond float64
        rounded = math.inf
    if value != 0 and abs(rounded) < _SMALLEST:
        raise Error("EP_ERR_ARG", f"{name} is {value}, too small for float32; give {_SMALLEST:.3g} or more")
    if math.isinf(rounded) and value not in (math.inf, -math.inf):
        raise Error("EP_ERR_ARG", f"{name} is {value}, too large for float32")
    return rounded


def make_step(
    lr: float,
    optimizer: str,
    momentum: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    clip_norm: float,
    skip_below: float = 0.0,
    skip_share: float = 0.0,
) -> Any:
    """`ep_step`. In C a zero means the default, so what may not be zero is refused here."""
    open_unit = "between 0 and 1, both excluded"
    share = skip_share
    given = {"lr": lr, "momentum": momentum, "beta2": beta2, "epsilon": epsilon, "weight_decay": weight_decay}
    given |= {"clip_norm": clip_norm, "skip_below": skip_below, "skip_share": skip_share}
    lr, momentum, beta2, epsilon, weight_decay, clip_norm, skip_below, skip_share = (
        _float32(name, value) for name, value in given.items()
    )
    rules = {
        "lr": (lr, lr > 0, "more than 0"),
        "momentum": (momentum, 0 < momentum < 1, f"{open_unit}; without momentum take optimizer='sgd'"),
        "beta2": (beta2, 0 < beta2 < 1, open_unit),
        "epsilon": (epsilon, epsilon > 0, "more than 0"),
        "weight_decay": (weight_decay, weight_decay >= 0, "0 or more"),
        "clip_norm": (clip_norm, clip_norm >= 0, "0 or more"),
        "skip_below": (skip_below, skip_below >= 0, "0 or more"),
        "skip_share": (skip_share, 0 <= share <= 0.99, "from 0 to 0.99"),
    }
    for name, (value, fits, rule) in rules.items():
        if not (fits and math.isfinite(value)):
            raise Error("EP_ERR_ARG", f"{name} is {given[name]}; give a finite number {rule}")
    values = {name: value for name, (value, _, _) in rules.items()}
    skip = ffi.addressof(lib, "ep_skip_small") if skip_below > 0 or skip_share > 0 else ffi.NULL
    return ffi.new("ep_step *", {"optimizer": find_optimizer(optimizer), "skip": skip, **values})


def epoch(trainer: Context, xs: NDArray[Any], targets: NDArray[Any], step: Any, batch: int) -> float:
    """One pass; `batch` 0: single samples in place. Returns the mean loss. Ctrl-C is heard between calls into C."""
    total = ffi.new("double *")
    start, take = 0, max(1, batch)
    while start < len(xs):
        part = slice(start, start + take)
        x, target = xs[part], targets[part]
        began = time.monotonic()
        rc = lib.ep_py_fit(
            trainer.ep,
            ffi.from_buffer(x),
            x[0].nbytes,
            ffi.from_buffer(target),
            target[0].nbytes,
            len(x),
            batch,
            step,
            total,
        )
        check(rc, "nothing was learned")
        start += len(x)
        if time.monotonic() - began < _PATIENCE / 2:
            take *= 2
    return float(total[0] / len(xs))
