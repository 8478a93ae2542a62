"""A gradient that vanishes on its way back, through layers and through time, and what keeps it alive.

    python examples/vanishing_gradient/demo.py --out build/vanishing

Part one, depth: nets of 20 hidden layers learn scikit-learn's digits. Each sigmoid takes at least three quarters of the
gradient (its slope is at most 1/4), so the first layers of the first net hardly move (Hochreiter 1991; Bengio, Simard &
Frasconi 1994). ReLU alone is no cure: with small weights the signal itself dies on the way forward, and the gradient with
it. With He's weights it keeps its size (He et al. 2015); so it does with sigmoids beside residual connections, or behind
batch norm.

Part two, time: recurrent nets of 16 units see one number that matters and then 49 of noise, and must tell at the end
whether it was positive. How much of the gradient reaches back to the first step shows whether they can learn that at all. A plain
recurrent layer forgets; so does a GRU, whose gates start half open; an LSTM whose forget gate starts open carries its
cell along (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000).

Both before training, which is what vanishing is about, with what each net then comes to. Writes vanishing.png too, where
matplotlib is installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from edgeprop import trainer as t

Array = np.ndarray[Any, np.dtype[Any]]

DEPTH, UNITS, STEPS = 20, 32, 50


class Result(NamedTuple):
    """How large the gradient is at each layer, first to last, or at each step in time; and accuracy after training."""

    norms: Array
    accuracy: float


# ---- Depth -----------------------------------------------------------------------------------------------------------


def small(shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """Weights that halve what goes through them, and the gradient that comes back."""
    return rng.normal(0, 0.5 / np.sqrt(fan_in), shape)


def plain(activation: Callable[[], t.Layer], init: Any) -> list[t.Layer]:
    """20 hidden layers."""
    return [layer for _ in range(DEPTH) for layer in (t.Dense(UNITS, init=init), activation())]


def residual() -> list[t.Layer]:
    """As many sigmoid layers, 19 of them beside a way around (He et al. 2016)."""
    first = [t.Dense(UNITS, init="glorot_normal"), t.Sigmoid()]
    return first + [t.Residual(t.Dense(UNITS, init="glorot_normal"), t.Sigmoid()) for _ in range(DEPTH - 1)]


def normalized() -> list[t.Layer]:
    """Sigmoids again, with batch norm before each (Ioffe & Szegedy 2015), which also undoes a layer's scale."""
    return [layer for _ in range(DEPTH) for layer in (t.Dense(UNITS, bias=False), t.BatchNorm(), t.Sigmoid())]


DEEP: dict[str, Callable[[], list[t.Layer]]] = {
    "sigmoid": lambda: plain(t.Sigmoid, "glorot_normal"),
    "ReLU, small weights": lambda: plain(t.ReLU, small),
    "ReLU, He's weights": lambda: plain(t.ReLU, "he_normal"),
    "sigmoid, residual": residual,
    "sigmoid, batch norm": normalized,
}


def deep(layers: list[t.Layer], epochs: int) -> Result:
    """Gradient of every hidden weight at the start, then accuracy on digits that were not trained on."""
    digits = load_digits()
    x, y = (digits.data / 8 - 1).astype(np.float32), digits.target
    train, test = slice(0, 1200), slice(1200, None)
    net = t.Sequential(*layers, t.Dense(10, name="head"))
    net.build(64, seed=0)

    loss = t.SoftmaxCrossEntropy()
    loss.forward(net.forward(x[:256], training=True), y[:256])
    net.backward(loss.backward())
    weights = [p.grad for p in net.parameters() if p.value.ndim == 2 and not p.name.startswith("head")]
    norms = np.array([np.linalg.norm(grad) for grad in weights])

    t.fit(net, x[train], y[train], optimizer=t.Adam(3e-3), epochs=epochs, clip_norm=1.0)
    return Result(norms, t.evaluate(net, x[test], y[test]).metric)


# ---- Time ------------------------------------------------------------------------------------------------------------

CELLS: dict[str, Callable[[], t.Layer]] = {
    "RNN, small weights": lambda: t.SimpleRNN(16, recurrent_init=small),
    "RNN, orthogonal weights": lambda: t.SimpleRNN(16),
    "GRU": lambda: t.GRU(16),
    "LSTM": lambda: t.LSTM(16, forget_bias=3.0),
}


def first_of_many(n: int, seed: int) -> tuple[Array, Array]:
    """Sequences (n, STEPS, 2): a number, then noise; the second feature is 1 where the number is. And its sign (n,)."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.normal(0, 1, (n, STEPS)), np.zeros((n, STEPS))], axis=2).astype(np.float32)
    x[:, 0, 1] = 1
    return x, (x[:, 0, 0] > 0).astype(int)


def recurrent(cell: t.Layer, epochs: int) -> Result:
    """Gradient of the loss with respect to each step's input, then accuracy on sequences that were not trained on."""
    (x, y), test = first_of_many(1000, 0), first_of_many(500, 1)
    net = t.Sequential(cell, t.Dense(2, name="head"))
    net.build((STEPS, 2), seed=0)

    loss = t.SoftmaxCrossEntropy()
    loss.forward(net.forward(x[:128], training=True), y[:128])
    norms = np.linalg.norm(net.backward(loss.backward()), axis=(0, 2))

    t.fit(net, x, y, optimizer=t.Adam(0.01), epochs=epochs, clip_norm=1.0, batch_size=64)
    return Result(norms, t.evaluate(net, *test).metric)


# ---- Report ----------------------------------------------------------------------------------------------------------


def main(out: Path | None = None, epochs: int = 20) -> tuple[dict[str, Result], dict[str, Result]]:
    """Run both parts, print a table of each, draw a picture."""
    layers = {name: deep(make(), epochs) for name, make in DEEP.items()}
    table(f"{DEPTH} layers: norm of the gradient of a layer's weights", layers, (0, 4, 9, 14, 19), "layer")
    steps = {name: recurrent(make(), epochs) for name, make in CELLS.items()}
    table(f"{STEPS} steps: norm of the gradient of a step's input", steps, (0, 12, 24, 36, 49), "step")
    if out is not None:
        draw(out, layers, steps)
    return layers, steps


def table(title: str, results: dict[str, Result], places: tuple[int, ...], what: str) -> None:
    """Print a line per net: gradients at a few places, how much of the last is left at the first, accuracy."""
    heads = [f"{what} {place + 1}" for place in places]
    print(f"\n{title}\n{'':<24}" + "".join(f"{head:>10}" for head in heads) + f"{'first/last':>12}{'accuracy':>10}")
    for name, (norms, accuracy) in results.items():
        values = "".join(f"{norms[place]:>10.1e}" for place in places)
        print(f"{name:<24}{values}{norms[0] / norms[-1]:>12.1e}{accuracy:>10.1%}")


def draw(out: Path, layers: dict[str, Result], steps: dict[str, Result]) -> None:
    """Draw the gradients over layers and steps into `out`, if matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(11, 4), layout="constrained")
    for place, (results, label) in enumerate(((layers, "layer"), (steps, "step")), start=1):
        axes = figure.add_subplot(1, 2, place)
        for name, (norms, accuracy) in results.items():
            axes.semilogy(np.arange(len(norms)) + 1, norms, label=f"{name}: {accuracy:.0%} right")
        axes.set(xlabel=label, ylabel="norm of the gradient before training")
        axes.legend()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "vanishing.png", dpi=150)
    print(f"\n{out / 'vanishing.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, default=Path("build/vanishing"))
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    main(args.out, args.epochs)
