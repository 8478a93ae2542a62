"""On the desktop: the recognizer of examples/pi, with its user's samples as C arrays: there are no files on a board.

    python examples/mcu/prepare.py --out build/mcu

Writes recognizer.h and people.h.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pi"))
import prepare as pi

EXAM = 44  # as many samples of the exam as a board's flash has room for beside the rest


def main(out: Path) -> None:
    """Write both headers."""
    people = pi.main(out)
    exam = pi.Samples(people.exam.x[:EXAM], people.exam.y[:EXAM])
    lines = ["/* What the user shows the device, and what it is then asked. Written by prepare.py. */"]
    for name, samples in (("lesson", people.lesson), ("exam", exam)):
        lines += arrays(name, samples)
    (out / "people.h").write_text("\n".join(lines) + "\n", encoding="utf-8")


def arrays(name: str, samples: pi.Samples) -> Iterator[str]:
    """Values (n, features) and labels (n,) in C, a sample a line."""
    n, features = samples.x.shape
    yield f"enum {{ {name.upper()}_COUNT = {n} }};"
    yield f"static const float {name}_x[{n}][{features}] = {{"
    for row in samples.x:
        yield f"    {{{', '.join(f'{float(value):.9e}f' for value in row)}}},"
    yield "};"
    yield f"static const int32_t {name}_y[{n}] = {{{', '.join(map(str, samples.y))}}};"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/mcu"), metavar="DIR", help="[build/mcu]")
    main(parser.parse_args().out)
