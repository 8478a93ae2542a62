"""What users get: an sdist with all it needs, a wheel for numpy and cffi alone, a C library by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import edgeprop
from tests.support.image import image, mlp

# One worker builds for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]

#: what a checkout may hold that no package needs
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")


def tool(name: str) -> str:
    """A program of this environment, or of the machine."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"no {name}")
    return found


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed, without the settings of this Python."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


#: what is made in a checkout and must be in no sdist
MADE = [".venv/bin/python", ".venv/lib/x.py", "build/x", "dist/x.whl", "export/__pycache__/x.pyc", ".mypy_cache/x.json"]
MADE += [".pytest_cache/x", ".ruff_cache/x", ".hypothesis/x", "csrc/x.o", "csrc/python/edgeprop/x.so"]


@pytest.fixture(scope="session")
def sdist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of a copy of the checkout, as one looks in which much was made."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(root, folder / "checkout", ignore=_NOT_COPIED)
    for name in MADE:
        path = folder / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made here")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, folder / "checkout")
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def unpacked(sdist: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent)
    return sdist.parent / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="session")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from nothing but the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, unpacked)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment that holds the wheel and what it requires, nothing else."""
    return environment(sys.executable, wheel, tmp_path_factory.mktemp("clean"))


def environment(python: str, wheel: Path, folder: Path) -> Path:
    run(python, "-m", "venv", folder)
    found = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(found, "-m", "pip", "install", "--quiet", wheel)
    return found


def test_sdist_holds_everything(root: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"pyproject.toml", "CMakeLists.txt", "Makefile", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    folders = ("csrc", "trainer", "export", "tests", "docs")
    files = (path for folder in folders for path in (root / folder).rglob("*") if path.is_file())
    wanted |= {path.relative_to(root).as_posix() for path in files if "__pycache__" not in path.parts}
    assert wanted <= names
    assert not {name for name in names if name.split("/")[0] in ("build", "dist", ".venv", ".git", ".ci")}
    assert not names & set(MADE)
    assert not {name for name in names if name.endswith("/x") or "/x." in name}


def test_wheel_is_one_for_all_pythons(wheel: Path) -> None:
    assert wheel.name.startswith(f"edgeprop-{edgeprop.__version__}-cp310-abi3-")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(next(n for n in names if n.endswith("/METADATA"))).decode())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"edgeprop", f"edgeprop-{edgeprop.__version__}.dist-info"}
    base = {line.split(">")[0].split(";")[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert base == {"numpy", "cffi"}
    assert {"export", "demo", "test", "bench"} <= set(metadata.get_all("Provides-Extra"))
    carried = [
        "py.typed",
        "_core.pyi",
        "csrc/edgeprop.h",
        "csrc/edgeprop_ops.h",
        "export/cli.py",
        "trainer/__init__.py",
    ]
    assert {f"edgeprop/{name}" for name in carried} <= set(names)
    assert not [name for name in names if name.endswith((".o", ".pyc", ".cdef.h", ".prelude.h"))]


def test_numpy_and_cffi_are_enough(clean_python: Path, tmp_path: Path) -> None:
    installed = {row["name"].lower() for row in json.loads(run(clean_python, "-m", "pip", "list", "--format=json"))}
    assert installed - {"pip", "setuptools", "wheel"} == {"edgeprop", "numpy", "cffi", "pycparser"}
    (tmp_path / "net.ep").write_bytes(image(mlp((6, 8, 2))))
    make = "import numpy as np; x = np.ones((4, 6), 'f4'); np.savez('d.npz', x=x, y=np.array([0, 1, 0, 1]))"
    run(clean_python, "-c", make, cwd=tmp_path)
    command = clean_python.with_name("edgeprop")
    assert edgeprop.__version__ in run(command, "version", cwd=tmp_path)
    assert "dense_f32" in run(command, "inspect", "net.ep", cwd=tmp_path)
    assert "accuracy" in run(command, "adapt", "net.ep", "--data", "d.npz", "--save", "me.head", cwd=tmp_path)
    code = "import edgeprop, edgeprop.trainer, numpy; m = edgeprop.Model('net.ep').restore('me.head')"
    run(clean_python, "-W", "error", "-c", f"{code}; m.predict(numpy.zeros((1, 6)))", cwd=tmp_path)


@pytest.mark.parametrize("name", ["trainer", "export", "csrc"])
def test_no_other_name_is_taken(clean_python: Path, tmp_path: Path, name: str) -> None:
    find = f"import importlib.util as u; print(u.find_spec({name!r}))"
    assert run(clean_python, "-c", find, cwd=tmp_path) == "None\n"


def test_sources_in_the_wheel_compile(clean_python: Path, tmp_path: Path) -> None:
    """The line that `include_dir` documents, from a pip install alone."""
    list_sources = "import edgeprop; print(edgeprop.include_dir(), *edgeprop.c_sources(), sep='\\n')"
    folder, *sources = run(clean_python, "-c", list_sources, cwd=tmp_path).splitlines()
    (tmp_path / "main.c").write_text(USER_C)
    flags = ["-std=c99", "-O1", "-ffp-contract=off", f"-I{folder}"]
    run(tool("cc"), *flags, "main.c", *sources, "-lm", "-o", "main", cwd=tmp_path)
    assert run(tmp_path / "main") == f"{edgeprop.__version__} 1\n"


@pytest.mark.parametrize("minor", [10, 12, 13, 14])
def test_the_same_wheel_on_another_python(wheel: Path, tmp_path: Path, minor: int) -> None:
    name = f"python3.{minor}"
    python = shutil.which(name)
    able = python and subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
    if sys.version_info[1] == minor or not able:
        pytest.skip(f"no other {name} that can make environments")
    (tmp_path / "net.ep").write_bytes(image(mlp()))
    found = environment(python, wheel, tmp_path / "venv")
    code = "import edgeprop; print(edgeprop.Model('net.ep').predict([[0] * 6]).shape)"
    assert run(found, "-c", code, cwd=tmp_path) == "(1,)\n"


# ---- The lowest versions that are declared ---------------------------------------------------------------------------

#: what is run under them: the road from training to the device, its arithmetic, the command
LOWEST = ["tests/export/test_save.py", "tests/trainer/test_net_onnx.py", "tests/runtime/test_model.py"]


def lowest(root: Path, *extras: str) -> list[str]:
    """The least version of every package that pyproject.toml asks for, `name==version`."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    lists = [re.search(rf"^{name} = \[(.*?)\]", text, re.M | re.S) for name in ("dependencies", *extras)]
    wanted = [item for found in lists if found for item in re.findall(r'"([\w-]+)>=([\w.]+)', found[1])]
    return [f"{name}=={version}" + (".0" if version.count(".") < 2 else "") for name, version in wanted]


