"""The files of an export: looked at before the work, replaced together or not at all, and nothing of others' touched."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export import api, cli, files
from edgeprop.export.package.folder import Folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes as POSIX has them")


def net(seed: int = 0) -> t.Sequential:
    made = t.Sequential(t.Dense(3, name="head"))
    made.build((4,), seed=seed)
    return made


class Unread:
    """A model that must not be looked at: what is wrong with the place is to be said before."""

    def to_onnx(self) -> Any:
        raise AssertionError("the work began")


def tree(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


# ---- What is in the way ----------------------------------------------------------------------------------------------


def a_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # paths of sockets are short
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


def a_device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")


def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


IN_THE_WAY: dict[str, Callable[[Path], Any]] = {
    "a device": a_device,
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": a_socket,
    "is a pipe": a_link_to_a_pipe,
    "Too many levels": lambda path: path.symlink_to(path.name),
}


def as_it_lies(path: Path) -> tuple[int, ...]:
    """All that the system says of it, but when it was last looked at."""
    found = os.lstat(path)
    return (*found[:7], found.st_mtime_ns, found.st_ctime_ns)


@pytest.mark.parametrize("suffix", sorted(api.SUFFIXES.values()))
@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_no_file_stays(what: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    IN_THE_WAY[what](path)
    before = as_it_lies(path)
    with pytest.raises(export.ExportError, match=what):
        export.save(tmp_path / "net", Unread())
    assert as_it_lies(path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        {path.name, *(("pipe",) if what == "is a pipe" else ())}
    )


@pytest.mark.parametrize(
    ("stem", "message"),
    [
        ("file/net", "file is a file, so that .* cannot be a folder"),
        ("file/new/net", "file is a file, so that .* cannot be a folder"),
        ("x" * 245, "bytes long, and a name has at most 255"),
        ("ä" * 123, "bytes long, and a name has at most 255"),
        ("new/" + "x" * 256 + "/net", "256 bytes long, and a name has at most 255"),
        ("/proc/self/net", r"nothing can be written into /proc/\d+ \("),
        ("new/", "names no file"),
        ("new/..", "names no file"),
    ],
)
def test_a_place_that_cannot_be_is_named_before_the_work(stem: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(export.ExportError, match=message):
        export.save(f"{tmp_path}/{stem}" if not stem.startswith("/") else stem, Unread(), name="net")
    assert tree(tmp_path) == {"file": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_longest_name_that_fits_is_taken(tmp_path: Path) -> None:
    stem = "x" * (255 - len(".report.html"))
    result = export.save(tmp_path / stem, net(), package="cmake")
    assert all(path.is_file() for path in result.paths.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(path.name for path in result.paths.values()), "cmake"]
    )


@pytest.mark.parametrize("folder", ["file", "file/new"])
def test_the_command_names_what_is_in_the_way(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    command = [
        "export",
        str(tmp_path / "no.onnx"),
        "--calibration",
        str(tmp_path / "no.npz"),
        "-o",
        str(tmp_path / folder),
    ]
    assert cli.main(command) == 2
    assert "for a file is in the way: choose another with -o" in capsys.readouterr().err


def test_a_package_is_looked_at_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "cmake").write_text("mine")
    with pytest.raises(export.ExportError, match="cmake is a file"):
        export.save(tmp_path / "net", Unread(), package="cmake")
    assert tree(tmp_path) == {"cmake": b"mine"}


@contextlib.contextmanager
def somebody_else() -> Iterator[Path]:
    """A folder that everybody reaches, and no rights but those of `nobody`."""
    with tempfile.TemporaryDirectory(prefix="edgeprop-") as folder:
        os.chmod(folder, 0o777)
        mine = os.geteuid()
        if mine == 0:
            os.setegid(65534)
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(mine)
            os.setegid(os.getgid())


def test_what_may_not_be_written_is_named() -> None:
    with somebody_else() as folder:
        locked = folder / "locked"
        locked.mkdir()
        mine = locked / "net.h"
        mine.write_text("mine")
        mine.chmod(0o444)
        with pytest.raises(files.PlaceError, match=r"net\.h may not be written"):
            files.File(mine).check()
        locked.chmod(0o555)
        with pytest.raises(files.PlaceError, match=r"nothing can be written into .*locked \(Permission denied\)"):
            files.File(locked / "new" / "net.ep").check()
        locked.chmod(0o300)  # it can be written into, and not listed
        files.File(locked / "net.ep").check()
        files.check_folder(locked / "new")
        assert files.leftovers(locked) == []
        locked.chmod(0o700)


# ---- What is kept ----------------------------------------------------------------------------------------------------


def test_mode_and_owner_stay(tmp_path: Path) -> None:
    first = export.save(tmp_path / "net", net())
    modes = dict(zip(first.paths.values(), (0o600, 0o664, 0o640, 0o604, 0o666), strict=True))
    for path, mode in modes.items():
        if os.geteuid() == 0:
            os.chown(path, 1234, 4321)
        path.chmod(mode)
    owners = {path: (path.stat().st_uid, path.stat().st_gid) for path in modes}
    before = tree(tmp_path)
    export.save(tmp_path / "net", net(1))
    assert tree(tmp_path) != before
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in modes} == modes
    assert {path: (path.stat().st_uid, path.stat().st_gid) for path in modes} == owners


def test_a_new_file_has_the_mode_that_is_usual(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        result = export.save(tmp_path / "net", net())
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in result.paths.values()} == {0o640}


@pytest.mark.parametrize("there", [True, False])
def test_links_go_on_pointing(there: bool, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far" / "real.ep").write_bytes(b"old")
    (tmp_path / "net.ep").symlink_to("far/real.ep")
    export.save(tmp_path / "net", net())
    assert (tmp_path / "net.ep").is_symlink()
    assert (tmp_path / "far" / "real.ep").read_bytes()[:4] == b"EPM1"
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["real.ep"]


# ---- Together or not at all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", range(7))
@pytest.mark.parametrize("first", [True, False])
def test_all_or_none(failing: int, first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever rename fails, of the five files and two packages."""
    if not first:
        export.save(tmp_path / "new" / "net", net(), package=["cmake", "zephyr"])
    before = tree(tmp_path)
    put: list[Any] = []

    def breaking(real: Callable[[Any], None]) -> Callable[[Any], None]:
        def instead(self: Any) -> None:
            put.append(self)
            if len(put) == failing + 1:
                raise OSError("no space left")
            real(self)

        return instead

    for part in (files.File, Folder):
        monkeypatch.setattr(part, "put", breaking(part.put))
    with pytest.raises(OSError, match="no space left"):
        export.save(tmp_path / "new" / "net", net(1), package=["cmake", "zephyr"])
    assert tree(tmp_path) == before
    assert not first or list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from edgeprop import export, trainer as t
