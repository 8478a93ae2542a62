"""The wheels for other processors: what they are called, what is in them, and that they run there.

They are built and tested by `make wheels-test`. Emulation runs Debian's Python of each processor where there is one; of
the musl wheels, for which there is none, the very object files run in a program of C alone, as those for ARMv6 do on an
emulated Pi Zero.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from email.parser import Parser
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import packaging.tags
import pytest

from edgeprop import export
from edgeprop import trainer as t
from tests.support import compiler, debian
from wheels import __main__ as build
from wheels import headers
from wheels.targets import TARGETS, Target

# One worker builds for all of them.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("wheels"),
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="no zig: make wheels-test brings it"),
    pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="for PCs with Linux"),
]

DEVICE = Path(__file__).with_name("device.py")
DEBIAN = build.WORK / "debian"
PROCESSORS = {"amd64": "EM_X86_64", "arm64": "EM_AARCH64", "armhf": "EM_ARM"}
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "armv7l": "EM_ARM", "armv6l": "EM_ARM"}
HARD_FLOAT = 0x05000400  # of an ARM ELF file: version 5 of the ABI, floats in VFP registers
RUNNING = [target for target in TARGETS if target.debian]
MUSL = [target for target in TARGETS if target.musl]
#: of ARMv7 and its VFP: the disassembler below must not accept them
LATER = {"movw", "movt", "sdiv", "udiv", "mls", "bfi", "ubfx", "sbfx", "rbit", "dmb", "vfma.f32", "vmov.i32", "vld1.32"}
V6 = [target for target in TARGETS if target.processor == "armv6l"]


def by_platform(targets: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("target", targets, ids=lambda target: target.platform)


def run(*command: str | Path, **env: str) -> str:
    """Standard output of a command that must succeed, without the settings of this Python."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run([str(part) for part in command], env={**kept, **env}, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All wheels, built from the sources as they are now; only what changed is compiled again."""
    out = tmp_path_factory.mktemp("wheels")
    run(sys.executable, "-m", "wheels", "--out", out, PYTHONPATH=str(build.ROOT))
    return out


def wheel(dist: Path, target: Target) -> zipfile.ZipFile:
    (path,) = dist.glob(f"edgeprop-*-{target.tag}.whl")
    return zipfile.ZipFile(path)


def extension(dist: Path, target: Target, folder: Path) -> Path:
    """The shared library out of a wheel."""
    return Path(wheel(dist, target).extract("edgeprop/_core.abi3.so", folder))


# ---- Names ----------------------------------------------------------------------------------------------------------


def test_all_are_built_and_hold_the_same(dist: Path) -> None:
    assert len(list(dist.iterdir())) == len(TARGETS) == 8
    contents = []
    for target in TARGETS:
        with wheel(dist, target) as archive:
            names = archive.namelist()
            info = next(name for name in names if name.endswith(".dist-info/WHEEL"))
            assert Parser().parsestr(archive.read(info).decode()).get_all("Tag") == [target.tag]
            contents.append(set(names))
    assert all(names == contents[0] for names in contents)
    assert [name for name in contents[0] if ".so" in name] == ["edgeprop/_core.abi3.so"]


#: what Python says of the machine, the C library it was built with, and the wheels that pip takes there
MACHINES_AND_WHEELS = [
    ("linux-x86_64", "glibc", ["manylinux_2_17_x86_64"]),
    ("linux-aarch64", "glibc", ["manylinux_2_17_aarch64"]),
    ("linux-armv7l", "glibc", ["manylinux_2_17_armv7l"]),
    ("linux-armv8l", "glibc", ["manylinux_2_17_armv7l"]),  # 32 bits of Raspberry Pi OS under its 64-bit kernel
    ("linux-armv6l", "glibc", ["linux_armv6l"]),
    ("linux-x86_64", "musl", ["musllinux_1_2_x86_64"]),
    ("linux-aarch64", "musl", ["musllinux_1_2_aarch64"]),
    ("linux-armv7l", "musl", ["musllinux_1_2_armv7l"]),
    # A plain linux_ tag says nothing of the C library: such a machine must be handed the file that fits.
    ("linux-armv6l", "musl", ["linux_armv6l", "musllinux_1_2_armv6l"]),
    ("linux-riscv64", "glibc", []),
]


