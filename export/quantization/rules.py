"""Define how each operator is quantized: one row an operator."""

from __future__ import annotations

from dataclasses import dataclass

from .calibrate import Affine


@dataclass(frozen=True)
class Rule:
    """How an operator is quantized.

    weights : it has constant weights in input 1, and perhaps a bias in input 2
    moves : it moves or picks codes, so its output has its input's parameters
    fixed : parameters of its output, whatever the calibration says
    inputs : how many of its inputs are activations; None: all
    absorbs : a Relu or Clip behind it costs nothing, since saturating codes does the same
    """

    weights: bool = False
    moves: bool = False
    fixed: Affine | None = None
    inputs: int | None = 1
    absorbs: bool = False


#: what onnxruntime makes an integer kernel of even where scales by channel keep it from that elsewhere
FUSED_ANYHOW = ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid")
_PROBABILITY = Affine(1 / 256, -128)  # 0 .. 255/256
#: a MatMul of two computed values
PRODUCT = Rule(inputs=None)

#: operators that become integer kernels or, of one element each, tables; all others stay float32
RULES: dict[str, Rule] = {
    "Conv": Rule(weights=True, absorbs=True),
    "Gemm": Rule(weights=True, absorbs=True),
    "MatMul": Rule(weights=True, absorbs=True),
    "Add": Rule(inputs=None, absorbs=True),
    "Mul": Rule(inputs=None, absorbs=True),
    "Concat": Rule(inputs=None),
    "AveragePool": Rule(absorbs=True),
    "GlobalAveragePool": Rule(absorbs=True),
    **dict.fromkeys(("Abs", "Celu", "Elu", "Erf", "Gelu", "HardSwish", "LeakyRelu", "Mish", "Neg", "PRelu"), Rule()),
    **dict.fromkeys(("Selu", "Sign", "Softplus", "Softsign", "Swish", "ThresholdedRelu"), Rule()),
    "HardSigmoid": Rule(fixed=_PROBABILITY),
    "Sigmoid": Rule(fixed=_PROBABILITY),
    "Tanh": Rule(fixed=Affine(1 / 128, 0)),
    "Softmax": Rule(fixed=_PROBABILITY),
    "Relu": Rule(moves=True),
    "Clip": Rule(moves=True),
    "MaxPool": Rule(moves=True),
    "Flatten": Rule(moves=True),
    "Reshape": Rule(moves=True),
    "Transpose": Rule(moves=True),
    "Squeeze": Rule(moves=True),
    "Unsqueeze": Rule(moves=True),
    "Slice": Rule(moves=True),
    "DepthToSpace": Rule(moves=True),
    "Expand": Rule(moves=True),
    "Gather": Rule(moves=True),
    "GlobalMaxPool": Rule(moves=True),
    "Pad": Rule(moves=True),
    "Resize": Rule(moves=True),
    "SpaceToDepth": Rule(moves=True),
    "Split": Rule(moves=True),
    "Tile": Rule(moves=True),
}
