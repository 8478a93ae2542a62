"""Define the traits of each op of the runtime (in-place, what its backward reads, ...): one row per op.

A row says where an op may write over its input, what its backward reads, the working memory it asks for and its
multiplications. It mirrors the C file of that op; a new op, or a kernel with other needs, changes its row here and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from .program import Op

Attrs = Mapping[str, Any]
Count = Callable[[Attrs], int]


def _none(attrs: Attrs) -> int:
    return 0


@dataclass(frozen=True)
class Traits:
    """Needs of an op.

    Attributes
    ----------
    attr : its attribute struct in edgeprop_ops.h
    in_place : positions of inputs over which the output may be written; the output is never larger than these
    backward_reads : activations that the gradient of the inputs is computed from: "x", "y", "xy" or ""
    clamps : has a fused clamp (`lo`, `hi`); where that is one, the backward also reads y
    weights : positions of the inputs that may be trained
    optional_outputs : positions of outputs that need no place in memory unless something reads them
    kept : of an op that walks through time: vectors of each step that its backward needs; it computes the gradients of
        its inputs and weights from all inputs and outputs
    gradient_reads_x : those of `weights` whose gradient is computed from x (a bias's is not)
    scratch, backward_scratch : bytes of working memory, from the attributes; not multiplied by the batch. The portable
        kernels sum in small tiles on the stack and ask for none
    macs : multiply-accumulates of one sample, from the attributes
    """

    attr: str
    in_place: tuple[int, ...] = ()
    backward_reads: str = ""
    clamps: bool = False
    weights: tuple[int, ...] = ()
    gradient_reads_x: tuple[int, ...] = ()
    optional_outputs: tuple[int, ...] = ()
    kept: int = 0
    scratch: Count = _none
    backward_scratch: Count = _none
    macs: Count = _none

    @property
    def recurrent(self) -> bool:
        """True for an op that walks through time."""
        return self.kept > 0

    def reads_y(self, op: Op) -> bool:
        """True if the backward of this op looks at its output."""
        fused = self.clamps and (isfinite(op.attrs["lo"]) or isfinite(op.attrs["hi"]))
        return "y" in self.backward_reads or fused


def _taps(a: Attrs) -> int:
    """Weights of one output channel of a convolution."""
    return int(a["kernel_h"] * a["kernel_w"] * (a["in_c"] // a["groups"]))


def _conv_macs(a: Attrs) -> int:
    return int(a["out_h"] * a["out_w"] * a["out_c"]) * _taps(a)


def _dense_macs(a: Attrs) -> int:
    return int(a["rows"] * a["n_in"] * a["n_out"])


def _transposed_macs(a: Attrs) -> int:
    return int(a["in_h"] * a["in_w"] * a["in_c"] * a["kernel_h"] * a["kernel_w"] * (a["out_c"] // a["groups"]))


def _matmul_macs(a: Attrs) -> int:
    return int(a["batch"] * a["rows"] * a["count"] * a["columns"])


def _resample_macs(a: Attrs) -> int:
    return int(a["outer"] * a["out"] * a["inner"] * a["taps"])


def _recurrent(gates: int, kept: int, optional: tuple[int, ...]) -> Traits:
    """A recurrent op; `kept`: vectors a step keeps for the backward."""

    def macs(a: Attrs) -> int:
        return int(a["sequences"] * a["directions"] * a["steps"] * gates * a["n_hidden"] * (a["n_in"] + a["n_hidden"]))

    def scratch(a: Attrs) -> int:
        return int(4 * max(kept, 3) * a["n_hidden"])

    return Traits(
        "ep_recurrent_attr",
        weights=(1, 2, 3),
        optional_outputs=optional,
        kept=kept,
        scratch=scratch,
        backward_scratch=scratch,
        macs=macs,
    )


_CONV = Traits("ep_conv2d_attr", clamps=True, weights=(1, 2), gradient_reads_x=(1,), macs=_conv_macs)
_DENSE = Traits("ep_dense_attr", clamps=True, weights=(1, 2), gradient_reads_x=(1,), macs=_dense_macs)
_AFFINE = Traits("ep_affine_attr", in_place=(0,), clamps=True, weights=(1, 2), gradient_reads_x=(1,))
_FROM_Y = Traits("ep_elementwise_attr", in_place=(0,), backward_reads="y")
_ONE_TO_ONE = Traits("ep_elementwise_attr", in_place=(0,))
_UNARY_X = Traits("ep_unary_attr", in_place=(0,), backward_reads="x")
_UNARY_Y = Traits("ep_unary_attr", in_place=(0,), backward_reads="y")
_SUM = Traits("ep_binary_attr", in_place=(0, 1), clamps=True)
_PRODUCT = Traits("ep_binary_attr", in_place=(0, 1), backward_reads="x", clamps=True)

TRAITS: dict[str, Traits] = {
    "conv2d_f32": _CONV,
    "depthwise_conv2d_f32": _CONV,
    "dense_f32": _DENSE,
    "max_pool2d_f32": Traits("ep_pool2d_attr", backward_reads="xy"),
    "average_pool2d_f32": Traits("ep_pool2d_attr"),
    "add_f32": Traits("ep_elementwise_attr", in_place=(0, 1), clamps=True),
    "clip_f32": Traits("ep_elementwise_attr", in_place=(0,), backward_reads="y", clamps=True),
    "leaky_relu_f32": _FROM_Y,
    "sigmoid_f32": _FROM_Y,
    "tanh_f32": _FROM_Y,
    "affine_f32": _AFFINE,
    "softmax_f32": Traits("ep_softmax_attr", in_place=(0,), backward_reads="y"),
    "transpose": Traits("ep_transpose_attr"),
    "quantize": _ONE_TO_ONE,
    "dequantize": Traits("ep_elementwise_attr"),
    "conv2d_s8": Traits("ep_conv2d_attr", macs=_conv_macs),
    "depthwise_conv2d_s8": Traits("ep_conv2d_attr", macs=_conv_macs),
    "dense_s8": Traits("ep_dense_attr", macs=_dense_macs),
    "max_pool2d_s8": Traits("ep_pool2d_attr"),
    "average_pool2d_s8": Traits("ep_pool2d_attr"),
    "global_average_pool_s8": Traits("ep_global_pool_attr"),
    "add_s8": Traits("ep_elementwise_attr", in_place=(0, 1)),
    "lut_s8": _ONE_TO_ONE,
    "softmax_s8": Traits("ep_softmax_attr", in_place=(0,)),
    "copy": _ONE_TO_ONE,
    "box": Traits("ep_box_attr"),
    "concat": Traits("ep_concat_attr"),
    "gather": Traits("ep_gather_attr"),
    "embedding_f32": Traits("ep_embedding_attr", weights=(1,), gradient_reads_x=(1,)),
    "reduce_f32": Traits("ep_reduce_attr", backward_reads="xy"),
    "resample_f32": Traits("ep_resample_attr", macs=_resample_macs),
    "matmul_f32": Traits("ep_matmul_attr", backward_reads="x", clamps=True, macs=_matmul_macs),
    "matmul_s8": Traits("ep_matmul_attr", macs=_matmul_macs),
    "conv_transpose2d_f32": replace(_CONV, macs=_transposed_macs),
    "rnn_f32": _recurrent(1, 1, (0, 2)),
    "gru_f32": _recurrent(3, 4, (0, 2)),
    "lstm_f32": _recurrent(4, 5, (0, 3)),
    "group_norm_f32": Traits(
        "ep_group_norm_attr", in_place=(0,), backward_reads="x", clamps=True, weights=(1, 2), gradient_reads_x=(1,)
    ),
    "sparse_dense_f32": Traits(
        "ep_sparse_dense_attr",
        clamps=True,
        weights=(1, 2),
        gradient_reads_x=(1,),
        macs=lambda a: int(a["rows"] * a["stored"]),
    ),
    "dynamic_dense_f32": Traits("ep_dense_attr", clamps=True, macs=_dense_macs),
    "dynamic_conv2d_f32": Traits("ep_conv2d_attr", clamps=True, macs=_conv_macs),
    "elu_f32": _UNARY_Y,
    "gelu_f32": _UNARY_X,
    "gelu_tanh_f32": _UNARY_X,
    "silu_f32": _UNARY_X,
    "hard_sigmoid_f32": _UNARY_Y,
    "hard_swish_f32": _UNARY_X,
    "softplus_f32": _UNARY_Y,
    "softsign_f32": _UNARY_Y,
    "mish_f32": _UNARY_X,
    "abs_f32": _UNARY_X,
    "exp_f32": _UNARY_Y,
    "log_f32": _UNARY_X,
    "sqrt_f32": _UNARY_Y,
    "reciprocal_f32": _UNARY_Y,
    "pow_f32": _UNARY_X,
    "erf_f32": _UNARY_X,
    "thresholded_relu_f32": _UNARY_X,
    "sign_f32": Traits("ep_unary_attr", in_place=(0,)),  # its gradient is 0 whatever it is of
    "log_softmax_f32": Traits("ep_softmax_attr", in_place=(0,), backward_reads="y"),
    "prelu_f32": Traits("ep_softmax_attr", in_place=(0,), backward_reads="x", weights=(1,), gradient_reads_x=(1,)),
    "add_broadcast_f32": _SUM,
    "sub_f32": _SUM,
    "mul_f32": _PRODUCT,
    "div_f32": _PRODUCT,
    "min_f32": _PRODUCT,
    "max_f32": _PRODUCT,
    "mul_s8": Traits("ep_binary_attr", in_place=(0, 1)),
    "add_broadcast_s8": Traits("ep_binary_attr", in_place=(0, 1)),
    "conv2d_zero_s8": Traits("ep_conv2d_attr", macs=_conv_macs),
}

#: Ops whose gradient over their input may be written over that of their output, element by element.
GRADIENT_IN_PLACE = frozenset(
    {"add_f32", "clip_f32", "leaky_relu_f32", "sigmoid_f32", "tanh_f32", "affine_f32", "softmax_f32", "copy"}
    | {"group_norm_f32", "log_softmax_f32", "prelu_f32"}
    | {kind for kind, row in TRAITS.items() if row.attr == "ep_unary_attr"}
)
