"""Counts and sizes: they are exact, repeat themselves, and notice growth."""

from __future__ import annotations

import subprocess

import pytest

from boards import build, count, models, report, size
from tests.support.boards import boards


@pytest.fixture(scope="module")
def head():
    return models.make("head_64_10")


LOOP = """
#include "board.h"
static volatile uint32_t turns = TURNS;
int main(void)
{
    bench_begin();
    for (uint32_t n = turns; n != 0; n--) __asm__ volatile("" ::: "memory");
    bench_end();
    return 0;
}
"""


@pytest.mark.parametrize("name", boards("m4f", slow=("a76",)))
def test_a_count_grows_by_exactly_what_a_loop_adds(name, board, tmp_path):
    source = tmp_path / "loop.c"
    source.write_text(LOOP)
    counts = []
    for turns in (1000, 2000, 3000):
        built = build.program(board(name), f"loop_{turns}", source, defines=(f"-DTURNS={turns}",))
        counts.append(build.count(built).instructions)
    first, second = counts[1] - counts[0], counts[2] - counts[1]
    assert first == second == 2000  # two instructions a turn


@pytest.mark.parametrize("name", boards("m4f", slow=("a76",)))
def test_a_step_counts_the_same_twice_and_its_functions_add_up(name, board, head):
    built = count.link(board(name), "head_64_10_sgd_step", head)
    first, second = build.count(built), build.count(built)
    assert first == second
    functions = build.by_function(built, first)
    assert abs(sum(times for times, _ in functions) - first.instructions) <= 1
    assert any("dense_f32" in function or "dot" in function for _, function in functions)
    assert sum(times for times, _ in build.disassembly(built, first)) in (first.instructions, first.instructions + 1)


@pytest.mark.xdist_group("board m4f small")
def test_sizes_add_up_to_the_sections(board, head):
    built = size.link(board("m4f"), "head_64_10", head)
    found = size.sections(built)
    lines = subprocess.run(["arm-none-eabi-size", "-A", built.path], capture_output=True, text=True, check=True).stdout
    whole = {f[0]: int(f[1]) for f in map(str.split, lines.splitlines()) if len(f) == 3 and f[1].isdigit()}
    assert 1500 < found["text"] < found["text"] + found["libraries"] < whole[".text"]
    assert found["bss"] == pytest.approx(whole[".bss"], abs=256)  # the board's own, the C library's
    assert 650 * 4 < found["rodata"] <= whole[".rodata"]  # the weights


@pytest.mark.xdist_group("board m4f small")
def test_the_stack_is_measured(board, head):
    measured = size.measure(board("m4f"), "head_64_10", head)
    assert measured is not None
    assert 200 < measured["stack"] < 4096


def test_growth_is_told_from_noise_and_the_new():
    found = report.Comparison()
    found.figure("same", 100, 100, 0.02)
    found.figure("within", 102, 100, 0.02)
    found.figure("grown", 103, 100, 0.02)
    found.figure("from nothing", 1, 0, 0.02)
    found.figure("shrunk", 97, 100, 0.02)
    found.figure("new", 100, None, 0.02)
    assert [text.partition(":")[0] for text in found.grown] == ["grown", "from nothing"]
    assert [text.partition(":")[0] for text in found.shrunk] == ["shrunk"]
    assert [text.partition(":")[0] for text in found.not_compared] == ["new"]
    assert found.compared == 5


def test_another_compiler_is_not_compared(board, head, tmp_path, monkeypatch):
    m4f = board("m4f")
    table = tmp_path / "counts.json"
    monkeypatch.setattr(count, "TABLE", table)
    figures = {"m4f": {"head_64_10_sgd_step": 200}}
    made = {"head_64_10": head}
    count._accept({"m4f": {"head_64_10_sgd_step": 100}}, made)
    grown = report.Comparison()
    count._compare(grown, figures, made)
    assert len(grown.grown) == 1
    table.write_text(table.read_text().replace(build.version(m4f), "gcc 1"))
    other = report.Comparison()
    count._compare(other, figures, made)
    assert not other.grown
    assert "gcc 1" in other.not_compared[0]


def test_what_is_accepted_leaves_the_other_figures_alone(board, head, tmp_path, monkeypatch):
    board("m4f")
    monkeypatch.setattr(count, "TABLE", tmp_path / "counts.json")
    made = {"head_64_10": head, "mlp_64_32_10": head}
    count._accept({"m4f": {"head_64_10_sgd_step": 100, "mlp_64_32_10_sgd_step": 300}}, made)
    count._accept({"m4f": {"head_64_10_sgd_step": 50}}, made)
    kept = report.read_table(count.TABLE)["counts"][head.source]["m4f"]
    assert kept == {"head_64_10_sgd_step": 50, "mlp_64_32_10_sgd_step": 300}
