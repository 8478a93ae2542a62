"""The smallest images there are: one node of any op, float32 ones also behind dense layers that learn."""

from __future__ import annotations

import struct
from typing import Any

from edgeprop import runtime
from tests.support.parts import CONST, F32, I8, I32, NONE, PARAM, U8, NodePart, Parts, TensorPart, rounded

INF = float("inf")
_LIMITS, _CODES = (-INF, INF), (-100.0, 100.0)
_CONV = (4, 4, 2, 2, 2, 4, 3, 3, 1, 1, 1, 1, 0, 0)
_POOL = (4, 4, 2, 2, 2, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0)
_PAIR = ((1, 1, 1, 1, 2, 3), (0, 0, 0, 0, 3, 1), (0, 0, 0, 0, 0, 1), 0.0)
_RECURRENT = (3, 2, 2, 1, 0, 0, 0, 1)

#: operands: f activation, w weight, W constant, M multipliers, T table, all float32; b codes, B constant ones; i ids; x
#: indices, z biases (int32); u columns; s starts of sparse rows; each with its count, outputs behind the bar
_UNARY = {
    name: ((5, 0.5, *_LIMITS[: len(info.attr) - 2]), "f5 | f5")
    for name, info in runtime.OPS.items()
    if info.struct in ("ep_unary_attr", "ep_elementwise_attr") and info.has_grad and name != "add_f32"
}
ROWS: dict[str, tuple[tuple[Any, ...], str]] = {
    **_UNARY,
    "conv2d_f32": ((*_CONV, 1, *_LIMITS), "f32 w72 w4 | f16"),
    "depthwise_conv2d_f32": ((*_CONV, 2, *_LIMITS), "f32 w36 w4 | f16"),
    "conv_transpose2d_f32": ((2, 2, 2, 4, 4, 4, 3, 3, 1, 1, 1, 1, 0, 0, 1, *_LIMITS), "f8 w72 w4 | f64"),
    "conv2d_s8": ((*_CONV, 1, *_CODES), "b32 B72 z4 M4 | b16"),
    "depthwise_conv2d_s8": ((*_CONV, 2, *_CODES), "b32 B36 z4 M4 | b16"),
    "conv2d_zero_s8": ((*_CONV, 1, *_CODES), "b32 B72 z4 M4 B4 | b16"),
    "dynamic_conv2d_f32": ((*_CONV, 1, *_LIMITS), "f32 B72 W4 W4 B4 | f16"),
    "dense_f32": ((3, 2, 2, *_LIMITS), "f6 w6 w2 | f4"),
    "dense_s8": ((3, 2, 2, *_CODES), "b6 B6 z2 M2 | b4"),
    "dynamic_dense_f32": ((3, 2, 2, *_LIMITS), "f6 B6 W2 W2 B2 | f4"),
    "sparse_dense_f32": ((3, 2, 2, 2, *_LIMITS), "f6 w2 w2 s3 u4 | f4"),
    "max_pool2d_f32": (_POOL, "f32 | f8"),
    "average_pool2d_f32": (_POOL, "f32 | f8"),
    "max_pool2d_s8": (_POOL, "b32 | b8"),
    "average_pool2d_s8": (_POOL, "b32 | b8"),
    "global_average_pool_s8": ((4, 3), "b12 | b3"),
    "add_f32": ((5, 0.0, *_LIMITS), "f5 f5 | f5"),
    "add_s8": ((5, 0.0, *_CODES), "b5 b5 | b5"),
    "lut_s8": ((5, 0.0, *_CODES), "b5 B256 | b5"),
    "quantize": ((5, 0.0, *_LIMITS), "f5 | b5"),
    "dequantize": ((5, 0.0, *_LIMITS), "b5 | f5"),
    "affine_f32": ((2, 3, *_LIMITS), "f6 w3 w3 | f6"),
    "softmax_f32": ((2, 3), "f6 | f6"),
    "log_softmax_f32": ((2, 3), "f6 | f6"),
    "softmax_s8": ((2, 3), "b6 T256 | b6"),
    "prelu_f32": ((2, 3), "f6 w3 | f6"),
    "transpose": (((1, 1, 1, 1, 3, 2), (0, 0, 0, 0, 1, 3), 4), "f6 | f6"),
    "box": (((1, 1, 1, 1, 2, 3), (0, 0, 0, 0, 3, 1), (0, 0, 0, 0, 4, 1), 0, 1, 4, 0.0), "f6 | f8"),
    "concat": ((2, 4), "f4 f6 | f10"),
    "gather": ((2, 3, 2, 2, 4), "f12 x2 | f8"),
    "embedding_f32": ((2, 3, 2), "i2 w6 | f4"),
    "reduce_f32": ((2, 3, 2, 0), "f12 | f4"),
    "resample_f32": ((2, 3, 2, 2, 2), "f12 x4 W4 | f8"),
    "matmul_f32": ((2, 2, 3, 2, 0, *_LIMITS), "f12 f12 | f8"),
    "matmul_s8": ((2, 2, 3, 2, 1, *_CODES), "b12 b12 | b8"),
    "group_norm_f32": ((2, 3, 4, 2, 1, 1e-5, *_LIMITS), "f24 w4 w4 | f24"),
    "rnn_f32": (_RECURRENT, "f6 w4 w4 w4 | f6 f2 f6"),
    "gru_f32": (_RECURRENT, "f6 w12 w12 w12 | f6 f2 f24"),
    "lstm_f32": (_RECURRENT, "f6 w16 w16 w16 | f6 f2 f2 f30"),
    **{
        f"{name}_f32": ((*_PAIR, *_LIMITS), "f6 f3 | f6")
        for name in ("add_broadcast", "sub", "mul", "div", "min", "max")
    },
    **dict.fromkeys(("mul_s8", "add_broadcast_s8"), ((*_PAIR, *_CODES), "b6 b3 | b6")),
}
_DTYPES = {**dict.fromkeys("fwWMT", F32), **dict.fromkeys("bB", I8), **dict.fromkeys("ixzs", I32), "u": U8}


