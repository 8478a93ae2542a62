"""Find constants that are NaN or infinite, to name the cause of a value that is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .files import tensors
from .uses import all_nodes, reads

#: types of elements that can be NaN
_FLOATS = {
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
}
#: constants that are named, at most
_NAMED = 3
_CURE = (
    "a training that diverged, or a conversion that overflowed, leaves such: write the model anew from finite weights"
)


def causes(model: onnx.ModelProto) -> str:
    """Constants that nodes read and that are not finite, named, with the cure; "" if all are finite.

    Those with NaN come alone where there are any: infinity may be meant, as in a mask before a Softmax.
    """
    read = {name for node in all_nodes(model.graph.node) for name in reads(node)}
    found = [
        (told, holds_nan, text)
        for told, tensor in tensors(model)
        if (not told.startswith("initializer") or tensor.name in read) and tensor.data_type in _FLOATS
        for holds_nan, text in _bad(tensor)
    ]
    chosen = [row for row in found if row[1]] or found
    if not chosen:
        return ""
    more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    named = ", ".join(f"{told} holds {text}" for told, _, text in chosen[:_NAMED])
    return f"{named}{more}: {_CURE}"


def _bad(tensor: TensorProto) -> Iterator[tuple[bool, str]]:
    """Whether a tensor holds NaN, and what it holds in words; nothing if all is finite."""
    with np.errstate(invalid="ignore"):
        array = np.asarray(numpy_helper.to_array(tensor), np.float64)
    nans, infinities = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    if nans or infinities:
        parts = [f"{what} in {count}" for count, what in ((nans, "NaN"), (infinities, "infinity")) if count]
        yield nans > 0, f"{' and '.join(parts)} of {array.size} values"
