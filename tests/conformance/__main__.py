"""`make conformance`: ONNX's own node tests against the C runtime; see docs/conformance.md."""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgeprop.export.backend import Prepared
from edgeprop.export.errors import UnsupportedError

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "conformance.json"
PAGE = ROOT / "docs" / "conformance.md"
#: names of the tests that pass: one that no longer does fails the run
PASSING = Path(__file__).parent / "passing.txt"
PASSED, FAILED, UNSUPPORTED = "passed", "failed", "unsupported"
_EXPANDED = re.compile(r"_expanded(_ver\d+)?$")

#: operators the project lists as its own: every test of theirs passes, or the page says why not
_LISTED = (
    "Conv ConvTranspose Gemm MatMul MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization "
    "LayerNormalization GroupNormalization InstanceNormalization RNN LSTM GRU Relu Clip LeakyRelu PRelu Elu Selu "
    "Gelu Swish Sigmoid HardSigmoid Tanh HardSwish Softplus Softmax LogSoftmax Add Sub Mul Div Min Max Concat "
    "Split Slice Pad Reshape Flatten Transpose Squeeze Unsqueeze Gather ReduceMean ReduceSum ReduceMax Resize "
    "Scan QLinearConv QLinearMatMul ConvInteger MatMulInteger QuantizeLinear DequantizeLinear "
    "DynamicQuantizeLinear Identity Dropout"
)
LISTED = frozenset(_LISTED.split())


@dataclass(frozen=True)
class Outcome:
    """Of one test: its operator, what became of it, and why."""

    name: str
    op: str
    status: str
    why: str = ""


@functools.cache
def collect() -> dict[str, onnx.backend.test.case.test_case.TestCase]:  # type: ignore[name-defined]
    """All node tests by name. ONNX computes what they expect, which takes seconds."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None) if case.model is not None}


@functools.cache
def operators() -> dict[str, str]:
    """The operator each test is of: that of its node, or for an expanded function that of the test it was made from."""
    whole = {name: _single(case) for name, case in collect().items()}
    found = {}
    for name, op in whole.items():
        origin = _EXPANDED.sub("", name)
        found[name] = whole.get(origin) or op if origin != name else op
    return found


def _single(case: object) -> str:
    nodes = case.model.graph.node  # type: ignore[attr-defined]
    return str(nodes[-1].op_type) if nodes else "none"


def run(name: str) -> Outcome:
    """One test, by name."""
    case, op = collect()[name], operators()[name]
    for inputs, expected in case.data_sets:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            outcome = _compare(case, inputs, expected)
        if outcome:
            return Outcome(name, op, *outcome)
    return Outcome(name, op, PASSED)


def _compare(case: object, inputs: list[object], expected: list[object]) -> tuple[str, str] | None:
    prepared = Prepared(case.model)  # type: ignore[attr-defined]
    if not all(isinstance(x, np.ndarray | np.generic) for x in (*inputs, *expected)):
        return UNSUPPORTED, "values that are no tensors"
    try:
        outputs = prepared.run(inputs)
    except UnsupportedError as error:
        return UNSUPPORTED, "; ".join(dict.fromkeys(node.why for node in error.nodes))
    except ValueError as error:
        return UNSUPPORTED, str(error).splitlines()[0][:160]
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"[:200]
    for got, want in zip(outputs, expected, strict=True):
        why = _differs(got, np.asarray(want), case)
        if why:
            return FAILED, why
    return None


def _differs(got: np.ndarray, want: np.ndarray, case: object) -> str:
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype} {got.shape} instead of {want.dtype} {want.shape}"
    if want.dtype.kind in "iub":
        wrong = int(np.sum(got != want))
        return f"{wrong} of {want.size} integers differ" if wrong else ""
    rtol, atol = case.rtol, case.atol  # type: ignore[attr-defined]
    close = np.isclose(
        got,
        want,
        rtol=rtol,
        atol=max(atol, 1e-5 * float(np.abs(want[np.isfinite(want)]).max(initial=0))),
        equal_nan=True,
    )
    return "" if close.all() else f"{int((~close).sum())} of {want.size} values differ"


_INTRODUCTION = """# Conformance

