"""Graphs near the limits: time grows with their length, and what is more than the runtime holds is refused with the cure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop import export
from edgeprop.export.check import check
from edgeprop.export.errors import ExportError
from edgeprop.export.program import packing, tables
from edgeprop.export.quantization import quantize as quantizing
from tests.support.graphs import model, node


def chain(count: int) -> onnx.ModelProto:
    """Convolutions, none of which can be folded into the next."""
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [node("Conv", [names[i], "w"], [names[i + 1]], name=f"n{i}") for i in range(count)]
    return model(nodes, {"x": ["N", 1, 2, 2]}, ["y"], {"w": np.ones((1, 1, 1, 1), np.float32)})


@pytest.mark.timeout(120)
def test_planning_time_grows_with_the_length_of_a_chain() -> None:
    """Forty thousand blocks, two of which live at a time: pairs of all of them would take a quarter of an hour."""
    blocks = [(packing.Span(i, i + 1, 16),) for i in range(40_000)]
    found = packing.pack(blocks)
    assert found.bytes == found.bound == 32
    assert packing.live_at(blocks, 4) == [16, 32, 32, 32]


def test_spans_of_a_block_count_once() -> None:
    blocks = [(packing.Span(0, 3, 1), packing.Span(2, 5, 40)), (packing.Span(3, 3, 17),)]
    assert packing.live_at(blocks, 7) == [16, 16, 48, 80, 48, 48, 0]
    assert packing.live_bound(blocks) == 80


@pytest.mark.slow
def test_a_chain_of_nine_thousand_nodes() -> None:
    assert check(chain(9000)).status == "ok"


def test_a_graph_too_long_for_int8_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((4, 1, 2, 2), np.float32)
    monkeypatch.setattr(quantizing, "MOST_QUANTIZED", 20)
    assert export.quantize(chain(20), x).graph.node
    with pytest.raises(export.QuantizeError, match=r"21 nodes, at most 20 are quantized: leave all of it in float32"):
        export.quantize(chain(21), x)


def rows(**given: Any) -> Any:
    parts = {"tensors": [], "nodes": [], "inputs": [], "outputs": [], "states": [], "data_bytes": 0}
    return SimpleNamespace(**parts | {"plan": SimpleNamespace(infer_bytes=0, train_bytes=0)} | given)


BEYOND: dict[str, tuple[dict[str, Any], str]] = {
    "tensors": ({"tensors": [None] * 65536}, r"65,536 tensors, .* at most 65,535: simplify the model"),
    "weights": ({"data_bytes": 1 << 31}, r"2,147,483,648 bytes of weights, .*: quantize the model"),
    "activations": (
        {"plan": SimpleNamespace(infer_bytes=0, train_bytes=1 << 31)},
        r"bytes of activations, .*: quantize",
    ),
    "inputs": (
        {"nodes": [SimpleNamespace(op=SimpleNamespace(inputs=[""] * 256))]},
        r"256 inputs of an op, .*several steps",
    ),
}


@pytest.mark.parametrize("what", BEYOND)
def test_more_than_the_runtime_holds(what: str) -> None:
    given, message = BEYOND[what]
    with pytest.raises(ExportError, match=message):
        tables._check_counts(rows(**given))
    tables._check_counts(rows())
