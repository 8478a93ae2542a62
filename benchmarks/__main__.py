"""Run every comparison, print a table, and write `build/bench.json`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from . import models, peers
from .timing import interleaved, pin

DTYPES = ("int8", "f32")


def infer_row(work: str, dtype: str) -> dict[str, Any]:
    """Compare one inference, batch 1."""
    model, source = models.load(work, dtype)
    inputs = peers.random_inputs(model, 1)
    calls = {"ours": peers.ours(model, inputs), "onnxruntime": peers.onnxruntime(model, inputs)}
    best = {name: 1e6 * seconds for name, seconds in interleaved(calls).items()}
    return {
        "work": f"{work}_infer",
        "dtype": dtype,
        "batch": 1,
        "ours_us": round(best["ours"], 2),
        "peer": "onnxruntime",
        "peer_us": round(best["onnxruntime"], 2),
        "ratio": round(best["ours"] / best["onnxruntime"], 3),
        "model": source,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--only", nargs="*", choices=sorted(models.BUILDERS), default=sorted(models.BUILDERS))
    args = parser.parse_args()
    pin()
    rows = []
    print(f"{'work':<16} {'dtype':<6} {'ours us':>10} {'peer us':>10} {'ratio':>7}  peer, model")
    for work in args.only:
        for dtype in DTYPES:
            row = infer_row(work, dtype)
            rows.append(row)
            figures = f"{row['ours_us']:>10.1f} {row['peer_us']:>10.1f} {row['ratio']:>7.2f}"
            print(f"{row['work']:<16} {dtype:<6} {figures}  {row['peer']}, {row['model']}", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