@pytest.mark.parametrize("minor", [10, 11])
def test_the_lowest_versions_work(root: Path, wheel: Path, tmp_path: Path, minor: int) -> None:
    """Also the base alone is asked for in them; newer Pythons have no wheels of them."""
    name = f"python3.{minor}"
    python = shutil.which(name)
    able = python and subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
    if not python or not able:
        pytest.skip(f"no {name} that can make environments")
    pins = lowest(root, "export")
    assert len(pins) == 6
    if minor > 10:  # the first cffi with a wheel for it
        pins = [pin.replace("cffi==1.15.0", "cffi==1.15.1") for pin in pins]
    run(python, "-m", "venv", tmp_path / "venv")
    found = tmp_path / "venv" / "bin" / "python"
    run(found, "-m", "pip", "install", "--quiet", wheel, *pins, "pytest<9.2", "hypothesis")
    shutil.copytree(root / "tests", tmp_path / "tests", ignore=_NOT_COPIED)
    (tmp_path / "csrc").symlink_to(root / "csrc")
    shutil.copy(root / "pyproject.toml", tmp_path)
    printed = run(found, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *LOWEST, cwd=tmp_path)
    assert re.search(r"\d{2,} passed", printed), printed


# ---- The C library by itself ------------------------------------------------------------------------------------

USER_C = """
#include <stdio.h>
#include "edgeprop.h"
int main(void)
{
    ep_model model;
    printf("%s %d\\n", EP_VERSION_STRING, ep_load(&model, NULL, 0, NULL, 0, &ep_all) == EP_ERR_ARG);
    return 0;
}
"""

