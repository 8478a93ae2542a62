"""Convert class labels, in all the forms that users have them in, to indices. A label that could mean two classes is refused."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import Error

#: a number as text, as str() writes it
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
#: characters of such a text, at most: more digits than any float has, and fewer than int() refuses
_DIGITS = 400
#: what is True and what is False in words
_TRUTHS = {"false": False, "true": True, "no": False, "yes": True, "off": False, "on": True}
_WHAT = "labels are names of classes or integers"
#: class names that an error lists, at most
_LISTED = 20


def as_labels(y: ArrayLike, classes: Sequence[str], count: int, n: int, *, column: bool = False) -> NDArray[np.int32]:
    """Class indices from names or indices.

    Parameters
    ----------
    y : (n,) texts (bytes and Python objects too): names of classes. Integers: names as well where all classes are named
        by numbers; else indices
    classes : names of the classes, none or `count`
    count : how many classes there are
    n : samples
    column : (n, 1) will do, as for the values of one output

    Returns
    -------
    (n,) int32 in 0 .. count-1

    Raises
    ------
    Error : EP_ERR_ARG for a wrong shape or dtype, or a missing label; EP_ERR_LABEL for one that is no class
    """
    labels = plain(y)
    if column and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        cure = "np.ravel(y)" if labels.ndim == 0 or labels.size == n else "one label a sample"
        if labels.ndim == 2 and labels.shape[1] == count > 1:
            cure = "y.argmax(axis=1)"
        raise Error("EP_ERR_ARG", f"y has shape {labels.shape}, labels are (n,); give {cure}")
    if len(labels) != n:
        raise Error("EP_ERR_ARG", f"x holds {n} samples and y {len(labels)}; give one label a sample")
    if labels.dtype.kind == "U":
        return _by_name([str(label) for label in labels], {name: i for i, name in enumerate(classes)}, classes)
    if labels.dtype.kind == "b":
        return _by_name(labels.tolist(), _truths(classes, count), classes)
    by_number = numbered(classes)
    if by_number:
        return _by_name(labels.tolist(), by_number, classes)
    if labels.dtype.kind == "f":
        for at, label in enumerate(labels.tolist()):
            if abs(label) >= 1 << 63:  # whole, or a whole number that only a float could hold
                raise _outside(label, at, count)
        cure = "y.astype(int)" if (labels == np.floor(labels)).all() else "whole numbers"
        raise Error("EP_ERR_ARG", f"y has dtype {labels.dtype}, {_WHAT}; give {cure}")
    named = {name: i for i, name in enumerate(classes)}
    for at, label in enumerate(labels.tolist()):
        if named.get(str(label), label) != label:
            raise Error("EP_ERR_LABEL", f"label {label} at y[{at}] is the name of one class and the index of another")
        if not 0 <= label < count:
            raise _outside(label, at, count)
    return labels.astype(np.int32)


def _outside(label: float, at: int, count: int) -> Error:
    return Error("EP_ERR_LABEL", f"label {label} at y[{at}] is outside 0 .. {count - 1}; see model.classes_")


def _truths(classes: Sequence[str], count: int) -> dict[Any, int]:
    """Index of the class that each truth value names.

    Raises
    ------
    Error : EP_ERR_LABEL: the names leave open which one is True
    """
    by_number = numbered(classes)
    if by_number.keys() == {0, 1}:
        return {bool(number): i for number, i in by_number.items()}
    said = [_TRUTHS.get(name.casefold()) for name in classes]
    if (count == 2 and not classes) or (len(classes) == 2 and classes[0] == f"not {classes[1]}"):
        said = [False, True]
    if sorted(said, key=str) != [False, True]:
        raise Error("EP_ERR_LABEL", f"y holds truth values; the model knows {_listed(classes)}: give their names")
    return {truth: i for i, truth in enumerate(said)}


def numbered(classes: Sequence[str]) -> dict[float, int]:
    """Index of each class by the number that is its name; empty unless all have numbers for names.

    Raises
    ------
    Error : EP_ERR_LABEL: two names are one number, as 1 and 01
    """
    if not all(len(name) <= _DIGITS and _NUMBER.fullmatch(name) for name in classes):
        return {}
    found: dict[float, int] = {
        (float(name) if set(name) & set(".eE") else int(name)): i for i, name in enumerate(classes)
    }
    if len(found) != len(classes):
        raise Error("EP_ERR_LABEL", f"classes {_listed(classes)} are not all different numbers; give names as texts")
    return found


def _by_name(labels: Sequence[Any], index: dict[Any, int], classes: Sequence[str]) -> NDArray[np.int32]:
    for at, label in enumerate(labels):
        if label not in index:
            raise Error(
                "EP_ERR_LABEL", f"label {label!r} at y[{at}] is not a class; the model knows {_listed(classes)}"
            )
    return np.array([index[label] for label in labels], np.int32)


def _listed(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - _LISTED} more" if len(classes) > _LISTED else ""
    return (", ".join(classes[:_LISTED]) or "no names of classes") + more


# ---- From what users hand over --------------------------------------------------------------------------------------


def is_named(y: ArrayLike) -> bool:
    """True for what can only be labels: texts and truth values; False for numbers, which may be values to learn."""
    return plain(y).dtype.kind in "Ub"


def plain(y: ArrayLike) -> NDArray[Any]:
    """Labels as an array of texts or numbers, in the shape they have.

    Raises
    ------
    Error : EP_ERR_ARG: they are neither, or one of them is missing
    """
    if isinstance(y, np.ma.MaskedArray) and np.ma.getmaskarray(y).any():
        raise _missing(np.ma.getmaskarray(y), "masked")
    try:
        array = np.asarray(y)
        if array.dtype.kind in "US" and not isinstance(y, np.ndarray):
            array = np.asarray(y, object)  # among texts a number or NaN is one by now, and zeros at the end are gone
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise Error("EP_ERR_ARG", f"y is not an array: {error}; {_WHAT}") from error
    kind = array.dtype.kind
    if kind in "OTS":
        return _of_objects(array.astype(object))
    if kind not in "biufU":
        raise Error("EP_ERR_ARG", f"y has dtype {array.dtype}; {_WHAT}")
    if kind == "f" and np.isnan(array).any():
        raise _missing(np.isnan(array), "nan")
    return array


def _of_objects(array: NDArray[Any]) -> NDArray[Any]:
    """An array of Python objects as one of texts or numbers."""
    values = array.ravel().tolist()
    gone = np.array([_is_missing(value) for value in values], bool)
    if gone.any():
        raise _missing(gone.reshape(array.shape), str(values[int(gone.argmax())]))
    if all(isinstance(value, (str, bytes)) for value in values):
        return np.array([_text(value) for value in values], str).reshape(array.shape)
    if all(isinstance(value, (bool, np.bool_)) for value in values):
        return np.array(values, bool).reshape(array.shape)
    if all(isinstance(value, numbers.Integral) for value in values):
        wide = any(not -(1 << 63) <= int(value) < 1 << 63 for value in values)
        return np.array([_float(value) if wide else int(value) for value in values]).reshape(array.shape)
    if all(isinstance(value, numbers.Real) for value in values):
        return np.array([_float(value) for value in values]).reshape(array.shape)
    kinds = ", ".join(sorted({type(value).__name__ for value in values}))
    raise Error("EP_ERR_ARG", f"y holds objects of type {kinds}; {_WHAT}, all of one kind")


def _float(value: Any) -> float:
    """Infinity for a number beyond float64: neither is a class."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_missing(value: Any) -> bool:
    """None, NaN, and what pandas has for them."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, numbers.Real) and bool(value != value)


def _text(value: str | bytes) -> str:
    try:
        text = value if isinstance(value, str) else value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Error("EP_ERR_ARG", f"y holds the label {value!r}, which is not UTF-8; give texts") from error
    if text.endswith("\0"):  # NumPy would cut it off
        raise Error("EP_ERR_ARG", f"y holds the label {text!r}, which ends in a zero byte; give texts")
    return text


def _missing(gone: NDArray[np.bool_], what: str) -> Error:
    at = [int(i) for i in np.argwhere(gone)[0]]
    return Error("EP_ERR_ARG", f"y{at} is {what}: the label is missing; leave such samples out")
