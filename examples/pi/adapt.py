"""On the Pi, in Python with numpy and cffi only: meet a new user, learn from a few examples, and remember.

    python adapt.py FOLDER

FOLDER holds recognizer.ep, lesson.csv and exam.csv, as prepare.py writes them. What was learned is kept in me.head there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import edgeprop

RATE, PASSES = 0.02, 30

Array = np.ndarray[Any, np.dtype[Any]]


def main(folder: Path) -> None:
    """Take the exam, learn the lesson, take the exam again."""
    model = edgeprop.Model(folder / "recognizer.ep")
    lesson, exam = read(folder / "lesson.csv"), read(folder / "exam.csv")

    # A user who has been here before is known.
    head = folder / "me.head"
    if head.exists():
        model.restore(head)
        print("restored")
    report("before", model, exam)

    # One step of SGD on each example in turn. A step that would spoil the weights is refused whole.
    x, y = lesson
    model.partial_fit(x, model.classes_[y], lr=RATE, epochs=PASSES)
    report("after", model, exam)

    # The file is written beside the old one and renamed: a power cut leaves one of the two.
    model.save(head)


def read(path: Path) -> tuple[Array, Array]:
    """Values (n, features) and class indices (n,) of a file with a label and its values a line."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.float32)
    return rows[:, 1:], rows[:, 0].astype(int)


def report(when: str, model: edgeprop.Model, exam: tuple[Array, Array]) -> None:
    """How many of the exam's samples are recognized."""
    x, y = exam
    print(f"{when}: {int((model.predict(x) == y).sum())} of {len(y)} right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