from edgeprop.export import files
from edgeprop.export.package.folder import Folder
at, count = int(sys.argv[2]), [0]
def hook(real):
    def instead(*given):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)
    return instead
for name in ("replace", "rename", "link", "fsync"):
    setattr(os, name, hook(getattr(os, name)))
net = t.Sequential(t.Dense(3, name="head")); net.build((4,), seed=1)
export.save(sys.argv[1], net, package="cmake")
print(count[0])
"""


@pytest.mark.parametrize("at", [1, 4, 8, 13, 16, 17, 18])
def test_a_killed_save_leaves_nothing_that_the_next_does_not_clean(at: int, tmp_path: Path) -> None:
    stem = tmp_path / "net"
    export.save(stem, net(), package="cmake")
    names = set(tree(tmp_path))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(stem), str(at)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    for path in tmp_path.glob("net*"):  # each is one or the other, never a part
        assert path.stat().st_size > 0
    result = export.save(stem, net(), package="cmake")
    assert set(tree(tmp_path)) == names
    assert result.packages["cmake"].is_dir()
    assert not list(tmp_path.rglob(".edgeprop*"))


def test_only_what_is_ones_own_is_cleaned(tmp_path: Path) -> None:
    others = [".net.ep.123.part", ".edgeprop-mine", ".edgeprop-0123abcd.99999999.part", "net.part"]
    for name in others:
        (tmp_path / name).write_text("mine")
    held = files.beside(tmp_path / "x", "part")
    with open(held, "w") as file:
        files._hold(file.fileno())
        os.utime(held, (time.time() - 1000,) * 2)
        export.save(tmp_path / "net", net())
        assert held.exists()
    assert {name for name in others if (tmp_path / name).exists()} == set(others)
    os.utime(held, (time.time() - 1000,) * 2)
    export.save(tmp_path / "net", net())
    assert not held.exists()


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says of it names none."""

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(api, "_write", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        export.save(tmp_path / "net", net())
    assert str(error.value.filename).startswith(f"{tmp_path}/net.")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        Folder(tmp_path / "library").stage({"src/net.h": b"text"})
    assert error.value.filename == str(tmp_path / "library" / "src" / "net.h")