USER_CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(user C)
{how}
add_executable(user main.c)
target_link_libraries(user PRIVATE edgeprop::edgeprop)
"""


FETCH = """
include(FetchContent)
FetchContent_Declare(edgeprop {where})
FetchContent_MakeAvailable(edgeprop)
"""


def install(unpacked: Path, folder: Path, *switches: str) -> Path:
    """The prefix of the C library, built and installed."""
    cmake = tool("cmake")
    run(cmake, "-S", unpacked, "-B", folder / "lib", "-DCMAKE_BUILD_TYPE=MinSizeRel", *switches)
    run(cmake, "--build", folder / "lib")
    run(cmake, "--install", folder / "lib", "--prefix", folder / "prefix")
    return folder / "prefix"


def repository(unpacked: Path, folder: Path) -> Path:
    """The sources as a git repository with a tag, as FetchContent clones one."""
    copy = Path(shutil.copytree(unpacked, folder / "repository"))
    git = [tool("git"), "-C", copy, "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    run(*git, "init", "--quiet")
    run(*git, "add", "--all", "--force")
    run(*git, "commit", "--quiet", "-m", "All")
    run(*git, "tag", "v1")
    return copy


@pytest.mark.parametrize("how", ["find_package", "add_subdirectory", "FetchContent folder", "FetchContent git"])
def test_c_library_in_a_cmake_project(unpacked: Path, tmp_path: Path, how: str) -> None:
    cmake, user, prefix = tool("cmake"), tmp_path / "user", tmp_path / "none"
    user.mkdir()
    if how == "find_package":
        prefix, lines = install(unpacked, tmp_path), "find_package(edgeprop 0.1 REQUIRED)"
    elif how == "add_subdirectory":
        lines = f"add_subdirectory({unpacked} ep)"
    elif how == "FetchContent folder":
        lines = FETCH.format(where=f"SOURCE_DIR {unpacked}")
    else:
        lines = FETCH.format(where=f"GIT_REPOSITORY file://{repository(unpacked, tmp_path)} GIT_TAG v1")
    (user / "main.c").write_text(USER_C)
    (user / "CMakeLists.txt").write_text(USER_CMAKE.format(how=lines))
    run(cmake, "-S", user, "-B", user / "out", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", user / "out")
    assert run(user / "out" / "user") == f"{edgeprop.__version__} 1\n"


@pytest.mark.parametrize("libdir", ["lib", "lib/x86_64-linux-gnu"])
def test_c_library_by_pkg_config(unpacked: Path, tmp_path: Path, libdir: str) -> None:
    """Wherever it was moved to after it was built; the switches it was built with come along."""
    pkg_config = tool("pkg-config")
    prefix = install(unpacked, tmp_path, "-DEDGEPROP_NO_ERRMSG=ON", f"-DCMAKE_INSTALL_LIBDIR={libdir}")
    prefix = prefix.rename(tmp_path / "moved")
    asked = [pkg_config, f"--with-path={prefix / libdir / 'pkgconfig'}", "edgeprop"]
    assert run(*asked, "--modversion").strip() == edgeprop.__version__
    flags = run(*asked, "--cflags", "--libs").split()
    assert "-DEP_NO_ERRMSG" in flags
    assert "-DEP_NO_TRAIN" not in flags
    (tmp_path / "main.c").write_text(USER_C)
    run(tool("cc"), "-std=c99", "main.c", *flags, "-o", "main", cwd=tmp_path)
    assert run(tmp_path / "main") == f"{edgeprop.__version__} 1\n"


def test_make_help_lists_every_target(root: Path) -> None:
    text = run(tool("make"), "-C", root, "help")
    for target in ("demo", "test", "bench", "size", "lint", "format", "wheel", "wheels", "clean"):
        assert f"make {target}" in text


def test_make_names_the_cure_where_python_has_no_venv(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "checkout", ignore=_NOT_COPIED)
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexit 0\n')
    fake.chmod(0o755)
    command = [tool("make"), "-C", str(tmp_path / "checkout"), "venv", f"PYTHON={fake}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