ONNX {version}'s own node tests ({tests}), each lowered to a program and run by the C runtime; `make conformance-accept`
writes this page. *Unsupported*: the exporter says so before anything runs. Operands that a device does not take as inputs
(weights, shapes, axes) are constants of the program; its first operand always is an input, so that nothing is
computed on the desktop that the runtime should compute.

**{passed} passed, {failed} failed, {unsupported} unsupported.** Operators of which nothing runs are counted at the end.
"""


# ---- Tables ----------------------------------------------------------------------------------------------------------


def tally(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """operator -> {passed, failed, unsupported}."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome.op, Counter())[outcome.status] += 1
    return {op: {s: counts[op][s] for s in (PASSED, FAILED, UNSUPPORTED)} for op in sorted(counts)}


def page(outcomes: list[Outcome]) -> Iterator[str]:
    """The lines of docs/conformance.md."""
    counts = tally(outcomes)
    total = Counter(outcome.status for outcome in outcomes)
    yield from _INTRODUCTION.format(
        version=onnx.__version__, tests=len(outcomes), **{s: total[s] for s in (PASSED, FAILED, UNSUPPORTED)}
    ).splitlines()
    yield "| operator | passed | failed | unsupported | what is not, and why |"
    yield "| -- | --: | --: | --: | -- |"
    for op, row in counts.items():
        if row[PASSED] or row[FAILED] or op in LISTED:
            yield f"| {op} | {row[PASSED]} | {row[FAILED]} | {row[UNSUPPORTED]} | {_reasons(outcomes, op)} |"
    none = {op: row[UNSUPPORTED] for op, row in counts.items() if not (row[PASSED] or row[FAILED] or op in LISTED)}
    yield ""
    yield f"Not supported, {sum(none.values())} tests: " + ", ".join(f"{op} {n}" for op, n in none.items()) + "."


def _reasons(outcomes: list[Outcome], op: str) -> str:
    """Reasons, each with the tests it holds for."""
    by_reason: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.op == op and outcome.status != PASSED:
            by_reason.setdefault(outcome.why, []).append(outcome.name.removeprefix("test_"))
    parts = []
    for why, names in by_reason.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        parts.append(f"{why.replace('|', '/')} ({shown})")
    return "; ".join(parts)


def main() -> int:
    """Run, print, write, compare with the tests known to pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--op", nargs="+", help="only tests of these operators; nothing is written")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--accept", action="store_true", help=f"make what passes what must pass, and write {PAGE.name}")
    args = parser.parse_args()
    begin = time.monotonic()
    names = [name for name, op in operators().items() if not args.op or op in args.op]
    with ProcessPoolExecutor(args.jobs) as pool:
        outcomes = list(pool.map(run, names, chunksize=8))
    for op, row in tally(outcomes).items():
        print(f"{op:30} {row[PASSED]:4} passed {row[FAILED]:4} failed {row[UNSUPPORTED]:4} unsupported")
    for outcome in outcomes:
        if outcome.status == FAILED or (args.op and outcome.status == UNSUPPORTED):
            print(f"{outcome.status} {outcome.name}: {outcome.why}")
    total = Counter(outcome.status for outcome in outcomes)
    print(
        f"{total[PASSED]} passed, {total[FAILED]} failed, {total[UNSUPPORTED]} unsupported in {time.monotonic() - begin:.0f} s"
    )
    if args.op:
        return 0
    passing = sorted(outcome.name for outcome in outcomes if outcome.status == PASSED)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(
        json.dumps({**{s: total[s] for s in (PASSED, FAILED, UNSUPPORTED)}, "ops": tally(outcomes)}, indent=1)
    )
    if args.accept:
        PASSING.write_text("\n".join(passing) + "\n")
        PAGE.write_text("\n".join(page(outcomes)) + "\n")
        return 0
    lost = sorted(set(PASSING.read_text().split()) & set(collect()) - set(passing)) if PASSING.exists() else []
    print("\n".join(f"no longer passes: {name}" for name in lost) or "all that passed before pass")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
