"""The corpus of the fuzzers, under each of the processor's kernels, and what it must hold to be of use; a minute's fuzzing
more is `make fuzz`."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgeprop import runtime
from tests.fuzz import __main__ as command
from tests.fuzz import build, seeds
from tests.support import compiler

IMAGES = sorted((build.CORPUS / "image").iterdir())
RECORDS = sorted((build.CORPUS / "record").iterdir())


def replay(target: str, files: list[Path], folder: Path) -> tuple[int, str]:
    """Exit code of the target's program for these files, and what it counted."""
    compiler.require(compiler.default(), *compiler.SANITIZE)
    done = subprocess.run([build.replayer(target, folder / target), *files], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_images_run_clean(tmp_path: Path) -> None:
    """All of them load, and most steps are taken: a corpus that is refused would show nothing."""
    code, told = replay("image", IMAGES, tmp_path)
    assert code == 0, told
    found = re.search(r"images: (\d+) tried, (\d+) loaded; \d+ arenas ran; steps: (\d+) taken, (\d+) refused", told)
    assert found, told
    tried, loaded, taken, refused = map(int, found.groups())
    assert tried == loaded >= len(IMAGES)
    assert min(taken, refused) > tried  # both sides of what a step may come to


def test_records_run_clean(tmp_path: Path) -> None:
    code, told = replay("record", RECORDS, tmp_path)
    assert code == 0, told
    assert int(re.findall(r"(\d+) restored", told)[0]) > 0


def test_a_finding_is_told(tmp_path: Path) -> None:
    """An image that is no image is no finding, a file that is not there is."""
    broken = tmp_path / "broken"
    broken.write_bytes(bytes(200))
    assert replay("image", [broken], tmp_path)[0] == 0
    assert replay("image", [tmp_path / "absent"], tmp_path)[0] == 2


def test_corpus_is_small_and_of_this_format() -> None:
    assert sum(path.stat().st_size for path in (*IMAGES, *RECORDS)) <= 150_000
    for path in IMAGES:
        data = path.read_bytes()
        assert struct.unpack_from("<2H", data, 4) == (1, runtime.ABI), "make fuzz-seeds makes the corpus anew"
        assert seeds.stripped(data) == data


def test_corpus_has_every_op() -> None:
    """Forward, and backward where there is one."""
    have = {op for path in IMAGES for op in seeds.ops_of(path.read_bytes())}
    assert sorted(set(runtime.OPS) - {name for name, _ in have}) == []
    backward = {name for name, op in runtime.OPS.items() if op.has_grad}
    assert sorted(backward - {name for name, learns in have if learns}) == sorted(NO_BACKWARD)


#: ops with a backward that the exporter writes where nothing is learned through them
NO_BACKWARD = {"copy"}


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan"])
def test_no_time_is_refused(minutes: str) -> None:
    with pytest.raises(SystemExit):
        command.arguments(["--minutes", minutes])


@pytest.mark.parametrize(("code", "said"), [(0, "0 of 2"), (77, "2 of 2")])
def test_findings_are_counted(
    code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In place of each fuzzer a script that ends as libFuzzer does."""

    def fuzzer(target: str, variant: str, output: Path) -> Path:
        output.write_text(f"#!/bin/sh\necho Test unit written to here\nexit {code}\n")
        output.chmod(0o755)
        return output.resolve()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPROP_TEST_OBJECTS", "")
    monkeypatch.setattr(build, "fuzzer", fuzzer)
    monkeypatch.setattr(build, "missing", lambda variant: None)
    monkeypatch.setattr("sys.argv", ["fuzz", "--sanitizer", "asan"])
    assert command.main() == bool(code)
    told = capsys.readouterr().out
    assert f"{said} fuzzers found something" in told
    assert told.count("shows it again") == (2 if code else 0)


@pytest.mark.parametrize("ci", ["", "true"])
def test_what_cannot_be_built_is_told(ci: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    """Skipped, and in CI a mistake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPROP_TEST_OBJECTS", "")
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(build, "missing", lambda variant: "no 32 bits" if variant == "m32" else None)
    monkeypatch.setattr(command, "fuzz", lambda target, variant, seconds: True)
    monkeypatch.setattr("sys.argv", ["fuzz"])
    assert command.main() == (ci == "true")
    assert "skipped: m32: no 32 bits" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("target", build.TARGETS)
def test_fuzzer_finds_nothing_in_seconds(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that `make fuzz` runs is built, runs and counts."""
    reason = build.missing("asan")
    if reason:
        pytest.skip(reason)
    monkeypatch.setattr(command, "WORK", tmp_path)
    code, log = command.run(build.fuzzer(target, "asan", tmp_path / target), target, 5)
    assert code == 0, log[-3000:]
    assert int(command.told(log).split()[0].replace(",", "")) > 100