@pytest.mark.parametrize(("machine", "libc", "fits"), MACHINES_AND_WHEELS)
def test_one_wheel_fits_each_machine(monkeypatch: pytest.MonkeyPatch, machine: str, libc: str, fits: list[str]) -> None:
    """By the rules that pip has; the glibc is that of Raspberry Pi OS 11 (2021)."""
    musl = packaging._musllinux._MuslVersion(1, 2) if libc == "musl" else None
    monkeypatch.setattr(sysconfig, "get_platform", lambda: machine)
    monkeypatch.setattr(packaging._musllinux, "_get_musl_version", lambda _: musl)
    monkeypatch.setattr(packaging._manylinux, "_get_glibc_version", lambda: (-1, -1) if musl else (2, 31))
    monkeypatch.setattr(packaging._manylinux, "_is_linux_armhf", lambda _: True)
    taken = set(packaging.tags.platform_tags())
    assert [target.platform for target in TARGETS if target.platform in taken] == fits


@by_platform([target for target in RUNNING if target.processor != "armv6l"])
def test_auditwheel_agrees(dist: Path, target: Target) -> None:
    """Of the wheels with glibc: auditwheel reads those with musl on machines with musl alone, and knows no ARMv6."""
    pytest.importorskip("auditwheel")
    told = run(sys.executable, "-m", "auditwheel", "show", str(wheel(dist, target).filename))
    found = re.search(r'consistent with the following platform tag: "manylinux_2_(\d+)_(\w+)"', " ".join(told.split()))
    assert found, told
    assert int(found[1]) <= 17
    assert found[2] == target.processor


# ---- What is compiled -----------------------------------------------------------------------------------------------


@by_platform(TARGETS)
def test_library_fits_its_tag(dist: Path, target: Target, tmp_path: Path) -> None:
    elffile = pytest.importorskip("elftools.elf.elffile")
    with open(extension(dist, target, tmp_path), "rb") as file:
        elf = elffile.ELFFile(file)
        arm = MACHINES[target.processor] == "EM_ARM"
        assert (elf["e_machine"], elf.elfclass) == (MACHINES[target.processor], 32 if arm else 64)
        assert not arm or elf["e_flags"] & HARD_FLOAT == HARD_FLOAT
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        versions = elf.get_section_by_name(".gnu.version_r")
        used = {item.name for _, items in versions.iter_versions() for item in items} if versions else set()
        symbols = {s.name for s in elf.get_section_by_name(".dynsym").iter_symbols() if s["st_shndx"] != "SHN_UNDEF"}
    assert needed <= ({"libc.so"} if target.musl else {"libc.so.6", "libm.so.6"})
    assert all(tuple(map(int, name.removeprefix("GLIBC_").split("."))) <= (2, 17) for name in used)
    assert target.musl != bool(used)
    assert symbols == {"PyInit__core"}


