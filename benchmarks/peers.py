"""The runtimes that are compared. Each is a function that makes a call without arguments: one inference on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

import edgeprop
from edgeprop import export
from edgeprop._core import ffi, lib
from edgeprop.export.image import to_image

Arrays = dict[str, NDArray[Any]]


def random_inputs(model: onnx.ModelProto, batch: int, seed: int = 0) -> Arrays:
    """Return inputs of the graph's names, types and shapes, the first axis `batch` where it may vary."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value or batch for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        is_float = np.issubdtype(dtype, np.floating)
        arrays[value.name] = (rng.random(shape) if is_float else rng.integers(-128, 128, shape)).astype(dtype)
    return arrays


def ours(model: onnx.ModelProto, inputs: Arrays) -> Callable[[], Any]:
    """`ep_infer_batch` itself, without the checks and copies of the Python class."""
    device = edgeprop.Model(to_image(export.lower(model)))
    (x,) = inputs.values()
    context = device._borrow(len(x), None)
    port = device.inputs[0]
    device_x = np.ascontiguousarray(np.transpose(x, port.perm))
    y = np.empty(lib_output_bytes(device) * len(x), np.uint8)
    arguments = (context.ep, ffi.from_buffer(device_x), ffi.from_buffer(y), len(x))

    def call(keep: Any = (device, context, device_x, y)) -> int:
        return int(lib.ep_infer_batch(*arguments))

    return call


def lib_output_bytes(device: edgeprop.Model) -> int:
    """Bytes of one sample of the only output."""
    port = device.outputs[0]
    return int(np.prod([max(n, 1) for n in port.shape])) * np.dtype(port.dtype).itemsize


def onnxruntime(model: onnx.ModelProto, inputs: Arrays) -> Callable[[], Any]:
    """onnxruntime's CPU provider as it comes, which is at its fastest: one thread, not the options `check` needs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)
