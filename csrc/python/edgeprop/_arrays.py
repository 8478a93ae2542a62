"""Validate arrays from users and convert them to what the runtime takes; every refusal says what to do instead."""

from __future__ import annotations

import itertools
import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._meta import Port
from .errors import Error


def _array(x: ArrayLike, name: str) -> NDArray[Any]:
    """`x` as an array of real numbers; never of objects."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.getmaskarray(x).any():
        at = [int(i) for i in np.argwhere(np.ma.getmaskarray(x))[0]]
        raise Error("EP_ERR_ARG", f"{name}{at} is masked; fill it, or leave such samples out")
    try:
        array = np.asarray(x)
    except OverflowError as error:
        raise _too_large(name) from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise Error("EP_ERR_ARG", f"{name} is not an array: {error}; every sample needs the same shape") from error
    if array.dtype.kind in "UST":
        raise Error("EP_ERR_ARG", f"{name} holds texts; give numbers")
    if array.dtype.kind == "O":
        return _of_objects(array, name)
    if array.dtype.kind not in "biuf":
        raise Error("EP_ERR_ARG", f"{name} has dtype {array.dtype}; give real numbers, for example float32")
    return array


def _of_objects(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Real numbers in Python objects, as tables with columns of several types have them."""
    for at, value in np.ndenumerate(array):
        if not isinstance(value, numbers.Real):
            what = f"{name}{list(at)} is {value!r:.40}" if at else f"it is one {type(value).__name__}"
            raise Error("EP_ERR_ARG", f"{name} has dtype object, and {what}; give real numbers, for example float32")
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise _too_large(name) from error


def _too_large(name: str) -> Error:
    return Error("EP_ERR_ARG", f"{name} holds a number too large for float64; clean or scale the data")


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(["n", *map(str, shape)]) + ("," if not shape else "") + ")"


def _check_shape(x: NDArray[Any], sample_shape: tuple[int, ...], name: str) -> None:
    if x.shape[1:] == sample_shape and x.ndim == 1 + len(sample_shape):
        if len(x) == 0:
            raise Error("EP_ERR_ARG", f"{name} holds no samples; give at least one")
        return
    takes = f"the model takes {_shape(sample_shape)}"
    raise Error("EP_ERR_ARG", f"{name} has shape {x.shape}, {takes}; {cure(x.shape, sample_shape, name)}")


def cure(shape: tuple[int, ...], sample_shape: tuple[int, ...], name: str) -> str:
    """What to do with an array of a shape that is not (n, *sample_shape): never what would put values in wrong places.

    Axes that stand in another order are transposed; only where none do and the number of values fits is it a matter of
    reshaping.
    """
    if shape == sample_shape:
        return f"give {name}[None] for a single sample"
    if order := _order(shape[1:], sample_shape):
        return f"its axes stand in another order: give {name}{_transposed(order)}"
    if len(sample_shape) > 1 and (order := _order(shape, sample_shape)):
        axes = ", ".join(map(str, order))
        return f"it is a single sample whose axes stand in another order: give {name}.transpose({axes})[None]"
    if len(shape) == 2 and shape[:1] == sample_shape:
        return f"its samples are columns: give {name}.T"
    size = math.prod(sample_shape)
    if shape[1:] and math.prod(shape[1:]) == size:
        return _reshaped(shape[1:], sample_shape, name, f"len({name})")
    if shape and math.prod(shape) == size:
        return _reshaped(shape, sample_shape, name, "1")
    return "give samples of that shape"