@by_platform(V6)
def test_armv6_has_no_later_instruction(dist: Path, target: Target, tmp_path: Path) -> None:
    """All code of the wheel, what zig brings along included, in a disassembler that knows ARMv6 with VFPv2 alone."""
    if (objdump := shutil.which("llvm-objdump")) is None:
        pytest.skip("no llvm-objdump")
    shipped = extension(dist, target, tmp_path)
    # The same link once more with the symbols in: they tell the constants between the instructions from the latter.
    folder, full = build.WORK / target.platform, tmp_path / "full.so"
    link = run(Path(sys.executable).with_name("ninja"), "-C", folder, "-t", "commands", "_core.abi3.so").splitlines()[
        -1
    ]
    assert " -s " in link
    link = link.replace(" -s ", " ").replace(" -o _core.abi3.so ", f" -o {full} ")
    run("sh", "-c", f"cd {shlex.quote(str(folder))} && {link}", **caches())
    listing = run(objdump, "-d", "--section=.text", "--mcpu=arm1176jzf-s", full)
    lines = re.findall(r"^ *([0-9a-f]+): ((?:[0-9a-f]{2} )+) *\t([^.\s]\S*)", listing, flags=re.MULTILINE)
    assert len(lines) > 10_000
    assert {name for _, _, name in lines} & LATER == {name for _, _, name in lines if "unknown" in name} == set()
    # zig compiles its own library anew for a link with symbols, and not to the very same bytes.
    assert abs(len(text(full)) - len(text(shipped))) < len(text(full)) / 100
    assert "Tag_CPU_arch: v6\n" in run("readelf", "-A", shipped)
    assert "Tag_FP_arch: VFPv2\n" in run("readelf", "-A", shipped)


@pytest.mark.parametrize("architecture", ["arm64", "armhf"])
def test_headers_are_as_good_as_the_processors_own(dist: Path, architecture: str, tmp_path: Path) -> None:
    """The binding compiles to the same bytes with the headers that Debian built for the processor."""
    target = next(target for target in RUNNING if target.debian == architecture)
    root = sysroot(architecture)
    own = root / "usr" / "include" / debian.python(root).name
    if own.name != f"python{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip(f"Debian's headers are of {own.name}, ours of {sys.version_info[0]}.{sys.version_info[1]}")
    source = build.WORK / target.platform / "_core.c"
    flags = ["-O3", "-g0", "-fPIC", "-DPy_LIMITED_API=0x030A0000", "-DEP_TRACE", f"-I{compiler.CSRC}"]
    flags += [f"-I{compiler.CSRC / 'python' / 'edgeprop'}", "-c", str(source)]
    for name, folders in {"ours": [build.WORK / "include"], "theirs": [own, root / "usr" / "include"]}.items():
        includes = [part for folder in folders for part in ("-idirafter", str(folder))]
        zig(target, *flags, *includes, "-o", tmp_path / f"{name}.o")
    assert (tmp_path / "ours.o").read_bytes() == (tmp_path / "theirs.o").read_bytes()


def test_headers_leave_out_what_no_compiler_tells() -> None:
    found = headers.portable(
        "#define SIZEOF_LONG 8\n#define SIZEOF_TIME_T 8\n#define SIZEOF__BOOL 1\n#define HAVE_X 1\n"
    )
    assert found.startswith("#define SIZEOF_LONG __SIZEOF_LONG__\n/* SIZEOF_TIME_T")
    assert "SIZEOF_TIME_T 8" not in found
    assert "#define SIZEOF__BOOL 1\n#define HAVE_X 1\n" in found


def zig(target: Target, *args: str | Path) -> None:
    run(build.zig(), "cc", "-target", target.zig, f"-mcpu={target.cpu}", "-fno-sanitize=all", *args, **caches())


def caches() -> dict[str, str]:
    return {key: value for key, value in build.environment().items() if key.startswith("ZIG_")}


def objects(target: Target, only_runtime: bool = False) -> list[Path]:
    """The object files that a wheel was linked from: those of sources that are there, which an older build may have more of."""
    folder = build.WORK / target.platform / "CMakeFiles"
    runtime = folder / "runtime.dir"
    found = [
        path
        for path in sorted(runtime.rglob("*.o"))
        if (build.ROOT / path.relative_to(runtime).with_suffix("")).exists()
    ]
    assert found
    return found if only_runtime else [*(folder / "_core.dir").rglob("*.o"), *found]


def text(library: Path) -> bytes:
    elffile = pytest.importorskip("elftools.elf.elffile")
    with open(library, "rb") as file:
        return bytes(elffile.ELFFile(file).get_section_by_name(".text").data())


