"""Run the comparisons, print a table, and write `build/bench.json`."""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from . import one_thread  # noqa: F401  (before what it limits)

# isort: split
from . import inference, learning, peak, training
from .rows import HEADER, Row, line
from .timing import Effort, pin

#: what can be run: (work, dtype, batch) and the comparison
Task = tuple[str, str, int, Callable[[Effort], Row]]


def tasks() -> Iterator[Task]:
    """Yield every comparison, in the order of the table."""
    for work in inference.works():
        for dtype in inference.DTYPES:
            yield work, dtype, 1, partial(inference.compare, work, dtype)
    for work in learning.works():
        for dtype in learning.dtypes(work):
            for batch in learning.BATCHES:
                yield work, dtype, batch, partial(learning.compare, work, dtype, batch)
    for work in training.works():
        yield work, "f32", training.BATCH, partial(training.compare, work)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--only", nargs="*", default=["*"], metavar="WORK", help="names or patterns, such as 'ad_*'")
    parser.add_argument("--dtype", choices=inference.DTYPES)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--quick", action="store_true", help="a few rounds: seconds a row, less steady")
    parser.add_argument("--spent", action="store_true", help="below an inference, its microseconds by kind of op")
    args = parser.parse_args()
    effort = Effort(rounds=12, budget=1.0, fewest=3) if args.quick else Effort()
    core = pin()
    machine = peak.machine()
    print(f"{machine}\none thread, {'not pinned' if core is None else f'core {core}'}; microseconds, the least seen")
    print(HEADER)
    rows = []
    for work, dtype, batch, compare in tasks():
        wanted = any(fnmatch.fnmatch(work, pattern) for pattern in args.only)
        if not wanted or args.dtype not in (None, dtype) or args.batch not in (None, batch):
            continue
        rows.append({**compare(effort), "machine": machine})
        print(line(rows[-1]), flush=True)
        if args.spent and "spent_us" in rows[-1]:
            print("    " + ", ".join(f"{kind} {us}" for kind, us in rows[-1]["spent_us"].items()))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
