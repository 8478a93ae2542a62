"""What users hand over, checked and turned into what the runtime takes; every refusal says what to do instead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._image import Port
from .errors import Error


def _array(x: ArrayLike, name: str) -> NDArray[Any]:
    """`x` as an array of real numbers or texts; never of objects."""
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise Error("EP_ERR_ARG", f"{name} is not an array: {error}; every sample needs the same shape") from error
    if array.dtype.kind not in "biufU":
        raise Error("EP_ERR_ARG", f"{name} has dtype {array.dtype}; give real numbers, for example float32")
    return array


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(["n", *map(str, shape)]) + ("," if not shape else "") + ")"


def _check_shape(x: NDArray[Any], sample_shape: tuple[int, ...], name: str) -> None:
    if x.shape[1:] == sample_shape and x.ndim == 1 + len(sample_shape):
        if len(x) == 0:
            raise Error("EP_ERR_ARG", f"{name} holds no samples; give at least one")
        return
    cure = f"give {name}[None] for a single sample" if x.shape == sample_shape else "reshape it"
    raise Error("EP_ERR_ARG", f"{name} has shape {x.shape}, the model takes {_shape(sample_shape)}; {cure}")


def _float32(x: NDArray[Any], name: str) -> NDArray[np.float32]:
    if x.dtype.kind == "U":
        raise Error("EP_ERR_ARG", f"{name} holds texts; give numbers")
    with np.errstate(over="ignore"):
        values = x.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        why = "not finite" if not np.isfinite(x[at]) else "too large for float32"
        raise Error("EP_ERR_ARG", f"{name}{list(at)} is {x[at]}, {why}; clean or scale the data")
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


def as_labels(y: ArrayLike, classes: list[str], count: int, n: int) -> NDArray[np.int32]:
    """Class indices (n,) from indices or from names in `classes`.

    Raises
    ------
    Error : EP_ERR_ARG for a wrong shape or dtype; EP_ERR_LABEL for a label that is not one of the `count` classes
    """
    labels = _array(y, "y")
    if labels.ndim != 1:
        cure = "y.argmax(axis=1)" if labels.ndim == 2 and labels.shape[1] == count > 1 else "y.ravel()"
        raise Error("EP_ERR_ARG", f"y has shape {labels.shape}, labels are (n,); give {cure}")
    _check_length(labels, n)
    if labels.dtype.kind == "U":
        return _named(labels, classes)
    if labels.dtype.kind == "f":
        raise Error("EP_ERR_ARG", f"y has dtype {labels.dtype}, labels are integers; give y.astype(int)")
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if len(wrong):
        at = wrong[0]
        raise Error("EP_ERR_LABEL", f"label {labels[at]} at y[{at}] is outside 0 .. {count - 1}; see model.classes_")
    return labels.astype(np.int32)


def _named(labels: NDArray[Any], classes: list[str]) -> NDArray[np.int32]:
    index = {name: i for i, name in enumerate(classes)}
    for at, label in enumerate(labels):
        if str(label) not in index:
            known = ", ".join(classes) if classes else "none by name"
            raise Error("EP_ERR_LABEL", f"label {str(label)!r} at y[{at}] is not a class; the model knows {known}")
    return np.array([index[str(label)] for label in labels], np.int32)


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
    return _float32(values, "y")
