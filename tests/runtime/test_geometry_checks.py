"""Checks of windows against a rule of their own: random geometries around every limit, no two axes alike, and for each op the
same verdict as ten lines of Python give. Axes exchanged in a check show nowhere else: what a square image allows, a
rectangle does too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprop import runtime
from tests.support import op_images
from tests.support.parts import Parts

LARGEST = (1 << 30) - 1  # elements of a tensor
POSITIONS = 1 << 28
FREE, TIMES, MOST = 1 << 24, 16, 1 << 28

CONVOLUTIONS = [
    "conv2d_f32", "depthwise_conv2d_f32", "conv_transpose2d_f32", "conv2d_s8", "depthwise_conv2d_s8", "conv2d_zero_s8",
    "dynamic_conv2d_f32",
]  # fmt: skip
POOLS = ["max_pool2d_f32", "average_pool2d_f32", "max_pool2d_s8", "average_pool2d_s8"]
FIELDS = {kind: [name for name, _ in runtime.OPS[kind].attr] for kind in (*CONVOLUTIONS, *POOLS)}


def span(a: dict[str, int], axis: str, source: str = "in", target: str = "out") -> int:
    """Positions that windows along an axis go over, padding included; 0 where there are none, or too many."""
    end = a.get({"h": "pad_bottom", "w": "pad_right"}[axis], 0)
    pad = a[{"h": "pad_top", "w": "pad_left"}[axis]]
    n, m, k, s, d = (a[f"{name}_{axis}"] for name in (source, target, "kernel", "stride", "dilation"))
    if min(n, m, k, s, d) < 1 or min(pad, end) < 0:
        return 0
    found = max((m - 1) * s + (k - 1) * d + 1, n + pad + end, s, d)
    return found if found <= POSITIONS else 0


def fits(a: dict[str, int], channels: int, source: str = "in", target: str = "out") -> bool:
    """Whether the image that windows see is no larger than is allowed."""
    rows, columns = (span(a, axis, source, target) for axis in "hw")
    count = a[f"{source}_h"] * a[f"{source}_w"] * channels
    limit = min(max(TIMES * count, FREE), MOST)
    return 0 < count <= LARGEST and 0 < rows * columns <= limit and rows * columns * channels <= limit


def accepts(kind: str, a: dict[str, int]) -> bool:
    """What the check is to say."""
    if kind in POOLS:
        inside = all(
            a[pad] < a[f"kernel_{axis}"] and (a[f"out_{axis}"] - 1) * a[f"stride_{axis}"] - a[pad] < a[f"in_{axis}"]
            for axis, pad in (("h", "pad_top"), ("w", "pad_left"))
        )
        plain = a["dilation_h"] == a["dilation_w"] == 1 and 0 <= a["count_include_pad"] <= 3
        return fits(a, a["channels"]) and (kind != "average_pool2d_s8" or (inside and plain))
    if min(a["groups"], a["in_c"], a["out_c"]) < 1 or a["in_c"] % a["groups"] or a["out_c"] % a["groups"]:
        return False
    if kind.startswith("depthwise") and a["groups"] != a["in_c"]:
        return False
    if kind.startswith("conv_transpose"):
        return fits(a, a["out_c"], "out", "in")
    return fits(a, a["in_c"])


def counts(kind: str, a: dict[str, int]) -> list[int]:
    """Elements of the operands, in their order."""
    if kind in POOLS:
        return [a["in_h"] * a["in_w"] * a["channels"], a["out_h"] * a["out_w"] * a["channels"]]
    taps = a["kernel_h"] * a["kernel_w"]
    if kind.startswith("depthwise"):
        weight = taps * a["out_c"]
    elif kind.startswith("conv_transpose"):
        weight = taps * a["in_c"] * (a["out_c"] // max(a["groups"], 1))
    else:
        weight = taps * a["out_c"] * (a["in_c"] // max(a["groups"], 1))
    rest = {"conv2d_s8": 2, "depthwise_conv2d_s8": 2, "conv2d_zero_s8": 3, "dynamic_conv2d_f32": 3}.get(kind, 1)
    x, y = (a[f"{side}_h"] * a[f"{side}_w"] * a[f"{side}_c"] for side in ("in", "out"))
    return [x, weight, *[a["out_c"]] * rest, y]


def image(kind: str, a: dict[str, int]) -> Parts:
    limits = {"lo": -100.0, "hi": 100.0} if kind.endswith("s8") else {"lo": -np.inf, "hi": np.inf}
    values: dict[str, Any] = {**limits, **a}
    return op_images.single(kind, tuple(values[name] for name in FIELDS[kind]), counts(kind, a))


def drawn(kind: str, random: np.random.Generator) -> dict[str, int]:
    """A geometry of axes that differ, most of them valid, some far out along one of them."""
    a = {f"in_{axis}": int(random.integers(1, 12)) for axis in "hw"}
    for axis in "hw":
        a[f"kernel_{axis}"] = int(random.integers(1, 5))
        a[f"stride_{axis}"] = int(random.integers(1, 4))
        a[f"dilation_{axis}"] = (
            1 if kind == "average_pool2d_s8" and random.random() < 0.9 else int(random.integers(1, 3))
        )
        a[f"out_{axis}"] = int(random.integers(1, 6))
    a |= {"pad_top": int(random.integers(0, 3)), "pad_left": int(random.integers(0, 3))}
    if kind in POOLS:
        a |= {"channels": int(random.integers(1, 5)), "count_include_pad": int(random.integers(0, 4))}
        a |= {"pad_bottom": int(random.integers(0, 3)), "pad_right": int(random.integers(0, 3))}
    else:
        groups = int(random.integers(1, 4))
        depthwise = kind.startswith("depthwise")
        a |= {"groups": groups, "in_c": groups * (1 if depthwise else int(random.integers(1, 3)))}
        a["out_c"] = groups * int(random.integers(1, 3))
    return a


def changed(kind: str, a: dict[str, int], random: np.random.Generator) -> dict[str, int]:
    """The same with one number at, or next to, what it makes the image as large as is allowed."""
    field = str(
        random.choice([name for name in a if name.startswith(("pad", "stride", "dilation", "out", "groups", "in"))])
    )
    if field in ("groups", "in_c", "out_c", "in_h", "in_w") or random.random() < 0.2:
        return a | {field: a[field] + int(random.integers(-3, 4))}
    top, least = 1 << 29, a[field]
    low, high = least, top
    while low < high:  # the largest that is accepted, by halving
        middle = (low + high + 1) // 2
        low, high = (middle, high) if accepts(kind, a | {field: middle}) else (low, middle - 1)
    return a | {field: low + int(random.integers(0, 2))}


@pytest.mark.parametrize("kind", [*CONVOLUTIONS, *POOLS])
def test_windows_at_their_limits(kind: str) -> None:
    random = np.random.default_rng(sum(map(ord, kind)))
    verdicts = []
    for _ in range(400):
        a = drawn(kind, random)
        if random.random() < 0.7:
            a = changed(kind, a, random)
        if min(counts(kind, a)) < 1 or max(counts(kind, a)) > 1 << 22:
            continue
        wanted = accepts(kind, a)
        found = runtime.load_error(image(kind, a).emit()) is None
        assert found == wanted, a
        verdicts.append(wanted)
    assert 0.1 < np.mean(verdicts) < 0.9
    assert len(verdicts) > 150
