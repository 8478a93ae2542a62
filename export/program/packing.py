"""Pack blocks with lifetimes into one arena, as small as can be found (dynamic storage allocation).

A small graph is solved exactly by branch and bound. A large one gets the best of several greedy orders and of a
seeded search around them, which for networks nearly always meets the lower bound.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

ALIGN = 16  # bytes; every block starts at a multiple
EFFORT = 300_000  # of branch and bound before it gives up, in blocks looked at: about a second
_SHUFFLES = 200  # of the search around the best greedy order
_PAIRS = 1_000_000  # of blocks that live together, looked at in that search: a second or two; large graphs get fewer


@dataclass(frozen=True)
class Span:
    """`size` bytes that must be kept from time `start` to time `end`, both included."""

    start: int
    end: int
    size: int


Block = tuple[Span, ...]  #: what shares one place, in turn


@dataclass(frozen=True)
class Packing:
    """Places of blocks.

    Attributes
    ----------
    offsets : of each block, bytes, multiples of ALIGN
    bytes : of the arena that holds them
    bound : the most that lives at one time: no packing is smaller
    optimal : whether `bytes` is known to be the least possible
    effort : what branch and bound took, in blocks looked at
    """

    offsets: tuple[int, ...]
    bytes: int
    bound: int
    optimal: bool
    effort: int = 0


def rounded(size: int) -> int:
    """`size` rounded up to a multiple of ALIGN."""
    return -(-size // ALIGN) * ALIGN


def live_at(blocks: Sequence[Block], count: int) -> list[int]:
    """Bytes that live at each of the times 0 .. count-1: of each block, the largest of its spans then."""
    last = max((span.end for block in blocks for span in block), default=0)
    total = np.zeros(max(count, last + 1), np.int64)
    for block in blocks:
        first = min(span.start for span in block)
        size = np.zeros(max(span.end for span in block) + 1 - first, np.int64)
        for span in block:
            part = size[span.start - first : span.end + 1 - first]
            np.maximum(part, rounded(span.size), out=part)
        total[first : first + len(size)] += size
    return [int(size) for size in total[:count]]


def live_bound(blocks: Sequence[Block]) -> int:
    """The most bytes that live at one time."""
    count = max((span.end + 1 for block in blocks for span in block), default=0)
    return max(live_at(blocks, count), default=0)


def _gap(below: Block, above: Block) -> int:
    """How far `above` must start from the start of `below`, if it lies above it. 0: they never live together."""
    together = (
        rounded(a.size) for a in below for b in above if a.start <= b.end and b.start <= a.end and a.size and b.size
    )
    return max(together, default=0)


def _meetings(blocks: Sequence[Block]) -> list[list[int]]:
    """For each block the others that are there between its start and its end, by their numbers, in order."""
    starts = [min(span.start for span in block) for block in blocks]
    ends = [max(span.end for span in block) for block in blocks]
    met: list[list[int]] = [[] for _ in blocks]
    there: list[int] = []
    for block in sorted(range(len(blocks)), key=starts.__getitem__):
        there = [other for other in there if ends[other] >= starts[block]]
        for other in there:
            met[block].append(other)
            met[other].append(block)
        there.append(block)
    return [sorted(others) for others in met]


class _Packer:
    """A set of blocks and what keeps them apart: `gaps[a]` has a distance for each block that `a` meets."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.heights = [max((rounded(span.size) for span in block), default=0) for block in blocks]
        self.gaps: list[dict[int, int]] = [
            {b: gap for b in met if (gap := _gap(blocks[a], blocks[b]))} for a, met in enumerate(_meetings(blocks))
        ]

    def total(self, offsets: Sequence[int]) -> int:
        return max((at + height for at, height in zip(offsets, self.heights, strict=True)), default=0)

    def first_fit(self, order: Iterable[int]) -> list[int]:
        """Each block, in turn, at the lowest place that is free while it lives."""
        placed: dict[int, int] = {}
        for block in order:
            met = [other for other in self.gaps[block] if other in placed]
            at, moved = 0, True
            while moved:
                moved = False
                for other in met:
                    low, high = placed[other], placed[other] + self.gaps[other][block]
                    if at < high and at + self.gaps[block][other] > low:
                        at, moved = high, True
            placed[block] = at
        return [placed[block] for block in range(len(self.blocks))]

    def greedy_orders(self) -> list[list[int]]:
        """By size, by lifetime, by their product, by start, by end."""
        lengths = [max(s.end for s in block) - min(s.start for s in block) + 1 for block in self.blocks]
        starts = [min(s.start for s in block) for block in self.blocks]
        ends = [max(s.end for s in block) for block in self.blocks]
        sizes = self.heights
        keys = [
            [(-sizes[i], -lengths[i], i) for i in range(len(sizes))],
            [(-lengths[i], -sizes[i], i) for i in range(len(sizes))],
            [(-lengths[i] * sizes[i], starts[i], i) for i in range(len(sizes))],
            [(starts[i], -sizes[i], i) for i in range(len(sizes))],
            [(-ends[i], -sizes[i], i) for i in range(len(sizes))],
        ]
        return [sorted(range(len(sizes)), key=key.__getitem__) for key in keys]


