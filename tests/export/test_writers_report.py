"""What the report says in words and in the table, figure by figure, from what the plan and the program say themselves."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest

from edgeprop.export.program.layers import layers, table_bytes
from edgeprop.export.program.plan import (
    infer_arena,
    live_bytes,
    lower_bounds,
    plan,
    restore_arena,
    sums_bytes,
    train_arena,
)
from edgeprop.export.program.program import Program
from edgeprop.export.writers import report
from edgeprop.export.writers.report import to_html, to_markdown
from tests.support import programs

BUILDS: list[Callable[[], Program]] = [programs.cnn, programs.residual, programs.head, programs.autoencoder_int8]


@pytest.mark.parametrize(
    ("used", "bound", "says"),
    [
        (1000, 1000, "as little as any plan can have"),
        (992, 1000, "as little as any plan can have"),
        (1001, 1000, "1 over the least any plan can have"),
        (3016, 1000, "2,016 over the least any plan can have"),
    ],
)
def test_distance_from_the_least(used: int, bound: int, says: str) -> None:
    assert report._distance(used, bound) == says


def facts(program: Program) -> dict[str, str]:
    """Name and value of what stands above the table, without Markdown's escapes."""
    lines = [line[2:].replace("\\", "") for line in to_markdown(program).splitlines() if line.startswith("- ")]
    return dict(line.split(": ", 1) for line in lines if ": " in line)


@pytest.mark.parametrize("build", BUILDS)
def test_figures_above_the_table(build: Callable[[], Program]) -> None:
    program = build()
    p, (infer_least, train_least), found = plan(program), lower_bounds(program), facts(program)
    flash = table_bytes(program) + sum(layer.flash for layer in layers(program))
    assert found["Flash"].startswith(f"{flash:,} bytes")
    arena = infer_arena(program)
    assert found["RAM to infer"] == f"{arena:,} bytes, {report._distance(arena, infer_least)}"
    assert ("RAM to learn" in found) == bool(program.trainable())
    if program.trainable():
        assert found["RAM to infer with restored weights"] == f"{restore_arena(program):,} bytes"
        least = report._distance(p.train_bytes, train_least)
        assert found["RAM to learn"] == (
            f"{train_arena(program):,} bytes (SGD, one sample at a time); "
            f"{p.train_bytes:,} of them for activations and gradients, {least}"
        )
        assert found["RAM to learn otherwise"] == (
            f"{train_arena(program, optimizer='momentum'):,} bytes with momentum, "
            f"{train_arena(program, optimizer='adam'):,} with Adam; mini-batches add {sums_bytes(program):,}"
        )
        weights = sum(t.count for t in program.trainable())
        assert found["Learns"].startswith(f"{weights:,} weights, loss {program.loss};")


def table(program: Program) -> list[list[str]]:
    """Cells of Markdown's table, without its head."""
    rows = [line.strip("| ").split(" | ") for line in to_markdown(program).splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\", "") for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("build", BUILDS)
def test_figures_of_the_table(build: Callable[[], Program]) -> None:
    """A row for each layer, in their order; the sums under them; RAM is the most of any."""
    program = build()
    found, known, ram = table(program), layers(program), live_bytes(program)
    text = to_markdown(program)
    assert len(found) == len(known) + 2
    for layer in known:
        assert f"{layer.flash:,} | {layer.ram:,} |" in text
    assert max(layer.ram for layer in known) == max(ram)
    flash = table_bytes(program) + sum(layer.flash for layer in known)
    total = [cell for cell in found[-1] if cell]
    assert total[:4] == ["total", f"{flash:,}", f"{max(ram):,}", f"{sum(layer.macs for layer in known):,}"]
    assert [cell for cell in found[-2] if cell][:2] == ["tables", f"{table_bytes(program):,}"]


@pytest.mark.parametrize("build", BUILDS)
def test_bars(build: Callable[[], Program]) -> None:
    """As wide as the layer's share of the largest."""
    program = build()
    known = layers(program)
    most = max(layer.ram for layer in known)
    found = re.findall(r'class="bar" style="width:([\d.]+)%"', to_html(program))
    assert found == [f"{100 * layer.ram / most:.1f}" for layer in known]
    assert "100.0" in found


@pytest.mark.parametrize("build", BUILDS)
def test_the_page_says_what_the_text_says(build: Callable[[], Program]) -> None:
    page, program = to_html(build()), build()
    for name, value in facts(program).items():
        assert html.escape(value) in page, name
    assert page.count('<tr class="total">') == 1


@pytest.mark.parametrize(("zero_point", "says"), [(3, "(code - 3)"), (-3, "(code + 3)"), (0, "(code - 0)")])
def test_codes_of_a_port(zero_point: int, says: str) -> None:
    port = {"name": "x", "dtype": "int8", "shape": [2, 3], "scale": 0.25, "zero_point": zero_point}
    assert report._port_text(port) == f"x: int8, 2x3, real value = 0.25 * {says}" or says in report._port_text(port)
    assert "real value" not in report._port_text({"name": "x", "dtype": "float32", "shape": [2]})


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, ""), (31.25, "31.2"), (0.0, "0.0"), (float("inf"), "exact"), (float("-inf"), "no signal")],
)
def test_decibels(value: float | None, says: str) -> None:
    assert report._decibels(value) == says
