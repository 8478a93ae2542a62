"""The networks that are timed: the four of MLPerf Tiny, trained ones where they are at hand, else the same shapes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from edgeprop import export
from edgeprop import trainer as t

#: work -> (float32, int8) files of the MLPerf Tiny reference models, converted with tf2onnx
REFERENCE = {
    "ad": ("ad01_fp32", "ad01_int8"),
    "ds_cnn": ("kws_ref_model_float32", "kws_ref_model"),
    "vww": ("vww_96_float", "vww_96_int8"),
    "resnet8": ("pretrainedResnet", "pretrainedResnet_quant"),
}
FOLDER = Path(os.environ.get("EDGEPROP_MODELS", Path(__file__).parents[2] / "shared" / "models")) / "mlperf_tiny"


def _conv(filters: int, kernel: int | tuple[int, int], stride: int | tuple[int, int] = 1) -> list[t.Layer]:
    return [t.Conv2D(filters, kernel, stride=stride, padding="same"), t.ReLU()]


def _separable(filters: int, stride: int = 1) -> list[t.Layer]:
    return [t.DepthwiseConv2D(3, stride=stride, padding="same"), t.ReLU(), *_conv(filters, 1)]


def ad() -> t.Sequential:
    """Anomaly detection: an autoencoder of 640 values."""
    sizes = (128, 128, 128, 128, 8, 128, 128, 128, 128)
    hidden = [layer for size in sizes for layer in (t.Dense(size), t.ReLU())]
    net = t.Sequential(*hidden, t.Dense(640))
    net.build((640,), seed=0)
    return net


def ds_cnn() -> t.Sequential:
    """Keyword spotting: 49 frames of 10 coefficients."""
    blocks = [layer for _ in range(4) for layer in _separable(64)]
    net = t.Sequential(*_conv(64, (10, 4), 2), *blocks, t.GlobalAveragePool(), t.Flatten(), t.Dense(12))
    net.build((1, 49, 10), seed=0)
    return net


def vww() -> t.Sequential:
    """Visual wake words: MobileNetV1-0.25 on 96 x 96 pixels."""
    plan = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
    blocks = [layer for filters, stride in plan for layer in _separable(filters, stride)]
    net = t.Sequential(*_conv(8, 3, 2), *blocks, t.GlobalAveragePool(), t.Flatten(), t.Dense(2))
    net.build((3, 96, 96), seed=0)
    return net


def _residual(filters: int, stride: int) -> list[t.Layer]:
    body = [*_conv(filters, 3, stride), t.Conv2D(filters, 3, padding="same")]
    shortcut = None if stride == 1 else t.Conv2D(filters, 1, stride=stride, padding="same")
    return [t.Residual(*body, shortcut=shortcut), t.ReLU()]


def resnet8() -> t.Sequential:
    """Image classification: 32 x 32 pixels."""
    stacks = [*_residual(16, 1), *_residual(32, 2), *_residual(64, 2)]
    net = t.Sequential(*_conv(16, 3), *stacks, t.GlobalAveragePool(), t.Flatten(), t.Dense(10))
    net.build((3, 32, 32), seed=0)
    return net


BUILDERS: dict[str, Callable[[], t.Sequential]] = {"ad": ad, "ds_cnn": ds_cnn, "vww": vww, "resnet8": resnet8}


def seeded(work: str, dtype: str) -> tuple[onnx.ModelProto, str]:
    """Return the shapes of a work with seeded weights, `dtype` "f32" or "int8", and a word for that."""
    net = BUILDERS[work]()
    model = net.to_onnx()
    if dtype == "int8":
        samples = np.random.default_rng(0).normal(size=(16, *net.in_shapes[0])).astype(np.float32)
        model = export.quantize(model, samples)
    return model, "seeded weights"


def load(work: str, dtype: str) -> tuple[onnx.ModelProto, str]:
    """Return the ONNX model of a work, `dtype` "f32" or "int8", and where it came from."""
    file = FOLDER / f"{REFERENCE[work][dtype == 'int8']}.tf2onnx13.onnx"
    return (onnx.load(file), "MLPerf Tiny") if file.is_file() else seeded(work, dtype)
