"""Operators of ai.onnx.ml as they are written, in ONNX's own spelling of either age."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgeprop.export.lower import UnsupportedError, lower
from tests.export.test_movement import same
from tests.support.graphs import model, node

ML = "ai.onnx.ml"


def classical(op: str, opset: int = 17, constants: dict[str, Any] | None = None, **attributes: Any) -> onnx.ModelProto:
    """A node of the values behind a Tanh."""
    last = node(op, ["h", *(constants or {})], ["y"], name="bad", domain=ML, **attributes)
    proto = model([node("Tanh", ["x"], ["h"], name="t"), last], {"x": ("N", 4)}, ["y"], constants, opset)
    proto.opset_import.append(helper.make_opsetid(ML, 3))
    return proto


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_normalizers(norm: str, opset: int) -> None:
    """Rows over the sum of their sizes, or their length; over their largest they are refused, and the cure is told."""
    same(classical("Normalizer", opset, norm=norm))
    with pytest.raises(UnsupportedError, match="L1 or L2"):
        lower(classical("Normalizer", opset, norm="MAX"))


@pytest.mark.parametrize("picked", [[2], [2, 0], [3, 1, 0], [0, 0]])
def test_features_picked_from_computed_values(picked: list[int]) -> None:
    same(classical("ArrayFeatureExtractor", 17, {"i": np.array(picked, np.int64)}))


def test_scalers() -> None:
    same(classical("Scaler", offset=[0.5, -1.0, 2.0, 0.0], scale=[2.0, 0.5, 1.0, -3.0]))
    same(classical("Scaler", offset=[0.5], scale=[2.0]))
