"""The runtimes that infer. Each is a function that makes a call without arguments: one inference on one thread.

Each is called the fastest way it offers from Python, on inputs that lie where it wants them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

import edgeprop
from edgeprop._core import ffi, lib
from edgeprop.export.program.program import Program
from edgeprop.export.writers.image import to_image

from . import spent
from .timing import Call

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


def ours(program: Program, inputs: Arrays) -> tuple[Call, dict[str, float]]:
    """`ep_infer_batch` itself, without the checks and copies of the Python class; and microseconds by kind of op."""
    device = edgeprop.Model(to_image(program))
    (x,) = inputs.values()
    context = device._borrow(len(x), None)
    port = device.inputs[0]
    device_x = np.ascontiguousarray(np.transpose(x, port.perm))
    y = np.empty(lib_output_bytes(device) * len(x), np.uint8)
    arguments = (context.ep, ffi.from_buffer(device_x), ffi.from_buffer(y), len(x))
    call = bound(lib.ep_infer_batch, *arguments, keep=(device, context, device_x, y))
    call()
    return call, spent.by_op(device, context.ep)


def bound(function: Any, *arguments: Any, keep: Any) -> Call:
    """Bind a C function to its arguments, the quickest call there is from Python; `keep` lives as long as they do."""
    call = functools.partial(function, *arguments)
    call.keep = keep  # type: ignore[attr-defined]
    return call


def lib_output_bytes(device: edgeprop.Model) -> int:
    """Bytes of one sample of the only output."""
    port = device.outputs[0]
    return int(np.prod([max(n, 1) for n in port.shape])) * np.dtype(port.dtype).itemsize


def onnxruntime(model: onnx.ModelProto, inputs: Arrays) -> Call:
    """onnxruntime's CPU provider as it comes, which is at its fastest (not the options `check` needs), inputs and
    outputs bound: 8 µs less a call than `run`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, x in inputs.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
    for value, y in zip(session.get_outputs(), session.run(None, inputs), strict=True):
        binding.bind_ortvalue_output(value.name, ort.OrtValue.ortvalue_from_numpy(y))
    return lambda: session.run_with_iobinding(binding)


def litert(file: Path, inputs: Arrays) -> Call:
    """LiteRT with XNNPACK, its default, inputs in place.

    Raises
    ------
    ImportError : it is not installed; there is none for this system
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    (x,) = inputs.values()
    place = interpreter.get_input_details()[0]
    interpreter.set_tensor(place["index"], x.reshape(place["shape"]).astype(place["dtype"]))
    interpreter.invoke()
    invoke: Call = interpreter.invoke
    return invoke
