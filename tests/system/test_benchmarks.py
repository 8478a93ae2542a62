"""The comparisons run, and their page is filled from what they wrote."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import peak, rows
from benchmarks.timing import Effort, Local, interleaved

ROOT = Path(__file__).parents[2]


@pytest.fixture
def performance(monkeypatch, tmp_path):
    """docs/performance.py, reading figures from tmp_path/build."""
    spec = importlib.util.spec_from_file_location("performance", ROOT / "docs" / "performance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "build").mkdir()
    return module


def test_the_peer_is_the_fastest_of_those_that_count():
    best = {"ours": 2e-6, "a": 3e-6, "b": 4e-6, "not counted": 1e-6}
    row = rows.row("w", "f32", 1, best, ["b", "a", "absent"], notes=[])
    assert (row["peer"], row["peer_us"], row["ratio"]) == ("a", 3.0, 0.667)
    assert row["others_us"] == {"b": 4.0, "not counted": 1.0}
    assert rows.row("w", "f32", 1, {"ours": 1.0}, ["a"])["ratio"] is None


def test_turns_alternate_and_the_least_counts():
    order = []

    class Contestant:
        def __init__(self, name):
            self.name = name

        def turn(self, times):
            order.append(self.name)
            return 1.0 if len(order) != 11 else 0.5

    best = interleaved({"a": Contestant("a"), "b": Contestant("b")}, Effort(rounds=5, budget=100))
    assert order[4:] == ["a", "b"] * 5
    assert best == {"a": 0.5, "b": 1.0}
    assert Local(lambda: None).turn(10) >= 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="no cc")
def test_the_peak_is_measured_and_sets_the_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "PROGRAM", tmp_path / "peak")
    for cached in (peak._build, peak.measure, peak.read_rate):
        cached.cache_clear()
    rates = peak.measure()
    assert rates["f32"] > 0.1
    assert rates["int8"] > 0.1
    busy = peak.distance(peak.Work(f32_macs=10**9, int8_macs=0, weights=4096, moved=4096), 10.0)
    assert busy["limited_by"] == "arithmetic"
    assert busy["limit_us"] == pytest.approx(1e6 / rates["f32"], rel=0.01)
    assert peak.distance(peak.Work(1, 0, 4096, 10**9), 10.0)["limited_by"] == "reading weights"


def test_the_command_writes_a_row_that_the_page_takes(performance, tmp_path, monkeypatch):
    out = tmp_path / "build" / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "ad_infer", "--dtype", "f32", "--out", out]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (row,) = json.loads(out.read_text())
    assert {"work", "dtype", "batch", "ours_us", "peer", "peer_us", "ratio"} <= set(row)
    assert row["peer"] == "onnxruntime"
    assert row["ratio"] == pytest.approx(row["ours_us"] / row["peer_us"], rel=0.05)
    text = performance.TABLES["inference"]()
    assert "| ad_infer f32, B=1 |" in text
    assert "1 goals met" in text


def test_the_page_keeps_tables_without_figures_and_says_so(performance, capsys):
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    performance.TABLES.pop("arenas")
    assert performance.fill(page) == page
    assert "trainer: left as it is: no build/bench.json: make bench" in capsys.readouterr().out


def test_the_page_tells_hits_from_misses(performance, tmp_path):
    counts = {
        "m4f": {"head_64_10_sgd_step": 5_000, "ds_cnn_int8_infer": 8_000_000},
        "m0": {"ds_cnn_int8_infer": "no room"},
    }
    (tmp_path / "build" / "count.json").write_text(json.dumps(counts))
    text = performance.TABLES["cortex-m"]()
    assert "| m4f | head_64_10_sgd_step | 5,000 | AIfES 2.2 77,390 | 0.06 | 6,000 | yes | 26%, vfma |" in text
    assert "7,000,000, stretch 6,000,000 | **no** | 17%, smlad |" in text
    assert "1 of 2 goals met." in text
    assert "| ds_cnn_int8_infer | – | 8,000,000 |" in text
