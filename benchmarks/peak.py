"""How far a row is from what this core can do at most, in the instructions that suit it best."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgeprop.export.program.layers import Layer, layers
from edgeprop.export.program.program import Program

SOURCE = Path(__file__).with_name("peak.c")
PROGRAM = Path("build") / "peak"
FLAGS = ("-std=gnu11", "-O2", "-march=native", "-ffp-contract=fast")


@dataclass(frozen=True)
class Work:
    """What has to be done at the very least.

    Attributes
    ----------
    f32_macs, int8_macs : multiply-accumulates
    weights : bytes of all weights
    moved : bytes of weights that are read or written, each time counted
    """

    f32_macs: int
    int8_macs: int
    weights: int
    moved: int


def inference(program: Program, batch: int = 1) -> Work:
    """Every layer once a sample, every weight once."""
    rows = layers(program)
    int8 = sum(layer.macs for layer in rows if _is_int8(layer))
    weights = sum(layer.flash for layer in rows)
    return Work(batch * (sum(layer.macs for layer in rows) - int8), batch * int8, weights, weights)


def step(program: Program, batch: int) -> Work:
    """Forward; the gradients of the weights that learn, and of every input behind the first of them; the update, which
    reads those weights and writes them."""
    forward = inference(program, batch)
    rows = layers(program)
    first = next(place for place, layer in enumerate(rows) if layer.trainable)
    dweights = sum(layer.macs for layer in rows if layer.trainable)
    dinputs = sum(layer.macs for layer in rows[first + 1 :])
    update = 2 * 4 * sum(layer.trainable for layer in rows)
    macs = forward.f32_macs + batch * (dweights + dinputs)
    return Work(macs, forward.int8_macs, forward.weights, forward.moved + update)


def _is_int8(layer: Layer) -> bool:
    return layer.kind.endswith("_s8")


def distance(work: Work, seconds: float) -> dict[str, Any]:
    """Return `limit_us`, `share_of_peak`, and what sets the limit; nothing where there is no C compiler.

    The limit is the longer of two: the arithmetic at the peak of the core, and the weights at the rate at which it
    reads as many bytes again and again.
    """
    rates = measure()
    if not rates:
        return {}
    arithmetic = work.f32_macs / rates["f32"] + work.int8_macs / rates["int8"]
    memory = work.moved / read_rate(work.weights)
    limit = max(arithmetic, memory) * 1e-9
    return {
        "limit_us": round(1e6 * limit, 2),
        "share_of_peak": round(limit / seconds, 3),
        "limited_by": "arithmetic" if arithmetic >= memory else "reading weights",
        "macs": work.f32_macs + work.int8_macs,
    }


@cache
def measure() -> dict[str, Any]:
    """Return GMAC/s of "f32" and "int8", and their instructions as "f32 by", "int8 by"; empty without a compiler."""
    if not _build():
        return {}
    rates: dict[str, Any] = {}
    for line in _run().splitlines():
        _, dtype, rate, name = line.split(" ", 3)
        rates[dtype], rates[f"{dtype} by"] = float(rate), name
    return rates


@cache
def read_rate(size: int) -> float:
    """Return GB/s of reading a buffer of about this many bytes over and over: the best of several, for where its pages
    lie makes a difference."""
    return max(float(_run(str(max(4096, size))).split()[-1]) for _ in range(3))


def _run(*arguments: str) -> str:
    return subprocess.run([PROGRAM.resolve(), *arguments], check=True, capture_output=True, text=True).stdout


@cache
def _build() -> bool:
    compiler = shutil.which(os.environ.get("CC", "cc").split()[0])
    if compiler is None:
        return False
    PROGRAM.parent.mkdir(exist_ok=True)
    return subprocess.run([compiler, *FLAGS, SOURCE, "-o", PROGRAM], check=False).returncode == 0


def machine() -> str:
    """Name the processor and its peaks."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    rates = measure()
    peaks = [f"{dtype} {rates[dtype]:.0f} GMAC/s ({rates[dtype + ' by']})" for dtype in ("f32", "int8") if rates]
    return ", ".join([name, *peaks]) if peaks else f"{name}; no C compiler, so no peaks"
