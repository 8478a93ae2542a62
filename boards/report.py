"""Figures in a table, in a file, and against the committed ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: board -> name -> figure
Figures = dict[str, dict[str, Any]]


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def grid(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """Lines of a table, numbers with thousands' separators; the first column left, all others right."""
    text = {
        name: [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells] for name, cells in rows.items()
    }
    widths = [max([len(head), *(len(cells[i]) for cells in text.values())]) for i, head in enumerate(columns)]
    first = max(map(len, [corner, *rows]))
    for name, cells in {corner: list(columns), **text}.items():
        yield "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])


@dataclass
class Comparison:
    """What was found when figures were held against committed ones."""

    grown: list[str] = field(default_factory=list)
    shrunk: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    compared: int = 0

    def figure(self, name: str, now: int, then: int | None, tolerance: float) -> None:
        """Compare one figure."""
        if then is None:
            self.not_compared.append(f"{name}: not in the committed table")
            return
        self.compared += 1
        change = f"{name}: {then:,} -> {now:,}" + (f" ({now / then - 1:+.1%})" if then else "")
        if now > then * (1 + tolerance):
            self.grown.append(change)
        elif now < then * (1 - tolerance):
            self.shrunk.append(change)

    def lines(self, table: Path, accept: str) -> Iterator[str]:
        """The findings, for people."""
        yield f"{self.compared} figures compared with {table.name}: {len(self.grown)} grew, {len(self.shrunk)} shrank"
        for title, names in (
            ("not compared", self.not_compared),
            (f"smaller now (keep it: {accept})", self.shrunk),
            (f"GREW (if that is wanted: {accept})", self.grown),
        ):
            yield from (f"  {title}: {name}" for name in names)


def read_table(path: Path) -> dict[str, Any]:
    """The committed table, or an empty one."""
    return json.loads(path.read_text()) if path.exists() else {}  # type: ignore[no-any-return]
