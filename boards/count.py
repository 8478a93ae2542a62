"""Executed instructions of one call on each board: a table, `build/count.json`, and the committed figures beside them.

Only like is compared with like: the same compiler, and weights of the same source (the trained networks of MLPerf Tiny,
or the same shapes with seeded weights). What is not compared is named.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from . import build, models, report
from .table import BOARDS, HOST, Board

TABLE = build.ROOT / "benchmarks" / "counts.json"
OUT = build.ROOT / "build" / "count.json"
GROWTH = 0.02

COUNTED = ("m0", "m3", "m4f", "m7", "m33", "m55", "v6", "v7", "a53", "a72", "a76")
#: work -> model; those that end in _sgd_step learn, the others infer (a stream one frame)
WORKS = {
    **{
        f"{net}_{kind}_infer": f"{net}_{kind}" for kind in ("int8", "f32") for net in ("ad", "ds_cnn", "vww", "resnet8")
    },
    "head_64_10_sgd_step": "head_64_10",
    "mlp_64_32_10_sgd_step": "mlp_64_32_10",
    "ds_cnn_head_sgd_step": "ds_cnn_head",
    "mlp_784_128_10_sgd_step": "mlp_784_128_10",
    "ds_cnn_f32_sgd_step": "ds_cnn_learning",
    "kws_gru_stream_infer": "kws_gru_frame",
    "kws_gru_sgd_step": "kws_gru_32",
    "tcn_int8_infer": "tcn_49_int8",
}
NO_ROOM = "no room"


# ---- One figure


def link(board: Board, work: str, model: models.Model, flags: tuple[str, ...] = ("-O2",)) -> build.Program:
    """The program that does a work once between marks."""
    learns = work.endswith("_sgd_step")
    defines = (*model.defines("TRAIN" if learns else "INFER"), *(("-DLEARN",) if learns else ()))
    name = f"count_{work}" + ("" if model.source == models.REFERENCE else "_seeded")
    return build.program(board, name, build.HERE / "count.c", flags=flags, defines=defines, includes=(model.header,))


def measure(board: Board, work: str, model: models.Model) -> int | None:
    """Instructions; None if the board has no room. The answer of an int8 network must be this machine's, bit for bit."""
    try:
        built = link(board, work, model)
    except build.NoRoom:
        return None
    counted = build.count(built)
    if "_int8_" in work and counted.output.split()[1] != _expected(work, model):
        raise build.BuildError(f"{board.name} {work}: not the int8 codes that this machine's portable C gives")
    return counted.instructions


@functools.cache
def _expected(work: str, model: models.Model) -> str:
    return build.execute(link(HOST, work, model, ("-O2", "-DEP_PORTABLE"))).split()[1]


# ---- All figures


def _count_all(boards: Iterable[Board], works: list[str], made: dict[str, models.Model], jobs: int) -> report.Figures:
    """Board -> work -> instructions, longest first so that no job waits for one that began last."""
    tasks = [(board, work) for work in works for board in boards]
    tasks.sort(
        key=lambda task: (task[1].endswith("f32_infer") and task[0].name in ("m0", "m3"), "vww" in task[1]),
        reverse=True,
    )
    with ThreadPoolExecutor(jobs) as pool:
        counts = list(pool.map(lambda task: measure(*task, made[WORKS[task[1]]]), tasks))
    figures: report.Figures = {board.name: {} for board in boards}
    for (board, work), count in zip(tasks, counts, strict=True):
        figures[board.name][work] = NO_ROOM if count is None else count
    return figures


def _show(figures: report.Figures, works: list[str]) -> None:
    for bare in (True, False):
        names = [name for name in figures if (BOARDS[name].memory is not None) == bare]
        if names:
            rows = {work: [figures[name][work] for name in names] for work in works}
            print("\n".join(report.grid("instructions", names, rows)), end="\n\n")


def _only_counts(figures: report.Figures) -> report.Figures:
    return {name: {w: n for w, n in sorted(row.items()) if n != NO_ROOM} for name, row in sorted(figures.items())}


def _compare(found: report.Comparison, figures: report.Figures, made: dict[str, models.Model]) -> None:
    table = report.read_table(TABLE)
    for name, row in _only_counts(figures).items():
        then = table.get("compilers", {}).get(name)
        if then != build.version(BOARDS[name]):
            here = build.version(BOARDS[name])
            found.not_compared.append(f"{name}: the table was made with {then or 'nothing'}; this is {here}")
            continue
        for work, count in row.items():
            source = made[WORKS[work]].source
            kept = table.get("counts", {}).get(source, {}).get(name, {}).get(work)
            found.figure(f"{name} {work} ({source})", count, kept, GROWTH)


def _accept(figures: report.Figures, made: dict[str, models.Model]) -> None:
    table = report.read_table(TABLE)
    for name, row in _only_counts(figures).items():
        table.setdefault("compilers", {})[name] = build.version(BOARDS[name])
        for work, count in row.items():
            by_board = table.setdefault("counts", {}).setdefault(made[WORKS[work]].source, {})
            by_board.setdefault(name, {})[work] = count
    report.write_json(TABLE, table)


def _profile(board: Board, work: str, model: models.Model, args: argparse.Namespace) -> None:
    built = link(board, work, model)
    counted = build.count(built)
    print(f"{board.name} {work}: {counted.instructions:,} instructions, {built.path}")
    for times, name in build.by_function(built, counted)[: args.top]:
        print(f"  {times:>13,} {times / counted.instructions:6.1%}  {name}")
    if args.hot:
        for times, line in build.disassembly(built, counted):
            print(f"{times:>13,} {line}" if times else line)


# ---- The command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m boards count`."""
    parser.add_argument("--board", nargs="+", choices=COUNTED, default=list(COUNTED))
    parser.add_argument("--work", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--profile", action="store_true", help="which functions the instructions are spent in")
    parser.add_argument("--top", type=int, default=12, help="functions that --profile prints")
    parser.add_argument("--hot", action="store_true", help="with --profile: the disassembly of what ran, with counts")
    parser.add_argument("--seeded", action="store_true", help="seeded weights, even where trained ones are at hand")
    parser.add_argument("--accept", action="store_true", help=f"write the figures to {TABLE.name}, for both weights")
    parser.add_argument("--jobs", type=int, default=2)


def main(args: argparse.Namespace) -> int:
    """Count, print, compare. 1 if a figure grew or a board that CI needs is missing."""
    boards, missing = build.available([BOARDS[name] for name in args.board])
    weights = [False, True] if args.accept and not args.seeded else [args.seeded]
    found = report.Comparison(not_compared=list(missing))
    for seeded in weights:
        made = {WORKS[work]: models.make(WORKS[work], seeded=seeded) for work in args.work}
        if args.profile:
            for board in boards:
                for work in args.work:
                    _profile(board, work, made[WORKS[work]], args)
            return 0
        print(f"models: {', '.join(sorted({model.source for model in made.values()}))}\n")
        figures = _count_all(boards, args.work, made, args.jobs)
        _show(figures, args.work)
        if seeded == weights[0]:
            report.write_json(OUT, _only_counts(figures))
        if args.accept:
            _accept(figures, made)
        else:
            _compare(found, figures, made)
    print("\n".join(found.lines(TABLE, "make count-accept")))
    return 1 if found.grown or build.skips_fail(missing) else 0
