"""Run the demo and put what it prints, and its picture, where the README shows them: `make figures`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

BEGIN, END = "<!-- figures: make figures -->\n", "<!-- end of figures -->"


def made_with() -> str:
    """The processor and the compiler that bytes of code depend on."""
    command = [*os.environ.get("CC", "cc").split(), "--version"]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    return f"<!-- {platform.machine()}, {version} -->\n"


def rows(table: str) -> dict[str, str]:
    """The figures of a table by what they are of, as texts."""
    lines = (line.rsplit("  ", 1) for line in table.splitlines() if "  " in line.strip())
    return {name.strip(): figure.strip() for name, figure in lines}


def main(out: str) -> None:
    """Rewrite the figures in README.md; `out` is the demo's folder."""
    printed = subprocess.run(
        [sys.executable, "-m", "examples.digits.demo", "--out", out], check=True, capture_output=True, text=True
    ).stdout
    table = printed.split("\n\n")[0]
    readme = Path("README.md")
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}{made_with()}\n```text\n{table}\n```\n\n{END}{after}", encoding="utf-8")
    shutil.copy(Path(out) / "digits.png", "docs/digits.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "build/demo")
