"""Bytes of an application on each board: code, constants, RAM, stack; `build/size.json`, and the committed figures beside.

Compiled with -Os. `text` is the runtime's code alone; what it draws from the C library, libm and libgcc is `libc` (code and
constants). `rodata`: the runtime's and the model's constants. `data` and `bss`: variables, that is the arena, one input and
one output, and what the C library keeps. `stack`: bytes touched in a run, ep_t and the board's own few frames included.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import build, models, report
from .table import BOARDS, Board

TABLE = build.ROOT / "benchmarks" / "sizes.json"
OUT = build.ROOT / "build" / "size.json"
GROWTH = 0.02

SIZED = ("m0", "m3", "m4f", "m7", "m33", "m55")
#: application -> model, and whether it learns (else it infers)
APPS = {
    **{f"{net}_int8": (f"{net}_int8", False) for net in ("ad", "ds_cnn", "resnet8", "vww")},
    "ds_cnn_int8_head": ("ds_cnn_head", True),
    "head_64_10": ("head_64_10", True),
    "mlp_64_32_10": ("mlp_64_32_10", True),
}
PARTS = ("text", "rodata", "data", "bss", "stack", "libc")
SWITCHES = ("EP_NO_TRAIN", "EP_NO_ERRMSG", "EP_PORTABLE")

#: (what, application, what is summed, bytes at most), on a Cortex-M4F; `arena` comes from the model's header
GOALS = (
    ("code to train a dense head", "head_64_10", ("text",), 2560),
    ("code for DS-CNN int8 with a learning head", "ds_cnn_int8_head", ("text",), 12288),
    ("arena and ep_t, a head of 650 weights learning", "head_64_10", ("arena", "ep_t"), 3072),
    ("arena and ep_t, an MLP of 2,410 weights learning", "mlp_64_32_10", ("arena", "ep_t"), 10752),
    ("arena, AD int8", "ad_int8", ("arena",), 768),
    ("arena, DS-CNN int8", "ds_cnn_int8", ("arena",), 16000),
    ("arena, ResNet-8 int8", "resnet8_int8", ("arena",), 49152),
    ("arena, VWW int8", "vww_int8", ("arena",), 55296),
)


# ---- One application


def link(board: Board, app: str, model: models.Model, switches: tuple[str, ...] = ()) -> build.Program:
    """The application, compiled for size."""
    learns = APPS[app][1] and "EP_NO_TRAIN" not in switches
    flags = ("-Os", *(f"-D{switch}" for switch in switches))
    defines = (*model.defines("TRAIN" if learns else "INFER"), *(("-DLEARN",) if learns else ()))
    name = "_".join(["size", app, *switches, model.source.split()[0]])
    return build.program(board, name, build.HERE / "count.c", flags=flags, defines=defines, includes=(model.header,))


_SECTION = re.compile(
    r"^ (\.(?:text|rodata|data|bss)\S*|COMMON)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)[ \t]+(\S.*)$", re.MULTILINE
)


def _sections(built: build.Program) -> Iterator[tuple[str, int, str]]:
    """(text, rodata, data or bss; bytes; file) of all that the linker kept."""
    text = built.path.with_suffix(".map").read_text()
    for name, size, file in _SECTION.findall(text[text.index("Linker script and memory map") :]):
        yield "bss" if name == "COMMON" else name.split(".")[1], int(size, 16), file


def sizes(built: build.Program) -> Counter[str]:
    """Bytes by part, without the stack."""
    runtime, application = set(map(str, built.runtime)), str(built.application)
    found = Counter(dict.fromkeys(PARTS, 0))
    for kind, size, file in _sections(built):
        if file in runtime or (file == application and kind != "text"):
            found[kind] += size
        elif file not in (application, str(built.support)):
            found["libc" if kind in ("text", "rodata") else kind] += size
    return found


def by_file(built: build.Program) -> Counter[str]:
    """The runtime's code by source file."""
    names = {str(path): path.name.rpartition("-")[0] for path in built.runtime}
    found: Counter[str] = Counter()
    for kind, size, file in _sections(built):
        if kind == "text" and file in names:
            found[names[file]] += size
    return found


