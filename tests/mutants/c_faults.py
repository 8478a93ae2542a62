"""Faults of C, as text: a table of patterns. No tool that changes C is small enough to be installed with a package manager
on every machine this is developed on, and none knows of zero points, strides and refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.mutants.fault import Place


class Rule(NamedTuple):
    """What is looked for, in one line, and what stands there instead."""

    kind: str
    pattern: str
    replacement: str


def _swap(one: str, other: str, kind: str) -> list[Rule]:
    """Either word in place of the other, also as the end of a longer one."""
    rule = r"(?<![a-z]){}\b"
    return [Rule(kind, rule.format(one), other), Rule(kind, rule.format(other), one)]


RULES = [
    Rule("compares otherwise", r"(?<= )<(?= )", "<="),
    Rule("compares otherwise", r"(?<= )<=(?= )", "<"),
    Rule("compares otherwise", r"(?<= )>(?= )", ">="),
    Rule("compares otherwise", r"(?<= )>=(?= )", ">"),
    Rule("compares otherwise", r"(?<= )==(?= )", "!="),
    Rule("compares otherwise", r"(?<= )!=(?= )", "=="),
    Rule("and, or", r"(?<= )&&(?= )", "||"),
    Rule("and, or", r"(?<= )\|\|(?= )", "&&"),
    Rule("another operation", r"(?<= )\+(?= )", "-"),
    Rule("another operation", r"(?<= )-(?= )", "+"),
    Rule("another operation", r"(?<=[\w)\]] )\*(?= [\w(])", "+"),
    Rule("another operation", r"(?<= )/(?= )", "*"),
    Rule("another operation", r"(?<= )\+=(?= )", "="),
    Rule("another operation", r"(?<= )\+=(?= )", "-="),
    Rule("another operation", r"(?<= )-=(?= )", "+="),
    Rule("another operation", r"(?<= )&(?= )", "|"),
    Rule("another operation", r"<<", ">>"),
    Rule("another operation", r">>", "<<"),
    Rule("off by one", r" [-+] 1\b(?![.\d])", ""),
    Rule("off by one", r"(?<== )0(?=;)", "1"),
    Rule("off by one", r"(?<=[\w\])]) < (?=[\w(*])", " + 1 < "),
    Rule("another constant", r"(?<=[(, ])0(?=[,);])", "1"),
    Rule("another constant", r"(?<=[(, ])1(?=[,);])", "0"),
    Rule("another constant", r"\b1\.0f", "2.0f"),
    Rule("another constant", r"\b0\.5f", "0.25f"),
    Rule("zero point dropped", r" [-+] [\w>.\[\]-]*\b\w*zero\w*(\[\w+\])?(?!\()", ""),
    Rule("zero point dropped", r"(?<=[ (])[\w>.-]*zero_point(?=[,);])", "0"),
    Rule("refusal removed", r"return EP_ERR_\w+;", ";"),
    Rule("refusal removed", r"\bEP_ERR_\w+(?=;)", "EP_OK"),
    Rule("condition negated", r"(?<=\bif \()(.*)(?=\) \{$)", r"!(\1)"),
    Rule("condition removed", r"(?<=\bif \()(.*)(?=\) \{$)", "0"),
    Rule("statement removed", r"(?<=^    )\s*[\w>.\[\]*-]+(?: \+| -| \*| \|)?= [^;]*;$", ";"),
    Rule("statement removed", r"(?<=^    )\s*\w+\([^;]*\);$", ";"),
    Rule("statement removed", r"\b(?:break|continue);", ";"),
    Rule("sign dropped", r"(?<=[=(,?:] )-(?=[\w(])", ""),
    Rule("not", r"(?<=[( ])!(?=[\w(])", ""),
    *_swap("stride_h", "stride_w", "axes swapped"),
    *_swap("dilation_h", "dilation_w", "axes swapped"),
    *_swap("kernel_h", "kernel_w", "axes swapped"),
    *_swap("pad_top", "pad_left", "axes swapped"),
    *_swap("in_h", "in_w", "axes swapped"),
    *_swap("out_h", "out_w", "axes swapped"),
    *_swap("a_strides", "b_strides", "axes swapped"),
    *_swap("in_c", "out_c", "axes swapped"),
    *_swap("n_in", "n_out", "axes swapped"),
    *_swap("rows", "columns", "axes swapped"),
    *_swap("lo", "hi", "min and max"),
    *_swap("ep_in", "ep_out", "another array"),
    *_swap("ep_din", "ep_dout", "another array"),
]
COMPILED = [(rule, re.compile(rule.pattern, re.MULTILINE)) for rule in RULES]

#: comments, strings and characters
QUIET = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
#: lines in which nothing is to be made wrong: of the preprocessor, and what is checked by the compiler
SKIPPED = re.compile(r"^\s*#.*(?:\\\n.*)*|^.*\b(?:_Static_assert|EP_STATIC_ASSERT|assert)\b.*$", re.MULTILINE)


def _blank(match: re.Match[str]) -> str:
    """As many characters and lines, without anything to be found in them."""
    return re.sub(r"[^\n]", "\x01", match[0])


def visible(text: str) -> str:
    """The code alone: what is no code is blanked, and everything stays where it was."""
    return SKIPPED.sub(_blank, QUIET.sub(_blank, text))


def _replace(start: int, end: int, new: str, text: str) -> str:
    return text[:start] + new + text[end:]


def places(path: str, text: str) -> Iterator[Place]:
    """All ways of the table to make a file wrong."""
    code = visible(text)
    for rule, pattern in COMPILED:
        for match in pattern.finditer(code):
            new = match.expand(rule.replacement) if "\x01" not in match[0] else None
            if new is None:
                continue
            start, end = match.span()
            line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)

            def apply(text: str, start: int = start, end: int = end, new: str = new) -> str:
                return _replace(start, end, new, text)

            yield Place(path, line, column, rule.kind, apply)
