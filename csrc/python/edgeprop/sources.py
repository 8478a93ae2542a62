"""Locate the runtime's C sources in an installed package, to compile a generated header."""

from __future__ import annotations

from pathlib import Path

from . import _core

__all__ = ["c_headers", "c_sources", "include_dir", "license_file"]

_FOLDERS = ("", "ops/", "kernels/**/")


def include_dir() -> Path:
    """The folder of `edgeprop.h`, to be given to a compiler as `-I`.

    >>> subprocess.run(["cc", "-std=c99", "-O2", "-ffp-contract=off", f"-I{edgeprop.include_dir()}", "main.c",
    ...                 *map(str, edgeprop.c_sources()), "-lm"], check=True)

    Raises
    ------
    FileNotFoundError : the package was installed without its C sources
    """
    # Beside the extension in an installed package, two folders up in a checkout.
    for folder in (Path(_core.__file__).parent / "csrc", Path(__file__).parents[2]):
        if (folder / "edgeprop.h").is_file():
            return folder
    raise FileNotFoundError("the C sources of edgeprop are not installed; reinstall the package")


def c_sources() -> list[Path]:
    """Every C file of the runtime, in a fixed order; a linker drops what a model does not use.

    Raises
    ------
    FileNotFoundError : the package was installed without its C sources
    """
    return _files("*.c")


def c_headers() -> list[Path]:
    """Every header of the runtime, in a fixed order: edgeprop.h and edgeprop_ops.h, which users include, and those
    that only the sources need.

    Raises
    ------
    FileNotFoundError : the package was installed without its C sources
    """
    return _files("*.h")


def license_file() -> Path:
    """The licence of the sources.

    Raises
    ------
    FileNotFoundError : the package was installed without its C sources
    """
    folder = include_dir()
    inside = folder / "LICENSE"
    return inside if inside.is_file() else folder.parent / "LICENSE"


def _files(pattern: str) -> list[Path]:
    folder = include_dir()
    return [path for part in _FOLDERS for path in sorted(folder.glob(part + pattern))]
