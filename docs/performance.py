"""Fill the tables of docs/performance.md from what was measured: `make performance`.

Figures come from build/bench.json (`make bench`), build/count.json (`make count`) and build/size.json (`make size`), goals
and peers' figures from benchmarks/goals.json. Text between the tables is written by hand and stays. A table whose figures
are not there stays as it is, and this says so.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
GOALS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "goals.json").read_text())
Row = dict[str, Any]

PI = ("v6", "v7", "a53", "a72", "a76")
CORTEX_M = ("m0", "m3", "m4f", "m7", "m33", "m55")


class NotMeasured(Exception):
    """There are no figures for a table; says how to get them."""


def read(name: str) -> Any:
    """Return build/NAME.json."""
    path = ROOT / "build" / f"{name}.json"
    if not path.exists():
        raise NotMeasured(f"no build/{name}.json: make {name}")
    return json.loads(path.read_text())


# ---- Tables


def table(head: str, rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table; `head` names its columns, a `>` behind a name aligns it to the right."""
    names = [name.strip() for name in head.split("|")]
    rule = ["--:" if name.endswith(">") else "--" for name in names]
    lines = [[name.rstrip(">") for name in names], rule, *(list(map(str, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Write a figure with three digits or all of its integer ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(met: list[bool]) -> str:
    """Say how many goals are met."""
    return f"\n\n{sum(met)} of {len(met)} goals met."


def reached(value: float, goal: float | None, met: list[bool]) -> str:
    """Return "yes", "no" or nothing without a goal, and note which in `met`."""
    if goal is None:
        return ""
    met.append(value <= goal)
    return "yes" if met[-1] else "**no**"


# ---- This machine


def bench_goal(row: Row) -> float | None:
    """Largest ratio allowed to a row of bench.json; the first goal that fits counts."""
    for goal in GOALS["bench"]["rows"]:
        fits = row["dtype"] in goal["dtypes"] and row["batch"] in goal["batches"]
        if fits and fnmatchcase(row["work"], goal["works"]):
            return float(goal["at_most"])
    return None


def bench_rows(pattern: str) -> list[Row]:
    """Return rows of bench.json."""
    rows = [row for row in read("bench") if fnmatchcase(row["work"], pattern)]
    if not rows:
        raise NotMeasured(f"no {pattern} in build/bench.json: make bench")
    return rows


def bench(pattern: str) -> str:
    """Ours beside the peer, and the machine's limit."""
    met: list[bool] = []
    lines = []
    rows = bench_rows(pattern)
    for row in rows:
        goal, ratio = bench_goal(row), row["ratio"]
        peers = {**({row["peer"]: row["peer_us"]} if row["peer"] else {}), **row["others_us"]}
        lines.append(
            [
                f"{row['work']} {row['dtype']}, B={row['batch']}",
                number(row["ours_us"]),
                ", ".join(f"{name} {number(us)}" for name, us in peers.items()) or "none here",
                "" if ratio is None else f"{ratio:.2f}",
                "" if goal is None else f"{goal:g}",
                "" if ratio is None else reached(ratio, goal, met),
                number(row["limit_us"]) if "limit_us" in row else "",
                f"{row['share_of_peak']:.0%}, {row['limited_by']}" if "limit_us" in row else "",
            ]
        )
    head = "work | ours, µs> | peers, µs: the one of the ratio first | ratio> | goal> | met | limit, µs> | of the limit"
    return f"On {rows[0]['machine']}.\n\n" + table(head, lines) + verdict(met)


def spent(pattern: str, what: str) -> str:
    """Where the time goes."""
    lines = []
    for row in (row for row in bench_rows(pattern) if "spent_us" in row):
        total = sum(row["spent_us"].values())
        shares = (f"{kind} {us / total:.0%}" for kind, us in row["spent_us"].items() if us >= 0.01 * total)
        lines.append([f"{row['work']} {row['dtype']}, B={row['batch']}", number(total), ", ".join(shares)])
    return table(f"work | {what}, µs> | shares", lines)


# ---- Boards


def counted(boards: tuple[str, ...]) -> str:
    """Executed instructions where there is a goal, then all."""
    from benchmarks.planned import macs

    counts, work_macs = read("count"), macs()
    boards = tuple(board for board in boards if board in counts)
    met: list[bool] = []
    lines = []
    for goal in GOALS["count"]["rows"]:
        count = counts.get(goal["board"], {}).get(goal["work"])
        if goal["board"] not in boards or not isinstance(count, int):
            continue
        best = min(goal["peers"].values())
        aim = f"{goal['goal']:,}" + (f", stretch {goal['stretch']:,}" if "stretch" in goal else "")
        peers = ", ".join(f"{name} {n:,}" for name, n in goal["peers"].items())
        is_met = reached(count, goal["goal"], met)
        row = [goal["board"], goal["work"], f"{count:,}", peers, f"{count / best:.2f}", aim, is_met]
        lines.append([*row, _density(goal["board"], *work_macs[goal["work"]], count)])
    head = "board | work | ours> | peers | ratio to the best> | goal> | met | of the limit>"
    works = sorted({work for board in boards for work in counts[board]})
    every = [[work, *(_count(counts[board].get(work)) for board in boards)] for work in works]
    grid = table("work | " + " | ".join(f"{board}>" for board in boards), every)
    sources = "; ".join(f"{where}: {text}" for where, text in GOALS["count"]["sources"].items() if _of(where, boards))
    return f"Peers: {sources}.\n\n{table(head, lines)}{verdict(met)}\n\nAll of them:\n\n{grid}"


def _density(board: str, int8: int, f32: int, count: int) -> str:
    """Write which share of the instructions would do if each were the one that multiplies and adds most values."""
    most = GOALS["count"]["macs_per_instruction"][board]
    asked = {dtype: macs for dtype, macs in (("int8", int8), ("f32", f32)) if macs}
    if not all(dtype in most for dtype in asked):
        return ""  # no FPU
    least = sum(macs / most[dtype] for dtype, macs in asked.items())
    return f"{least / count:.0%}, {most[max(asked, key=asked.__getitem__) + ' by']}"


def _of(where: str, boards: tuple[str, ...]) -> bool:
    return any(word in boards for word in where.split())


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


# ---- Bytes


def arenas() -> str:
    """RAM as planned here; needs nothing measured."""
    from benchmarks.planned import arenas as planned

    sizes = planned()
    met: list[bool] = []
    lines = []
    for goal in GOALS["arena"]["rows"]:
        size, bound = sizes[goal["what"]]
        peers = ", ".join(f"{name} {n:,}" for name, n in goal["peers"].items())
        is_met = reached(size, goal["goal"], met)
        lines.append([goal["what"], f"{size:,}", f"{bound:,}" if bound else "", peers, f"{goal['goal']:,}", is_met])
    head = "what | ours, bytes> | live bound> | peers | goal> | met"
    return f"Peers: {GOALS['arena']['source']}.\n\n" + table(head, lines) + verdict(met)


def size() -> str:
    """Code, constants, RAM and stack."""
    sizes = read("size")
    met: list[bool] = []
    lines = []
    for goal in GOALS["size"]["rows"]:
        for app, parts in sizes.get(goal["board"], {}).items():
            if fnmatchcase(app, goal["apps"]):
                total = sum(parts[section] for section in goal["sections"])
                peers = ", ".join(f"{name} {n:,}" for name, n in goal["peers"].items())
                is_met = reached(total, goal["goal"], met)
                lines.append([f"{goal['what']}: {app}", f"{total:,}", peers, f"{goal['goal']:,}", is_met])
    goals = table("what, board m4f | ours, bytes> | peers | goal> | met", lines) + verdict(met) + "\n\nAll of them:\n\n"
    sections = ("text", "rodata", "data", "bss", "stack")
    every = [
        [board, app, *(_count(parts.get(section)) for section in sections)]
        for board, apps in sizes.items()
        for app, parts in apps.items()
    ]
    return (goals if lines else "") + table("board | app | " + " | ".join(f"{s}>" for s in sections), every)


TABLES: dict[str, Callable[[], str]] = {
    "inference": lambda: bench("*_infer"),
    "where inference spends its time": lambda: spent("*_infer", "sum of its ops"),
    "learning": lambda: bench("*_sgd_step_*"),
    "where learning spends its time": lambda: spent("*_sgd_step_*", "a step"),
    "trainer": lambda: bench("*_epoch"),
    "where the trainer spends its time": lambda: spent("*_epoch", "an epoch"),
    "pi": lambda: counted(PI),
    "cortex-m": lambda: counted(CORTEX_M),
    "arenas": arenas,
    "size": size,
}


# ---- The page


def fill(page: str) -> str:
    """Return the page with the tables that can be made; prints which cannot."""
    for name, make in TABLES.items():
        begin, end = f"<!-- table: {name} -->", "<!-- end of table -->"
        place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        found = place.search(page)
        if not found:
            raise SystemExit(f"docs/performance.md has no '{begin}'")
        try:
            text = make()
        except NotMeasured as reason:
            print(f"{name}: left as it is: {reason}")
            continue
        page = f"{page[: found.start()]}{begin}\n\n{text}\n\n{end}{page[found.end() :]}"
        missed = [line for line in text.splitlines() if "**no**" in line]
        print("\n".join([f"{name}: {len(missed)} missed", *missed]))
    return page


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # for benchmarks.planned
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
