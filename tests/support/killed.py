"""Saves that are killed: `python -m tests.support.killed head|export|adapt FOLDER STRIDE`. One child for every
STRIDE-th moment: before
each change of the file system, after it, and in the middle of what is written, by SIGKILL or by the limit of a file's size.
After each, every file is the old one or the new one, whole. Prints at how many moments it killed."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import edgeprop
from tests.support.image import image, mlp

#: what Python tells its audit hooks of; fsync and close it does not, so they are wrapped
EVENTS = {
    "open",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "shutil.move",
}

#: leftovers of killed saves that the next one finds. It looks at all of them, so that with each more there are more moments
#: to be killed at: of an ever larger number there would be no end.
LEFTOVERS = 4

#: a task: what changes a folder from its old state to its new one; names of the files; what a whole file is beside these two
Task = tuple[Callable[[Path, bool], None], list[str], Callable[[Path], bool]]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(moment: int) -> Callable[[], int]:
    """Kills this process at a moment counted from 0; returns what tells how many there were so far."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        if seen == moment:
            _die()
        seen += 1

    sys.addaudithook(lambda event, args: count() if event in EVENTS and _writes(event, args) else None)
    for name in ("fsync", "replace", "close"):
        _wrap(name, count)
    return lambda: seen


def _writes(event: str, args: tuple[Any, ...]) -> bool:
    return event != "open" or bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _wrap(name: str, count: Callable[[], None]) -> None:
    """Moments before and after a call of os."""
    real = getattr(os, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        count()
        result = real(*args, **options)
        count()
        return result

    setattr(os, name, wrapped)


def _in_child(work: Callable[[], None]) -> bool:
    """True if a child that does the work lived to its end."""
    child = os.fork()
    if child == 0:
        try:
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                work()
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit("a save that nobody killed failed")
    return os.WIFEXITED(status)


def _limited(size: int) -> None:
    """The process dies in the middle of the write that makes a file larger than that."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _kills(task: Callable[[], None], largest: int, stride: int) -> Iterator[bool]:
    """One child after the other, the state of the folder to be looked at after each; the last one lives."""
    for size in sorted({0, 1, 31, 32, 33, largest // 2, largest - 1})[:: min(stride, 3)]:
        if size < largest:
            yield not _in_child(lambda size=size: (_limited(size), task()))  # type: ignore[misc]
    moment, alive = 0, False
    while not alive:
        alive = _in_child(lambda moment=moment: (_die_at(moment), task()))  # type: ignore[misc]
        yield not alive
        moment += stride


# ---- What is saved ---------------------------------------------------------------------------------------------------


def _head(folder: Path) -> Task:
    model = edgeprop.Model(image(mlp(trainable=2)))

    def save(place: Path, new: bool) -> None:
        values = {name: np.full_like(value, 2.0 if new else 1.0) for name, value in model.parameters().items()}
        model.set_parameters(values)
        model.save(place / "me.head")

    def whole(path: Path) -> bool:
        found = edgeprop.Model(image(mlp(trainable=2))).restore(path).parameters().values()
        return all(bool((value == 1).all()) for value in found) or all(bool((value == 2).all()) for value in found)

    return save, ["me.head"], whole


def _adapt(folder: Path) -> Task:
    from edgeprop.export import cli

    rng = np.random.default_rng(0)
    (folder / "net.ep").write_bytes(image(mlp(trainable=2)))
    x, y = rng.normal(size=(12, 6)).astype(np.float32), rng.integers(0, 4, 12)
    np.savez(folder / "data.npz", x=x, y=y)

    def save(place: Path, new: bool) -> None:
        common = ["adapt", str(folder / "net.ep"), "--data", str(folder / "data.npz"), "--save", str(place / "me.head")]
        if cli.main([*common, "--lr", "0.05" if new else "0.01"]) != 0:
            raise RuntimeError("adapt failed")

    def whole(path: Path) -> bool:
        edgeprop.Model(folder / "net.ep").restore(path)
        return True

    return save, ["me.head"], whole


def _export(folder: Path) -> Task:
    from edgeprop import export
    from edgeprop import trainer as t

    def save(place: Path, new: bool) -> None:
        net = t.Sequential(t.Dense(3, name="head"))
        net.build((4,), seed=int(new))
        export.save(place / "net", net, trainable="head", loss="mse")

    return save, ["net.onnx", "net.h", "net.ep", "net.report.md", "net.report.html"], lambda path: False


TASKS = {"head": _head, "adapt": _adapt, "export": _export}


def _contents(folder: Path, names: list[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def _leftovers(folder: Path) -> list[Path]:
    """What killed saves left there, the newest first."""
    hidden = [path for path in folder.iterdir() if path.name.startswith(".")]
    return sorted(hidden, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def main(kind: str, where: str, stride: str) -> None:
    folder = Path(where)
    save, names, whole = TASKS[kind](folder)
    states: list[dict[str, bytes]] = []
    for new in (False, True):
        place = folder / f"whole{int(new)}"
        place.mkdir()
        _in_child(lambda place=place, new=new: save(place, new))  # type: ignore[misc]
        states.append(_contents(place, names))
    target = folder / "target"
    target.mkdir()
    (target / "bystander").write_bytes(b"nobody's business")
    largest = max(len(data) for data in states[1].values())
    kills = 0
    for name, data in states[0].items():
        (target / name).write_bytes(data)
    for killed in _kills(lambda: save(target, True), largest, int(stride)):
        kills += killed
        found = _contents(target, names)
        for name, data in found.items():
            if data not in (states[0][name], states[1][name]) and not whole(target / name):
                raise SystemExit(f"{name} is neither the old one nor the new one: {len(data)} bytes, kill {kills}")
        if (target / "bystander").read_bytes() != b"nobody's business":
            raise SystemExit("another file was damaged")
        if {path.name for path in target.iterdir() if not path.name.startswith(".")} != {*names, "bystander"}:
            raise SystemExit(f"other files: {sorted(path.name for path in target.iterdir())}")
        if not killed and kind == "export" and found != states[1]:
            raise SystemExit("a save that nobody killed did not save")
        left = _leftovers(target)
        if not killed and left:
            raise SystemExit(f"a save that nobody killed left {left}")
        for path in left[LEFTOVERS:]:
            path.unlink()
        for name, data in states[0].items():
            (target / name).write_bytes(data)
    print(kills)


if __name__ == "__main__":
    main(*sys.argv[1:])
