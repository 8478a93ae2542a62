"""The networks that are timed: the four of MLPerf Tiny, trained ones where they are at hand, else the same shapes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from edgeprop import export
from edgeprop import trainer as t
from edgeprop.trainer import nets

#: work -> (float32, int8) files of the MLPerf Tiny reference models, converted with tf2onnx
REFERENCE = {
    "ad": ("ad01_fp32", "ad01_int8"),
    "ds_cnn": ("kws_ref_model_float32", "kws_ref_model"),
    "vww": ("vww_96_float", "vww_96_int8"),
    "resnet8": ("pretrainedResnet", "pretrainedResnet_quant"),
}
FOLDER = Path(os.environ.get("EDGEPROP_MODELS", Path(__file__).parents[2] / "shared" / "models")) / "mlperf_tiny"


BUILDERS: dict[str, Callable[[], t.Sequential]] = {
    "ad": partial(nets.autoencoder, batch_norm=False),
    "ds_cnn": partial(nets.ds_cnn, batch_norm=False),
    "vww": partial(nets.mobilenet_v1, batch_norm=False),
    "resnet8": partial(nets.resnet8, batch_norm=False),
}


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
