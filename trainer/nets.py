"""Build the published networks by name: every function in `NETS` returns one with seeded weights.

Where the published network normalizes, `batch_norm` says whether this one does: train with it, and leave it out for the
shapes that are left once it is folded. (The exporter folds it.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ._common import Shape, require_int, require_number
from .graph import Graph, Residual, Sequential, as_layer
from .layers.base import Layer
from .layers.batch_norm import BatchNorm
from .layers.conv import Conv1D, Conv2D, DepthwiseConv2D
from .layers.dense import Dense
from .layers.dropout import Dropout
from .layers.elementwise import ReLU, ReLU6, Sigmoid, Tanh
from .layers.merge import Concat
from .layers.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from .layers.recurrent import GRU, LSTM
from .layers.shape import Flatten, Slice

Net = TypeVar("Net", bound=Graph)


def built(net: Net, in_shape: Shape, seed: int) -> Net:
    """Return `net`, built for inputs of that shape."""
    net.build(in_shape, seed=seed)
    return net


def convolution(
    filters: int, kernel: int | tuple[int, int], stride: Any, batch_norm: bool, **settings: Any
) -> list[Layer]:
    """Return a convolution with padding "same", batch norm if wanted, and ReLU."""
    conv = Conv2D(filters, kernel, stride=stride, padding="same", **settings)
    return [conv, *([BatchNorm()] if batch_norm else []), ReLU()]


def separable(filters: int, stride: int, batch_norm: bool, **settings: Any) -> list[Layer]:
    """Return a depthwise 3 x 3 and a pointwise convolution, each with what follows it (Sifre 2014)."""
    depthwise = DepthwiseConv2D(3, stride=stride, padding="same", **settings)
    norm: list[Layer] = [BatchNorm()] if batch_norm else []
    return [depthwise, *norm, ReLU(), *convolution(filters, 1, 1, batch_norm, **settings)]


def classifier(classes: int) -> list[Layer]:
    """Return what turns maps into logits."""
    return [GlobalAveragePool(), Flatten(), Dense(classes)]


def xor(hidden: int = 2, *, seed: int = 0) -> Sequential:
    """Two inputs, a few sigmoid units, one logit: 9 weights (Rumelhart, Hinton & Williams 1986).

    Train with "sigmoid_cross_entropy". Two hidden units are just enough, and from some seeds they get stuck.
    """
    init = "glorot_normal"
    return built(Sequential(Dense(hidden, init=init), Sigmoid(), Dense(1, init=init)), (2,), seed)


def mlp(
    inputs: int = 784, hidden: Sequence[int] = (128,), outputs: int = 10, *, activation: str = "relu", seed: int = 0
) -> Sequential:
    """Dense layers with an activation, by its name in `LAYERS`, between them."""
    layers = [layer for units in hidden for layer in (Dense(units), as_layer(activation))]
    return built(Sequential(*layers, Dense(outputs)), (inputs,), seed)


def lecun1989(classes: int = 10, *, dropout: float = 0.0, seed: int = 0) -> Graph:
    """The network of zip-code digits, images (1, 16, 16) with background 0 (LeCun et al. 1989).

    H1: 12 maps of 8 x 8, kernels 5 x 5, stride 2. H2: 12 maps of 4 x 4, kernels 5 x 5, stride 2, each over 8 maps of H1.
    H3: 30 units. Tanh throughout. The paper does not tell which 8 maps: here H1 and H2 are three groups of 4, and each
    group of H2 leaves out another one of H1. Biases are one per map, not one per unit, as a convolution has them: 8,824
    weights, the paper's 9,760 less its 768 + 192 biases of H1 and H2 and plus 24.

    Parameters
    ----------
    dropout : float
        Between H2 and H3, and H3 and the outputs; it was not yet known then.
    """

    def maps() -> Conv2D:
        return Conv2D(4, 5, stride=2, padding="same", init="glorot_uniform")

    nodes: dict[str, tuple[Any, ...]] = {}
    for group in "abc":
        nodes |= {f"h1{group}": (maps(), "x"), f"h1{group}_tanh": (Tanh(), f"h1{group}")}
    for group, one, other in (("a", "a", "b"), ("b", "b", "c"), ("c", "a", "c")):
        nodes[f"h1{one}{other}"] = (Concat(), f"h1{one}_tanh", f"h1{other}_tanh")
        nodes[f"h2{group}"] = (maps(), f"h1{one}{other}")
    nodes["h2"] = (Concat(), "h2a", "h2b", "h2c")
    drop = [Dropout(dropout)] if dropout else []
    head = Sequential(
        *(Tanh(name="h2_tanh"), Flatten(), *drop, Dense(30, init="glorot_uniform", name="h3"), Tanh(name="h3_tanh")),
        *([Dropout(dropout)] if dropout else []),
        Dense(classes, init="glorot_uniform", name="output"),
    )
    nodes["scores"] = (head, "h2")
    return built(Graph(["x"], nodes), (1, 16, 16), seed)


def lenet5(
    classes: int = 10, in_shape: Shape = (1, 32, 32), *, max_pool: bool = False, activation: str = "tanh", seed: int = 0
) -> Sequential:
    """LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998): 61,706 weights.

    As it is mostly drawn today: every map of C3 sees all of S2, averages have no weights, outputs are logits. Smaller
    images get a border up to 32 x 32. Code of today often has `max_pool` in place of averages, and "relu".
    """
    pool = MaxPool2D if max_pool else AveragePool2D
    border = max(0, (32 - in_shape[1]) // 2), max(0, (32 - in_shape[2]) // 2)
    net = Sequential(
        *(Conv2D(6, 5, padding=border, name="c1"), activation, pool(2, name="s2")),
        *(Conv2D(16, 5, name="c3"), activation, pool(2, name="s4"), Flatten()),
        *(Dense(120, name="c5"), activation, Dense(84, name="f6"), activation, Dense(classes, name="output")),
    )
    return built(net, in_shape, seed)


def vgg_plan(convolutions: int) -> list[int]:
    """Return how many convolutions each stage has: 8, 10, 13, 16 as published (A, B, D, E), others alike.

    At most five stages; each gets one, then, from the last to the first, a second; more go to the last three in turn.
    """
    stages = [0] * min(5, convolutions)
    for extra in range(convolutions):
        if extra < 2 * len(stages):
            stages[-1 - extra % len(stages)] += 1
        else:
            stages[-1 - (extra - 2 * len(stages)) % 3] += 1
    return stages


def vgg(
    depth: int = 11,
    in_shape: Shape = (3, 32, 32),
    classes: int = 10,
    *,
    width: int = 64,
    hidden: Sequence[int] = (512, 512),
    batch_norm: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> Sequential:
    """3 x 3 convolutions in stages of doubling width, with a max pool after each (Simonyan & Zisserman 2015).

    Parameters
    ----------
    depth : int
        Layers with weights: convolutions and dense ones. 11, 13, 16 and 19 are A, B, D and E.
    width : int
        Channels of the first stage; the last one has at most 8 times as many.
    hidden : sequence of int
        Units of the dense layers before the last; published: (4096, 4096), for images of 224 x 224.

    Raises
    ------
    ValueError
        If the depth leaves no convolution.
    """
    count = require_int(depth, "depth", len(hidden) + 2) - len(hidden) - 1
    layers: list[Layer] = []
    size = min(in_shape[1:])
    for stage, repeats in enumerate(vgg_plan(count)):
        for _ in range(repeats):
            layers += convolution(width * min(8, 2**stage), 3, 1, batch_norm)
        if size > 1:
            layers.append(MaxPool2D(2))
            size //= 2
    layers.append(Flatten())
    for units in hidden:
        layers += [Dense(units), ReLU(), *([Dropout(dropout)] if dropout else [])]
    return built(Sequential(*layers, Dense(classes)), in_shape, seed)


def ds_cnn(
    classes: int = 12,
    in_shape: Shape = (1, 49, 10),
    *,
    filters: int = 64,
    blocks: int = 4,
    batch_norm: bool = True,
    dropout: float = 0.0,
    seed: int = 0,
) -> Sequential:
    """Keyword spotting with separable convolutions (Zhang et al. 2017), as in MLPerf Tiny (Banbury et al. 2021).

    Spectrograms (1, 49 frames, 10 coefficients): 24,908 numbers with batch norm's statistics, 22,604 once it is folded.
    """
    layers = convolution(filters, (10, 4), 2, batch_norm)
    for _ in range(blocks):
        layers += separable(filters, 1, batch_norm)
    drop: list[Layer] = [Dropout(dropout)] if dropout else []
    return built(Sequential(*layers, *drop, *classifier(classes)), in_shape, seed)


def mobilenet_v1(
    classes: int = 2,
    in_shape: Shape = (3, 96, 96),
    *,
    alpha: float = 0.25,
    batch_norm: bool = True,
    seed: int = 0,
) -> Sequential:
    """13 separable convolutions (Howard et al. 2017), alpha times as wide; 0.25 is MLPerf Tiny's visual wake words.

    Full width with 1000 classes has 4,231,976 weights.
    """
    require_number(alpha, "alpha", open_low=True)
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    bias = {"bias": not batch_norm}
    layers = convolution(int(32 * alpha), 3, 2, batch_norm, **bias)
    for filters, stride in plan:
        layers += separable(int(filters * alpha), stride, batch_norm, **bias)
    return built(Sequential(*layers, *classifier(classes)), in_shape, seed)


def divisible(channels: float) -> int:
    """Return the multiple of 8 nearest to `channels`, not more than a tenth below it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def inverted_residual(channels: int, filters: int, stride: int, expansion: int, batch_norm: bool) -> Layer:
    """Return a bottleneck of MobileNetV2: wide, depthwise, narrow again without an activation."""

    def norm() -> list[Layer]:
        return [BatchNorm()] if batch_norm else []

    wide: list[Layer] = []
    if expansion > 1:
        wide = [Conv2D(channels * expansion, 1, bias=not batch_norm), *norm(), ReLU6()]
    deep = [DepthwiseConv2D(3, stride=stride, padding="same", bias=not batch_norm), *norm(), ReLU6()]
    body = [*wide, *deep, Conv2D(filters, 1, bias=not batch_norm), *norm()]
    return Residual(*body) if stride == 1 and channels == filters else Sequential(*body)


