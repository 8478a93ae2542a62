"""Read and replace files safely: regular ones only, no more of them than is meant, and never by half."""

from __future__ import annotations

import errno
import importlib
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import Error

#: locks of files; None on Windows
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
#: what a path may name that is no file, by the type bits of its mode
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
#: saves to one file at the same time, at most
_WRITERS = 64
#: bytes of a name that leave room for what stands around it, also where names are short
_NAME = 100

PathLike = str | os.PathLike[str]


def what_is(mode: int) -> str:
    """What a path of this mode names, in words for an error, where it is no regular file."""
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


def _regular(path: PathLike, mode: int) -> None:
    """Refuses what is no regular file; opening a device or a pipe may wait for ever, or do something."""
    if not stat.S_ISREG(mode):
        raise Error("EP_ERR_ARG", f"{os.fspath(path)} is {what_is(mode)}; give the path of a regular file")


def name_of(path: PathLike) -> str:
    """A path as a text. Raises Error (EP_ERR_ARG) for what names no file: a number would be an open one."""
    try:
        name = os.fsdecode(path)
        if b"\0" not in os.fsencode(name):
            return name
    except (TypeError, UnicodeError):
        pass
    raise Error("EP_ERR_ARG", f"{path!r:.60} is no path; give the name of a file")


@contextmanager
def reading(path: PathLike) -> Iterator[BinaryIO]:
    """A regular file open for reading.

    Raises
    ------
    Error : EP_ERR_ARG: `path` is a folder, a device, a pipe or a socket
    OSError : the file cannot be read
    """
    path = name_of(path)
    _regular(path, os.stat(path).st_mode)
    with open(path, "rb", opener=_without_waiting) as file:
        _regular(path, os.fstat(file.fileno()).st_mode)  # what was looked at may have been replaced
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read(path: PathLike, limit: int) -> bytes:
    """The first bytes of a regular file, `limit` at most. Raises as `reading`."""
    with reading(path) as file:
        return file.read(limit)


class Replacement:
    """The new content of a file on its way: written beside it, then renamed onto it.

    All that can fail is tried when this begins: the folder can be read and written, the path is a regular file or none,
    and mode and owner of the file can be kept. A symbolic link stays one; the file it points to is replaced.

    Parameters
    ----------
    path : of the file, which need not be there yet
    size : bytes that are going to be written; room for them is made sure of

    Raises
    ------
    Error : EP_ERR_ARG: `path` is no regular file
    OSError : the file cannot be written; nothing has changed then
    """

    def __init__(self, path: PathLike, size: int) -> None:
        path = name_of(path)
        self.path = Path(os.path.realpath(path))
        if path.endswith(tuple(filter(None, (os.sep, os.altsep)))):
            raise Error("EP_ERR_ARG", f"{path} is the name of a folder; give the path of a file")
        self.old = _stat(self.path)
        if self.old is not None:
            _regular(path, self.old.st_mode)
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
        self._folder = os.open(self.path.parent, os.O_RDONLY) if os.name == "posix" else None
        self._file: int | None = None
        self.beside = self.path
        try:
            _remove_left_over(self.path)
            # Nobody sees what is written before it has the mode of the file that it replaces.
            self.beside, self._file = _create(self.path, 0o666 if self.old is None else 0o600)
            if self.old is not None and os.name == "posix":
                self._keep(self.old)
            self._write(bytes(size))  # a full disk is noticed now
        except BaseException as error:
            self.close()
            raise self._named(error) from error.__cause__

    def _keep(self, old: os.stat_result) -> None:
        """Gives the new file owner and mode of the old one; in this order, as the first may take some of the second."""
        assert self._file is not None
        new = os.fstat(self._file)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.fchown(self._file, old.st_uid, old.st_gid)
            except OSError as error:
                why = "its owner and group cannot be kept; save under another name, or remove it first"
                raise PermissionError(errno.EPERM, why, str(self.path)) from error
        os.fchmod(self._file, stat.S_IMODE(old.st_mode))

    def _named(self, error: BaseException) -> BaseException:
        """The error, of the file that the caller knows."""
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(self.path)
        return error

    def _write(self, data: bytes) -> None:
        """Makes `data` the content of the file beside."""
        assert self._file is not None
        os.lseek(self._file, 0, os.SEEK_SET)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.ftruncate(self._file, len(data))

    def put(self, data: bytes) -> None:
        """Makes `data` the content of the file: all of it is on the disk before the name means it.

        Raises
        ------
        OSError : the file is as it was
        """
        assert self._file is not None
        try:
            self._write(data)
            os.fsync(self._file)
            if os.name != "posix":  # there, a file that is open cannot be renamed
                os.close(self._file)
                self._file = None
            os.replace(self.beside, self.path)
        except OSError as error:
            raise self._named(error) from None
        self.beside = self.path
        if self._folder is not None:
            with suppress(OSError):  # it has been replaced, whether the folder can be flushed or not
                os.fsync(self._folder)

    def close(self) -> None:
        """Leaves nothing behind."""
        if self.beside != self.path:
            self.beside.unlink(missing_ok=True)
        for descriptor in (self._file, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self.beside, self._file, self._folder = self.path, None, None

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


# ---- Files beside a file. Who writes to one holds a lock on it, which ends with the process: what is there and not locked
# ---- is left over from one that was killed.


def _names(path: Path) -> list[Path]:
    name = path.name if len(os.fsencode(path.name)) <= _NAME else f"{zlib.crc32(os.fsencode(path.name)):08x}"
    return [path.with_name(f".{name}.{i}.part") for i in range(_WRITERS)]


def _remove_left_over(path: Path) -> None:
    present = set(os.listdir(path.parent))
    for beside in _names(path):
        if beside.name not in present:
            continue
        try:
            file = os.open(beside, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            continue  # another user's, or no file: it stays, and its name is not used
        try:
            if _lock(file) and _is_at(file, beside):
                beside.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            os.close(file)


def _create(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside `path`, open and locked."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    for beside in _names(path):
        try:
            file = os.open(beside, flags, mode)
        except FileExistsError:
            continue
        if _lock(file) and _is_at(file, beside):
            return beside, file
        os.close(file)  # another process took it for one left over, in the moment before it was locked
    raise OSError(errno.EBUSY, f"{_WRITERS} others are writing to it", str(path))


def _lock(file: int) -> bool:
    """False if somebody else has the lock."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_at(file: int, path: Path) -> bool:
    """True if it is a regular file of this name and no other."""
    found, meant = os.fstat(file), _stat(path)
    if meant is None or not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        return False
    return (found.st_dev, found.st_ino) == (meant.st_dev, meant.st_ino)
