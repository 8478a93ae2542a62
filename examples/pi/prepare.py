"""On the desktop: train a recognizer on some people, and put one aside who will be its user.

    python examples/pi/prepare.py --out build/pi

Real data: the Deterding vowels, 11 vowels by 8 speakers as 10 numbers each, if they are in EDGEPROP_DATA (default
../shared/data), else scikit-learn's digits, whose user's scanner is mounted askew. Writes recognizer.h and .ep for the
device, and lesson.csv and exam.csv: what the user shows it, and what it is then asked (a label and its values a line).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeprop import export
from edgeprop import trainer as t

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).resolve().parents[2]
VOWELS = "vowel/vowel_speakers_0_7.npz"
WORDS = ["heed", "hid", "head", "had", "hard", "hud", "hod", "hoard", "hood", "who'd", "heard"]
USER, TAKES = 5, 2  # the speaker put aside, and how often each vowel is shown to the device


class Samples(NamedTuple):
    """Values (n, features) float32 and class indices (n,)."""

    x: Array
    y: Array


class People(NamedTuple):
    """Samples of the people who train it, of the user's lesson and of the user's exam; and the classes' names."""

    train: Samples
    lesson: Samples
    exam: Samples
    labels: list[str]


def main(out: Path) -> People:
    """Train, export, and write the user's samples."""
    people = vowels() or digits()

    # Two layers, of which the device keeps training the last. Its user is in none of this.
    net = t.Sequential(t.Dense(64, name="hidden"), t.ReLU(), t.Dense(len(people.labels), name="head"))
    t.fit(net, *people.train, optimizer=t.Adam(1e-2), epochs=40, progress=False)
    stem = out / "recognizer"
    print(export.save(stem, net, calibration=people.train.x, trainable="head", labels=people.labels))

    for name, samples in (("lesson", people.lesson), ("exam", people.exam)):
        rows = np.column_stack([samples.y, samples.x])
        np.savetxt(out / f"{name}.csv", rows, fmt=["%d", *["%.9g"] * samples.x.shape[1]], delimiter=",")
    return people


def vowels() -> People | None:
    """Eight speakers, six takes of each vowel; None where the file is not there."""
    path = Path(os.environ.get("EDGEPROP_DATA", ROOT.parent / "shared" / "data")) / VOWELS
    if not path.is_file():
        print(f"no {path}: digits instead")
        return None
    with np.load(path) as data:
        x, y, speaker = data["x"], data["y"].astype(int), data["speaker"]
    others, user = speaker != USER, np.flatnonzero(speaker == USER)
    lesson, exam = user[: 11 * TAKES], user[11 * TAKES :]  # takes one after the other, each of all vowels
    return People(Samples(x[others], y[others]), Samples(x[lesson], y[lesson]), Samples(x[exam], y[exam]), WORDS)


def digits() -> People:
    """1,400 digits to train on; the user's are turned and blurred."""
    from sklearn.datasets import load_digits

    sys.path.insert(0, str(ROOT / "examples" / "digits"))
    from shifted_world import shifted

    data = load_digits()
    images, y = (data.images[:, None] / 16).astype(np.float32), data.target
    x = np.concatenate([images[:1400], shifted(images[1400:])]).reshape(len(y), -1)
    parts = [slice(0, 1400), slice(1400, 1440), slice(1440, None)]
    return People(*(Samples(x[part], y[part]) for part in parts), [str(digit) for digit in range(10)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/pi"), metavar="DIR", help="[build/pi]")
    main(parser.parse_args().out)