def _values(letter: str, count: int) -> bytes:
    if letter in "wWMT":
        return struct.pack("<f", 0.01) * count
    if letter == "s":
        return struct.pack(f"<{count}i", *range(count))
    return bytes(count * (4 if letter in "xz" else 1))


class _Image:
    """Parts in the making: each value in memory of its own."""

    def __init__(self) -> None:
        self.parts, self.at, self.params = Parts(), 0, 0

    def add(self, letter: str, count: int, learns: bool = False) -> int:
        """A tensor; a weight is trainable if it `learns`."""
        parts, dtype = self.parts, _DTYPES[letter]
        if letter in "fbi":
            scale = 0.1 if letter == "b" else 0.0
            tensor = TensorPart(NONE, count, self.at, scale, 0, dtype, 0)
            self.at += rounded(tensor.nbytes)
        else:
            flags = PARAM if letter == "w" and learns else CONST
            tensor = TensorPart(len(parts.data), count, self.params if learns else NONE, 0.1, 0, dtype, flags)
            parts.data += _values(letter, count)
            parts.data += bytes(rounded(len(parts.data)) - len(parts.data))
            self.params += tensor.nbytes if flags == PARAM else 0
        parts.tensors.append(tensor)
        return len(parts.tensors) - 1

    def node(self, kind: str, values: tuple[Any, ...], inputs: list[int], outputs: list[int], grad: int = 0) -> None:
        attr = {name: value for (name, _), value in zip(runtime.OPS[kind].attr, values, strict=True)}
        self.parts.nodes.append(NodePart(kind, len(inputs), inputs + outputs, attr, grad))

    def plan_training(self) -> None:
        """Gradients behind the values: of the logits, and of what nodes read, but for the inputs."""
        parts = self.parts
        read = {parts.logits, *(i for node in parts.nodes for i in node.io[: node.n_in])} - {*parts.inputs}
        for i, tensor in enumerate(parts.tensors):
            placed = tensor.flags == 0
            parts.offsets.append(tensor.offset if placed else NONE)
            wanted = placed and tensor.dtype == F32 and i in read
            parts.gradients.append(self.at if wanted else NONE)
            self.at += rounded(tensor.nbytes) if wanted else 0
        parts.end = len(parts.nodes)
        parts.sizes |= {"loss": 3, "train_bytes": self.at, "train_scratch_bytes": 256}


def operands(kind: str) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Letters and counts of an op's inputs and outputs."""
    sides = [[(part[0], int(part[1:])) for part in side.split()] for side in ROWS[kind][1].split("|")]
    return sides[0], sides[1]


def single(kind: str, values: tuple[Any, ...] | None = None, sizes: list[int] | None = None) -> Parts:
    """An image of one node, as the table has it, or with other attributes and counts."""
    return _build(kind, values, sizes, learns=False)


def learning(kind: str, values: tuple[Any, ...] | None = None, sizes: list[int] | None = None) -> Parts:
    """The same with a backward: what is trainable in it learns, and a dense layer in front of each input."""
    return _build(kind, values, sizes, learns=True)


def _build(kind: str, values: tuple[Any, ...] | None, sizes: list[int] | None, learns: bool) -> Parts:
    image, parts = _Image(), None
    ins, outs = operands(kind)
    counts = sizes or [count for _, count in ins + outs]
    given = [(letter, count) for (letter, _), count in zip(ins + outs, counts, strict=True)]
    seed = image.add("f", 1) if learns and any(letter == "f" for letter, _ in ins) else None
    parts = image.parts
    inputs = []
    for letter, count in given[: len(ins)]:
        if letter == "f" and seed is not None:
            weights = [image.add("w", count, True), image.add("w", count, True)]
            inputs.append(image.add("f", count))
            image.node("dense_f32", (1, count, 1, *_LIMITS), [seed, *weights], [inputs[-1]], 1)
        else:
            inputs.append(image.add(letter, count, learns))
    outputs = [image.add(letter, count) for letter, count in given[len(ins) :]]
    image.node(kind, values or ROWS[kind][0], inputs, outputs, int(learns))
    made = {index for node in parts.nodes for index in node.io[node.n_in :]}
    parts.inputs = [i for i in parts.activations() if i not in made]
    parts.outputs, parts.logits = outputs[:1], outputs[0]
    parts.sizes |= {"infer_bytes": image.at, "scratch_bytes": 256, "param_bytes": image.params}
    if learns:
        image.plan_training()
    return parts
