"""Read class names from a file: one a line, or JSON. Other kinds of file are recognized and refused, with the cure.

Needs nothing but Python, as `recognize` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .recognize import decode, kind_of, open_regular, shown

#: endings that no label has
ENDINGS = {".txt", ".csv", ".tsv", ".json", ".labels", ".names", ".lst", ".yaml", ".yml"}
#: of a file: a device has no room for so many
_MOST_BYTES = 1 << 24
#: of one name
_MOST_LETTERS = 1000
_CURE = "write one label a line"
#: an HTML page or XML; a word such as <unk> is a name
_MARKUP = re.compile(r"<(!doctype|html|head|body|meta|\?xml|!--)", re.IGNORECASE)
#: how JSON begins; a word such as [UNK] is a name
_JSON = re.compile(r"\{|\[\s*[\"\[{\]\d-]")
#: lines of YAML: "names:", "- cat", "0: cat"
_YAML = re.compile(r"(---|[A-Za-z_]+:|-\s+\S.*|\d+\s*:\s+\S.*)\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


class BadLabels(ValueError):
    """A file that holds no names as they are read here."""


def read_labels(path: str) -> list[str]:
    """The names in a text of UTF-8 or UTF-16, with or without a byte order mark.

    One a line, without the spaces around it and, where all have them, the quotes; empty lines are left out. Or a list in
    JSON, or an object of names by index or of indices by name, which may be the `id2label` of a larger one.

    Raises
    ------
    BadLabels : the file is something else, holds no names, or the same twice
    ValueError, OSError : it is empty, no regular file, or cannot be read
    """
    text = _text(path)
    if _MARKUP.match(text):
        raise BadLabels(f"{path} is an HTML page or XML, as a failed download leaves it: fetch the file itself")
    if Path(path).suffix.lower() == ".json" or _JSON.match(text):
        return _of_json(path, text)
    lines = [line.strip(" \t\f\v\xa0\ufeff") for line in re.split(r"\r\n|\n|\r", text)]
    return _distinct(path, _unquoted(_checked(path, [line for line in lines if line])))


def _text(path: str) -> str:
    """All of a file as text."""
    kind = kind_of(path)
    if kind is not None:
        raise BadLabels(f"{path} is {kind.what}, not a text of labels: {_CURE}")
    with open_regular(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise BadLabels(f"{path} has more than {_MOST_BYTES:,} bytes, which no device has room for: {_CURE}")
    try:
        text = decode(data).strip()
    except UnicodeDecodeError as error:
        raise BadLabels(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    if (found := _CONTROL.search(text)) is not None:
        raise BadLabels(
            f"{path} holds no labels, for it is no text (it has the byte {ord(found[0])}): {_CURE}, as UTF-8"
        )
    if not text:
        raise BadLabels(f"{path} holds no labels: {_CURE}")
    return text


def _of_json(path: str, text: str) -> list[str]:
    """Names in JSON."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLabels(f"{path} is no whole JSON ({shown(str(error))}): write it anew, or {_CURE[6:]}") from error
    if isinstance(found, dict) and isinstance(found.get("id2label"), dict):
        found = found["id2label"]
    if isinstance(found, dict):
        found = _by_index(path, found)
    if not isinstance(found, list) or not all(type(name) in (str, int, float) for name in found) or not found:
        raise BadLabels(f"{path} is JSON of something else than names: give a list of them, or {_CURE[6:]}")
    return _distinct(path, [str(name).strip() for name in found])


def _by_index(path: str, found: dict[str, Any]) -> list[Any]:
    """Names of an object, in the order of the indices."""
    if all(type(index) is int for index in found.values()):
        found = {str(index): name for name, index in found.items()} if len({*found.values()}) == len(found) else {}
    places = [str(i) for i in range(len(found))]
    if not found or found.keys() != set(places):
        raise BadLabels(f"{path} is JSON that does not give each index 0, 1, ... one name: give a list of names")
    return [found[place] for place in places]


def _checked(path: str, lines: Sequence[str]) -> Sequence[str]:
    """Lines that are names: no table, no YAML, nothing as long as a text."""
    if Path(path).suffix.lower() in (".yaml", ".yml") or all(_YAML.fullmatch(line) for line in lines):
        raise BadLabels(f"{path} is YAML, not a text of labels: {_CURE}, without numbers or dashes")
    columns = _columns(lines)
    if columns > 1:
        cure = "keep the column of the names alone" if len(lines) > 1 else _CURE
        raise BadLabels(f"{path} is a table of {columns} columns (CSV), not one label a line: {cure}")
    longest = max(lines, key=len)
    if len(longest) > _MOST_LETTERS:
        raise BadLabels(
            f"{path} has a line of {len(longest):,} letters, {longest[:40]!r}..., which is no name: {_CURE}"
        )
    return lines


def _columns(lines: Sequence[str]) -> int:
    """Columns of a table, 1 if it is none: a comma before a space is one within a name."""
    for mark in (r"\t", r",(?! )", r";(?! )"):
        counts = {len(re.findall(mark, re.sub(r'"[^"]*"', "", line))) for line in lines}
        if len(counts) == 1 and counts != {0}:
            return counts.pop() + 1
    return 1


def _unquoted(lines: Sequence[str]) -> list[str]:
    """Names without quotes, where all have them, as in CSV of one column."""
    if all(len(line) > 1 and line[0] == line[-1] == '"' for line in lines):
        return [line[1:-1].replace('""', '"').strip() for line in lines]
    return list(lines)


def _distinct(path: str, names: list[str]) -> list[str]:
    places: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if not name:
            raise BadLabels(f"{path}: label {place} is empty: give each class a name")
        if name in places:
            raise BadLabels(f"{path}: labels {places[name]} and {place} are both {name!r}: give each class its own")
        places[name] = place
    return names