# ---- In Python, emulated --------------------------------------------------------------------------------------------


@cache
def sysroot(architecture: str) -> Path:
    """Debian of another processor; skips the test where it cannot be had."""
    try:
        return debian.sysroot(DEBIAN / architecture, architecture)
    except debian.Unavailable as error:
        pytest.skip(f"no Python for {architecture}: {error}")


def emulated(target: Target, cpu: str) -> Callable[..., str]:
    """A function that runs Python of the target's processor with arguments and environment."""
    if not cpu:
        return lambda *args, **env: run(sys.executable, *args, **env)
    if (qemu := shutil.which(target.qemu[0])) is None:
        pytest.skip(f"no {target.qemu[0]}")
    if target.debian == "amd64":
        core = {"OPENBLAS_CORETYPE": cpu}  # what numpy is told of this machine would be wrong
        return lambda *args, **env: run(qemu, "-cpu", cpu, sys.executable, *args, **{**core, **env})
    root = sysroot(target.debian)
    told = {"_PYTHON_HOST_PLATFORM": target.python_platform} if target.python_platform else {}
    return lambda *args, **env: run(qemu, "-cpu", cpu, "-L", root, debian.python(root), *args, **{**told, **env})


def installed(python: Callable[..., str], dist: Path, folder: Path, **env: str) -> str:
    """Let the emulated machine's own pip choose among all the wheels; the tag of the one it took."""
    options = ["--isolated", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
    python("-m", "pip", "install", *options, "--find-links", dist, "--target", folder, "edgeprop", **env)
    (info,) = folder.glob("edgeprop-*.dist-info/WHEEL")
    return str(Parser().parsestr(info.read_text())["Tag"])


#: int8 alone, int8 with a float32 head that learns, float32 that learns as a whole
KINDS = ("int8", "head", "f32")


def save(folder: Path, kind: str) -> Path:
    """A small net of every kind of layer, on noise."""
    body = [t.Conv2D(8, 3, padding="same"), t.ReLU(), t.Residual(t.DepthwiseConv2D(3, padding="same"), t.ReLU())]
    net = t.Sequential(
        *body, t.MaxPool2D(2), t.Conv2D(12, 1), t.ReLU(), t.Flatten(), t.Dense(5, name="head"), name=kind
    )
    net.build((3, 8, 8), seed=0)
    x = np.random.default_rng(1).normal(size=(64, 3, 8, 8)).astype("f4")
    options: dict[str, Any] = {} if kind == "f32" else {"calibration": x}
    learns = {} if kind == "int8" else {"trainable": "*" if kind == "f32" else "head"}
    return export.save(folder / kind, net, labels=range(5), **options, **learns).paths["image"]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, samples, and what this machine's own build makes of them."""
    folder = tmp_path_factory.mktemp("work")
    random = np.random.default_rng(2)
    np.savez(folder / "data.npz", x=random.normal(size=(7, 3, 8, 8)).astype("f4"), y=random.integers(0, 5, 7))
    for kind in KINDS:
        run(sys.executable, DEVICE, save(folder, kind), folder / "data.npz", folder / f"host.{kind}.npz")
    return folder


@pytest.mark.parametrize(
    ("target", "cpu"),
    [pytest.param(target, cpu, id=f"{target.platform}-{cpu}") for target in RUNNING for cpu in target.qemu[1:]],
)
def test_pip_takes_it_and_it_computes_the_same(
    dist: Path, work: Path, target: Target, cpu: str, tmp_path: Path
) -> None:
    python = emulated(target, cpu)
    assert installed(python, dist, tmp_path / "site") == target.tag
    for kind in KINDS:
        found = tmp_path / f"{kind}.npz"
        told = python(DEVICE, work / f"{kind}.ep", work / "data.npz", found, PYTHONPATH=str(tmp_path / "site"))
        machine, _, path = told.split()
        assert machine.endswith(target.processor)
        assert Path(path).is_relative_to(tmp_path)
        compare(found, work / f"host.{kind}.npz")


def compare(found: Path, wanted: Path) -> None:
    """int8 to the bit, float32 to 1e-5 of the largest in its tensor."""
    with np.load(found) as ours, np.load(wanted) as theirs:
        assert set(ours.files) == set(theirs.files)
        assert len(ours.files) >= 8
        for name in theirs.files:
            if theirs[name].dtype.kind == "f":
                allowed = 1e-5 * max(1e-30, np.abs(theirs[name]).max())
                np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=allowed, err_msg=name)
            else:
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_32_bits_under_a_64_bit_kernel(dist: Path, tmp_path: Path) -> None:
    """Raspberry Pi OS of 32 bits on a Pi 4: Python says aarch64, and pip must not believe it."""
    target = next(target for target in RUNNING if target.processor == "armv7l")
    python = emulated(target, "cortex-a7")
    assert installed(python, dist, tmp_path, _PYTHON_HOST_PLATFORM="linux-aarch64") == target.tag


