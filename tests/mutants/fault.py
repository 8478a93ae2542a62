"""A place where a source can be made wrong, and a fault: what the source is with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One way to make one place of a file wrong."""

    path: str  # from the root
    line: int  # from 1
    column: int
    kind: str
    apply: Callable[[str], str | None]  # the file's text to the faulty one; None where that is not possible


@dataclass(frozen=True)
class Fault:
    """A file with one place made wrong."""

    path: str
    line: int
    kind: str
    before: str  # the line as it is, without indentation
    after: str  # and with the fault
    text: str  # the whole file with the fault

    def __str__(self) -> str:
        return f"{self.path}:{self.line} [{self.kind}]\n    - {self.before}\n    + {self.after}"


def make(place: Place, text: str) -> Fault | None:
    """The fault at a place of a text; None if nothing changes."""
    faulty = place.apply(text)
    if faulty is None or faulty == text:
        return None
    old, new = text.splitlines(), faulty.splitlines()
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    shift = len(new) - len(old)
    last = len(old) - 1
    while last > first and last + shift >= first and old[last] == new[last + shift]:
        last -= 1
    before = " ".join(line.strip() for line in old[first : last + 1])
    after = " ".join(line.strip() for line in new[first : last + 1 + shift])
    return Fault(place.path, first + 1, place.kind, before, after, faulty)
