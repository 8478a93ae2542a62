"""Random cases of the float32 ops: attributes, inputs, weights and the reference's answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.support import reference

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Case:
    """One node with its inputs; `y` and gradients are float64.

    fixed : positions of operands that have no gradient (indices)
    extra : attributes that only the reference has
    """

    op: str
    attrs: dict[str, Any]
    inputs: list[Array]
    y_shape: tuple[int, ...]
    weights: list[Array] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Any]:
        """Attributes as the reference takes them."""
        return self.attrs | self.extra

    @property
    def operands(self) -> list[Array]:
        """Inputs and weights in float64."""
        return [v.astype(np.float64) for v in (*self.inputs, *self.weights)]

    @property
    def clamped(self) -> bool:
        """True if the op has a fused clamp (which may be none)."""
        return self.op in reference.CLAMPED

    def forward(self) -> Array:
        """The reference's y."""
        v = reference.OPS[self.op][0](*self.operands, self.known).reshape(self.y_shape)
        return reference.clamp(v, self.attrs) if self.clamped else v

    def backward(self, dy: Array) -> tuple[Array, ...]:
        """The reference's gradients of inputs and weights."""
        dy = dy.astype(np.float64)
        forward, backward = reference.OPS[self.op]
        if self.clamped:
            dy = reference.clamp_backward(forward(*self.operands, self.known).reshape(self.y_shape), dy, self.attrs)
        return backward(*self.operands, dy, self.known)


