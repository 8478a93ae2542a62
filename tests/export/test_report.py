"""The report: its sums, and that no name can break it."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import pytest

from edgeprop.export.program.plan import infer_arena, train_arena
from edgeprop.export.writers.report import to_dict, to_html, to_markdown
from tests.support import programs


def test_figures_add_up():
    program = programs.cnn()
    figures = to_dict(program)
    rows = figures["layers"]
    assert [(row["name"], row["op"]) for row in rows] == [(op.name, op.kind) for op in program.ops]
    constants = [t for t in program.tensors.values() if not t.is_activation]
    weights = sum(t.nbytes for t in constants)
    assert sum(row["flash_bytes"] for row in rows) == weights == figures["flash_bytes"] - figures["table_bytes"]
    assert figures["parameters"] == sum(t.count for t in constants)
    assert [row["name"] for row in rows if row["trainable"]] == ["fc"]
    assert figures["trainable_weights"] == 170
    assert figures["record_bytes"] == 32 + 4 * 170
    assert max(row["ram_bytes"] for row in rows) == figures["infer_bound_bytes"]
    assert figures["infer_arena_bytes"] == infer_arena(program)
    assert figures["train_arena_bytes"] == train_arena(program)
    assert figures["train_arena_bytes_adam"] == train_arena(program, optimizer="adam")
    assert figures["train_bytes"] == program.plan.train_bytes >= figures["train_bound_bytes"]
    json.dumps(figures, allow_nan=False)


def test_macs():
    macs = {row["name"]: row["macs"] for row in to_dict(programs.cnn())["layers"]}
    assert macs["conv1"] == 12 * 12 * 8 * 9
    assert macs["dw"] == 6 * 6 * 8 * 9
    assert macs["pw"] == 6 * 6 * 16 * 8
    assert macs["fc"] == 160
    assert macs["pool1"] == 0


@pytest.mark.parametrize(
    ("build", "macs"),
    [
        (programs.autoencoder_int8, 264_192),
        (programs.ds_cnn_int8, 2_656_768),
        (programs.vww_int8, 7_489_664),
        (programs.resnet8_int8, 12_501_632),
    ],
)
def test_macs_of_known_networks(build, macs):
    assert to_dict(build())["macs"] == macs


def test_a_frozen_model():
    program = programs.cnn(trainable=False)
    assert not [key for key in to_dict(program) if "train" in key or "restore" in key or key == "loss"]
    assert "learn" not in to_markdown(program).replace("| learns |", "")


def test_shared_constants_count_once():
    b = programs.Builder()
    x = b.dense(b.input((4,)), 4, "a")
    b.output(b.dense(x, 4, "b"))
    b.program.ops[1].inputs[1] = "a.weight"
    del b.program.tensors["b.weight"]
    assert [row["flash_bytes"] for row in to_dict(b.program)["layers"]] == [80, 16]


def test_signal_to_noise_by_layer_or_output():
    program = programs.cnn()
    snr = {"conv1": 31.25, "pw_out": math.inf, "pool1": -math.inf}
    rows = {row["name"]: row["snr_db"] for row in to_dict(program, snr)["layers"]}
    assert (rows["conv1"], rows["pw"], rows["dw"]) == (31.25, math.inf, None)
    markdown = to_markdown(program, snr)
    for cell in ("31.2 |", "exact |", "no signal |"):
        assert cell in markdown


def _columns(line: str) -> int:
    return line.replace("\\|", "").count("|")


HOSTILE = [
    "a|b",
    "<script>alert(1)</script>",
    "</td></table>",
    "line\nbreak",
    "`code`",
    "*/",
    "größe",
    "[x](y)",
    "&amp;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(name):
    program = programs.cnn()
    program.name = program.ops[1].name = program.source = name
    program.labels = [name]
    markdown = to_markdown(program, {name: 20.0})
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == len(program.ops) + 4
    assert len({_columns(line) for line in table}) == 1
    assert "<script" not in markdown.replace("\\<", "")
    tags = _Tags()
    tags.feed(to_html(program, {name: 20.0}))
    assert tags.opened == tags.closed
    assert "script" not in tags.seen
    assert tags.seen["tr"] == len(program.ops) + 3


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.opened, self.closed, self.seen = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        assert tag not in {"link", "img"}
        if tag != "meta":
            self.opened = sorted([*self.opened, tag])

    def handle_endtag(self, tag):
        self.closed = sorted([*self.closed, tag])


def test_reports_are_reproducible():
    for write in (to_markdown, to_html, to_dict):
        assert write(programs.residual()) == write(programs.residual())