def mobilenet_v2(
    classes: int = 10,
    in_shape: Shape = (3, 96, 96),
    *,
    alpha: float = 0.35,
    batch_norm: bool = True,
    seed: int = 0,
) -> Sequential:
    """17 inverted residuals (Sandler et al. 2018), alpha times as wide, each width a multiple of 8.

    Full width with 1000 classes has 3,504,872 weights.
    """
    require_number(alpha, "alpha", open_low=True)
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def plain(filters: int, kernel: int, stride: int) -> list[Layer]:
        conv = Conv2D(filters, kernel, stride=stride, padding="same", bias=not batch_norm)
        return [conv, *([BatchNorm()] if batch_norm else []), ReLU6()]

    channels = divisible(32 * alpha)
    layers = plain(channels, 3, 2)
    for expansion, width, repeats, first_stride in plan:
        for repeat in range(repeats):
            filters, stride = divisible(width * alpha), first_stride if repeat == 0 else 1
            layers.append(inverted_residual(channels, filters, stride, expansion, batch_norm))
            channels = filters
    layers += plain(divisible(1280 * max(1.0, alpha)), 1, 1)
    return built(Sequential(*layers, *classifier(classes)), in_shape, seed)


def resnet8(classes: int = 10, in_shape: Shape = (3, 32, 32), *, batch_norm: bool = True, seed: int = 0) -> Sequential:
    """Three residual blocks (He et al. 2016), as in MLPerf Tiny (Banbury et al. 2021).

    78,666 numbers with batch norm's statistics, 77,706 once it is folded.
    """

    def block(filters: int, stride: int) -> list[Layer]:
        norm: list[Layer] = [BatchNorm()] if batch_norm else []
        body = [*convolution(filters, 3, stride, batch_norm), Conv2D(filters, 3, padding="same"), *norm]
        shortcut = None if stride == 1 else Conv2D(filters, 1, stride=stride, padding="same")
        return [Residual(*body, shortcut=shortcut), ReLU()]

    stacks = [*block(16, 1), *block(32, 2), *block(64, 2)]
    return built(Sequential(*convolution(16, 3, 1, batch_norm), *stacks, *classifier(classes)), in_shape, seed)


