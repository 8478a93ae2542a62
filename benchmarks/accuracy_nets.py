"""The networks of `benchmarks.accuracy`, with batch norm as trained in practice, and how each is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeprop import trainer as t

from .accuracy_data import Data


@dataclass(frozen=True)
class Recipe:
    """A net, its data set and its training: `limit` samples at most, `epochs` over them, Adam with cosine decay."""

    build: Callable[[int], t.Sequential]
    data: str
    limit: int
    epochs: int
    learning_rate: float
    batch_size: int = 32


def _conv(filters: int, kernel: int | tuple[int, int] = 3, stride: int | tuple[int, int] = 1) -> list[t.Layer]:
    return [t.Conv2D(filters, kernel, stride=stride, padding="same", bias=False), t.BatchNorm(), t.ReLU()]


def _separable(filters: int, stride: int = 1, cap: bool = False) -> list[t.Layer]:
    depthwise = [t.DepthwiseConv2D(3, stride=stride, padding="same", bias=False), t.BatchNorm()]
    point = [t.Conv2D(filters, 1, bias=False), t.BatchNorm()]
    return [*depthwise, t.ReLU6() if cap else t.ReLU(), *point, t.ReLU6() if cap else t.ReLU()]


def _head(classes: int) -> list[t.Layer]:
    return [t.GlobalAveragePool(), t.Flatten(), t.Dense(classes, name="head")]


def ds_cnn(classes: int) -> t.Sequential:
    """DS-CNN (Zhang et al. 2017), small: 49 frames of 10 coefficients."""
    blocks = [layer for _ in range(4) for layer in _separable(64)]
    return t.Sequential(*_conv(64, (10, 4), 2), *blocks, *_head(classes))


def _residual(filters: int, stride: int) -> list[t.Layer]:
    body = [*_conv(filters, 3, stride), t.Conv2D(filters, 3, padding="same", bias=False), t.BatchNorm()]
    shortcut = None if stride == 1 else t.Conv2D(filters, 1, stride=stride, padding="same")
    return [t.Residual(*body, shortcut=shortcut), t.ReLU()]


def resnet8(classes: int) -> t.Sequential:
    """ResNet-8 of MLPerf Tiny (Banbury et al. 2021)."""
    stacks = [*_residual(16, 1), *_residual(32, 2), *_residual(64, 2)]
    return t.Sequential(*_conv(16), *stacks, *_head(classes))


def mobilenet_v1(classes: int) -> t.Sequential:
    """MobileNetV1 (Howard et al. 2017) with ReLU6, a quarter as wide, and a stride less for small images."""
    plan = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
    blocks = [layer for filters, stride in plan for layer in _separable(filters, stride, cap=True)]
    stem = [t.Conv2D(8, 3, padding="same", bias=False), t.BatchNorm(), t.ReLU6()]
    return t.Sequential(*stem, *blocks, *_head(classes))


def lecun1989(classes: int) -> t.Sequential:
    """The net of LeCun et al. 1989 for 16 x 16 digits, its two feature layers fully connected in depth."""
    features = [
        t.Conv2D(12, 5, stride=2, padding=2, name="h1"),
        t.Tanh(),
        t.Conv2D(12, 5, stride=2, padding=2, name="h2"),
    ]
    return t.Sequential(
        *features, t.Tanh(), t.Flatten(), t.Dense(30, name="h3"), t.Tanh(), t.Dense(classes, name="head")
    )


RECIPES: dict[str, Recipe] = {
    "lecun1989": Recipe(lecun1989, "usps", 5000, 25, 3e-3),
    "ds_cnn": Recipe(ds_cnn, "fsdd", 2000, 12, 3e-3),
    "ds_cnn_words": Recipe(ds_cnn, "dspspeech8", 2000, 15, 3e-3),
    "resnet8": Recipe(resnet8, "fashion_mnist", 10_000, 4, 3e-3),
    "mobilenet_v1": Recipe(mobilenet_v1, "fashion_mnist", 24_000, 8, 3e-3),
}


def train(recipe: Recipe, data: Data) -> t.Sequential:
    """Train a recipe's net on the training part of its data, from a fixed seed."""
    x, y = (array[: recipe.limit] for array in data.train)
    net = recipe.build(int(y.max()) + 1)
    rate = t.CosineDecay(recipe.learning_rate, epochs=recipe.epochs)
    t.fit(
        net,
        x,
        y,
        optimizer=t.Adam(rate),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        validation=data.validation,
        early_stopping=t.EarlyStopping(patience=recipe.epochs),
    )
    return net
