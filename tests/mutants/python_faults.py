"""Faults of Python, by the operators of cosmic-ray, used as a library, and three more in its form."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

from tests.mutants.fault import Place

Span = tuple[tuple[int, int], tuple[int, int]]

#: of the operators that put one arithmetic operation or comparison for another, those whose fault is small: a list
#: divided by a list, or a number shifted by a float, is noticed by whatever test runs the line
NEAR = {
    "ReplaceBinaryOperator": "Add_Sub Sub_Add Mul_Div Mul_Add Div_Mul FloorDiv_Mul Mod_FloorDiv Pow_Mul BitOr_BitAnd"
    " BitAnd_BitOr",
    "ReplaceComparisonOperator": "Eq_NotEq NotEq_Eq Lt_LtE LtE_Lt Gt_GtE GtE_Gt Is_IsNot IsNot_Is",
    "ReplaceUnaryOperator": "USub_UAdd Delete_Not",
}  # fmt: skip
#: these need to be told names
LEFT_OUT = ("NoOp", "VariableReplacer", "VariableInserter")


class RemoveRefusal(Operator):  # type: ignore[misc]
    """An operator that lets pass what was refused: `raise` becomes `pass`."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """A position for every raise with something to raise."""
        if node.type == "raise_stmt":
            yield (node.start_pos, node.end_pos)

    def mutate(self, node: Any, index: int) -> Any:
        """A pass in its place."""
        statement = parso.parse("pass").children[0]
        statement.get_first_leaf().prefix = node.get_first_leaf().prefix
        return statement

    @classmethod
    def examples(cls) -> Iterable[Any]:
        """None but this docstring's: `raise ValueError(x)` becomes `pass`."""
        return ()


class DropTerm(Operator):  # type: ignore[misc]
    """An operator that drops what is subtracted: `x - zero_point` becomes `x`."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """A position for every difference of two terms."""
        if node.type == "arith_expr" and len(node.children) == 3 and node.children[1].value == "-":
            yield (node.start_pos, node.end_pos)

    def mutate(self, node: Any, index: int) -> Any:
        """The first term."""
        return node.children[0]

    @classmethod
    def examples(cls) -> Iterable[Any]:
        """None but this docstring's: `y = x - z` becomes `y = x`."""
        return ()


#: functions that do not care for the order of their first two arguments
COMMUTES = {"min", "max", "minimum", "maximum", "array_equal", "gcd", "lcm", "broadcast_shapes"}


class SwapArguments(Operator):  # type: ignore[misc]
    """An operator that swaps the first two arguments of a call: `f(a, b)` becomes `f(b, a)`."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """A position for every call with two arguments or more, the first two of them without a name."""
        if node.type == "arglist":
            first, _, second = node.children[:3]
            if node.parent.get_first_leaf().get_previous_leaf().value in COMMUTES:
                return
            if "argument" not in (first.type, second.type) and first.get_code().strip() != second.get_code().strip():
                yield (node.start_pos, node.end_pos)

    def mutate(self, node: Any, index: int) -> Any:
        """The two swapped."""
        first, comma, second, *rest = (child.get_code() for child in node.children)
        return parso.parse(f"{second.lstrip()}{comma} {first.lstrip()}{''.join(rest)}")

    @classmethod
    def examples(cls) -> Iterable[Any]:
        """None but this docstring's: `f(a, b)` becomes `f(b, a)`."""
        return ()


def operators() -> dict[str, Operator]:
    """Name and instance of what is used of cosmic-ray, and of our own."""
    provider, found = OperatorProvider(), {}
    for name in provider:
        family, _, change = name.partition("_")
        if name not in LEFT_OUT and (family not in NEAR or change in NEAR[family].split()):
            found[name] = provider[name]()
    return found | {own.__name__: own() for own in (RemoveRefusal, DropTerm, SwapArguments)}


# ---- Where nothing is to be made wrong -----------------------------------------------------------------------------------


#: what is handed to these is words for people
SAYS = {"Refusal", "UnsupportedNode", "warn", "debug", "info", "warning"}


def _cached(node: ast.expr) -> bool:
    """A decorator that only saves time, or only tells type checkers something."""
    return any(word in ast.unparse(node) for word in ("cache", "overload", "contextmanager", "final", "override"))


def _quiet(node: ast.AST) -> Iterator[ast.AST]:
    """What of a node no test can notice: annotations, what an error or a log says, asserts and what is one: that two lists
    are of one length (`zip`), that nobody changes an object (`dataclass`)."""
    if isinstance(node, ast.FunctionDef):
        yield from (d for d in node.decorator_list if _cached(d))
        yield from filter(None, [node.returns])
        yield from [node] if node.name == "__repr__" else []
    elif isinstance(node, ast.arg):
        yield from filter(None, [node.annotation])
    elif isinstance(node, ast.AnnAssign):
        yield node.annotation
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield from node.exc.args
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in SAYS:
        yield from node.args
    elif isinstance(node, ast.keyword) and node.arg in ("strict", "frozen") and ast.unparse(node.value) == "True":
        yield node.value
    elif isinstance(node, ast.Assert) or _declares(node):
        yield node


def _declares(node: ast.AST) -> bool:
    """What is for type checkers or for `import *` alone."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__slots__")


def quiet(text: str) -> list[Span]:
    """Spans (line from 1, column in characters) of what no test can notice."""
    lines = text.splitlines()

    def position(line: int, offset: int) -> tuple[int, int]:
        return line, len(lines[line - 1].encode()[:offset].decode())

    nodes = [part for node in ast.walk(ast.parse(text)) for part in _quiet(node)]
    return [
        (position(n.lineno, n.col_offset), position(n.end_lineno, n.end_col_offset))  # type: ignore[attr-defined]
        for n in nodes
    ]


# ---- Places --------------------------------------------------------------------------------------------------------------


def _apply(operator: Operator, occurrence: int) -> Callable[[str], str | None]:
    def apply(text: str) -> str | None:
        faulty = MutationVisitor.mutate_code(text, operator, occurrence)
        return faulty if isinstance(faulty, str) else None

    return apply


def places(path: str, text: str) -> Iterator[Place]:
    """All ways to make a file wrong."""
    nodes, silent = list(ast_nodes(get_ast(text))), quiet(text)
    for name, operator in operators().items():
        spans = [span for node in nodes for span in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(spans):
            if not any(s[0] <= (start[0], start[1] + (name == "RemoveDecorator")) < s[1] for s in silent):
                assert start <= end
                yield Place(path, start[0], start[1], name, _apply(operator, occurrence))


def function_at(text: str, line: int) -> int | None:
    """First line, decorators and all, of the innermost function that a line is of; None outside of any."""
    found = None
    for node in ast.walk(ast.parse(text)):  # outer functions come before those inside
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first <= line <= (node.end_lineno or first):
                found = first
    return found


def same(text: str, faulty: str) -> bool:
    """Whether two texts compile to the same."""
    return ast.dump(ast.parse(text)) == ast.dump(ast.parse(faulty))
