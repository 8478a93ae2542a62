"""The nearest to what is refused that is not, layer by layer, and each bound of a parameter from both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeprop import trainer as t

Shape = tuple[int, ...]
ACCEPTED: list[tuple[Callable[[], t.Layer], Shape, Shape]] = [
    (lambda: t.Conv2D(4, 3, groups=2), (2, 5, 5), (4, 3, 3)),
    (lambda: t.Conv2D(4, 3, dilation=3), (1, 7, 7), (4, 1, 1)),
    (lambda: t.Conv2D(4, 3, dilation=3), (1, 8, 7), (4, 2, 1)),
    (lambda: t.Conv1D(4, 5), (1, 5), (4, 1)),
    (lambda: t.Conv1D(4, 3, padding=(1, 2)), (1, 5), (4, 6)),
    (lambda: t.ConvTranspose2D(1, 3, stride=2, output_padding=1), (1, 2, 2), (1, 6, 6)),
    (lambda: t.ConvTranspose2D(1, 2, padding=2), (1, 4, 4), (1, 1, 1)),
    (lambda: t.ConvTranspose2D(1, 3, stride=3, padding="same"), (1, 4, 4), (1, 12, 12)),
    (lambda: t.GroupNorm(2), (4, 1), (4, 1)),
    (lambda: t.GroupNorm(4), (4, 2, 2), (4, 2, 2)),
    (lambda: t.LayerNorm(1), (4,), (4,)),
    (lambda: t.Softmax(1), (4,), (4,)),
    (lambda: t.Reshape(2, -1), (4, 2), (2, 4)),
    (lambda: t.Reshape(8), (4, 2), (8,)),
    (lambda: t.Squeeze(1), (1, 2), (2,)),
    (lambda: t.Transpose(0, 2, 1), (4, 2), (2, 4)),
    (lambda: t.Slice(3), (4, 2), (1, 2)),
    (lambda: t.Slice(0, 4, step=3), (4, 2), (2, 2)),
    (lambda: t.Slice(-1), (4, 2), (1, 2)),
    (lambda: t.Pad(((3, 0),), "reflect"), (4,), (7,)),
    (lambda: t.Pad(((0, 3),), "reflect"), (4,), (7,)),
    (lambda: t.Pad(((0, 0),), "reflect"), (1,), (1,)),
    (lambda: t.Pad(((9, 0),), "edge"), (4,), (13,)),
    (lambda: t.Resize(2), (4, 2), (4, 4)),
    (lambda: t.Resize((1, 3)), (4, 2, 2), (4, 2, 6)),
    (lambda: t.Resize(1), (4, 2), (4, 2)),
    (lambda: t.GlobalAveragePool(), (4, 5), (4, 1)),
    (lambda: t.GlobalMaxPool(), (4, 5, 3), (4, 1, 1)),
    (lambda: t.MaxPool2D(3), (2, 3, 3), (2, 1, 1)),
    (lambda: t.AveragePool1D(3), (2, 3), (2, 1)),
    (lambda: t.MaxPool2D(3, stride=1), (2, 3, 4), (2, 1, 2)),
    (lambda: t.Embedding(1, 3), (5,), (5, 3)),
    (lambda: t.Clip(1, 1.5), (3,), (3,)),
    (lambda: t.ReduceSum(1), (3, 2), (2,)),
    (lambda: t.ReduceMean(1, 2, keepdims=True), (3, 2), (1, 1)),
]


@pytest.mark.parametrize(("layer", "given", "shape"), ACCEPTED)
def test_what_just_fits(layer: Callable[[], t.Layer], given: Shape, shape: Shape) -> None:
    made = layer()
    net = t.Sequential(made)
    net.build(given)
    assert net.out_shape == shape
    x = np.zeros((3, *given), int) if isinstance(made, t.Embedding) else np.ones((3, *given))
    y = net.predict(x)
    assert y.shape == (3, *shape)
    assert np.isfinite(y).all()


#: a constructor of one number, the least and the most that it takes, and what lies beyond either
BOUNDS: dict[str, tuple[Callable[[Any], Any], list[Any], list[Any]]] = {
    "Dropout": (t.Dropout, [0.0, 0.99], [-0.01, 1.0]),
    "ELU": (t.ELU, [1e-6, 5.0], [0, -1.0, float("inf")]),
    "Dense": (t.Dense, [1, 3], [0, -1, 1.5]),
    "Conv2D kernel": (lambda n: t.Conv2D(1, n), [1, 2], [0, -1]),
    "Conv2D stride": (lambda n: t.Conv2D(1, 1, stride=n), [1, 2], [0, -1]),
    "Conv2D padding": (lambda n: t.Conv2D(1, 1, padding=n), [0, 1], [-1]),
    "Conv2D dilation": (lambda n: t.Conv2D(1, 1, dilation=n), [1, 2], [0]),
    "Conv2D groups": (lambda n: t.Conv2D(4, 1, groups=n), [1, 2, 4], [0]),
    "ConvTranspose2D output_padding": (
        lambda n: t.ConvTranspose2D(1, 1, stride=3, output_padding=n), [0, 2], [-1, 3]),
    "Pad": (lambda n: t.Pad(((n, 0),)), [0, 1], [-1]),
    "Slice step": (lambda n: t.Slice(0, 1, step=n), [1, 2], [0, -1]),
    "Embedding rows": (lambda n: t.Embedding(n, 1), [1], [0]),
    "Embedding width": (lambda n: t.Embedding(1, n), [1], [0]),
    "BatchNorm momentum": (lambda n: t.BatchNorm(momentum=n), [0.01, 1.0], [-0.1, 1.1]),
    "BatchNorm eps": (lambda n: t.BatchNorm(eps=n), [1e-12], [0, -1e-5]),
    "LayerNorm eps": (lambda n: t.LayerNorm(eps=n), [1e-12], [0, -1e-5]),
    "GroupNorm": (t.GroupNorm, [1, 2], [0]),
    "Huber": (lambda d: t.Huber(delta=d), [1e-3], [0, -1.0]),
    "label smoothing": (lambda p: t.SoftmaxCrossEntropy(label_smoothing=p), [0.0, 0.99], [-0.1, 1.0]),
    "SGD learning rate": (t.SGD, [1e-9, 10.0], [-1.0, float("nan")]),
    "SGD momentum": (lambda n: t.SGD(0.1, momentum=n), [0.0, 0.99], [-0.1, 1.0]),
    "SGD decay": (lambda n: t.SGD(0.1, weight_decay=n), [0.0, 0.5], [-0.1]),
    "Adam beta1": (lambda n: t.Adam(beta1=n), [0.0, 0.99], [-0.1, 1.0]),
    "Adam beta2": (lambda n: t.Adam(beta2=n), [0.0, 0.999], [-0.1, 1.0]),
    "Adam eps": (lambda n: t.Adam(eps=n), [1e-12], [0, -1.0]),
    "RMSProp rho": (lambda n: t.RMSProp(rho=n), [0.0, 0.99], [-0.1, 1.0]),
    "EarlyStopping": (t.EarlyStopping, [1, 5], [0, -1]),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds(name: str) -> None:
    make, within, beyond = BOUNDS[name]
    for value in within:
        make(value)
    for value in beyond:
        with pytest.raises((ValueError, TypeError)):
            make(value)
