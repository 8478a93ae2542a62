"""Files that the binding reads and replaces: what is no regular file, who owns it, what a killed process leaves."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgeprop
from edgeprop import _files
from tests.support.image import image, mlp

RANDOM = np.random.default_rng(1)
X, Y = RANDOM.normal(size=(8, 6)).astype("f4"), np.arange(8) % 4
ROOT = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@pytest.fixture
def model() -> edgeprop.Model:
    return edgeprop.Model(image(mlp((6, 8, 4), trainable=2)))


def no_files(folder: Path) -> Iterator[Path]:
    """Everything a path may name but a regular file."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    os.symlink("pipe", folder / "link")
    yield from (folder / name for name in ("folder", "pipe", "socket", "link"))
    yield Path("/dev/zero")


@POSIX
def test_only_regular_files_are_read_and_replaced(model: edgeprop.Model, tmp_path: Path) -> None:
    """A pipe would wait for ever, /dev/zero never end, and a rename would replace a device by a file."""
    for path in no_files(tmp_path):
        before = path.lstat()
        for call in (edgeprop.Model, model.restore, model.save, model.check_save):
            with pytest.raises(edgeprop.Error, match=r"is a (folder|pipe|socket|device); give the path of a regular"):
                call(path)
        assert path.lstat().st_ino == before.st_ino
        assert path.lstat().st_mode == before.st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "pipe", "socket", "link"}


