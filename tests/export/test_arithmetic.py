"""The NumPy form of the int8 arithmetic against ONNX Runtime, on random QDQ graphs: no element may differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

from tests.support import ort_arithmetic as reference
from tests.support.cases_s8 import CASES, seeds
from tests.support.qdq import Graph

KERNELS = {
    "Conv": {"QLinearConv", "Transpose"},
    "Dense": {"QGemm", "QLinearMatMul"},
    "Pool": {"MaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool"},
    "Add": {"QLinearAdd"},
    "Softmax": {"QLinearSoftmax"},
    "Mul": {"QLinearMul"},
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("case", CASES)
@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_equals_onnxruntime(case: Any, dtype: Any, seed: int) -> None:
    """Element for element."""
    c = case(seed, dtype)
    graph, output = c.graph()
    np.testing.assert_array_equal(c.numpy(), graph.run(output, dtype))


@pytest.mark.parametrize("case", CASES)
def test_is_fused(case: Any, tmp_path: Path) -> None:
    """The graphs compared above really run in the integer kernels."""
    for seed in range(8):
        c = case(seed)
        graph, output = c.graph()
        graph.run(output, np.int8, str(tmp_path / "fused.onnx"))
        kinds = {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}
        assert kinds <= KERNELS[case.__name__]


Scales = Callable[[np.random.Generator, int], tuple[np.float32, np.float32, np.float32]]


def all_pairs(kind: str, run: Callable[..., Any], scales: Scales, dtype: Any) -> None:
    """All pairs of codes, for 40 draws of the scales of both operands and the result."""
    rng = np.random.default_rng(0)
    lo, hi = reference.limits(dtype)
    codes = np.arange(lo, hi + 1).astype(dtype)
    a, b = np.repeat(codes, 256)[None], np.tile(codes, 256)[None]
    for i in range(40):
        sa, sb, sy = scales(rng, i)
        za, zb, zy = (int(z) for z in rng.integers(lo, hi + 1, 3))
        g = Graph()
        y = g.op(kind, g.dequantize(g.feed("a", a), sa, dtype(za)), g.dequantize(g.feed("b", b), sb, dtype(zb)))
        want = g.run(g.quantize(y, sy, dtype(zy)), dtype)
        np.testing.assert_array_equal(run(a, sa, za, b, sb, zb, sy, zy), want)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_add_all_codes(dtype: Any) -> None:
    """Near-ties, where a differently rounded constant shows, are one in 10^5."""

    def scales(rng: np.random.Generator, i: int) -> tuple[np.float32, np.float32, np.float32]:
        sa, sb = (10 ** rng.uniform(-2, -1, 2)).astype(np.float32)
        sy = np.float32(float(sa + sb) * rng.uniform(0.5, 1))
        return (sa, np.float32(2.0**-6), np.float32(2.0**-4)) if i % 3 == 0 else (sa, sb, sy)

    all_pairs("Add", reference.add, scales, dtype)


def test_requantize_is_a_table() -> None:
    """Concat with other parameters does to each code what DQ -> Q does: one table is right for both."""
    rng = np.random.default_rng(0)
    codes = np.arange(-128, 128, dtype=np.int8)[None]
    for _ in range(50):
        (s1, s2, sy), zeros = (
            (10 ** rng.uniform(-3, 0, 3)).astype(np.float32),
            rng.integers(-128, 128, 3).astype(np.int8),
        )
        g = Graph()
        parts = [g.dequantize(g.feed(f"x{i}", codes), s, zeros[i]) for i, s in enumerate((s1, s2))]
        both = g.run(g.quantize(g.op("Concat", *parts, axis=0), sy, zeros[2]))
        for row, s, z in zip(both, (s1, s2), zeros, strict=False):
            g = Graph()
            np.testing.assert_array_equal(
                row, g.run(g.quantize(g.dequantize(g.feed("x", codes), s, z), sy, zeros[2]))[0]
            )


def test_fma_rounds_once() -> None:
    """The float64 form of fma against exact rational arithmetic, on sums made to be close to ties."""
    from fractions import Fraction

    rng = np.random.default_rng(1)
    a = rng.integers(-255, 256, 4000).astype(np.float32)
    b = (rng.uniform(0.5, 2, 4000) * 10.0 ** rng.integers(-6, 6, 4000)).astype(np.float32)
    tie = (a.astype(np.float64) * b).astype(np.float32) * np.float32(2.0) ** rng.integers(-26, 26, 4000).astype(
        np.float32
    )
    for x, y, z, got in zip(a, b, tie, reference.fma(a, b, tie), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        neighbours = [got, np.nextafter(got, np.float32(np.inf)), np.nextafter(got, np.float32(-np.inf))]
        assert min(abs(Fraction(float(v)) - exact) for v in neighbours) == abs(Fraction(float(got)) - exact)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_mul_all_codes(dtype: Any) -> None:
    """Factors at and next to powers of two, where products are ties or nearly so."""

    def scales(rng: np.random.Generator, i: int) -> tuple[np.float32, np.float32, np.float32]:
        sa, sb = rng.uniform(0.005, 0.1, 2).astype(np.float32)
        factor = np.float32(2.0 ** -rng.integers(1, 8))
        return sa, sb, np.float32(sa * sb / factor) * np.float32(1 + (i % 4 - 1) * 2.0**-23)

    all_pairs("Mul", reference.mul, scales, dtype)
