"""Python for other processors, from Debian's packages: unpacked below build/, nothing is installed on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# libpython3-dev has the headers to compare ours with; musl is the other C library's loader.
PACKAGES = ("python3", "python3-numpy", "python3-cffi-backend", "python3-pip", "libpython3-dev", "musl")

APT_CONF = """
Dir::State "{work}/state";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
Dir::Etc::sourcelist "{work}/sources.list";
Dir::Etc::sourceparts "{work}/none";
Dir::Etc::preferencesparts "{work}/none";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
"""


class Unavailable(Exception):
    """There is no such Python to be had here; the text says why."""


def sysroot(work: Path, architecture: str) -> Path:
    """The root of a minimal Debian of this machine's release for `architecture`, with `PACKAGES` and what they need.

    Raises
    ------
    Unavailable : this is no Debian, or its archive cannot be reached
    """
    root = work / "root"
    if not (work / "made").exists():
        shutil.rmtree(work, ignore_errors=True)
        _download(work, architecture)
        root.mkdir()
        for package in sorted((work / "cache" / "archives").glob("*.deb")):
            _run("dpkg-deb", "--extract", package, root)
        shutil.rmtree(work / "cache")
        _choose_alternatives(root)
        (work / "made").touch()
    return root


def python(root: Path) -> Path:
    """Its interpreter, by the name that is no link."""
    return next(path for path in (root / "usr" / "bin").glob("python3.*") if path.name.count("-") == 0)


def _download(work: Path, architecture: str) -> None:
    """Let apt, with a state of its own in which nothing is installed, find and fetch what `PACKAGES` need."""
    for folder in ("state/lists/partial", "cache/archives/partial", "none"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(_source())
    config = work / "apt.conf"
    config.write_text(APT_CONF.format(work=work, architecture=architecture))
    env = {**os.environ, "APT_CONFIG": str(config), "DEBIAN_FRONTEND": "noninteractive"}
    _run("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update", env=env)
    _run("apt-get", "-qq", "--yes", "--download-only", "install", *PACKAGES, env=env)


def _source() -> str:
    """The archive this machine itself is installed from, as a line of sources.list."""
    try:
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    except OSError:
        release = {}
    if release.get("ID") != "debian" or not shutil.which("apt-get"):
        raise Unavailable("Python of other processors comes from Debian's archive, and this is no Debian")
    wanted = [release["VERSION_CODENAME"], "main"]
    for line in _run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)").splitlines():
        site, *rest = line.split()
        if rest == wanted:
            return f"deb {site} {' '.join(wanted)}\n"
    raise Unavailable(f"apt has no source of {' '.join(wanted)}")


def _choose_alternatives(root: Path) -> None:
    """Link BLAS and LAPACK into the loader's path: what update-alternatives does when packages are installed."""
    for library in root.glob("usr/lib/*/*/lib*.so.3"):
        link = library.parents[1] / library.name
        if library.parent.name in ("blas", "lapack") and not link.is_symlink():
            link.symlink_to(library.relative_to(link.parent))


def _run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, command[:2]))}: {done.stderr.strip()[-500:]}")
    return done.stdout