def measure(board: Board, app: str, model: models.Model) -> dict[str, int] | None:
    """Bytes by part; None if the board has no room."""
    try:
        built = link(board, app, model)
    except build.NoRoom:
        return None
    found = sizes(built)
    found["stack"] = int(build.execute(built).split()[3], 16)
    return {part: found[part] for part in PARTS}


def arena(app: str, model: models.Model) -> int:
    """Bytes of arena, as the header says."""
    macro = f"{model.name.upper()}_{'TRAIN' if APPS[app][1] else 'INFER'}_ARENA"
    found = re.search(rf"#define {macro} (\d+)u", model.header.read_text())
    if found is None:
        raise build.BuildError(f"{model.header} has no {macro}")
    return int(found[1])


# ---- Ops and switches


def _object_sizes(board: Board, flags: tuple[str, ...]) -> dict[str, int]:
    """Code and constants of each file of the runtime, all of it."""
    found = {}
    size = board.compiler.removesuffix("gcc") + "size"
    objects = build.compile_runtime(board, flags)
    for line in build.run([size, *map(str, objects)]).splitlines()[1:]:
        text, _, _, _, _, path = line.split(maxsplit=5)
        found[path.rpartition("/")[2].rpartition("-")[0]] = int(text)
    return found


def _show_files(board: Board) -> None:
    """The library's files: what runs forward, and what learning adds."""
    whole, forward = (_object_sizes(board, flags) for flags in (("-Os",), ("-Os", "-DEP_NO_TRAIN")))
    rows = {name: [forward[name], whole[name] - forward[name]] for name in sorted(whole) if whole[name]}
    rows["all"] = [sum(forward.values()), sum(whole.values()) - sum(forward.values())]
    print(f"\n{board.what}: every file of the library, code and constants (an application links what it names)")
    print("\n".join(report.grid("bytes", ["forward", "learning adds"], rows)))
    for switch in SWITCHES:
        saved = sum(whole.values()) - sum(_object_sizes(board, ("-Os", f"-D{switch}")).values())
        print(f"{switch} leaves out {saved:,} bytes of the library")


def _show_switches(board: Board, made: dict[str, models.Model]) -> None:
    """What a switch does to each application's code."""
    columns = ["as it is", *SWITCHES]
    rows = {}
    for app in made:
        variants = [(), *((switch,) for switch in SWITCHES)]
        rows[app] = [sizes(link(board, app, made[app], switches))["text"] for switches in variants]
    print(f"\n{board.what}: code of the runtime under a switch")
    print("\n".join(report.grid("bytes", columns, rows)))


def _show_links(board: Board, made: dict[str, models.Model]) -> None:
    """Which files an application's code comes from."""
    for app, model in made.items():
        found = by_file(link(board, app, model))
        parts = ", ".join(f"{name} {size:,}" for name, size in found.most_common())
        print(f"{board.name} {app}: {found.total():,} = {parts}")


def _show_goals(figures: report.Figures, made: dict[str, models.Model], ep_t: int) -> None:
    rows = {}
    for what, app, parts, limit in GOALS:
        if app not in figures["m4f"]:
            continue
        have = {**figures["m4f"][app], "arena": arena(app, made[app]), "ep_t": ep_t}
        reached = sum(have[part] for part in parts)
        rows[what] = [reached, limit, "reached" if reached <= limit else f"missed by {reached - limit:,}"]
    print("\n" + "\n".join(report.grid("Cortex-M4F", ["bytes", "goal", ""], rows)))


# ---- The command


