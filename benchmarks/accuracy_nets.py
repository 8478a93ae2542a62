"""The named networks of `benchmarks.accuracy`, and how each is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeprop import trainer as t
from edgeprop.trainer import nets

from .accuracy_data import Data


@dataclass(frozen=True)
class Recipe:
    """A net, its data set and its training: `limit` samples at most, `epochs` over them, Adam with cosine decay.

    nets : how many are trained, each from a seed of its own. Of a test part of 400 samples, one answer is a quarter of a
        point; the answers of several nets tell what int8 costs from chance.
    """

    build: Callable[..., t.Graph]  # of classes, shape of an image, seed
    data: str
    limit: int
    epochs: int
    learning_rate: float
    batch_size: int = 32
    nets: int = 1


def lecun1989(classes: int, in_shape: tuple[int, ...], *, seed: int) -> t.Graph:
    """The net of 1989 takes images of one size alone."""
    return nets.lecun1989(classes, seed=seed)


RECIPES: dict[str, Recipe] = {
    "lecun1989": Recipe(lecun1989, "usps", 5000, 25, 3e-3),
    "ds_cnn": Recipe(nets.ds_cnn, "fsdd", 2000, 12, 3e-3, nets=5),
    "ds_cnn_words": Recipe(nets.ds_cnn, "dspspeech8", 2000, 15, 3e-3, nets=5),
    "resnet8": Recipe(nets.resnet8, "fashion_mnist", 10_000, 4, 3e-3),
    "mobilenet_v1": Recipe(nets.mobilenet_v1, "fashion_mnist", 24_000, 8, 3e-3),
}


def train(recipe: Recipe, data: Data, seed: int) -> t.Graph:
    """Train a recipe's net on the training part of its data."""
    x, y = (array[: recipe.limit] for array in data.train)
    net = recipe.build(int(y.max()) + 1, x.shape[1:], seed=seed)
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
