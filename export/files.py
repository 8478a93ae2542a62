"""Replace files atomically, all of them or none: what lies in their places is looked at before any work, everything is
written beside and renamed, and what cannot be finished is taken back.

A part that is replaced has `check`, `put`, `undo` and `clean`; `File` is one, `package.folder.Folder` the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from .._files import fcntl, what_is

#: what a killed process may have left: checksum of the name, process, count
_BESIDE = re.compile(r"\.edgeprop-([0-9a-f]{8})\.(\d+)\.\d+\.(part|old)")
_SETTLED = 60  # seconds after which a number of a process is no sign that it is the same one
_counts = itertools.count()


class PlaceError(ValueError):
    """A place where nothing can be written, or nothing should."""


class Part(Protocol):
    """What `replace` takes."""

    def put(self) -> None:
        """Rename what was staged into its place."""

    def undo(self) -> None:
        """Have what was there before there again."""


def replace(parts: Iterable[Part]) -> None:
    """Put all parts into their places; if one fails, those before it are taken back."""
    done: list[Part] = []
    try:
        for part in parts:
            done.append(part)
            part.put()
    except BaseException:
        for part in reversed(done):
            with contextlib.suppress(OSError):
                part.undo()
        raise


class File:
    """The place of one file. A symbolic link goes on pointing: what it points at is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._target = Path(os.path.realpath(path))
        self.folder = self._target.parent
        self._new, self._old = beside(self._target, "part"), beside(self._target, "old")
        self._lock: int | None = None
        self._before = False

    def check(self) -> None:
        """See that a file can be written here.

        Raises
        ------
        PlaceError : it cannot, or something else than a file is there
        """
        check_folder(self.folder)
        _check_length(self._target)
        try:
            there = os.stat(self._target)
        except FileNotFoundError:
            return
        except OSError as error:
            raise PlaceError(f"{self.path}: {error.strerror}") from error
        if not stat.S_ISREG(there.st_mode):
            what = what_is(there.st_mode)
            raise PlaceError(f"{self.path} is {what}, which is not overwritten: choose another name")
        if not _allowed(self._target, os.W_OK):
            raise PlaceError(f"{self.path} may not be written: change its mode or choose another name")

    def stage(self, content: bytes, write: Callable[[Path, bytes], None]) -> None:
        """Write the content beside the place, with the mode and owner of what is there."""
        self._lock = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        _hold(self._lock)
        with naming(self._target):
            write(self._new, content)
        with contextlib.suppress(FileNotFoundError):
            _like(self._new, os.stat(self._target))

    def put(self) -> None:
        """Rename the file into its place."""
        try:
            os.link(self._target, self._old)
        except OSError:  # nothing is there, or the file system has no links
            if self._target.exists():
                shutil.copy2(self._target, self._old)
        self._before = self._old.exists()
        os.replace(self._new, self._target)

    def undo(self) -> None:
        """Have what was there before there again, nothing if nothing was."""
        if self._new.exists():  # it was not put yet
            return
        if self._before:
            os.replace(self._old, self._target)
        else:
            self._target.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what is beside the place, and what processes left there that are no more."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._new.unlink(missing_ok=True)
        self._old.unlink(missing_ok=True)
        for left in leftovers(self.folder):
            if not left.is_dir():  # those of folders are `Folder`'s
                with contextlib.suppress(OSError):
                    left.unlink()


# ---- Places ----------------------------------------------------------------------------------------------------------


def check_folder(folder: Path) -> None:
    """See that the folder is there, or can be made, and that something can be written into it.

    Raises
    ------
    PlaceError : it cannot
    """
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise PlaceError(f"{there} is a file, so that {folder} cannot be a folder: choose another folder")
    try:
        probe = beside(there / folder.name, "part")  # says more than a mode: quotas, disks that are read only
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        probe.unlink()
    except OSError as error:
        why = error.strerror
        raise PlaceError(
            f"nothing can be written into {there} ({why}): change that or choose another folder"
        ) from error
    for path in (folder, *folder.parents):
        if path == there:
            break
        _check_length(path)


@contextlib.contextmanager
def folders_for(folders: Iterable[Path]) -> Iterator[None]:
    """Folders that are made where they are not there yet, and go again if the block fails."""
    made: list[Path] = []
    try:
        for folder in folders:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                made.append(path)
        yield
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _check_length(path: Path) -> None:
    """See that a file system takes the last part of the path."""
    there = next(parent for parent in path.parents if parent.exists())
    try:
        longest = os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return
    size = len(os.fsencode(path.name))
    if size > longest:
        raise PlaceError(
            f"{path.name[:40]}... is {size} bytes long, and a name has at most {longest}: choose a shorter one"
        )


def _allowed(path: Path, mode: int) -> bool:
    """True if this process may do so."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _like(path: Path, other: os.stat_result) -> None:
    """Give a file the owner and mode of another, as far as the system lets this process."""
    if hasattr(os, "chown"):
        mine = os.stat(path)
        for user, group in ((other.st_uid, -1), (-1, other.st_gid)):
            if (user, group) not in ((mine.st_uid, -1), (-1, mine.st_gid)):
                with contextlib.suppress(PermissionError):
                    os.chown(path, user, group)
    os.chmod(path, stat.S_IMODE(other.st_mode))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Tell the file that could not be written: a full disk does not say which."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk too."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ---- What is written beside ------------------------------------------------------------------------------------------


def beside(path: Path, ending: str) -> Path:
    """A short name in the same folder, of this process alone, that `leftovers` knows."""
    return path.with_name(f".edgeprop-{_digest(path.name)}.{os.getpid()}.{next(_counts)}.{ending}")


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """What processes that are no more left in the folder, of one name or all."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError:  # not there, or not to be read
        return []
    found = []
    for entry in entries:
        parts = _BESIDE.fullmatch(entry)
        mine = parts and (name is None or parts[1] == _digest(name))
        if parts and mine and _left(folder / entry, int(parts[2])):
            found.append(folder / entry)
    return found


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def _left(path: Path, process: int) -> bool:
    """True if no process writes there: none holds the lock, and none of that number is there, or has been for long."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        settled = path.suffix == ".part" and time.time() - os.fstat(descriptor).st_mtime > _SETTLED
        return settled or not _runs(process)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def hold(folder: Path) -> int | None:
    """The lock of a folder that is being written; None where folders have none. To be closed by `os.close`."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    _hold(descriptor)
    return descriptor


def _hold(descriptor: int) -> None:
    """Lock an open file until it is closed, or its process ends."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
