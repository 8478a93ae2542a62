"""The examples for a Pi and for a microcontroller: their READMEs to the letter, cross-built and emulated."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

# One process prepares an example for all boards.
pytestmark = pytest.mark.xdist_group("examples")

BIN = Path(sys.executable).parent
#: what only the desktop has
DESKTOP = ["onnx", "onnxruntime", "onnx_ir", "onnxscript", "sklearn", "scipy", "matplotlib", "edgeprop.trainer"]


def commands(readme: Path, starting: str) -> str:
    """The README's block of shell commands that starts so."""
    (block,) = [b for b in re.findall(r"^```sh\n(.*?)^```", readme.read_text(), re.M | re.S) if b.startswith(starting)]
    return block


def shell(script: str, cwd: Path, **env: str) -> str:
    """Output of shell commands that must succeed, where `python` is this one."""
    full = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **env}
    done = subprocess.run(["sh", "-e"], input=script, cwd=cwd, env=full, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")


def checkout(root: Path, folder: Path) -> Path:
    """A folder that looks like the checkout, to write into."""
    for name in ("examples", "csrc"):
        (folder / name).symlink_to(root / name)
    return folder


# ---- Pi --------------------------------------------------------------------------------------------------------------


class Pi(NamedTuple):
    """The checkout in which prepare.py ran, and what adapt.py printed there the first time and the second."""

    folder: Path
    first: str
    second: str


#: digits come with scikit-learn; the vowels are as many minutes again
KINDS = ["digits", pytest.param("vowels", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=KINDS)
def pi(
    request: pytest.FixtureRequest, root: Path, data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Pi:
    folder = checkout(root, tmp_path_factory.mktemp(request.param))
    place = data("vowel/vowel_speakers_0_7.npz").parents[1] if request.param == "vowels" else folder / "none"
    readme = root / "examples/pi/README.md"
    printed = shell(commands(readme, "python examples/pi/prepare.py"), folder, EDGEPROP_DATA=str(place))
    assert ("digits instead" in printed) == (request.param == "digits")
    adapt = commands(readme, "python examples/pi/adapt.py")
    return Pi(folder, shell(adapt, folder), shell(adapt, folder))


def scores(printed: str) -> list[tuple[int, int]]:
    return [(int(right), int(asked)) for right, asked in re.findall(r"(\d+) of (\d+) right", printed)]


def test_it_learns_and_remembers(pi: Pi, root: Path) -> None:
    (before, asked), (after, _) = scores(pi.first)
    assert after - before > 0.15 * asked
    if pi.folder.name.startswith("vowels"):
        assert "the lesson doubles" in (root / "examples/pi/README.md").read_text()
        assert 1.7 * before < after
    assert pi.second.startswith(f"restored\nbefore: {after} of {asked} right\n")


def test_numpy_and_cffi_are_enough(pi: Pi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in DESKTOP:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    (pi.folder / "build/pi/me.head").unlink()
    monkeypatch.setattr(sys, "argv", ["adapt.py", str(pi.folder / "build/pi")])
    runpy.run_path(str(pi.folder / "examples/pi/adapt.py"), run_name="__main__")
    assert capsys.readouterr().out == pi.first


def boards(root: Path) -> dict[str, str]:
    """Compilers by board, from the README's table; and this PC's."""
    rows = re.findall(r"^\| (Pi .*?) \| `(.*?)` \|$", (root / "examples/pi/README.md").read_text(), re.M)
    return {"this PC": "cc", **dict(rows)}


EMULATORS = {
    "this PC": [],
    "Pi 1, Zero": ["qemu-arm", "-cpu", "arm1176"],
    "Pi 2": ["qemu-arm", "-cpu", "cortex-a7", "-L", "/usr/arm-linux-gnueabihf"],
    "Pi 3": ["qemu-aarch64", "-cpu", "cortex-a53", "-L", "/usr/aarch64-linux-gnu"],
    "Pi 4": ["qemu-aarch64", "-cpu", "cortex-a72", "-L", "/usr/aarch64-linux-gnu"],
    "Pi 5": ["qemu-aarch64", "-cpu", "cortex-a76", "-L", "/usr/aarch64-linux-gnu"],
}


#: the other boards compile all of the runtime each
QUICK = {"this PC"}


@pytest.mark.parametrize(
    "board", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in EMULATORS]
)
def test_c_prints_what_python_prints(pi: Pi, root: Path, board: str) -> None:
    assert list(boards(root)) == list(EMULATORS)
    compiler, emulator = boards(root)[board], EMULATORS[board]
    need(compiler.split()[0], *emulator[:1])
    compile_it, run_it = commands(root / "examples/pi/README.md", "cc ").splitlines()
    (pi.folder / "build/pi/me.slots").unlink(missing_ok=True)
    shell(re.sub("^cc", compiler, compile_it), pi.folder)
    assert shell(shlex.join(emulator) + " " + run_it, pi.folder) == pi.first
    assert shell(shlex.join(emulator) + " " + run_it, pi.folder) == pi.second


# ---- Microcontroller -------------------------------------------------------------------------------------------------


@pytest.mark.slow  # a thousand boots; tests/runtime/test_hostile.py cuts power at every byte too
@pytest.mark.parametrize("kind", ["digits", "vowels"])
def test_no_cut_loses_a_head(root: Path, data: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    need("arm-none-eabi-gcc", "qemu-system-arm")
    place = data("vowel/vowel_speakers_0_7.npz").parents[1] if kind == "vowels" else tmp_path / "none"
    folder = checkout(root, tmp_path)
    printed = shell(commands(root / "examples/mcu/README.md", "python"), folder, EDGEPROP_DATA=str(place))
    found = scores(printed)
    assert len(found) == 2
    assert found[1][0] > found[0][0]
    cuts, boots = map(int, re.search(r"(\d+) cuts, (\d+) boots: always", printed).groups())
    operations = [int(n) for n in re.findall(r"in each of its (\d+) operations", printed)]
    assert len(operations) == 4
    assert cuts == sum(operations) > 1000
    assert boots == cuts + len(operations) + 1
