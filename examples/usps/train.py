"""Zip-code digits with the network of 1989: train with NumPy, export to int8, and see what each step costs.

    python examples/usps/train.py --data ../shared/data/usps/usps_train.npz --out build/usps

The data are the USPS digits, 16 x 16 (LeCun et al. 1990): an npz file with x (n, 16, 16), int16 from -1000 for paper to
1000 for ink, and y (n,). A part of them, the last ones, is put aside to see how training goes: digits that follow each
other are from one envelope, so a random part would hold the hands that the net was trained on. `--test` takes a file of
the same kind that is looked at once, at the end.

The network is `edgeprop.trainer.nets.lecun1989`, with what was not yet known then: softmax cross-entropy, AdamW, a
cosine schedule, and digits bent a little (Simard, Steinkraus & Platt 2003).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.trainer import nets

Array = np.ndarray[Any, np.dtype[Any]]

VALIDATION = 1291  # of the 7,291


class Digits(NamedTuple):
    """Images (n, 1, 16, 16) float32, 0 for paper to 1 for ink, and what they show (n,)."""

    x: Array
    y: Array


class Errors(NamedTuple):
    """Share of wrong answers: float32 and int8 on validation digits, then on test digits (None without any)."""

    validation: float
    validation_int8: float
    test: float | None
    test_int8: float | None


def main(data: Path, out: Path, test: Path | None = None, copies: int = 20, epochs: int = 6) -> Errors:
    """Train, export, print errors; `copies` is how many times each digit is bent, `epochs` how often all that is seen."""
    digits = load(data)
    held_out = min(VALIDATION, len(digits.y) // 5)
    train, validation = Digits(*(a[:-held_out] for a in digits)), Digits(*(a[-held_out:] for a in digits))

    rng = np.random.default_rng(0)
    bent = np.concatenate([train.x, *(bend(train.x, rng) for _ in range(copies - 1))])
    net = nets.lecun1989(seed=1)
    optimizer = t.AdamW(t.CosineDecay(3e-3, epochs=epochs), weight_decay=0.01)
    history = t.fit(
        *(net, bent, np.tile(train.y, copies)), optimizer=optimizer, epochs=epochs, batch_size=64, validation=validation
    )
    print(f"{net.n_params} weights, {history}")

    labels = [str(digit) for digit in range(10)]
    print(export.save(out / "zipcode", net, calibration=train.x[:512], labels=labels))
    model = edgeprop.Model(out / "zipcode.ep")
    errors = [*both(net, model, validation), *(both(net, model, load(test)) if test else (None, None))]
    print(f"validation: {errors[0]:.2%} wrong, int8 {errors[1]:.2%}")
    if test:
        print(f"test:       {errors[2]:.2%} wrong, int8 {errors[3]:.2%}")
    return Errors(*errors)  # type: ignore[arg-type]


def load(path: Path) -> Digits:
    """Read a file of digits."""
    with np.load(path) as data:
        x = (data["x"].reshape(-1, 1, 16, 16).astype(np.float32) / 1000 + 1) / 2
        return Digits(x, data["y"].astype(int))


def bend(
    x: Array,
    rng: np.random.Generator,
    *,
    shift: float = 1.5,
    turn: float = 0.2,
    stretch: float = 0.12,
    slant: float = 0.25,
) -> Array:
    """Return each image shifted (by so many pixels at most), turned (radians), stretched and slanted at random.

    x (n, 1, h, w); bilinear, with paper outside.
    """
    (n, _, height, width), u = x.shape, lambda limit, *more: rng.uniform(-limit, limit, (len(x), *more))
    angle, scale, lean = u(turn), 1 + u(stretch, 2), u(slant)
    cos, sin = np.cos(angle), np.sin(angle)
    rows = np.stack([cos * scale[:, 0], -sin * scale[:, 1]], axis=1)
    columns = np.stack([sin * scale[:, 0] + lean * cos, cos * scale[:, 1]], axis=1)
    middle = np.array([height - 1, width - 1]) / 2
    grid = np.mgrid[:height, :width].reshape(2, -1) - middle[:, None]
    source = np.stack([rows, columns], axis=1) @ grid + (middle + u(shift, 2))[:, :, None]  # (n, 2, h w)
    corner = np.floor(source).astype(int)
    share = source - corner
    padded = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)))
    result = np.zeros((n, height * width), np.float32)
    for down in (0, 1):
        for right in (0, 1):
            weight = abs(1 - down - share[:, 0]) * abs(1 - right - share[:, 1])
            row, column = (corner[:, 0] + down + 1).clip(0, height + 1), (corner[:, 1] + right + 1).clip(0, width + 1)
            result += weight.astype(np.float32) * padded[np.arange(n)[:, None], row, column]
    return result.reshape(x.shape)


def both(net: t.Graph, model: edgeprop.Model, digits: Digits) -> tuple[float, float]:
    """Share of wrong answers of the float32 network, and of the int8 model."""
    answers = net.predict(digits.x).argmax(axis=1), model.predict(digits.x)
    return tuple(float(np.mean(a != digits.y)) for a in answers)  # type: ignore[return-value]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True, help="npz file of digits to train on")
    parser.add_argument("--test", type=Path, help="npz file of digits to look at once, at the end")
    parser.add_argument("--out", type=Path, default=Path("build/usps"))
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    main(args.data, args.out, args.test, args.copies, args.epochs)