# ---- Without Python -------------------------------------------------------------------------------------------------

EMULATORS = {
    "x86_64": (),
    "aarch64": ("qemu-aarch64", "-cpu", "cortex-a53"),
    "armv7l": ("qemu-arm", "-cpu", "cortex-a7"),
    "armv6l": ("qemu-arm", "-cpu", "arm1176"),
}


def program(target: Target, folder: Path, *args: str | Path) -> Callable[..., str]:
    """A function that runs a C program with arguments on the least processor that the tag stands for.

    It uses Debian's C library of the kind that the wheel wants. Debian's for ARMv6 is for ARMv7: there, zig's musl is linked
    in, whatever the wheel wants.
    """
    emulator, made = EMULATORS[target.processor], folder / "program"
    if emulator and shutil.which(emulator[0]) is None:
        pytest.skip(f"no {emulator[0]}")
    if target.processor == "armv6l":
        libc = next(other for other in MUSL if other.processor == "armv6l")
        zig(libc, "-O3", "-s", "-static", *args, "-lm", "-o", made)
        return lambda *args: run(*emulator, made, *args)
    zig(target, "-O3", "-s", "-dynamic", *args, "-lm", "-o", made)
    root = sysroot(next(other.debian for other in RUNNING if other.processor == target.processor))
    if not emulator:
        return lambda *args: run(*([loader(root)] if target.musl else []), made, *args)
    return lambda *args: run(*emulator, "-L", root, made, *args)


def loader(root: Path) -> Path:
    """Of musl."""
    return next(iter(root.glob("lib/ld-musl-*.so.1")))


@by_platform([*MUSL, *(target for target in V6 if not target.musl)])
def test_its_code_runs_on_the_processor(dist: Path, work: Path, target: Target, tmp_path: Path) -> None:
    """The wheel's own object files, in a program without Python."""
    driver = compiler.HERE / "drive.c"
    drive = program(target, tmp_path, "-DEP_TRACE", f"-I{compiler.CSRC}", driver, *objects(target, True))
    for kind in KINDS:
        args = ("7", "5", work / f"{kind}.ep")
        compare_lines(drive(*args), run(compiler.image_driver(), *args), kind)


def compare_lines(found: str, wanted: str, kind: str) -> None:
    """What drive.c prints: codes to the bit, floats to 1e-5; how much memory each build wants may differ."""
    pairs = list(zip(found.splitlines(), wanted.splitlines(), strict=True))
    assert len(pairs) > (10 if kind == "int8" else 60)
    for ours, theirs in pairs:
        what = theirs.split()[0]
        assert ours.split()[0] == what
        if what in ("loss", "params") or (what == "y" and kind != "int8"):
            a, b = (np.frombuffer(bytes.fromhex(line.split()[1]), "<f4") for line in (ours, theirs))
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max(), err_msg=what)
        elif what != "arena":
            assert ours == theirs