def _search(packer: _Packer, best: list[int], bound: int) -> list[int]:
    """First fit in orders near that of the best packing so far: one or two blocks moved at a time."""
    chance = random.Random(0)
    pairs = sum(map(len, packer.gaps))
    for _ in range(min(_SHUFFLES, _PAIRS // max(pairs, 1))):
        if packer.total(best) == bound:
            break
        order = sorted(range(len(best)), key=lambda block: (best[block], block))
        for _ in range(chance.randint(1, 2)):
            order.insert(chance.randrange(len(order)), order.pop(chance.randrange(len(order))))
        offsets = packer.first_fit(order)
        if packer.total(offsets) <= packer.total(best):
            best = offsets
    return best


class _BranchAndBound:
    """Tries all packings in order of rising offset, where each block rests on one that was placed before it."""

    def __init__(self, packer: _Packer, best: list[int], bound: int, effort: int) -> None:
        self.packer, self.best, self.bound = packer, best, bound
        self.total = packer.total(best)
        self.gaps = [list(gaps.items()) for gaps in packer.gaps]
        self.places = [0] * len(best)
        self.left = effort

    def run(self) -> bool:
        """Improves `best`; True if it is the optimum."""
        by_height = sorted(range(len(self.best)), key=lambda block: (-self.packer.heights[block], block))
        self._place(by_height, [0] * len(self.best), 0)
        return self.left > 0

    def _place(self, free: list[int], lowest: list[int], last: int) -> None:
        """`free`: blocks without a place, the highest first; `lowest`: of each of them, its place on top of those placed;
        `last`: the highest place so far."""
        self.left -= len(free) + 1
        if not free:
            self.best = self.places.copy()
            self.total = self.packer.total(self.best)
            return
        heights = self.packer.heights
        least = max([lowest[block] + heights[block] for block in free])
        # what rests on anything lower than the last one was tried in another order already
        for block in sorted([block for block in free if lowest[block] >= last], key=lowest.__getitem__):
            if least >= self.total or self.left <= 0 or self.total == self.bound:
                return
            at = self.places[block] = lowest[block]
            above = lowest.copy()
            for other, gap in self.gaps[block]:
                if above[other] < at + gap:
                    above[other] = at + gap
            self._place([other for other in free if other != block], above, at)


def pack(blocks: Sequence[Block], effort: int = EFFORT) -> Packing:
    """Places for blocks such that no two that live at one time overlap.

    Deterministic: the same blocks in the same order get the same places.

    Parameters
    ----------
    blocks : in any order; the spans of a block may touch or overlap in time, and then share their bytes
    effort : the most that branch and bound takes, in blocks looked at; 0 for none

    Returns
    -------
    Packing, proven optimal where it meets the bound or the graph is small.
    """
    packer, bound = _Packer(blocks), live_bound(blocks)
    best = min((packer.first_fit(order) for order in packer.greedy_orders()), key=packer.total)
    if packer.total(best) > bound:
        best = _search(packer, best, bound)
    optimal, taken = packer.total(best) == bound, 0
    if not optimal and effort > 0:
        exact = _BranchAndBound(packer, best, bound, effort)
        optimal = exact.run() or exact.total == bound
        best, taken = exact.best, effort - max(exact.left, 0)
    return Packing(tuple(best), packer.total(best), bound, optimal, taken)
