"""Name a model in C and its files: whole, unlike anything that is taken, and unlike its neighbours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from . import taken
from .c_text import LONGEST, comment, header_stem, identifier, word
from .header import label_names, origin

_READ = 1 << 18  # bytes of a neighbour in which its first screen ends


class NameTaken(ValueError):
    """A name that cannot be the model's."""


def names(name: str | None, stem: str, packaged: bool = False) -> tuple[str, str, list[str]]:
    """The prefix of the C names, the header's file name, and a note for each that is not what one would expect.

    Parameters
    ----------
    name : the prefix asked for; None: that of the files, in lower case
    stem : the name of the files
    packaged : the model goes into libraries for build tools, which have names of their own

    Raises
    ------
    NameTaken : `name` is no C identifier
    """
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise NameTaken(f"name={name!r} (--name) is no C identifier: use {identifier(name)!r}")
    asked = stem.lower() if name is None else name
    short = word(asked) if name is None else asked
    found, file = identifier(f"m_{short}" if short[:1].isdigit() else short, packaged), header_stem(stem)
    why = _why(asked, found)
    notes = [f"the C names begin with {found}: {why}"] if why else []
    if file != stem:
        also = f", and the C names begin with {found}" if found == file else ""
        whose = taken.header_of(stem)
        notes = [] if also else notes
        notes.append(f"the header is {file}.h{also}: compilers would find {stem}.h in place of {whose}")
    return found, f"{file}.h", notes


def _why(asked: str, found: str) -> str:
    """What kept the name from being the one asked for; "" if nothing but signs that C does not have."""
    plain = re.sub(r"[^a-z0-9]+", "_", asked.lower()).strip("_")
    if found.lower() == plain:
        return ""
    short = word(asked)
    if not short:
        return f"{asked!r} has no letter that a C name may have"
    if short[0].isdigit():
        return f"a C name does not begin with a digit, as {short} does"
    if len(plain) > LONGEST:
        return f"a C name has {LONGEST} characters, and {asked[:20]}... has more"
    if not found.startswith(short) or short == found:
        return f"{asked!r} has letters that a C name may not have"
    return f"{short} is {taken.symbol_of(short, True) or f'{taken.header_of(short)} header'}"


def label_notes(labels: Sequence[str]) -> list[str]:
    """A note if labels are numbered in C, because without accents and signs they are one word."""
    ends = label_names(labels)
    numbered = [
        f"{label!r} is LABEL_{end}" for label, end in zip(labels, ends, strict=True) if _numbered(label, end, ends)
    ]
    if not numbered:
        return []
    more = f" and {len(numbered) - 3} more" if len(numbered) > 3 else ""
    return [f"labels that are one word in C are numbered: {', '.join(numbered[:3])}{more}"]


def _numbered(label: str, end: str, ends: Sequence[str]) -> bool:
    plain = word(label).upper()
    return bool(plain) and end != plain and plain in ends


def check_neighbours(header: Path, name: str) -> list[str]:
    """See that no other header in the folder has the same macros: both in one program would be one model.

    A copy of the header itself, as `digits_backup.h` made by hand, says in its text that it is `digits.h`: it is left alone.

    Returns
    -------
    a note for each such copy

    Raises
    ------
    NameTaken : another model's header has the macros
    """
    try:
        others = sorted(path for path in header.parent.glob("*.h") if path.is_file() and path.name != header.name)
    except OSError:  # no folder yet, or one that may not be read
        return []
    notes = []
    for path in others:
        try:
            with open(path, "rb") as file:
                found = origin(file.read(_READ).decode("utf-8", "replace"))
        except OSError:
            continue
        if not found or found.prefix != name.upper() or (header.exists() and path.samefile(header)):
            continue
        if found.file != comment(header.name):
            raise NameTaken(
                f"{path} has C names that begin with {name} too, and holds {found.source}: in one program both would be "
                "one model; give another name or choose another folder"
            )
        notes.append(f"{path.name} is a copy of an older {header.name}, with the same C names: include one of them")
    return notes
