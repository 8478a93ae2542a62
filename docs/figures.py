"""Run the demo and put what it prints, and its picture, where the README shows them: `make figures`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

BEGIN, END = "<!-- figures: make figures -->\n", "<!-- end of figures -->"


def main(out: str) -> None:
    """Rewrite the figures in README.md; `out` is the demo's folder."""
    printed = subprocess.run(
        [sys.executable, "-m", "examples.digits.demo", "--out", out], check=True, capture_output=True, text=True
    ).stdout
    table = printed.split("\n\n")[0]
    readme = Path("README.md")
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n```text\n{table}\n```\n\n{END}{after}", encoding="utf-8")
    shutil.copy(Path(out) / "digits.png", "docs/digits.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "build/demo")
