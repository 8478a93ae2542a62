"""Cross-build the wheels: all, or those whose platform tag contains one of the words given."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import headers
from .targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "wheels"
DECIDE_FLAGS = [ROOT / "wheels" / "zig.cmake", ROOT / "wheels" / "targets.py"]


def zig() -> Path:
    """The compiler, out of PyPI's package of it.

    Raises
    ------
    SystemExit : it is not installed; the text says how
    """
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        sys.exit("no zig: pip install -r wheels/requirements.txt, or make wheels")
    return Path(found.origin).with_name("zig")


def environment() -> dict[str, str]:
    """This environment, with all that zig compiles for itself kept below build/."""
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(WORK / "zig"), "ZIG_LOCAL_CACHE_DIR": str(WORK / "zig")}
    return {**os.environ, **caches, "CMAKE_BUILD_PARALLEL_LEVEL": "1"}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process builds in `WORK`: it would replace headers that this one's compilers are reading."""
    import fcntl  # not on Windows, where this file must still be readable for its tests to be skipped

    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(target: Target, include: Path, out: Path) -> Path:
    """Build one wheel into `out`.

    Raises
    ------
    SystemExit : a tool failed; the text has what it said
    """
    folder = WORK / target.platform
    cache = folder / "CMakeCache.txt"
    if cache.exists() and cache.stat().st_mtime < max(path.stat().st_mtime for path in DECIDE_FLAGS):
        shutil.rmtree(folder)  # CMake takes flags from a toolchain file when it first runs, and never again
    settings = {
        "wheel.tags": target.tag,
        "build-dir": folder,
        "install.strip": "false",
        "cmake.toolchain-file": ROOT / "wheels" / "zig.cmake",
        "cmake.define.EDGEPROP_ZIG": zig(),
        "cmake.define.EDGEPROP_ZIG_TARGET": target.zig,
        "cmake.define.EDGEPROP_ZIG_CPU": target.cpu,
        "cmake.define.Python_INCLUDE_DIR": include,
    }
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    command += [f"-C{name}={value}" for name, value in settings.items()]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\n{target.platform} could not be built")
    (wheel,) = out.glob(f"edgeprop-*-{target.tag}.whl")
    return wheel


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m wheels", description=__doc__)
    parser.add_argument("words", nargs="*", help="such as armv6l, musllinux; none: all")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="wheels built at a time")
    args = parser.parse_args()
    chosen = [target for target in TARGETS if not args.words or any(word in target.platform for word in args.words)]
    if not chosen:
        parser.error(f"none of {', '.join(target.platform for target in TARGETS)}")
    with alone():
        include = headers.write(WORK / "include")
        # Half of a wheel's time goes into one link, for which zig compiles libraries of its own: side by side, cores stay
        # busy.
        with ThreadPoolExecutor(min(args.jobs, len(chosen))) as pool:
            for wheel in pool.map(lambda target: build(target, include, args.out), chosen):
                print(f"{wheel.name}  {wheel.stat().st_size:,} B", flush=True)


if __name__ == "__main__":
    main()
