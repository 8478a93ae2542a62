"""Check gradients against finite differences."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._common import Array
from .fit import as_inputs
from .graph import Graph, check_finite
from .joint_loss import loss_for
from .logits import logits_of

SHRINK = (1.0, 0.1, 0.01)  # eps is retried this much smaller where a kink may be near
ROUNDING = 2e-15  # of a loss near 1, about ten float64 steps


class GradientError(AssertionError):
    """A gradient disagrees with its finite difference."""


@dataclass
class TensorCheck:
    """Backward against finite differences for one tensor.

    Attributes
    ----------
    name : str
        ``head.weight``, or ``x`` for the input (its own name where there are several).
    analytic, numeric : array
        From `backward`; from differences (NaN where skipped). Shaped like the tensor.
    error : float
        Largest relative error.
    checked, skipped : int
        Number of elements compared; left out since a kink lies on them.
    """

    name: str
    analytic: Array
    numeric: Array
    error: float
    checked: int
    skipped: int


@dataclass
class GradientReport:
    """What `check_gradients` found.

    Attributes
    ----------
    tensors : list of TensorCheck
    forwards : int
        Forward passes that the differences took; backward gives the same from one pass.
    seconds_backward, seconds_numeric : float
        Time of one forward and backward, and of all differences.
    """

    tensors: list[TensorCheck] = field(default_factory=list)
    forwards: int = 0
    seconds_backward: float = 0.0
    seconds_numeric: float = 0.0

    @property
    def error(self) -> float:
        """Largest relative error of all tensors."""
        return max(tensor.error for tensor in self.tensors)

    @property
    def speedup(self) -> float:
        """How many times longer finite differences take than backward."""
        return self.seconds_numeric / self.seconds_backward

    def __str__(self) -> str:
        rows = [f"{c.name:<24} error {c.error:.1e}  checked {c.checked}  skipped {c.skipped}" for c in self.tensors]
        cost = f"{self.forwards} forwards for the differences, {self.speedup:.0f} times the time of one backward"
        return "\n".join([*rows, cost])


def check_gradients(
    net: Graph,
    x: Any,
    y: Any,
    loss: Any = "softmax_cross_entropy",
    *,
    eps: float = 1e-6,
    tolerance: float = 1e-5,
    seed: int = 0,
    raise_on_failure: bool = True,
) -> GradientReport:
    """Compare `backward` with central differences for every weight that trains and every input element.

    All happens in training mode, on a float64 copy; the network stays as it is. Dropout drops the same units in
    each pass.

    Where a ReLU or a max pool switches within eps the difference says nothing. So the slopes to the left and to the
    right must agree, or disagree half as much over half the distance, as on a curve; where they do not, eps shrinks up
    to a hundredfold, and if they still disagree, the element sits on a kink and is skipped. That decision looks at
    forward passes only, so it cannot hide a wrong backward.

    Parameters
    ----------
    net : Graph
        Any network; an unbuilt one is checked as built for x with `seed`.
    x, y : array (N, ...)
        A small batch and its targets; tuples as in `fit`.
    loss : str or Loss
        As in `fit`.
    eps : float
        Half the distance between the two points of a difference.
    tolerance : float
        Largest error allowed: ``|analytic - numeric|``, less the difference's rounding error, relative to the larger
        of the two, or to a thousandth of the tensor's largest gradient where both are tiny.
    seed : int
        Of weights (if unbuilt) and dropout.
    raise_on_failure : bool
        Whether to raise.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        If a tensor's error is above `tolerance`, or most of a tensor had to be skipped; the message shows
        analytic beside numeric.
    ValueError
        If x or y do not fit.
    """
    net = copy.deepcopy(net).astype(np.float64)
    xs = tuple(check_finite(part, np.float64).copy() for part in as_inputs(net, x))
    if not net.built:
        net.build(*(part.shape[1:] for part in xs), seed=seed)
    criterion = copy.deepcopy(loss_for(loss, len(net.outputs)))
    target = criterion.check(y, len(xs[0]), net.out_shape, np.float64)

    def value() -> float:
        net.reseed(seed)
        with logits_of(net, criterion):
            return criterion.forward(net.forward(*xs, training=True), target)

    report = GradientReport()
    value()  # the first pass allocates and warms up: leave it out of the time
    start = time.perf_counter()
    center = value()
    with logits_of(net, criterion):
        dx = net.backward(criterion.backward())
    names, dxs = (("x",), (dx,)) if len(xs) == 1 else (net.inputs, dx)
    report.seconds_backward = time.perf_counter() - start
    tensors = [(p.name, p.value, p.grad.copy()) for p in net.parameters(trainable_only=True)]
    tensors += zip(names, xs, dxs, strict=True)
    for name, tensor, analytic in tensors:
        start = time.perf_counter()
        numeric, noise, forwards = differences(value, tensor, center, eps, tolerance)
        report.seconds_numeric += time.perf_counter() - start
        report.forwards += forwards
        report.tensors.append(compare(name, analytic, numeric, noise))
    if raise_on_failure:
        raise_failures(report, tolerance)
    return report


def differences(
    value: Callable[[], float], tensor: Array, center: float, eps: float, tolerance: float
) -> tuple[Array, Array, int]:
    """Return central differences of `value()` for each element of `tensor` (NaN on kinks), their rounding errors (of
    the same shape), and the number of calls.
    """
    numeric, noise, forwards = np.full(tensor.shape, np.nan), np.zeros(tensor.shape), 0
    for place in np.ndindex(tensor.shape):
        for e in (eps * factor for factor in SHRINK):
            rounding = ROUNDING * (1 + abs(center)) / e
            slope, bend = probe(value, tensor, place, center, e)
            forwards += 2
            allowed = rounding + tolerance * abs(slope)
            if abs(bend) > allowed:  # curved or kinked: a curve bends half as much over half the distance
                bend -= 2 * probe(value, tensor, place, center, e / 2)[1]
                forwards += 2
                allowed += 4 * rounding
            if abs(bend) <= allowed:
                numeric[place], noise[place] = slope, rounding
                break
    return numeric, noise, forwards


def probe(
    value: Callable[[], float], tensor: Array, place: tuple[int, ...], center: float, e: float
) -> tuple[float, float]:
    """Return the slope of `value()` between e below and e above one element, and by how much the two halves differ."""
    kept = tensor[place]
    tensor[place] = kept + e
    above = value()
    tensor[place] = kept - e
    below = value()
    tensor[place] = kept
    return (above - below) / (2 * e), (above - 2 * center + below) / e


def compare(name: str, analytic: Array, numeric: Array, noise: Array) -> TensorCheck:
    """Return the comparison of one tensor."""
    seen = ~np.isnan(numeric)
    a, n = analytic[seen], numeric[seen]
    scale = np.maximum(np.abs(a), np.abs(n))
    gap = np.maximum(0, np.abs(a - n) - noise[seen])
    error = gap / np.maximum(scale, max(1e-3 * float(scale.max(initial=0)), 1e-7))
    worst = float(error.max(initial=0)) if np.isfinite(a).all() else np.inf
    return TensorCheck(name, analytic, numeric, worst, int(seen.sum()), int((~seen).sum()))


def raise_failures(report: GradientReport, tolerance: float) -> None:
    """Raise GradientError if a tensor fails."""
    lines = [line for check in report.tensors for line in failure_lines(check, tolerance)]
    if lines:
        raise GradientError("\n".join(lines))


def failure_lines(check: TensorCheck, tolerance: float) -> Iterator[str]:
    """Yield what is wrong with one tensor, analytic beside numeric."""
    if check.skipped > check.checked:
        yield f"{check.name}: {check.skipped} of {check.checked + check.skipped} elements sit on a kink: use other data"
    if check.error <= tolerance:
        return
    yield f"{check.name}: largest relative error {check.error:.2e}, tolerance {tolerance:.0e}"
    gap = np.nan_to_num(np.abs(check.analytic - check.numeric), nan=0.0)
    for flat in np.argsort(gap, axis=None)[::-1][:5]:
        place = np.unravel_index(flat, gap.shape)
        where = ", ".join(map(str, place))
        yield f"  [{where}]  analytic {check.analytic[place]: .8g}   numeric {check.numeric[place]: .8g}"
