"""Write docs/operators.md from the tables of the code: `make operators`.

What the exporter takes comes from `edgeprop.export.lower.OPERATORS`, what is quantized from
`edgeprop.export.quantization.rules.RULES`, what has a backward from the runtime's own table of ops. Which layer of the
trainer writes which operator is seen by exporting the small networks of the trainer's tests, one or more around every layer.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeprop import runtime
from edgeprop.export.graph.spelled import spelled_out
from edgeprop.export.program.traits import TRAITS
from edgeprop.export.quantization.rules import RULES
from edgeprop.trainer.onnx_builder import GraphBuilder

ROOT = Path(__file__).parents[1]
OPERATORS = importlib.import_module("edgeprop.export.lower").OPERATORS
PAGE = ROOT / "docs" / "operators.md"
_INTRODUCTION = """# Operators

What a network may be made of; written by `make operators` from the tables of the code. [conformance.md](conformance.md) has
what ONNX's own tests say of each.

- *trainer*: the layers of `edgeprop.trainer` that write it.
- *float32*, *int8*: the device ops it becomes; *free* where it only renames or permutes axes, which costs nothing or a
  `transpose`. int8 where `edgeprop.export.quantize` gives it integers, with *table* for one of 256 results; float32 between
  integer layers else, which the report of an export says layer by layer.
- *backward*: gradients go through it; *weights* where it has some that learn on the device.
- *streaming*: *own state*: it keeps its state from frame to frame on the device. All others work on a frame, and in a
  network whose states are inputs and outputs (`states=`, `--state`).

| operator | trainer | float32 | int8 | backward | streaming |
| -- | -- | -- | -- | -- | -- |
"""


def _names(kinds: Iterable[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds)


def forms(name: str) -> list[str]:
    """Operators of integers that are a float32 operator's counterpart."""
    named = (f"QLinear{name}", f"com.microsoft.QLinear{name}", f"com.microsoft.Q{name}", f"{name}Integer")
    return [form for form in named if form in OPERATORS]


def _is_integer(name: str) -> bool:
    bare = name.removeprefix("com.microsoft.")
    return bare.startswith(("QLinear", "QGemm", "DynamicQuantize", "Quantize", "Dequantize")) or "Integer" in bare


def layers() -> dict[str, list[str]]:
    """Operator -> the trainer's layers that write it."""
    sys.path.insert(0, str(ROOT))
    from tests.trainer.conftest import CASES

    found: dict[str, set[str]] = {}
    write = GraphBuilder.node

    def node(self, op, name, *args, **kwargs):  # type: ignore[no-untyped-def]
        found.setdefault(op, set()).add(type(net[name]).__name__)
        return write(self, op, name, *args, **kwargs)

    GraphBuilder.node = node  # type: ignore[method-assign]
    try:
        for case in CASES:
            net = case.net()
            net.to_onnx()
    finally:
        GraphBuilder.node = write  # type: ignore[method-assign]
    return {op: sorted(names) for op, names in found.items()}


def _float32(name: str) -> str:
    return _names(kind for kind in OPERATORS[name].kinds if not kind.endswith("_s8")) or "free"


def _int8(name: str) -> str:
    kinds = [kind for form in forms(name) if "Integer" not in form for kind in OPERATORS[form].kinds]
    if not kinds and name not in RULES:
        return "–"
    kinds = kinds or [kind for kind in OPERATORS[name].kinds if not kind.endswith("_f32")]
    moves = name in RULES and RULES[name].moves
    return _names(dict.fromkeys(kinds)) or ("free" if moves and not OPERATORS[name].kinds else "table")


def _backward(name: str) -> str:
    kinds = [kind for kind in OPERATORS[name].kinds if not kind.endswith("_s8")]
    if not all(runtime.OPS[kind].has_grad for kind in kinds):
        some = [kind for kind in kinds if runtime.OPS[kind].has_grad]
        return f"yes, but for {_names(kind for kind in kinds if kind not in some)}" if some else "–"
    return "yes, weights" if any(TRAITS[kind].weights for kind in kinds) else "yes"


def _streaming(name: str) -> str:
    return "own state" if any(TRAITS[kind].recurrent for kind in OPERATORS[name].kinds) else "yes"


def page() -> Iterator[str]:
    """The lines of docs/operators.md."""
    yield from _INTRODUCTION.splitlines()
    written = layers()
    names = sorted((name for name in OPERATORS if not name.startswith("edgeprop.")), key=str.lower)
    for name in names:
        if not _is_integer(name):
            trainer = ", ".join(written.get(name, [])) or "–"
            cells = (name, trainer, _float32(name), _int8(name), _backward(name), _streaming(name))
            yield f"| {' | '.join(cells)} |"
    spelled = ", ".join(name for name in spelled_out() if name not in OPERATORS)
    yield ""
    yield f"Spelled out in these, where their operands allow it: {spelled}."
    yield ""
    yield "ArgMax, ArgMin, TopK, comparisons and Cast at the end of a graph leave their scores as its output; a note says so."
    yield ""
    yield "## Models that are quantized already"
    yield ""
    yield "Operators of integers, and of the way between these and float32. They have no backward: what learns is float32."
    yield ""
    yield "| operator | device ops |"
    yield "| -- | -- |"
    for name in filter(_is_integer, names):
        yield f"| {name} | {_names(OPERATORS[name].kinds) or 'taken into the layer behind it'} |"


if __name__ == "__main__":
    PAGE.write_text("\n".join(page()) + "\n", encoding="utf-8")
