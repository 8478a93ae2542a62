"""Bytes of each model on each board: a table, `build/size.json`, and the committed figures beside them.

What is linked counts, read from the linker's map: `text` is the runtime's code, `libraries` that of libc, libm and libgcc
for it, `rodata` constants of runtime and model, `data` and `bss` their variables with arena, input and output, `stack` what
a run on the emulated board touched, main() and all below it (Cortex-M). Cortex-M is compiled for size, the others for speed.
"""

from __future__ import annotations

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import build, models, report
from .table import BOARDS, Board

TABLE = build.ROOT / "benchmarks" / "sizes.json"
OUT = build.ROOT / "build" / "size.json"
GROWTH = 0.02
#: app -> model; those in LEARN do a learning step, the others infer
APPS = {
    **{f"{net}_int8": f"{net}_int8" for net in ("ad", "ds_cnn", "resnet8", "vww")},
    "ds_cnn_int8_head": "ds_cnn_head",
    "head_64_10": "head_64_10",
    "mlp_64_32_10": "mlp_64_32_10",
    "kws_gru_stream": "kws_gru_frame",
    "kws_gru_learning": "kws_gru_32",
    "tcn_int8": "tcn_49_int8",
}
LEARN = ("ds_cnn_int8_head", "head_64_10", "mlp_64_32_10", "kws_gru_learning")
SIZED = tuple(name for name in BOARDS if name != "mb")  # its code is that of m0
PARTS = ("text", "rodata", "data", "bss", "stack", "libraries")
SWITCHES = ("-DEP_NO_TRAIN", "-DEP_NO_ERRMSG")
#: what the code of an app on m4f may take
CODE_GOALS = {"head_64_10": 2560, "ds_cnn_int8_head": 12288}
_PART = {".text": "text", ".rodata": "rodata", ".srodata": "rodata", ".data": "data", ".sdata": "data"}
_PART |= {".bss": "bss", ".sbss": "bss", "COMMON": "bss"}

Parts = dict[str, int]


# ---- One app


def link(board: Board, app: str, model: models.Model, *switches: str) -> build.Program:
    """The program, for size on a Cortex-M."""
    learns = app in LEARN
    flags = ("-Os" if board.memory else "-O2", *switches)
    defines = (*model.defines("TRAIN" if learns else "INFER"), *(("-DLEARN",) if learns else ()))
    name = "_".join(["size", app, *([] if model.source == models.REFERENCE else ["seeded"]), *switches])
    return build.program(board, name, build.HERE / "size.c", flags=flags, defines=defines, includes=(model.header,))


def sections(built: build.Program) -> Parts:
    """What the linker's map says; a section's name may stand on a line of its own."""
    runtime, support = {str(path) for path in built.runtime}, str(built.support)
    totals = dict.fromkeys(("text", "rodata", "data", "bss", "libraries"), 0)
    text = built.path.with_suffix(".map").read_text().partition("Linker script and memory map")[2]
    for name, size, file in re.findall(r"^ ([.\w]+\S*)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (/.+)$", text, re.MULTILINE):
        part = _PART.get(re.match(r"\.?\w+", name)[0])  # type: ignore[index]
        if part is None or file == support:
            continue
        if file in runtime or file == str(built.application):
            # main() is not the runtime.
            totals[part] += 0 if part == "text" and file not in runtime else int(size, 16)
        elif part == "text" and _arithmetic(file):
            totals["libraries"] += int(size, 16)
    return totals


def _arithmetic(file: str) -> bool:
    """Whether a file of the map is a library's member that arithmetic brings, not the system's start-up."""
    return re.search(r"/lib(m|gcc)[^/]*\.a\(", file) is not None


def measure(board: Board, app: str, model: models.Model) -> Parts | None:
    """Bytes; None if there is no room."""
    try:
        built = link(board, app, model)
    except build.NoRoom:
        return None
    parts = sections(built)
    if board.memory:
        parts["stack"] = int(build.execute(built).split()[1], 16)
    return parts


# ---- All of them


def _measure_all(boards: list[Board], apps: list[str], made: dict[str, models.Model], jobs: int) -> report.Figures:
    tasks = [(board, app) for board in boards for app in apps]
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(lambda task: measure(*task, made[task[1]]), tasks))
    figures: report.Figures = {board.name: {} for board in boards}
    for (board, app), parts in zip(tasks, found, strict=True):
        if parts is not None:
            figures[board.name][app] = parts
    return figures


def _show(figures: report.Figures) -> None:
    for name, apps in figures.items():
        rows = {app: [parts.get(part, "-") for part in PARTS] for app, parts in apps.items()}
        print("\n".join(report.grid(f"{name} ({BOARDS[name].what})", PARTS, rows)), end="\n\n")


