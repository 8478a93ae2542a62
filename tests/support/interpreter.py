"""A Program run in NumPy: the oracle the C runtime is held against, tensor by tensor. One function per op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeprop.export.program.program import DTYPES, Op, Program, Tensor

from . import ort_arithmetic as ort
from . import reference_elementwise, reference_movement
from . import reference_norms as reference

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[Program, Op, list[Array]], Array]


def run(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name, in ONNX layout, for inputs by name in ONNX layout, rows of the batch one by one."""
    arrays = {port.name: np.asarray(inputs[port.name]).reshape((-1, *port.shape[1:])) for port in program.inputs}
    rows = max(len(array) for array in arrays.values())
    outputs: dict[str, list[Array]] = {port.name: [] for port in program.outputs}
    for row in range(rows):
        values = tensors(program, {name: array[row : row + 1] for name, array in arrays.items()})
        for port in program.outputs:
            shape = [1, *port.shape[1:]]
            device = values[port.tensor].reshape([shape[axis] for axis in port.perm])
            outputs[port.name].append(device.transpose(np.argsort(port.perm)))
    return {name: np.concatenate(parts) for name, parts in outputs.items()}


def device(program: Program, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """What `edgeprop.export.check.check` takes as a device: outputs, and the first sample's tensors (1, ...)."""
    first = {port.name: np.asarray(inputs[port.name]).reshape((-1, *port.shape[1:]))[:1] for port in program.inputs}
    return run(program, inputs), {name: value[None] for name, value in tensors(program, first).items()}


def tensors(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of a program for one sample, in device layout; inputs by port name, in ONNX layout, batch 1."""
    values: dict[str, Array] = {t.name: t.data for t in program.tensors.values() if t.data is not None}
    for port in program.inputs:
        array = np.asarray(inputs[port.name]).transpose(port.perm)
        tensor = program.tensors[port.tensor]
        values[port.tensor] = np.ascontiguousarray(array, DTYPES[tensor.dtype]).reshape(tensor.shape)
    for op in program.ops:
        result = OPS[op.kind](program, op, [values[name] for name in op.inputs])
        tensor = program.tensors[op.outputs[0]]
        assert result.size == tensor.count, f"{op.kind} {op.name}: {result.shape} for {tensor.shape}"
        values[tensor.name] = np.ascontiguousarray(result, DTYPES[tensor.dtype]).reshape(tensor.shape)
    return values


def _quantization(program: Program, op: Op) -> tuple[Tensor, Tensor]:
    return program.tensors[op.inputs[0]], program.tensors[op.outputs[0]]


def _clamp(op: Op, y: Array) -> Array:
    return np.minimum(np.maximum(y, np.float32(op.attrs["lo"])), np.float32(op.attrs["hi"]))


def _taps(op: Op, x: Array, channels: int, fill: float) -> Array:
    """(kernel_h, kernel_w, out_h, out_w, channels) of an image (in_h, in_w, channels), `fill` outside it."""
    a = op.attrs
    x = x.reshape(a["in_h"], a["in_w"], channels)
    below = max(
        (a["out_h"] - 1) * a["stride_h"] + (a["kernel_h"] - 1) * a["dilation_h"] + 1 - a["pad_top"] - a["in_h"], 0
    )
    right = max(
        (a["out_w"] - 1) * a["stride_w"] + (a["kernel_w"] - 1) * a["dilation_w"] + 1 - a["pad_left"] - a["in_w"], 0
    )
    padded = np.pad(x, ((a["pad_top"], below), (a["pad_left"], right), (0, 0)), constant_values=fill)
    out = np.empty((a["kernel_h"], a["kernel_w"], a["out_h"], a["out_w"], channels), x.dtype)
    for i in range(a["kernel_h"]):
        for j in range(a["kernel_w"]):
            top, left = i * a["dilation_h"], j * a["dilation_w"]
            rows = slice(top, top + (a["out_h"] - 1) * a["stride_h"] + 1, a["stride_h"])
            out[i, j] = padded[rows, left : left + (a["out_w"] - 1) * a["stride_w"] + 1 : a["stride_w"]]
    return out


def _conv_sum(op: Op, x: Array, weight: Array, fill: float = 0) -> Array:
    a = op.attrs
    taps = _taps(op, x, a["in_c"], fill)
    groups = a["groups"]
    taps = taps.reshape(*taps.shape[:4], groups, a["in_c"] // groups)
    weight = weight.reshape(groups, a["out_c"] // groups, *weight.shape[1:])
    return np.einsum("ijhwgc,gmijc->hwgm", taps, weight, optimize=True).reshape(a["out_h"], a["out_w"], a["out_c"])


def _depthwise_sum(op: Op, x: Array, weight: Array, fill: float = 0) -> Array:
    a = op.attrs
    taps = np.repeat(_taps(op, x, a["in_c"], fill), a["out_c"] // a["in_c"], axis=-1)
    return np.einsum("ijhwc,ijc->hwc", taps, weight)


def conv2d_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, _conv_sum(op, x[0], x[1]) + x[2])


def depthwise_conv2d_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, _depthwise_sum(op, x[0], x[1]) + x[2])


def dense_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, x[0].reshape(op.attrs["rows"], op.attrs["n_in"]) @ x[1].T + x[2])


def _average(op: Op, x: Array) -> tuple[Array, Array]:
    """Sums over windows, and what to divide them by."""
    a = op.attrs
    taps = _taps(op, x, a["channels"], 0)
    inside = np.ones((a["in_h"], a["in_w"], 1), np.float32)
    if a["count_include_pad"]:
        inside = np.ones((a["in_h"] + a["pad_top"] + a["pad_bottom"], a["in_w"] + a["pad_left"] + a["pad_right"], 1))
        shifted = Op(
            op.kind,
            op.name,
            [],
            [],
            {**a, "in_h": inside.shape[0], "in_w": inside.shape[1], "pad_top": 0, "pad_left": 0},
        )
        return taps.sum((0, 1)), _taps(shifted, inside, 1, 0).sum((0, 1))
    return taps.sum((0, 1)), _taps(op, inside, 1, 0).sum((0, 1))


def max_pool2d_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _taps(op, x[0], op.attrs["channels"], -np.inf).max((0, 1))


def average_pool2d_f32(program: Program, op: Op, x: list[Array]) -> Array:
    total, count = _average(op, x[0])
    return total / count


def add_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, x[0] + x[1].reshape(x[0].shape))


def clip_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, x[0])


def leaky_relu_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return np.where(x[0] >= 0, x[0], np.float32(op.attrs["alpha"]) * x[0])


def sigmoid_f32(program: Program, op: Op, x: list[Array]) -> Array:
    e = np.exp(-np.abs(x[0]))
    return np.where(x[0] >= 0, 1 / (1 + e), e / (1 + e))


def tanh_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return np.tanh(x[0])


def affine_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, x[0].reshape(op.attrs["rows"], op.attrs["channels"]) * x[1] + x[2])


def softmax_f32(program: Program, op: Op, x: list[Array]) -> Array:
    rows = x[0].reshape(op.attrs["rows"], op.attrs["channels"])
    e = np.exp(rows - rows.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def transpose(program: Program, op: Op, x: list[Array]) -> Array:
    assert x[0].itemsize == op.attrs["size"]
    flat = np.ascontiguousarray(x[0]).reshape(-1)
    index = np.zeros(op.attrs["dims"], np.int64)
    for axis, (size, step) in enumerate(zip(op.attrs["dims"], op.attrs["strides"], strict=True)):
        index += (np.arange(size) * step).reshape([-1 if k == axis else 1 for k in range(6)])
    return flat[index]


def quantize(program: Program, op: Op, x: list[Array]) -> Array:
    y = program.tensors[op.outputs[0]]
    return np.clip(np.rint(x[0] / np.float32(y.scale)) + np.float32(y.zero_point), -128, 127).astype(np.int8)


def dequantize(program: Program, op: Op, x: list[Array]) -> Array:
    t = program.tensors[op.inputs[0]]
    return (x[0].astype(np.int32) - t.zero_point).astype(np.float32) * np.float32(t.scale)


def _integer(program: Program, op: Op, acc: Array, multiplier: Array) -> Array:
    y = program.tensors[op.outputs[0]]
    v = np.clip(
        acc.astype(np.int32).astype(np.float32) * multiplier, np.float32(op.attrs["lo"]), np.float32(op.attrs["hi"])
    )
    return (np.rint(v).astype(np.int32) + y.zero_point).astype(np.int8)


def conv2d_s8(program: Program, op: Op, x: list[Array]) -> Array:
    zero = program.tensors[op.inputs[0]].zero_point
    return _integer(program, op, _conv_sum(op, x[0].astype(np.int64), x[1].astype(np.int64), zero) + x[2], x[3])


def depthwise_conv2d_s8(program: Program, op: Op, x: list[Array]) -> Array:
    zero = program.tensors[op.inputs[0]].zero_point
    return _integer(program, op, _depthwise_sum(op, x[0].astype(np.int64), x[1].astype(np.int64), zero) + x[2], x[3])


def dense_s8(program: Program, op: Op, x: list[Array]) -> Array:
    rows = x[0].astype(np.int64).reshape(op.attrs["rows"], op.attrs["n_in"])
    return _integer(program, op, rows @ x[1].astype(np.int64).T + x[2], x[3])


def conv2d_zero_s8(program: Program, op: Op, x: list[Array]) -> Array:
    zero = program.tensors[op.inputs[0]].zero_point
    weight = x[1].astype(np.int64) - x[4].reshape(-1, 1, 1, 1)
    a = op.attrs
    weight = weight.reshape(a["out_c"], a["kernel_h"], a["kernel_w"], a["in_c"] // a["groups"])
    image = x[0].astype(np.int64).reshape(a["in_h"], a["in_w"], a["in_c"])
    return _integer(program, op, _conv_sum(op, image, weight, zero) + x[2], x[3])


def max_pool2d_s8(program: Program, op: Op, x: list[Array]) -> Array:
    return _taps(op, x[0], op.attrs["channels"], -128).max((0, 1))


def average_pool2d_s8(program: Program, op: Op, x: list[Array]) -> Array:
    source, y = _quantization(program, op)
    a = op.attrs
    real = np.float32(source.scale) * (x[0].astype(np.int32) - source.zero_point).astype(np.float32)
    total = np.zeros((a["out_h"], a["out_w"], a["channels"]), np.float32)
    for row in _taps(op, real, a["channels"], 0):
        for tap in row:
            total += tap
    inside = _taps(op, np.ones((a["in_h"], a["in_w"], 1), np.float32), 1, 0).sum((0, 1))
    count = _padded_taps(a) if a["count_include_pad"] & 1 else inside
    up = 128 if a["count_include_pad"] & 2 else 0
    v = total / count / np.float32(y.scale) + np.float32(y.zero_point + up)
    return (np.clip(np.rint(v), up - 128, up + 127) - up).astype(np.int8)


def _padded_taps(a: Mapping[str, Any]) -> Array:
    """(out_h, out_w, 1) taps of each window inside the image or its padding."""
    lengths = []
    for axis, before, behind in (("h", a["pad_top"], a["pad_bottom"]), ("w", a["pad_left"], a["pad_right"])):
        starts = np.arange(a[f"out_{axis}"]) * a[f"stride_{axis}"]
        ends = np.minimum(starts + a[f"kernel_{axis}"], before + a[f"in_{axis}"] + behind)
        lengths.append(ends - starts)
    return np.asarray(np.multiply.outer(*lengths)[:, :, None], np.float32)


def global_average_pool_s8(program: Program, op: Op, x: list[Array]) -> Array:
    source, y = _quantization(program, op)
    image = x[0].reshape(1, op.attrs["size"], 1, op.attrs["channels"]).transpose(0, 3, 1, 2)
    return ort.global_average_pool(image, source.scale, source.zero_point, y.scale, y.zero_point)


def add_s8(program: Program, op: Op, x: list[Array]) -> Array:
    a, b = (program.tensors[name] for name in op.inputs)
    y = program.tensors[op.outputs[0]]
    up = int(op.attrs["alpha"])
    dtype = np.uint8 if up else np.int8
    codes = [(v.astype(np.int32) + up).astype(dtype) for v in (x[0], x[1].reshape(x[0].shape))]
    zeros = [t.zero_point + up for t in (a, b, y)]
    result = ort.add(codes[0], a.scale, zeros[0], codes[1], b.scale, zeros[1], y.scale, zeros[2])
    return (result.astype(np.int32) - up).astype(np.int8)


def lut_s8(program: Program, op: Op, x: list[Array]) -> Array:
    return x[1][x[0].view(np.int8).astype(np.int32) + 128].view(DTYPES[program.tensors[op.outputs[0]].dtype])


def softmax_s8(program: Program, op: Op, x: list[Array]) -> Array:
    source, y = _quantization(program, op)
    rows = x[0].reshape(op.attrs["rows"], op.attrs["channels"])
    return ort.softmax(rows, source.scale, y.scale, y.zero_point, x[1])


def copy(program: Program, op: Op, x: list[Array]) -> Array:
    return x[0]


def group_norm_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, reference.group_norm(x[0][None], x[1], x[2], op.attrs))


def sparse_dense_f32(program: Program, op: Op, x: list[Array]) -> Array:
    dense = reference.from_rows(*(x[i] for i in (1, 3, 4)), op.attrs)
    return _clamp(op, x[0].reshape(op.attrs["rows"], op.attrs["n_in"]) @ dense.T.astype(np.float32) + x[2])


def dynamic_dense_f32(program: Program, op: Op, x: list[Array]) -> Array:
    return _clamp(op, reference.dynamic_dense(x[0][None], x[1], x[2], x[3], x[4], op.attrs)[0])


def dynamic_conv2d_f32(program: Program, op: Op, x: list[Array]) -> Array:
    codes, scale, zero = reference.dynamic_codes(x[0])
    sums = _conv_sum(op, codes.astype(np.int64) - zero, x[1].astype(np.int64) - x[4].reshape(-1, 1, 1, 1))
    return _clamp(op, sums.astype(np.float32) * (scale * x[3]) + x[2])


def _elementwise(program: Program, op: Op, x: list[Array]) -> Array:
    """Any op of reference_elementwise.py, which wants the batch axis first."""
    x = [v.astype(np.float64) for v in x]
    if op.kind in reference_elementwise.CLAMPED:
        y = reference_elementwise.OPS[op.kind][0](x[0][None], x[1][None], op.attrs)[0]
        return _clamp(op, y.astype(np.float32))
    if "channels" in op.attrs:
        x[0] = x[0].reshape(op.attrs["rows"], op.attrs["channels"])
    return reference_elementwise.OPS[op.kind][0](*x, op.attrs).astype(np.float32)


def _binary_s8(program: Program, op: Op, x: list[Array]) -> Array:
    a, b, y = (program.tensors[name] for name in (*op.inputs, *op.outputs))
    up = int(op.attrs["alpha"])
    p, q = (v.reshape(-1)[reference_elementwise.places(op.attrs, which)] for v, which in zip(x, "ab", strict=True))
    dtype = np.uint8 if up else np.int8
    codes = [(v.astype(np.int32) + up).astype(dtype) for v in (p, q)]
    zeros = [t.zero_point + up for t in (a, b, y)]
    run = ort.mul if op.kind == "mul_s8" else ort.add
    result = run(codes[0], a.scale, zeros[0], codes[1], b.scale, zeros[1], y.scale, zeros[2])
    return (result.astype(np.int32) - up).astype(np.int8)


OPS: dict[str, Run] = dict.fromkeys(reference_elementwise.OPS, _elementwise) | {
    f.__name__: f
    for f in (
        conv2d_f32,
        depthwise_conv2d_f32,
        dense_f32,
        max_pool2d_f32,
        average_pool2d_f32,
        add_f32,
        clip_f32,
        leaky_relu_f32,
        sigmoid_f32,
        tanh_f32,
        affine_f32,
        softmax_f32,
        transpose,
        quantize,
        dequantize,
        conv2d_s8,
        depthwise_conv2d_s8,
        dense_s8,
        conv2d_zero_s8,
        max_pool2d_s8,
        average_pool2d_s8,
        global_average_pool_s8,
        add_s8,
        lut_s8,
        softmax_s8,
        copy,
        group_norm_f32,
        sparse_dense_f32,
        dynamic_dense_f32,
        dynamic_conv2d_f32,
    )
}


def _moved(program: Program, op: Op, x: list[Array]) -> Array:
    """An op of reference_movement.py on one sample, whose shapes follow from the attributes."""
    a = {**op.attrs, "elements": program.tensors[op.outputs[0]].count}
    shapes: dict[str, list[tuple[int, ...]]] = {
        "box": [(-1,)],
        "gather": [(a.get("outer", 1), a.get("in", 1), a.get("inner", 1))],
        "resample_f32": [(a.get("outer", 1), a.get("in", 1), a.get("inner", 1))],
        "reduce_f32": [(a.get("outer", 1), a.get("size", 1), a.get("inner", 1))],
        "embedding_f32": [(-1,)],
        "conv_transpose2d_f32": [(a.get("in_h", 1), a.get("in_w", 1), a.get("in_c", 1))],
    }
    activations = [array.reshape(1, *shape) for array, shape in zip(x, shapes[op.kind], strict=False)]
    wide = activations[0] if activations[0].dtype == np.int8 else activations[0].astype(np.float64)
    y = reference_movement.OPS[op.kind][0](wide, *x[1:], a)
    return _clamp(op, y) if op.kind in reference_movement.CLAMPED else y


def _concat(program: Program, op: Op, x: list[Array]) -> Array:
    return np.concatenate([array.reshape(op.attrs["outer"], -1) for array in x], 1)


def _matmul(program: Program, op: Op, x: list[Array]) -> Array:
    a = op.attrs
    second = (a["columns"], a["count"]) if a["transposed"] else (a["count"], a["columns"])
    zeros = [program.tensors[name].zero_point for name in op.inputs]
    wide = np.float64 if op.kind == "matmul_f32" else np.int64
    left = x[0].reshape(a["batch"], a["rows"], a["count"]).astype(wide) - zeros[0]
    right = x[1].reshape(a["batch"], *second).astype(wide) - zeros[1]
    y = left @ (right.swapaxes(1, 2) if a["transposed"] else right)
    if op.kind == "matmul_f32":
        return _clamp(op, y)
    s, t, u = (np.float32(program.tensors[name].scale) for name in (*op.inputs, *op.outputs))
    return _integer(program, op, y, s * t / u)


OPS |= {
    **dict.fromkeys(reference_movement.OPS, _moved),
    "concat": _concat,
    "matmul_f32": _matmul,
    "matmul_s8": _matmul,
    "mul_s8": _binary_s8,
    "add_broadcast_s8": _binary_s8,
}