@ROOT
def test_a_device_stays_one(model: edgeprop.Model, tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(edgeprop.Error, match="device"):
        model.save(tmp_path / "null")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


def test_what_is_no_path_is_refused() -> None:
    for source in (3, None, 1.5, ["net.ep"]):
        with pytest.raises(edgeprop.Error, match="path of an image, or its bytes") as error:
            edgeprop.Model(source)  # type: ignore[arg-type]
        assert error.value.code == "EP_ERR_ARG"


def test_no_more_is_read_than_the_header_says(tmp_path: Path) -> None:
    """A file of 8 TiB that begins with an image, and one whose header promises more than there is."""
    data = image(mlp())
    path = tmp_path / "net.ep"
    path.write_bytes(data)
    os.truncate(path, 1 << 43)
    assert edgeprop.Model(path).fingerprint == edgeprop.Model(data).fingerprint
    path.write_bytes(b"GIF89a")
    os.truncate(path, 1 << 43)
    with pytest.raises(edgeprop.Error) as error:
        edgeprop.Model(path)
    assert error.value.code == "EP_ERR_IMAGE"
    path.write_bytes(data[:-1])
    with pytest.raises(edgeprop.Error, match=rf"{len(data) - 1:,} of the {len(data):,} bytes") as error:
        edgeprop.Model(path)
    assert error.value.code == "EP_ERR_IMAGE"


@POSIX
def test_mode_is_kept_and_a_new_file_gets_the_usual_one(model: edgeprop.Model, tmp_path: Path) -> None:
    path, plain = tmp_path / "me.head", tmp_path / "plain"
    mask = os.umask(0o027)
    try:
        model.save(path)
        plain.write_bytes(b"")
        assert path.stat().st_mode == plain.stat().st_mode
        for mode in (0o600, 0o664, 0o755):
            path.chmod(mode)
            model.save(path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(mask)


@ROOT
def test_owner_is_kept(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.save(path)
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    model.save(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o640)


@POSIX
def test_an_owner_that_cannot_be_kept_is_told(
    model: edgeprop.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "me.head"
    model.save(path)
    before = path.read_bytes()
    old = path.stat()

    def stranger(target: Path) -> os.stat_result:
        return os.stat_result((*old[:4], old.st_uid + 1, *old[5:]))

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(_files, "_stat", lambda p: stranger(p) if p.name == "me.head" else os.stat(p))
    monkeypatch.setattr(os, "fchown", refused)
    with pytest.raises(PermissionError, match="owner and group cannot be kept"):
        model.partial_fit(X, Y).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@POSIX
def test_a_link_goes_on_pointing(model: edgeprop.Model, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink("real/me.head", tmp_path / "link")
    for _ in range(2):  # to what is not there yet, then to what is
        model.save(tmp_path / "link")
        assert os.readlink(tmp_path / "link") == "real/me.head"
        assert [path.name for path in (tmp_path / "real").iterdir()] == ["me.head"]
    assert (tmp_path / "real" / "me.head").read_bytes()[8] == 2


KILLED = """
import os, sys, edgeprop
def die(*_): os.kill(os.getpid(), 9)
setattr(os, sys.argv[3], die)
edgeprop.Model(sys.argv[1]).save(sys.argv[2])
"""


@POSIX
@pytest.mark.parametrize("name", ["me.head", "n" * 255, "ü" * 127])
def test_what_a_killed_save_leaves_goes_with_the_next(model: edgeprop.Model, tmp_path: Path, name: str) -> None:
    net, folder = tmp_path / "net.ep", tmp_path / "heads"
    net.write_bytes(image(mlp((6, 8, 4), trainable=2)))
    folder.mkdir()
    path = folder / name
    model.save(path)
    before = path.read_bytes()
    for call in ("fsync", "replace"):
        done = subprocess.run([sys.executable, "-c", KILLED, str(net), str(path), call], check=False)
        assert done.returncode == -signal.SIGKILL
        assert path.read_bytes() == before
        assert len(list(folder.iterdir())) == 2
    (folder / ".other.0.part").write_bytes(b"somebody else's")
    model.save(path)
    assert sorted(folder.iterdir()) == sorted([path, folder / ".other.0.part"])
    model.restore(path)


@POSIX
def test_names_that_are_too_long_fail_before_anything_is_done(model: edgeprop.Model, tmp_path: Path) -> None:
    for call in (model.save, model.check_save):
        with pytest.raises(OSError, match="too long"):
            call(tmp_path / ("n" * 256))
        for path in (tmp_path / "none" / "me.head", f"{tmp_path}/me.head/", ""):
            with pytest.raises((OSError, edgeprop.Error)):
                call(path)
    assert list(tmp_path.iterdir()) == []


@POSIX
@pytest.mark.parametrize("call", ["open", "listdir", "write"])
def test_a_folder_that_cannot_be_used_is_told_first(
    model: edgeprop.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """As one without permission to read or write, a disk mounted for reading, one that is full."""
    path = tmp_path / "me.head"
    model.save(path)
    before = path.read_bytes()
    code = errno.ENOSPC if call == "write" else errno.EACCES

    def fails(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    real = os.open
    if call == "open":  # of new files only
        monkeypatch.setattr(os, "open", lambda p, flags, *a: fails() if flags & os.O_CREAT else real(p, flags, *a))
    else:
        monkeypatch.setattr(os, call, fails)
    for method in (model.check_save, model.save):
        with pytest.raises(OSError, match=os.strerror(code)) as error:
            method(path)
        if call != "listdir":
            assert error.value.filename == str(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_permissions(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.save(path)
    path.chmod(0o400)
    with pytest.raises(PermissionError):
        model.save(path)
    for mode in (0o300, 0o500):
        tmp_path.chmod(mode)
        try:
            with pytest.raises(PermissionError):
                model.save(tmp_path / "other.head")
        finally:
            tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == [path]


def test_only_heads_are_replaced(model: edgeprop.Model, tmp_path: Path) -> None:
    """`--save samples.npz` for `--data samples.npz` would cost the samples."""
    path = tmp_path / "samples.npz"
    np.savez(path, x=X, y=Y)
    before = path.read_bytes()
    for call in (model.save, model.check_save):
        with pytest.raises(edgeprop.Error, match="no saved head"):
            call(path)
    assert path.read_bytes() == before
    for erased in (b"", bytes(500), b"\xff" * 500, b"EPH1 cut off"):
        path.write_bytes(erased)
        model.save(path)
        model.restore(path)


def test_check_save_changes_nothing(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"
    model.check_save(path)
    assert list(tmp_path.iterdir()) == []
    model.save(path)
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
    model.check_save(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_saves_at_once_leave_one_whole_head(model: edgeprop.Model, tmp_path: Path) -> None:
    path = tmp_path / "me.head"

    def save() -> None:
        for _ in range(20):
            model.save(path)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == [path]
    model.restore(path)
