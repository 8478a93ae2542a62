"""Pieces of C: identifiers, comments, strings, numbers and arrays that compile whatever names a model brings along."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

WIDTH = 120  # columns of a line

_KEYWORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    alignas alignof asm bool catch class concept consteval constexpr constinit const_cast decltype delete
    dynamic_cast explicit export false friend mutable namespace new noexcept nullptr operator private protected
    public reinterpret_cast requires static_assert static_cast template this thread_local throw true try typeid
    typename typeof using virtual wchar_t and and_eq bitand bitor compl not not_eq or or_eq xor xor_eq near far
    interrupt huge
"""
#: what <math.h>, <stddef.h> and <stdint.h> declare or C libraries are known to define, and `main`
_LIBRARY = """
    acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh drem erf erfc exp exp10 exp2 expm1 fabs fdim
    finite floor fma fmax fmin fmod frexp gamma hypot ilogb isfinite isgreater isinf isless isnan isnormal
    isunordered j0 j1 jn ldexp lgamma llrint llround log log10 log1p log2 logb lrint lround modf nan nearbyint
    nextafter nexttoward offsetof pow pow10 remainder remquo rint round scalb scalbln scalbn signbit signgam
    significand sin sincos sinh sqrt tan tanh tgamma trunc y0 y1 yn fpclassify isgreaterequal islessequal
    islessgreater max_align_t math_errhandling abs abort atexit bsearch calloc div exit free index labs malloc main
    qsort rand realloc rindex srand system time clock signal read write open close link unlink pipe stat select send
    recv bind listen accept connect socket memcpy memmove memset memcmp strlen strcpy printf puts scanf linux unix
    arm arm64 mips i386 environ errno stdin stdout stderr
"""
_TAKEN = frozenset(_KEYWORDS.split()) | frozenset(_LIBRARY.split())
#: of the runtime's own names, of types (POSIX keeps *_t), and of macros in headers that edgeprop.h includes
_RESERVED = re.compile(
    r"(ep|edgeprop)(_.*)?|.*_t|null|nan|infinity|huge(_val.?)?|maxfloat|eof|size_max"
    r"|(m|fp|flt|dbl|ldbl|math)_.*|.*int.*_(max|min|c|width)",
    re.IGNORECASE,
)


def word(text: str, longest: int = 40) -> str:
    """The letters, digits and underscores of a text that an identifier may have; may be empty or start with a digit.

    Accents are dropped, everything else becomes one underscore; none at the ends.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:longest].strip("_")


def identifier(text: str) -> str:
    """A C and C++ identifier with external linkage that no keyword, library or part of the runtime has taken."""
    name = word(text, longest=24)
    if not name or name[0].isdigit():
        name = "model_" + name if name else "model"
    # float functions end in f, long double ones in l: sinf, powl
    base = name[:-1] if name[-1] in "fl" else name
    if {name, base, name.lower()} & _TAKEN or _RESERVED.fullmatch(name):
        name += "_model"
    return name


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