class Draw:
    """Random values for one case, all from one generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.integers = self.rng.random() < 0.4  # small integers: exact sums, ties, values that meet a clamp's limits
        self.n = self.size(1, 4)

    def size(self, lo: int, hi: int) -> int:
        """An integer from lo to hi."""
        return int(self.rng.integers(lo, hi + 1))

    def values(self, *shape: int) -> Array:
        """float32, normal or small integers."""
        if self.integers:
            return self.rng.integers(-3, 4, shape).astype(np.float32)
        return self.rng.normal(size=shape).astype(np.float32)

    def limits(self) -> dict[str, float]:
        """A fused clamp or none."""
        pairs = [(-np.inf, np.inf), (-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0), (-1.0, 2.0), (-np.inf, 1.0)]
        lo, hi = pairs[self.size(0, len(pairs) - 1)]
        return {"lo": lo, "hi": hi}

    def axis(self, name: str, pads: tuple[str, str]) -> dict[str, int]:
        """One axis of windows; the second pad may be larger than what the windows use."""
        while True:
            in_, kernel, before, after = self.size(1, 9), self.size(1, 4), self.size(0, 3), self.size(0, 3)
            stride, dilation = self.size(1, 3), self.size(1, 1 if self.size(0, 2) else 3)
            room = in_ + before + after - dilation * (kernel - 1) - 1
            if room >= 0:
                values = {
                    "in": in_,
                    "out": room // stride + 1,
                    "kernel": kernel,
                    "stride": stride,
                    "dilation": dilation,
                }
                return {f"{k}_{name}": v for k, v in values.items()} | {pads[0]: before, pads[1]: after}

    def windows(self) -> dict[str, Any]:
        """Both axes; sometimes pointwise, or without padding."""
        a = self.axis("h", ("pad_top", "pad_bottom")) | self.axis("w", ("pad_left", "pad_right"))
        if self.size(0, 4) == 0:
            for name in ("h", "w"):
                a |= {f"kernel_{name}": 1, f"stride_{name}": 1, f"dilation_{name}": 1, f"out_{name}": a[f"in_{name}"]}
            a |= dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 0)
        return a


def _without_far_pads(a: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in a.items() if k not in ("pad_bottom", "pad_right")}


def _images(op: str, d: Draw, a: dict[str, Any], in_c: int, out_c: int, weights: list[Array]) -> Case:
    x = d.values(d.n, a["in_h"], a["in_w"], in_c)
    return Case(op, a, [x], (d.n, a["out_h"], a["out_w"], out_c), weights)


def conv2d(d: Draw) -> Case:
    """Any groups."""
    a = _without_far_pads(d.windows())
    groups = d.size(1, 3) if d.size(0, 1) else 1
    wide = d.size(0, 3) == 0
    in_c, out_c = groups * d.size(1, 20 if wide else 5), groups * d.size(1, 12 if wide else 6)
    a |= {"in_c": in_c, "out_c": out_c, "groups": groups} | d.limits()
    w = d.values(out_c, a["kernel_h"], a["kernel_w"], in_c // groups)
    return _images("conv2d_f32", d, a, in_c, out_c, [w, d.values(out_c)])


def depthwise_conv2d(d: Draw) -> Case:
    """Any multiplier."""
    a = _without_far_pads(d.windows())
    in_c, multiplier = d.size(1, 40 if d.size(0, 2) == 0 else 6), d.size(1, 3) if d.size(0, 1) else 1
    out_c = in_c * multiplier
    a |= {"in_c": in_c, "out_c": out_c, "groups": in_c} | d.limits()
    w = d.values(a["kernel_h"], a["kernel_w"], out_c)
    return _images("depthwise_conv2d_f32", d, a, in_c, out_c, [w, d.values(out_c)])


def dense(d: Draw) -> Case:
    """One row or several."""
    n_in, n_out, rows = d.size(1, 70), d.size(1, 20), d.size(1, 5) if d.size(0, 1) else 1
    a = {"n_in": n_in, "n_out": n_out, "rows": rows} | d.limits()
    return Case(
        "dense_f32", a, [d.values(d.n, rows, n_in)], (d.n, rows, n_out), [d.values(n_out, n_in), d.values(n_out)]
    )


def affine(d: Draw) -> Case:
    """Per channel."""
    rows, channels = d.size(1, 6), d.size(1, 40)
    x = d.values(d.n, rows, channels)
    a = {"rows": rows, "channels": channels} | d.limits()
    return Case("affine_f32", a, [x], x.shape, [d.values(channels), d.values(channels)])


def _pool(op: str, d: Draw) -> Case:
    channels = d.size(1, 9)
    a = d.windows() | {"channels": channels, "count_include_pad": d.size(0, 1)}
    return _images(op, d, a, channels, channels, [])


def max_pool2d(d: Draw) -> Case:
    """With ties where values are integers."""
    return _pool("max_pool2d_f32", d)


def average_pool2d(d: Draw) -> Case:
    """Padding counts or not."""
    return _pool("average_pool2d_f32", d)


def _elementwise(op: str, d: Draw, inputs: int = 1, alpha: float = 0.0) -> Case:
    count = d.size(1, 50)
    a = {"count": count, "alpha": alpha} | d.limits()
    x = [d.values(d.n, count) * np.float32(2) for _ in range(inputs)]
    return Case(op, a, x, x[0].shape)


def add(d: Draw) -> Case:
    """Two tensors."""
    return _elementwise("add_f32", d, 2)


def clip(d: Draw) -> Case:
    """ReLU and its kin."""
    return _elementwise("clip_f32", d)


def copy(d: Draw) -> Case:
    """Float32."""
    return _elementwise("copy", d)


def leaky_relu(d: Draw) -> Case:
    """Slopes from 0 on."""
    return _elementwise("leaky_relu_f32", d, 1, float(np.float32(d.rng.choice([0.0, 0.01, 0.3, 1.5]))))


def sigmoid(d: Draw) -> Case:
    """Sigmoid."""
    return _elementwise("sigmoid_f32", d)


def tanh(d: Draw) -> Case:
    """Tanh."""
    return _elementwise("tanh_f32", d)


def softmax(d: Draw) -> Case:
    """Rows of a few channels."""
    rows, channels = d.size(1, 4), d.size(1, 20)
    x = d.values(d.n, rows, channels) * np.float32(3)
    return Case("softmax_f32", {"rows": rows, "channels": channels}, [x], x.shape)


def transpose(d: Draw) -> Case:
    """A permutation of up to six axes; sometimes one that repeats an axis or leaves elements out."""
    shape = [d.size(1, 4) for _ in range(6)]
    strides = [int(np.prod(shape[k + 1 :])) for k in range(6)]
    order = d.rng.permutation(6)
    dims, steps = [shape[k] for k in order], [strides[k] for k in order]
    if d.size(0, 3) == 0:
        steps[d.size(0, 5)] = 0
        dims[d.size(0, 5)] = 1
    a = {"dims": dims, "strides": steps, "size": 4}
    return Case("transpose", a, [d.values(d.n, int(np.prod(shape)))], (d.n, int(np.prod(dims))))


CASES: dict[str, Callable[[Draw], Case]] = {
    "conv2d_f32": conv2d,
    "depthwise_conv2d_f32": depthwise_conv2d,
    "dense_f32": dense,
    "affine_f32": affine,
    "max_pool2d_f32": max_pool2d,
    "average_pool2d_f32": average_pool2d,
    "add_f32": add,
    "clip_f32": clip,
    "leaky_relu_f32": leaky_relu,
    "sigmoid_f32": sigmoid,
    "tanh_f32": tanh,
    "softmax_f32": softmax,
    "transpose": transpose,
    "copy": copy,
}
