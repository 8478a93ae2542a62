"""Define array types, checks of arguments, look-up in tables and the order of NCHW arrays in memory, for all modules."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
Row = TypeVar("Row")


def lookup(table: Mapping[str, Row], name: str, what: str) -> Row:
    """Return ``table[name]``, or say which names there are.

    Raises
    ------
    ValueError
        If `name` is not in the table; the message lists the names and the nearest one.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, n=1, cutoff=0.45)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}.{hint} Known: {', '.join(sorted(table))}.")


def batch_last(x: Array) -> Array:
    """View (N, C, ...) as (C, ..., N).

    Inside the network images lie in memory as (C, H, W, N) and are seen as (N, C, H, W): with the batch innermost, each
    step of a convolution or pool runs over long contiguous rows whatever the image size, a convolution is one matrix
    product without a transposed copy, and flattening costs nothing.
    """
    return np.transpose(x, (*range(1, x.ndim), 0))


def batch_first(x: Array) -> Array:
    """View (C, ..., N) as (N, C, ...); the inverse of `batch_last`."""
    return np.transpose(x, (x.ndim - 1, *range(x.ndim - 1)))


def pair(value: int | tuple[int, int], what: str, minimum: int = 1) -> tuple[int, int]:
    """Return `value` as (height, width), both at least `minimum`.

    Raises
    ------
    ValueError
        If it is not an integer or a pair of integers, or too small.
    """
    both = (value, value) if isinstance(value, (int, np.integer)) else value
    if not (isinstance(both, (tuple, list)) and len(both) == 2 and all(is_int(v, minimum) for v in both)):
        raise ValueError(f"{what}={value!r}: give an integer or a pair (height, width) of integers >= {minimum}")
    return int(both[0]), int(both[1])


def is_int(value: object, minimum: int) -> bool:
    """Whether `value` is an integer (not a bool) of at least `minimum`."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= minimum


def require_int(value: object, what: str, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`, or raise ValueError naming `what`."""
    if not is_int(value, minimum):
        raise ValueError(f"{what}={value!r}: give an integer >= {minimum}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def require_number(value: object, what: str, low: float = 0.0, high: float = np.inf, open_low: bool = False) -> float:
    """Return `value` as a finite float in [low, high) (or (low, high)), or raise ValueError naming `what`.

    Networks compute in float32: a number that becomes 0 or infinite there would not be what was asked for.
    """
    ok = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, complex, np.complexfloating))
    if ok:
        number = float(value)  # type: ignore[arg-type]
        if (low < number if open_low else low <= number) and number < high:
            return require_float32(number, what)
    raise ValueError(f"{what}={value!r}: give a number in {'(' if open_low else '['}{low:g}, {high:g})")


def require_float32(number: float, what: str) -> float:
    """Return `number`, or raise ValueError naming `what` if float32 makes 0 or infinity of it."""
    with np.errstate(over="ignore"):
        rounded = float(np.float32(number))
    if (rounded == 0) != (number == 0) or np.isinf(rounded):
        raise ValueError(f"{what}={number!r}: float32, which networks compute in, makes {rounded:g} of it")
    return number


def unmasked(values: Any, name: str) -> Any:
    """Return `values`, or raise ValueError if some are masked: an array of them has whatever lies under the mask."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError(f"{name} has masked values: fill them, or leave such samples out")
    return values


def require_axis(axis: int, in_shape: Shape) -> int:
    """Return `axis` of inputs (N, *in_shape), numbered with the batch's, as a number from 1; else raise ValueError."""
    rank = len(in_shape) + 1
    if not is_int(axis, -rank) or axis >= rank or axis % rank == 0:
        raise ValueError(f"axis={axis!r}: give 1 to {rank - 1}, or from the end -1 to {1 - rank}, for (N, *{in_shape})")
    return int(axis) % rank


def spawn(rng: np.random.Generator, n: int) -> list[np.random.Generator]:
    """Generators of independent streams, as `rng.spawn(n)` gives them, which NumPy has from 1.25 on."""
    if hasattr(rng, "spawn"):
        return list(rng.spawn(n))
    bits: Any = rng.bit_generator
    return [type(rng)(type(bits)(seed)) for seed in bits._seed_seq.spawn(n)]


def shape_cure(shape: Shape, wanted: Shape, name: str) -> str:
    """Say what to do with an array of `shape` whose samples ought to be of shape `wanted`, but are not.

    Reshaping scrambles axes that only stand in another order, so it is said only where none do.
    """
    given = shape[1:]
    if shape == wanted:
        return f"give {name}[None] for a single sample"
    if sorted(given) == sorted(wanted):
        order = _order(given, wanted)
        return (
            f"its axes stand in another order, give {name}.transpose(0, {', '.join(str(axis + 1) for axis in order)})"
        )
    if len(shape) == 2 and shape[:1] == wanted:
        return f"its samples are columns, give {name}.T"
    if shape and math.prod(given) == math.prod(wanted):
        return f"reshape it to (-1, {', '.join(map(str, wanted))})"
    return "give samples of that shape"


def _order(given: Shape, wanted: Shape) -> tuple[int, ...]:
    """Return the order of axes that makes `wanted` of `given`: channels from the last place to the first, or back."""
    last = len(given) - 1
    likely = [(last, *range(last)), (*range(1, last + 1), 0)]
    orders = itertools.chain(likely, itertools.permutations(range(last + 1)))
    return next(order for order in orders if tuple(given[axis] for axis in order) == wanted)