def _measure_all(boards: Iterable[Board], made: dict[str, models.Model], jobs: int) -> report.Figures:
    tasks = [(board, app) for board in boards for app in made]
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda task: measure(*task, made[task[1]]), tasks)
        figures: report.Figures = {board.name: {} for board, _ in tasks}
        for (board, app), row in zip(tasks, found, strict=True):
            if row is None:
                print(f"{board.name} {app}: no room")
            else:
                figures[board.name][app] = row
    return figures


def _compare(found: report.Comparison, figures: report.Figures, made: dict[str, models.Model]) -> None:
    table = report.read_table(TABLE)
    for name, apps in figures.items():
        then, here = table.get("compilers", {}).get(name), build.version(BOARDS[name])
        if then != here:
            found.not_compared.append(f"{name}: the table was made with {then or 'nothing'}; this is {here}")
            continue
        for app, row in apps.items():
            kept = table.get("sizes", {}).get(made[app].source, {}).get(name, {}).get(app, {})
            for part in PARTS:
                found.figure(f"{name} {app} {part} ({made[app].source})", row[part], kept.get(part), GROWTH)


def _accept(figures: report.Figures, made: dict[str, models.Model]) -> None:
    table = report.read_table(TABLE)
    for name, apps in figures.items():
        table.setdefault("compilers", {})[name] = build.version(BOARDS[name])
        for app, row in apps.items():
            by_board: dict[str, Any] = table.setdefault("sizes", {}).setdefault(made[app].source, {})
            by_board.setdefault(name, {})[app] = row
    report.write_json(TABLE, table)


def _ep_t(board: Board) -> int:
    """Bytes of an ep_t there: the size of an array of as many, in a file that is compiled and not linked."""
    source = build.BUILD / "ep_t.c"
    source.write_text('#include "edgeprop.h"\nconst char ep_t_bytes[sizeof(ep_t)] = {1};\n')
    path = source.with_suffix(".o")
    build.run([*build.compiler(board), *build.FLAGS, "-I", str(build.CSRC), "-c", str(source), "-o", str(path)])
    return int(build.run([board.compiler.removesuffix("gcc") + "nm", "-S", str(path)]).split()[1], 16)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m boards size`."""
    parser.add_argument("--board", nargs="+", choices=SIZED, default=list(SIZED))
    parser.add_argument("--app", nargs="+", choices=list(APPS), default=list(APPS))
    parser.add_argument("--detail", nargs="?", const="m4f", choices=SIZED, help="per file, op and switch, on one board")
    parser.add_argument("--seeded", action="store_true", help="seeded weights, even where trained ones are at hand")
    parser.add_argument("--accept", action="store_true", help=f"write the figures to {TABLE.name}, for both weights")
    parser.add_argument("--jobs", type=int, default=2)


def main(args: argparse.Namespace) -> int:
    """Measure, print, compare. 1 if a figure grew or a board that CI needs is missing."""
    boards, missing = build.available([BOARDS[name] for name in args.board])
    weights = [False, True] if args.accept and not args.seeded else [args.seeded]
    found = report.Comparison(not_compared=missing)
    for seeded in weights:
        made = {app: models.make(APPS[app][0], seeded=seeded) for app in args.app}
        print(f"models: {', '.join(sorted({model.source for model in made.values()}))}\n")
        figures = _measure_all(boards, made, args.jobs)
        rows = {f"{name} {app}": [row[p] for p in PARTS] for name, apps in figures.items() for app, row in apps.items()}
        print("\n".join(report.grid("bytes", PARTS, rows)))
        if seeded == weights[0]:
            report.write_json(OUT, figures)
            if "m4f" in figures:
                _show_goals(figures, made, _ep_t(BOARDS["m4f"]))
        if args.accept:
            _accept(figures, made)
        else:
            _compare(found, figures, made)
    if args.detail and boards:
        _show_files(BOARDS[args.detail])
        _show_switches(BOARDS[args.detail], made)
        _show_links(BOARDS[args.detail], made)
    print("\n" + "\n".join(found.lines(TABLE, "make size-accept")))
    return 1 if found.grown or build.skips_fail(missing) else 0