def _show_goals(figures: report.Figures) -> None:
    from benchmarks.planned import arenas

    rows: dict[str, list[object]] = {}
    for app, goal in CODE_GOALS.items():
        parts = figures.get("m4f", {}).get(app)
        if parts:
            rows[f"code of {app} on m4f"] = [parts["text"], goal, "met" if parts["text"] <= goal else "MISSED"]
    goals = {"ad_int8_infer": 768, "ds_cnn_int8_infer": 16000, "resnet8_int8_infer": 49152, "vww_int8_infer": 55296}
    goals |= {"head_64_10_train": 3072, "mlp_64_32_10_train": 10752}
    sizes = arenas()
    for what, goal in goals.items():
        size = sizes[what][0]
        rows[f"arena of {what}"] = [size, goal, "met" if size <= goal else "MISSED"]
    print("\n".join(report.grid("goals", ("bytes", "goal", ""), rows)), end="\n\n")


def _show_ops(board: Board) -> None:
    """Code of each of the runtime's files, all of it; an app links what it calls."""
    rows: dict[str, list[object]] = {}
    objects = build.compile_runtime(board, ("-Os",))
    for source, path in zip(build.runtime_sources(), objects, strict=True):
        total = dict.fromkeys(("text", "rodata"), 0)
        for line in build.run([build.binutil(board, "objdump"), "-h", str(path)]).splitlines():
            found = re.match(r"\s*\d+ (\.text|\.rodata)\S*\s+([0-9a-f]+)", line)
            if found:
                total[found[1][1:]] += int(found[2], 16)
        if sum(total.values()):
            rows[str(source.relative_to(build.CSRC))] = list(total.values())
    print("\n".join(report.grid(f"whole files, {board.name} -Os", ("text", "rodata"), rows)), end="\n\n")


def _show_switches(board: Board, made: dict[str, models.Model]) -> None:
    """Runtime code and constants with a switch of the compiler beside those without."""
    rows: dict[str, list[object]] = {}
    for app, model in made.items():
        cells: list[object] = [sections(link(board, app, model))["text"]]
        for switch in SWITCHES:
            learns = app in LEARN and switch == "-DEP_NO_TRAIN"
            cells.append("-" if learns else sections(link(board, app, model, switch))["text"])
        rows[app] = cells
    heads = ("none", *(switch[2:] for switch in SWITCHES))
    print("\n".join(report.grid(f"code by switch, {board.name} -Os", heads, rows)), end="\n\n")


# ---- The committed table


def _compare(found: report.Comparison, figures: report.Figures, made: dict[str, models.Model]) -> None:
    table = report.read_table(TABLE)
    for name, apps in figures.items():
        here, then = build.version(BOARDS[name]), table.get("compilers", {}).get(name)
        if then != here:
            found.not_compared.append(f"{name}: the table was made with {then or 'nothing'}; this is {here}")
            continue
        for app, parts in apps.items():
            kept = table.get("sizes", {}).get(made[app].source, {}).get(name, {}).get(app, {})
            for part, size in parts.items():
                found.figure(f"{name} {app} {part} ({made[app].source})", size, kept.get(part), GROWTH)


def _accept(figures: report.Figures, made: dict[str, models.Model]) -> None:
    table = report.read_table(TABLE)
    for name, apps in figures.items():
        table.setdefault("compilers", {})[name] = build.version(BOARDS[name])
        for app, parts in apps.items():
            by_board: dict[str, Any] = table.setdefault("sizes", {}).setdefault(made[app].source, {})
            by_board.setdefault(name, {})[app] = parts
    report.write_json(TABLE, table)


# ---- The command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m boards size`."""
    parser.add_argument("--board", nargs="+", choices=SIZED, default=list(SIZED))
    parser.add_argument("--app", nargs="+", choices=list(APPS), default=list(APPS))
    parser.add_argument("--seeded", action="store_true", help="seeded weights, even where trained ones are at hand")
    parser.add_argument("--accept", action="store_true", help=f"write the figures to {TABLE.name}, for both weights")
    parser.add_argument("--jobs", type=int, default=2)


def main(args: argparse.Namespace) -> int:
    """Measure, print, compare. 1 if a figure grew or a board that CI needs is missing."""
    boards, missing = build.available([BOARDS[name] for name in args.board])
    found = report.Comparison(not_compared=list(missing))
    found.not_compared += [f"{board.name}: zig's linker writes no map" for board in boards if build.zig(board)]
    boards = [board for board in boards if not build.zig(board)]
    weights = [False, True] if args.accept and not args.seeded else [args.seeded]
    for seeded in weights:
        made = {app: models.make(APPS[app], seeded=seeded) for app in args.app}
        figures = _measure_all(boards, args.app, made, args.jobs)
        if seeded == weights[0]:
            report.write_json(OUT, figures)
            _report(boards, figures, made)
        if args.accept:
            _accept(figures, made)
        else:
            _compare(found, figures, made)
    print("\n".join(found.lines(TABLE, "make size-accept")))
    return 1 if found.grown or build.skips_fail(missing) else 0


def _report(boards: list[Board], figures: report.Figures, made: dict[str, models.Model]) -> None:
    _show(figures)
    if BOARDS["m4f"] in boards:
        _show_ops(BOARDS["m4f"])
        _show_switches(BOARDS["m4f"], made)
    _show_goals(figures)
