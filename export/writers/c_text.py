"""Format pieces of C: identifiers, comments, strings, numbers and arrays that compile whatever names a model has."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from . import taken

WIDTH = 120  # columns of a line

#: significant characters of a C99 identifier (5.2.4.1)
LONGEST = 63


def word(text: str, longest: int = LONGEST) -> str:
    """The letters, digits and underscores of a text that an identifier may have; may be empty or start with a digit.

    Accents are dropped, everything else becomes one underscore; none at the ends. What is longer ends in a checksum of
    the whole, so that two long names stay two.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    found = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
    if len(found) <= longest:
        return found
    return f"{found[: longest - 9].rstrip('_')}_{hashlib.sha256(found.encode()).hexdigest()[:8]}"


def identifier(text: str, packaged: bool = False) -> str:
    """A C and C++ identifier with external linkage that no keyword, library or part of the runtime has taken; nor a build
    tool, where a library is made for one.

    It is `text` itself where that may be one; what was made an identifier stays as it is.
    """
    name = word(text)
    if not name or name[0].isdigit():
        name = word("model_" + name)
    while taken.symbol_of(name, packaged) or taken.header_of(name):
        name = word(name, LONGEST - len(_SUFFIX)) + _SUFFIX
    return name


def header_stem(stem: str) -> str:
    """The name, without `.h`, of a header that stands for no other: `math.h` on an include path is found for <math.h>."""
    return stem + _SUFFIX if taken.header_of(stem) else stem


#: ends a name that is taken without it
_SUFFIX = "_model"


class Names:
    """Hands out names that differ from each other: the second `x` becomes `x_2`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)

    def new(self, name: str) -> str:
        """The name, with a number if it is taken."""
        found, count = name, 1
        while found in self.taken:
            count += 1
            found = f"{name}_{count}"
        self.taken.add(found)
        return found


def comment(text: str) -> str:
    """A text for the inside of a comment: on one line, and unable to end it or to start another.

    Letters of all scripts stay; what does not print, or changes the direction of print, becomes its number.
    """
    shown = "".join(
        c if c.isprintable() and unicodedata.bidirectional(c) not in _TURNS else f"U+{ord(c):04X}" for c in text
    )
    shown = shown.replace("\\", "/").replace("??", "? ?").replace("??", "? ?")
    return re.sub(r"(\*)(?=/)|(/)(?=\*)", lambda m: m[0] + " ", shown)


#: Bidirectional classes of characters that reorder the text around them
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def string(text: str) -> str:
    """A string literal of the text in UTF-8, in plain ASCII: everything else is octal, which cannot run on."""
    encoded = text.encode("utf-8", "replace")
    return '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in encoded) + '"'


def number(value: float) -> str:
    """A float32 as a C constant that reads back to the same bits: `0.1f`, `-3.0f`, `INFINITY`."""
    value = float(np.float32(value))
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def matrix(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    """Values as a matrix whose rows a reader looks for.

    (n_out, n_in) and (out_c, kernel_h, kernel_w, in_c): a row per output; depthwise (kernel_h, kernel_w, out_c): a row
    per tap; anything of one dimension is one row.
    """
    if values.ndim < 2:
        return values.reshape(1, -1)
    if values.ndim == 3:
        return values.reshape(-1, values.shape[-1])
    return values.reshape(values.shape[0], -1)


def rows(values: np.ndarray[Any, np.dtype[Any]]) -> Iterator[str]:
    """Lines of an array's initializer: a line per matrix row, or several under its number where the rows are long."""
    texts = [[number(v) if values.dtype.kind == "f" else str(v) for v in row.tolist()] for row in matrix(values)]
    width = max((len(text) for row in texts for text in row), default=0)
    for i, row in enumerate(texts):
        lines = list(wrap([text.rjust(width) for text in row], end="" if i == len(texts) - 1 else ","))
        if len(lines) > 1 and len(texts) > 1:
            yield f"    /* {i} */"
        yield from lines


def wrap(items: Sequence[str], end: str = "") -> Iterator[str]:
    """Items with commas between them, indented, on as many lines as they need."""
    indent, line = "    ", ""
    for i, item in enumerate(items):
        piece = item + ("," if i < len(items) - 1 else end)
        if line and len(indent) + len(line) + 1 + len(piece) > WIDTH:
            yield indent + line
            line = piece
        else:
            line = f"{line} {piece}" if line else piece
    yield indent + line