def autoencoder(
    inputs: int = 640,
    hidden: Sequence[int] = (128, 128, 128, 128, 8, 128, 128, 128, 128),
    *,
    batch_norm: bool = True,
    seed: int = 0,
) -> Sequential:
    """Dense layers with a narrow one amid them, that learn to give back what they get: train with "mse" on (x, x).

    As in MLPerf Tiny (Banbury et al. 2021), for sounds of machines: 269,992 numbers with batch norm's statistics, 265,864
    once it is folded. An input that comes back badly is unusual.
    """
    layers: list[Layer] = []
    for units in hidden:
        layers += [Dense(units), *([BatchNorm()] if batch_norm else []), ReLU()]
    return built(Sequential(*layers, Dense(inputs)), (inputs,), seed)


def kws_gru(
    classes: int = 12, in_shape: Shape = (25, 10), *, units: int = 154, stateful: bool = False, seed: int = 0
) -> Sequential:
    """Keyword spotting with a GRU over frames (25, 10 coefficients), the small one of Zhang et al. 2017.

    `stateful` with in_shape (1, 10) takes frame after frame; its weights are those of any other number of frames.
    """
    return built(Sequential(GRU(units, stateful=stateful, name="gru"), Dense(classes, name="head")), in_shape, seed)


def kws_lstm(
    classes: int = 12, in_shape: Shape = (25, 10), *, units: int = 118, stateful: bool = False, seed: int = 0
) -> Sequential:
    """Keyword spotting with an LSTM over frames (25, 10 coefficients), the small one of Zhang et al. 2017.

    Without its projection and peepholes; otherwise like `kws_gru`.
    """
    return built(Sequential(LSTM(units, stateful=stateful, name="lstm"), Dense(classes, name="head")), in_shape, seed)


