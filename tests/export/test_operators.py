"""The table of operators: what it says they become is what they become, and docs/operators.md shows it as it is."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from edgeprop import export
from edgeprop.export.lower.operator import Operator, merged, operator
from tests.conformance import __main__ as conformance
from tests.trainer.conftest import CASES

ROOT = Path(__file__).parents[2]
lower = importlib.import_module("edgeprop.export.lower")
#: passing tests of each operator that are looked at
SOME = 3


@pytest.fixture
def made(monkeypatch):
    """Operator -> device ops that its lowering added, while a test runs."""
    found: dict[str, set[str]] = {}

    def watched(name: str, row: Operator) -> Operator:
        def lowering(ctx, node):
            before = {id(op) for op in ctx.ops}
            row.lower(ctx, node)
            found.setdefault(name, set()).update(op.kind for op in ctx.ops if id(op) not in before)

        return Operator(lowering, row.kinds)

    for name, row in lower.OPERATORS.items():
        monkeypatch.setitem(lower.OPERATORS, name, watched(name, row))
    return found


def undeclared(made: dict[str, set[str]]) -> dict[str, set[str]]:
    more = {name: kinds - {"transpose", *lower.OPERATORS[name].kinds} for name, kinds in made.items()}
    return {name: kinds for name, kinds in more.items() if kinds}


@pytest.mark.xdist_group("conformance")
def test_rows_tell_what_nodes_of_onnx_become(made):
    passing = set(conformance.PASSING.read_text().split())
    names: dict[str, list[str]] = {}
    for name, op in conformance.operators().items():
        if name in passing:
            names.setdefault(op, []).append(name)
    for some in names.values():
        for name in some[:SOME]:
            conformance.run(name)
    assert len(made) > 60
    assert undeclared(made) == {}


def test_rows_tell_what_layers_become(made):
    for case in CASES:
        export.lower(case.net().to_onnx())
    assert undeclared(made) == {}


def test_a_row_names_device_ops():
    with pytest.raises(KeyError, match="sigmoid_f64"):
        operator(lambda ctx, node: None, "sigmoid_f64")


def test_an_operator_has_one_row() -> None:
    """Of two, one would go unseen: a dict takes the last."""
    one, other = {"Neg": operator(lambda ctx, node: None, "affine_f32")}, {"Neg": operator(lambda ctx, node: None)}
    assert merged(one, {"Abs": other["Neg"]}) == {"Neg": one["Neg"], "Abs": other["Neg"]}
    with pytest.raises(KeyError, match="more than one row for Neg"):
        merged(one, other)


def test_the_page_is_of_this_code():
    spec = importlib.util.spec_from_file_location("operators", ROOT / "docs" / "operators.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "\n".join(module.page()) + "\n"
    assert text == module.PAGE.read_text(encoding="utf-8"), "docs/operators.md is older than the tables: make operators"
