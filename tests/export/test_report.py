"""The report: figures that add up, in three forms."""

from __future__ import annotations

import html.parser
import re

from edgeprop.export import report
from edgeprop.export.plan import infer_arena, train_arena
from tests.support import programs


def test_figures_add_up() -> None:
    program = programs.cnn()
    figures = report.to_dict(program, {program.ops[0].name: 31.4})
    assert [row["op"] for row in figures["layers"]] == [op.kind for op in program.ops]
    assert figures["layers"][0]["snr_db"] == 31.4
    assert figures["layers"][1]["snr_db"] is None
    assert figures["flash_bytes"] == figures["table_bytes"] + sum(row["flash_bytes"] for row in figures["layers"])
    weights = sum(tensor.nbytes for tensor in program.tensors.values() if not tensor.is_activation)
    assert figures["flash_bytes"] == weights + figures["table_bytes"]
    assert figures["infer_arena_bytes"] == infer_arena(program) >= figures["infer_bound_bytes"]
    assert figures["train_arena_bytes"] == train_arena(program)
    assert max(row["ram_bytes"] for row in figures["layers"]) <= figures["infer_arena_bytes"]
    trained = sum(tensor.count for tensor in program.tensors.values() if tensor.trainable)
    assert figures["trainable_weights"] == trained


def test_macs_of_known_networks() -> None:
    """MLPerf Tiny's: 264,192 for anomaly detection, 12,501,632 for ResNet-8."""
    assert report.to_dict(programs.autoencoder_int8())["macs"] == 264_192
    assert report.to_dict(programs.resnet8_int8())["macs"] == 12_501_632


def test_markdown_has_a_row_for_every_layer() -> None:
    program = programs.mlp()
    program.ops[0].name = "a|b"
    text = report.to_markdown(program)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(program.ops)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_html_is_well_formed_and_escapes() -> None:
    program = programs.mlp()
    program.ops[0].name = "<script>"
    text = report.to_html(program)
    assert "<script>" not in text
    seen: list[str] = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            seen.append(tag)

    Parser().feed(text)
    assert seen.count("tr") == 1 + len(program.ops)
    assert "http" not in text  # nothing is fetched from elsewhere