def tcn(
    classes: int = 12,
    in_shape: Shape = (10, 49),
    *,
    channels: Sequence[int] = (32, 32, 32, 32),
    kernel: int = 3,
    dropout: float = 0.0,
    seed: int = 0,
) -> Sequential:
    """Dilated causal convolutions in residual blocks, and a dense layer on the last step (Bai, Kolter & Koltun 2018).

    Lines (channels, steps). Block i has dilation 2**i, so the last of b blocks sees ``1 + 2 (kernel - 1) (2**b - 1)``
    steps, none of them later than its own. Without the paper's weight normalization.
    """
    layers: list[Layer] = []
    width = in_shape[0]
    for place, filters in enumerate(channels):
        dilation, body = 2**place, []
        for _ in range(2):
            body += [Conv1D(filters, kernel, dilation=dilation, padding=((kernel - 1) * dilation, 0)), ReLU()]
            body += [Dropout(dropout)] if dropout else []
        shortcut = None if width == filters else Conv1D(filters, 1)
        layers += [Residual(*body, shortcut=shortcut), ReLU()]
        width = filters
    last = [Slice(-1, None, axis=2, name="last"), Flatten(), Dense(classes, name="head")]
    return built(Sequential(*layers, *last), in_shape, seed)


NETS: dict[str, Callable[..., Graph]] = {
    net.__name__: net
    for net in (
        *(xor, mlp, lecun1989, lenet5, vgg, ds_cnn, mobilenet_v1, mobilenet_v2, resnet8, autoencoder),
        *(kws_gru, kws_lstm, tcn),
    )
}
