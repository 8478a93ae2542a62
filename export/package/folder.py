"""Write a folder whole or not at all, and never over what somebody else wrote.

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

from ..files import beside, check_folder, hold, leftovers, naming
from ..writers.header import origin

LIST = "edgeprop.sha256"
_SHOWN = 3  # files that an error names


class PackageError(ValueError):
    """A package that cannot be written as asked."""


class Folder:
    """The place of one package: `check`, `stage`, `put`, `undo`, and in any case `clean`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new, self._old = beside(path, "part"), beside(path, "old")
        self._lock: int | None = None

    def check(self, source: str = "") -> None:
        """See that the place is free, or holds a package of the model `source` just as it was written.

        Raises
        ------
        PackageError : it does not
        PlaceError : there can be no folder here
        """
        check_folder(self.path.parent)
        self._recover()
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
        other = _origin(self.path)
        if source and other not in (source, ""):
            raise PackageError(
                f"{self.path} holds another model, {other}, whose C names are the same: it is not overwritten; give "
                "another name, or delete it"
            )

    def _recover(self) -> None:
        """What a killed process had moved away to put another in its place is there again."""
        for left in leftovers(self.path.parent, self.path.name):
            if left.suffix == ".old" and not os.path.lexists(self.path):
                os.rename(left, self.path)

    def stage(self, files: Mapping[str, bytes]) -> None:
        """Write everything beside the place."""
        self._new.mkdir(parents=True)
        self._lock = hold(self._new)
        for path, content in files.items():
            target = self._new / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with naming(self.path / path):
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

    def undo(self) -> None:
        """Have what was there before there again."""
        if self._new.exists():  # it was not put
            return
        os.rename(self.path, self._new)
        if self._old.exists():
            os.rename(self._old, self.path)

    def clean(self) -> None:
        """Remove what is beside the place, and the folder around it if nothing is in it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        shutil.rmtree(self._new, ignore_errors=True)
        if self.path.exists():  # else what was here before could not be put back: it stays where it is
            shutil.rmtree(self._old, ignore_errors=True)
            for left in leftovers(self.path.parent, self.path.name):
                shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


def _origin(folder: Path) -> str:
    """The file that the model in a package came from; "" if it is not told."""
    for path in sorted(folder.glob("*/*.h")):
        found = origin(path.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1]
    return ""


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
