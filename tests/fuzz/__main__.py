"""Runs the fuzzers for some minutes: `python -m tests.fuzz --minutes 60`. Exits with 1 if they found anything; what they
found lies in build/fuzz/findings, each a file that the fuzzer named beside it takes as its argument."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz import build

WORK = Path("build/fuzz")
#: parts of the time: an image can be wrong in many more ways than a record
PARTS = {"image": 8, "record": 1}
#: seconds for one input, megabytes for all, bytes of an input
LIMITS = ["-timeout=25", "-rss_limit_mb=2560", "-max_len=16384", "-entropic=0", "-print_final_stats=1"]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="of all fuzzers together (default: %(default)s)")
    parser.add_argument("--sanitizer", nargs="+", choices=build.VARIANTS, default=list(build.VARIANTS))
    parser.add_argument("--which", nargs="+", choices=build.TARGETS, default=build.TARGETS)
    chosen = parser.parse_args(argv)
    if not 0 < chosen.minutes < float("inf"):
        parser.error(f"{chosen.minutes} minutes are no time to fuzz: give a number above 0")
    return chosen


def run(program: Path, target: str, seconds: int) -> tuple[int, str]:
    """Fuzzes for that long, from the committed corpus and what former runs added: exit code and log."""
    corpus, findings = WORK / "corpus" / target, WORK / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    prefix = f"-artifact_prefix={findings}/{program.name}-"
    command = [program, *LIMITS, f"-max_total_time={seconds}", prefix, corpus, build.CORPUS / target]
    log = program.with_suffix(".log")
    with open(log, "w") as output:
        done = subprocess.run([str(part) for part in command], stdout=output, stderr=subprocess.STDOUT)
    return done.returncode, log.read_text(errors="replace")


def told(log: str) -> str:
    """Executions, and what the target counted."""
    executions = re.search(r"number_of_executed_units: (\d+)", log)
    counted = re.search(r"^(?:images|storages): .*", log, re.MULTILINE)
    number = f"{int(executions[1]):,}" if executions else "no"
    return f"{number} executions" + (f"; {counted[0]}" if counted else "")


def fuzz(target: str, variant: str, seconds: int) -> bool:
    """True if nothing was found."""
    program = build.fuzzer(target, variant, WORK / f"{target}-{variant}")
    code, log = run(program, target, seconds)
    print(f"{target} under {variant}, {seconds} s: {told(log)}", flush=True)
    if code != 0:
        print("\n".join(log.splitlines()[-60:]))
        kept = re.findall(r"Test unit written to (\S+)", log)
        print(f"found: {program} {' '.join(kept)} shows it again (exit code {code}; {program.with_suffix('.log')})")
    return code == 0


def main() -> int:
    chosen = arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ["EDGEPROP_TEST_OBJECTS"] = str((WORK / "objects").resolve())
    Path(os.environ["EDGEPROP_TEST_OBJECTS"]).mkdir(exist_ok=True)
    absent = {variant: build.missing(variant) for variant in chosen.sanitizer}
    for variant, reason in absent.items():
        if reason is not None:
            print(f"skipped: {variant}: {reason}")
    there = [variant for variant, reason in absent.items() if reason is None]
    share = 60 * chosen.minutes / max(1, len(there)) / sum(PARTS[target] for target in chosen.which)
    results = [
        fuzz(target, variant, max(1, round(share * PARTS[target]))) for variant in there for target in chosen.which
    ]
    skipped = len(there) < len(absent) and os.environ.get("CI", "").lower() in ("1", "true")
    print(f"{results.count(False)} of {len(results)} fuzzers found something")
    return 1 if skipped or not there or not all(results) else 0


if __name__ == "__main__":
    sys.exit(main())
