"""Models that onnxruntime.quantization writes, in each of its forms: the device computes what onnxruntime does, every bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType

from edgeprop.export.check import check
from tests.support.small_nets import NETS

S8, U8 = QuantType.QInt8, QuantType.QUInt8
QDQ, QOPERATOR = QuantFormat.QDQ, QuantFormat.QOperator
ASYMMETRIC = {"WeightSymmetric": False}
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}

#: format, types of activations and weights, options
STATIC: dict[str, tuple[QuantFormat, QuantType, QuantType, dict[str, Any]]] = {
    "QDQ s8 s8": (QDQ, S8, S8, {}),
    "QDQ s8 s8 per channel": (QDQ, S8, S8, {"per_channel": True}),
    "QDQ u8 s8": (QDQ, U8, S8, {}),
    "QDQ u8 s8 per channel, reduced": (QDQ, U8, S8, {"per_channel": True, "reduce_range": True}),
    "QDQ u8 u8": (QDQ, U8, U8, {}),
    "QDQ u8 u8 symmetric": (QDQ, U8, U8, {"extra_options": SYMMETRIC}),
    "QDQ s8 s8 asymmetric": (QDQ, S8, S8, {"extra_options": ASYMMETRIC}),
    "QDQ float bias": (QDQ, S8, S8, {"per_channel": True, "extra_options": {"QuantizeBias": False}}),
    "QDQ pairs of their own": (QDQ, S8, S8, {"extra_options": {"DedicatedQDQPair": True}}),
    "QOperator s8 s8": (QOPERATOR, S8, S8, {}),
    "QOperator u8 s8 per channel": (QOPERATOR, U8, S8, {"per_channel": True}),
    "QOperator u8 u8": (QOPERATOR, U8, U8, {}),
    "QOperator u8 u8 per channel": (QOPERATOR, U8, U8, {"per_channel": True}),
}
DYNAMIC: dict[str, dict[str, Any]] = {
    "s8": {"weight_type": S8},
    "s8 per channel, reduced": {"weight_type": S8, "per_channel": True, "reduce_range": True},
    "u8": {"weight_type": U8},
    "u8 per channel": {"weight_type": U8, "per_channel": True},
}


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """A few random samples."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        random = np.random.default_rng(1)
        shape = [d.dim_value or 8 for d in proto.graph.input[0].type.tensor_type.shape.dim]
        self.rows: Iterator[Any] = iter([{"x": random.random(shape, np.float32)} for _ in range(3)])

    def get_next(self) -> Any:
        """The next batch."""
        return next(self.rows, None)


@pytest.fixture(autouse=True)
def _quiet(caplog: Any) -> None:
    logging.disable(logging.WARNING)


def same(path: Path) -> None:
    result = check(onnx.load(path))
    assert result.status == "ok", result.message
    excused = {layer.kind for layer in result.layers if layer.alone}
    assert excused <= {"add_s8", "add_broadcast_s8", "mul_s8", "global_average_pool_s8"}, result.message


@pytest.mark.parametrize("form", STATIC)
def test_static(form: str, tmp_path: Path) -> None:
    kind, activations, weights, options = STATIC[form]
    for name, make in NETS.items():
        proto = make(17)
        onnx.save(proto, tmp_path / "float.onnx")
        options = {"quant_format": kind, "activation_type": activations, "weight_type": weights, **options}
        quantization.quantize_static(tmp_path / "float.onnx", tmp_path / f"{name}.onnx", Reader(proto), **options)
        same(tmp_path / f"{name}.onnx")


@pytest.mark.parametrize("form", DYNAMIC)
def test_dynamic(form: str, tmp_path: Path) -> None:
    """Of samples that come alone: a batch has one scale in onnxruntime, on the device every sample has its own."""
    for name, make in NETS.items():
        onnx.save(make(17), tmp_path / "float.onnx")
        quantization.quantize_dynamic(tmp_path / "float.onnx", tmp_path / f"{name}.onnx", **DYNAMIC[form])
        same(tmp_path / f"{name}.onnx")
