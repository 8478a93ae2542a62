"""Accuracy of trained networks in float32 and in int8 on the C runtime, on real data that training did not see.

    python -m benchmarks.accuracy --data /path/to/data

Trains each network once (minutes; its float32 ONNX stays in build/accuracy/), quantizes it by every method, and runs the
held-out part through the C runtime. Prints a table and writes build/accuracy.json. Data sets that are not there are
named and left out.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeprop import Model
from edgeprop.export import lower, plan, quantize
from edgeprop.export.graph import reference
from edgeprop.export.writers.image import to_image

from .accuracy_data import LOADERS, Array, Data
from .accuracy_nets import RECIPES, train

#: ways to quantize, by the name in the table
WAYS: dict[str, dict[str, Any]] = {
    "minmax": {"method": "minmax"},
    "percentile": {"method": "percentile"},
    "mse": {"method": "mse"},
    "auto": {"method": "auto"},
    "minmax, equalized": {"method": "minmax", "equalization": True},
    "mse, equalized": {"method": "mse", "equalization": True},
}
CALIBRATION_SAMPLES = 256
#: points of accuracy that int8 may cost
ALLOWED = 0.5


@dataclass
class Row:
    """One way to quantize one network; accuracies in per cent of the test part, over all nets that were trained.

    nets : how many were
    agree : answers that are those of float32
    differ : outputs of the first 200 test samples in which the C runtime differs from onnxruntime
    """

    net: str
    data: str
    nets: int
    samples: int
    way: str
    float32: float
    int8: float
    lost: float
    agree: float
    differ: int


def find_data() -> Path:
    """Where the data sets lie if the command line does not say."""
    return Path(os.environ.get("EDGEPROP_DATA", Path(__file__).parents[2] / "shared" / "data"))


def trained(net: str, data: Data, folder: Path) -> list[onnx.ModelProto]:
    """The float32 nets of a recipe, from the folder or trained into it."""
    models = []
    for seed in range(RECIPES[net].nets):
        path = folder / f"{net}-{seed}.onnx"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            print(f"{net}: training {seed + 1} of {RECIPES[net].nets}", flush=True)
            onnx.save(train(RECIPES[net], data, seed).to_onnx(), path)
        models.append(onnx.load(path))
    return models


def on_device(model: onnx.ModelProto, x: Array) -> Array:
    """Outputs (n, classes) of the C runtime."""
    program = lower(model)
    plan(program)
    return np.asarray(Model(to_image(program)).run(x)[0])


def rows(net: str, data: Data, models: list[onnx.ModelProto], ways: list[str]) -> list[Row]:
    """A row for every way to quantize a net."""
    x, y = data.test
    exact = [on_device(model, x).argmax(1) for model in models]
    found = []
    for way in ways:
        differ, answers = 0, []
        for model in models:
            int8 = quantize(model, data.samples(CALIBRATION_SAMPLES), **WAYS[way])
            outputs = on_device(int8, x)
            few = {int8.graph.input[0].name: x[:200]}
            differ += int((reference.run(int8, few)[int8.graph.output[0].name] != outputs[:200]).sum())
            answers.append(outputs.argmax(1))
        float32, quantized = (100 * float(np.mean(np.equal(labels, y))) for labels in (exact, answers))
        agree = 100 * float(np.mean(np.equal(exact, answers)))
        measured = (float32, quantized, float32 - quantized, agree, differ)
        found.append(Row(net, RECIPES[net].data, len(models), len(y), way, *measured))
    return found


def line(row: Row) -> str:
    """A row of the table."""
    mark = "" if row.lost <= ALLOWED else "  more than allowed"
    figures = f"{row.float32:8.2f} {row.int8:8.2f} {row.lost:+7.2f} {row.agree:7.2f} {row.differ:7}"
    return f"{row.net:14} {row.data:14} {row.nets:4} {row.samples:6} {row.way:18} {figures}{mark}"


HEADER = (
    f"{'net':14} {'data':14} {'nets':>4} {'test':>6} {'way':18} "
    f"{'float32':>8} {'int8':>8} {'lost':>7} {'agree':>7} {'differ':>7}"
)


PAGE = """# Accuracy

Trained networks in float32 and in int8, on a part of each data set that was used for nothing else; written by `make accuracy`.
Where that part is small, several nets are trained from different seeds, and the figures are over the answers of all of them.
*int8* is what the C runtime answers for the exported program, *lost* how many points of accuracy that is less than float32
(allowed: {allowed}), *agree* how many answers are those of float32, *differ* how many outputs of the first 200 samples are not
onnxruntime's. All figures but *differ* are per cent. Ways to quantize are those of `edgeprop export --method` and `--equalize`.

"""


def page(found: list[Row]) -> str:
    """docs/accuracy.md."""
    heads = ("net", "data", "nets", "samples", "way", "float32", "int8", "lost", "agree", "differ")
    rule = " | ".join("--" if head in ("net", "data", "way") else "--:" for head in heads)
    lines = [f"| {' | '.join(heads)} |", f"| {rule} |"]
    for row in found:
        figures = (f"{value:.2f}" for value in (row.float32, row.int8, row.lost, row.agree))
        lines.append(
            f"| {' | '.join([row.net, row.data, str(row.nets), f'{row.samples:,}', row.way, *figures, str(row.differ)])} |"
        )
    return PAGE.format(allowed=ALLOWED) + "\n".join(lines) + "\n"


def main() -> int:
    """Command line; 1 if a row loses more than allowed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--data", type=Path, default=find_data(), help="folder of the data sets [EDGEPROP_DATA]")
    parser.add_argument("--out", type=Path, default=Path("build/accuracy.json"))
    parser.add_argument("--page", type=Path, help="also write the table there, if every net was measured in every way")
    parser.add_argument("--only", nargs="*", default=["*"], metavar="NET", help="names or patterns")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    args = parser.parse_args()
    print(HEADER)
    done: list[Row] = []
    for net, recipe in RECIPES.items():
        if not any(fnmatch.fnmatch(net, pattern) for pattern in args.only):
            continue
        folder = args.data / recipe.data
        if not folder.is_dir():
            print(f"{net:14} skipped: no {folder}; --data names the folder that holds {recipe.data}")
            continue
        data = LOADERS[recipe.data](folder)
        for row in rows(net, data, trained(net, data, args.out.parent / "accuracy"), args.ways):
            print(line(row), flush=True)
            done.append(row)
    if not done:
        print("nothing was measured")
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([asdict(row) for row in done], indent=1) + "\n")
    if args.page and len(done) == len(RECIPES) * len(WAYS):
        args.page.write_text(page(done), encoding="utf-8")
    return int(any(row.lost > ALLOWED for row in done))


if __name__ == "__main__":
    raise SystemExit(main())
