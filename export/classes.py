"""Normalize class names to a list of texts in the order of the outputs, and check their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral
from typing import Any

import numpy as np

from .errors import ExportError


def names(labels: Any) -> list[str]:
    """Labels as texts: a sequence in the order of the outputs, or a mapping of names to indices or of indices to names.

    Raises
    ------
    ExportError : labels without an order, without a name, or the same twice
    """
    texts = [_name_of(label) for label in _in_order(labels)]
    if len(set(texts)) != len(texts):
        twice = ", ".join(map(repr, sorted({text for text in texts if texts.count(text) > 1})[:_TOLD]))
        raise ExportError(f"labels {twice} come twice: give each class its own")
    return texts


#: labels that a message lists, at most
_TOLD = 10


def check_count(texts: Sequence[str], shapes: Sequence[Sequence[int]]) -> None:
    """See that there are as many names as an output has classes; two do for one score, which tells yes from no.

    Parameters
    ----------
    shapes : of the outputs that they may name the classes of, (n, ...) each, 0 for axes of unknown size. Classes are along the
        first axis behind the batch, as in NCHW, or the last; axes of 1, as global pooling leaves them, are none

    Raises
    ------
    ExportError : there are more or fewer
    """
    sizes = [[size for size in shape[1:] or shape if size != 1] or [1] for shape in shapes]
    fits = [size for shape in sizes for size in (shape[0], shape[-1])]
    if 0 in fits or any(len(texts) in ({1, 2} if size == 1 else {size}) for size in fits):
        return
    raise ExportError(f"{len(texts)} labels for an output of {fits[1]} values: give one label per class")


def _in_order(labels: Any) -> list[Any]:
    """Labels in the order of the outputs: a mapping's by its indices; a set has none."""
    if isinstance(labels, str | bytes):
        return [labels]
    if isinstance(labels, Mapping):
        by_index = _by_index(labels)
        if sorted(by_index) != list(range(len(by_index))):
            raise ExportError(f"labels of indices {sorted(by_index)}: give one name for each of 0 .. {len(labels) - 1}")
        return [by_index[i] for i in range(len(by_index))]
    if isinstance(labels, Set) or not isinstance(labels, Iterable):
        why = "has no order" if isinstance(labels, Set) else "holds no names"
        raise ExportError(f"labels as {type(labels).__name__} {why}: give a list of names in the order of the outputs")
    return list(labels)


def _by_index(labels: Mapping[Any, Any]) -> dict[int, Any]:
    """Index to name, of a mapping one way or the other."""
    texts = [*labels, *labels.values()]
    if all(isinstance(text, str) for text in texts) and all(key.isdecimal() for key in labels):
        labels = {int(key): name for key, name in labels.items()}  # JSON knows no other keys
    whole = [
        all(isinstance(i, Integral) and not isinstance(i, bool) for i in part) for part in (labels, labels.values())
    ]
    if whole[0] == whole[1]:
        what = "maps numbers to numbers, which leaves open which are names" if whole[0] else "holds no indices"
        raise ExportError(f"labels as {type(labels).__name__} {what}: give a list of names in the order of the outputs")
    pairs = labels.items() if whole[0] else [(index, name) for name, index in labels.items()]
    found = {int(index): name for index, name in pairs}
    if len(found) != len(labels):
        raise ExportError("labels give two names to one index: give each class its own")
    return found


def _name_of(label: Any) -> str:
    """A name as text."""
    try:
        text = label.decode("utf-8") if isinstance(label, bytes) else str(label)
        text.encode("utf-8")  # half a surrogate pair is no text
    except UnicodeError as error:
        raise ExportError(f"{label!r} among the labels is not UTF-8: give one text per class") from error
    is_none = label is None or text in ("nan", "<NA>", "NaT") or np.ndim(label) > 0
    if not text or (is_none and not isinstance(label, str)):
        raise ExportError(f"{text or repr(label)} among the labels is no name of a class: give one text per class")
    return text
