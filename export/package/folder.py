"""A folder that is written whole or not at all, and that never takes the place of what somebody else wrote.

Its list of checksums, in the format of sha256sum, tells what was written, so that work of the user's in a package (a
changed example, a build beside it) is seen before it would be lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

LIST = "edgeprop.sha256"
_SHOWN = 3  # files that an error names


class PackageError(ValueError):
    """A package that cannot be written as asked."""


class Folder:
    """The place of one package: `check`, `stage`, `put`, and in any case `clean`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._old = path.with_name(f".{path.name}.{os.getpid()}.old")

    def check(self) -> None:
        """See that the place is free, or holds a package just as it was written.

        Raises
        ------
        PackageError : it does not
        """
        if not os.path.lexists(self.path):
            return
        if self.path.is_symlink() or not (self.path / LIST).is_file():
            what = "is a symbolic link" if self.path.is_symlink() else "was not written by edgeprop"
            raise PackageError(f"{self.path} {what}, so it is not overwritten: move it away or choose another folder")
        found, written = _sums(self.path), _read(self.path / LIST)
        others = sorted(path for path in found.keys() | written.keys() if found.get(path) != written.get(path))
        if others:
            names = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
            why = "since it was written, so it is not overwritten: keep what you need of it elsewhere and delete it"
            raise PackageError(f"{self.path}: {names} changed {why}")

    def stage(self, files: Mapping[str, bytes]) -> None:
        """Write everything beside the place."""
        self._new.mkdir(parents=True)
        for path, content in files.items():
            target = self._new / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        sums = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        (self._new / LIST).write_bytes("".join(f"{sums[path]}  {path}\n" for path in sorted(sums)).encode())

    def put(self) -> None:
        """Rename what was staged into its place; if that fails, what was there before is there again."""
        if self.path.exists():
            os.rename(self.path, self._old)
        try:
            os.rename(self._new, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.rename(self._old, self.path)
            raise

    def clean(self) -> None:
        """Remove what is beside the place, and the folder around it if nothing is in it."""
        shutil.rmtree(self._new, ignore_errors=True)
        if self.path.exists():  # else what was here before could not be put back: it stays where it is
            shutil.rmtree(self._old, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the list, by its path; of what is no plain file, what it is."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = "a symbolic link"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    found.pop(LIST)
    return found


def _read(path: Path) -> dict[str, str]:
    """SHA-256 by path, as the list has them."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = [line.split("  ", 1) for line in lines if "  " in line]
    return {name: digest for digest, name in pairs}