LIST_C = """
#include <stdio.h>
#include "kernels/kernels.h"
int main(void)
{
#ifdef EP_DISPATCH
    for (unsigned i = 0; ep_list_kernels(i); i++) printf("%s ", ep_list_kernels(i)->name);
#endif
    return 0;
}
"""


@by_platform([target for target in TARGETS if target.processor == "x86_64"])
def test_finds_what_the_processor_has(dist: Path, target: Target, tmp_path: Path) -> None:
    """The same kernels as a build with this machine's compiler; and on an old processor, only what it has."""
    source = tmp_path / "list.c"
    source.write_text(LIST_C)
    listed = program(target, tmp_path, f"-I{compiler.CSRC}", source, *objects(target, True))().split()
    assert listed == run(compiler.program(source, tmp_path / "host")).split()
    assert listed[-1] == "portable"
    if (qemu := shutil.which("qemu-x86_64")) is None:
        pytest.skip("no qemu-x86_64")
    start = [loader(sysroot("amd64"))] if target.musl else []
    assert run(qemu, "-cpu", "Nehalem", *start, tmp_path / "program") == "portable "


@by_platform([target for target in TARGETS if target.processor == "aarch64"])
def test_finds_what_an_arm_has(dist: Path, target: Target, tmp_path: Path) -> None:
    """A Pi 5 has instructions that a Pi 3 lacks; where kernels for them are chosen at run time, each gets its own."""
    source = tmp_path / "list.c"
    source.write_text(LIST_C)
    little = program(target, tmp_path, f"-I{compiler.CSRC}", source, *objects(target, True))().split()
    qemu = str(shutil.which("qemu-aarch64"))
    big = run(qemu, "-cpu", "max", "-L", sysroot("arm64"), tmp_path / "program").split()
    assert set(little) < set(big) if big else not little
    assert big[-1:] == little[-1:]


#: a product half way between two floats, and a little more or less; the division makes zig bring its own library
FMA_C = """
#include <math.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    volatile long long n = argc;
    volatile float a[] = {97, 97, 3, 3, -97}, b[] = {172961, 172961, 5592407, 5592407, 172961}, c = 0x1p-30f;
    (void)argv;
    for (int i = 0; i < 5; i++) printf("%.0f ", (double)fmaf(a[i], b[i], i & 1 ? -c : c));
    return (int)(n / (n + 1));
}
"""


@by_platform(TARGETS)
def test_fmaf_rounds_once(target: Target, tmp_path: Path) -> None:
    """Adding int8 values is exact by it. On ARM it is not the C library's but zig's, and the C library's where that is musl."""
    (tmp_path / "fma.c").write_text(FMA_C)
    if target.platform == "linux_armv6l":  # what runs on a Pi 2, to be with glibc
        target = dataclasses.replace(target, platform="linux_armv7l")
    exact = ["16777218", "16777216", "16777222", "16777220", "-16777216"]
    assert program(target, tmp_path, tmp_path / "fma.c")().split() == exact


@by_platform(MUSL)
def test_musl_loads_it(dist: Path, target: Target, tmp_path: Path) -> None:
    """musl's loader finds all that the library needs but Python's functions, which a Python would bring."""
    architecture = next(other.debian for other in RUNNING if other.processor == target.processor)
    root = sysroot(architecture)
    emulator = ("qemu-arm", "-cpu", "cortex-a7") if architecture == "armhf" else EMULATORS[target.processor]
    library = extension(dist, target, tmp_path)
    if emulator and shutil.which(emulator[0]) is None:
        pytest.skip(f"no {emulator[0]}")
    done = subprocess.run([*emulator, loader(root), "--list", library], capture_output=True, text=True)
    missing = re.findall(r"relocating .*: (\w+): symbol not found", done.stdout + done.stderr)
    assert "ld-musl" in done.stdout
    assert missing
    assert all(name.startswith(("Py", "_Py")) for name in missing)