def _order(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of axes that makes `wanted` of `shape`, the likeliest first: channels from the last to the first place,
    from the first to the last, then any. None: there is none, or it has all as they are."""
    if sorted(shape) != sorted(wanted) or shape == wanted or not shape:
        return None
    last = len(shape) - 1
    likely = [(last, *range(last)), (*range(1, last + 1), 0)]
    orders = itertools.chain(likely, itertools.permutations(range(last + 1)) if last < 6 else ())
    return next((order for order in orders if tuple(shape[axis] for axis in order) == wanted), None)


def _transposed(order: tuple[int, ...]) -> str:
    return f".transpose(0, {', '.join(str(1 + axis) for axis in order)})"


def _reshaped(shape: tuple[int, ...], wanted: tuple[int, ...], name: str, n: str) -> str:
    """As many values a sample as wanted, in other axes: these may stand in another order even so."""
    found, needed = (tuple(size for size in sizes if size > 1) for sizes in (shape, wanted))
    last = f".reshape({', '.join([n, *map(str, wanted)])})"
    if order := _order(found, needed):
        first = "" if found == shape and n != "1" else f".reshape({', '.join([n, *map(str, found)])})"
        return f"its axes stand in another order: give {name}{first}{_transposed(order)}{last}"
    if found == needed or len(wanted) == 1:
        return f"give {name}{last}"
    return f"if its values are in the order of these axes, give {name}{last}"


def _float32(x: NDArray[Any], name: str, code: str = "EP_ERR_ARG") -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = x.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        why = "not finite" if not np.isfinite(x[at]) else "too large for float32"
        raise Error(code, f"{name}{list(at)} is {x[at]}, {why}; clean or scale the data")
    return values


def quantize(values: NDArray[np.float32], scale: float, zero_point: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """ONNX QuantizeLinear: round(values / scale) half to even, plus the zero point, saturated."""
    limits = np.iinfo(dtype)
    codes = np.rint(values / np.float32(scale)) + np.float32(zero_point)
    return np.asarray(np.clip(codes, limits.min, limits.max), dtype)


def _integers(x: NDArray[Any], port: Port, name: str) -> NDArray[Any]:
    """Codes of a quantized tensor as they are, real numbers quantized; other integers if they fit."""
    if x.dtype == port.dtype:
        return x
    if x.dtype.kind == "f" and port.scale:
        return quantize(_float32(x, name), port.scale, port.zero_point, port.dtype)
    limits = np.iinfo(port.dtype)
    if port.dtype == np.int32 and x.dtype.kind in "biu" and limits.min <= int(x.min()) and int(x.max()) <= limits.max:
        return x.astype(port.dtype)
    also = f" or real numbers as floats (scale {port.scale:.9g})" if port.scale else ""
    raise Error("EP_ERR_ARG", f"{name} has dtype {x.dtype}; the model takes {port.dtype}{also}")


def as_input(x: ArrayLike, port: Port, name: str = "x") -> NDArray[Any]:
    """Samples for an input.

    Parameters
    ----------
    x : (n, *port.sample_shape), ONNX layout. Float input: any real dtype. Quantized input: its integer type, taken as
        it is, or floats, which are quantized.

    Returns
    -------
    (n, count), device layout and dtype, contiguous

    Raises
    ------
    Error : EP_ERR_ARG, for a wrong shape or dtype, no samples, NaN or infinity
    """
    array = _array(x, name)
    _check_shape(array, port.sample_shape, name)
    return port.to_device(_float32(array, name) if port.dtype.kind == "f" else _integers(array, port, name))


def as_weights(value: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    """A weight in the model's shape.

    Raises
    ------
    Error : EP_ERR_ARG for a wrong shape or dtype, EP_ERR_DIVERGED for NaN, infinity and what float32 makes infinity of
    """
    array = _array(value, name)
    if array.shape != shape:
        raise Error("EP_ERR_ARG", f"{name} is {array.shape} {array.dtype}, the model takes {shape} real numbers")
    return _float32(array, name, "EP_ERR_DIVERGED")


def _check_length(y: NDArray[Any], n: int) -> None:
    if len(y) != n:
        raise Error("EP_ERR_ARG", f"x holds {n} samples and y {len(y)}; give one target a sample")


def as_values(y: ArrayLike, shape: tuple[int, ...], n: int) -> NDArray[np.float32]:
    """Float targets (n, *shape); (n,) will do where a sample has one value.

    Raises
    ------
    Error : EP_ERR_ARG for a wrong shape or dtype, NaN or infinity
    """
    values = _array(y, "y")
    if values.ndim == 1 and all(size == 1 for size in shape):
        values = values.reshape(-1, *shape)
    _check_shape(values, shape, "y")
    _check_length(values, n)
    targets = _float32(values, "y")
    # The device takes the smallest of floats for integers that were read as floats.
    return np.where(np.abs(targets) < np.finfo(np.float32).tiny, np.float32(0), targets)


def as_probabilities(y: ArrayLike, shape: tuple[int, ...], n: int) -> NDArray[np.float32]:
    """Float targets as `as_values`, 0 to 1: truth values, or how likely they are.

    Raises
    ------
    Error : as `as_values`; EP_ERR_LABEL for one that is no probability
    """
    values = as_values(y, shape, n)
    wrong = np.argwhere((values < 0) | (values > 1))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        why = "sigmoid_cross_entropy takes 0 (no) to 1 (yes)"
        raise Error(
            "EP_ERR_LABEL", f"y{list(at)} is {values[at]:g}; {why}, so scale the targets or map them to 0 and 1"
        )
    return values
