"""Track the memory layout of values, so that Transpose, Reshape, Flatten and Squeeze cost nothing on the device.

ONNX thinks in shapes (NCHW), the device in memory order (NHWC). A `Value` bridges them: each of its ONNX axes is a list
of factors, and the storage beneath it lists the same factors in memory order. A Transpose permutes the axes, a Reshape
regroups the factors; neither moves an element. Only an op that needs another order than the one in memory does.

Batch is not an axis here: a value is one sample, whose leading ONNX axis has size 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np


class Factor:
    """A part of an axis: a size with an identity. A Reshape may split it into smaller ones."""

    __slots__ = ("parts", "size")

    def __init__(self, size: int) -> None:
        self.size = int(size)
        self.parts: list[Factor] | None = None

    def expand(self) -> list[Factor]:
        """The factor itself, or those it was split into."""
        return [self] if self.parts is None else [leaf for part in self.parts for leaf in part.expand()]

    def split(self, inner: int) -> None:
        """Split into (size / inner, inner)."""
        self.parts = [Factor(self.size // inner), Factor(inner)]

    def __repr__(self) -> str:
        return f"Factor({self.size})"


def expand(factors: Iterable[Factor]) -> list[Factor]:
    """Factors with every split one replaced by its parts."""
    return [leaf for factor in factors for leaf in factor.expand()]


def significant(factors: Iterable[Factor]) -> list[Factor]:
    """Expanded factors without those of size 1, whose place in memory does not matter."""
    return [factor for factor in expand(factors) if factor.size != 1]


@dataclass
class Order:
    """In which order elements lie in memory; shared by all tensors that follow one another element by element.

    factors : slowest first; None: not decided, as for a graph input until something needs an order
    port : the ONNX axes of the graph input it comes from, which limit the orders it may take
    perm : the permutation of those axes, once decided
    tensors : names of the tensors that have this order, whose shapes wait for it
    """

    factors: list[Factor] | None
    port: list[list[Factor]] | None = None
    perm: tuple[int, ...] = ()
    tensors: list[str] = field(default_factory=list)

    def settled(self) -> list[Factor]:
        """The factors, decided before."""
        assert self.factors is not None
        return self.factors


@dataclass
class Storage:
    """Memory of a tensor: the device tensor's name, and the order of its elements."""

    tensor: str
    order: Order


@dataclass
class Value:
    """An ONNX value of one sample.

    storage : the memory it lies in, perhaps shared with other views of it
    dims : factors of every ONNX axis, slowest first
    exclusive : no other op reads this memory through a value nearer to its producer
    dtype : of the ONNX value: f32, i8, u8 (which lies in memory as i8, 128 lower), i32 (also for int64: indices)
    """

    storage: Storage
    dims: list[list[Factor]]
    dtype: str = "f32"
    exclusive: bool = True
    broken: bool = field(default=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The ONNX shape, the batch axis 1."""
        return tuple(prod(factor.size for factor in axis) for axis in self.dims)

    @property
    def count(self) -> int:
        """Elements of one sample."""
        return prod(self.shape)

    def factors(self, axes: Iterable[int]) -> list[Factor]:
        """Expanded factors of the given axes, one after the other."""
        return [leaf for axis in axes for leaf in expand(self.dims[axis])]

    def view(self, dims: list[list[Factor]], exclusive: bool) -> Value:
        """Another look at the same memory."""
        return Value(self.storage, dims, self.dtype, exclusive, self.broken)


def new_dims(shape: Sequence[int]) -> list[list[Factor]]:
    """One factor per axis."""
    return [[Factor(size)] for size in shape]


def regroup(value: Value, shape: Sequence[int]) -> list[list[Factor]]:
    """Axes of `shape` over the factors of `value`, splitting factors where needed.

    Raises
    ------
    ValueError : a new axis cuts a factor at a place that is no divisor, as (6, 4) -> (8, 3)
    """
    pool = [factor for factor in value.factors(range(len(value.dims))) if factor.size != 1]
    dims: list[list[Factor]] = []
    for size in reversed(shape):
        axis: list[Factor] = []
        left = size
        while left != 1:
            factor = pool.pop() if pool else None
            if factor is None:
                raise ValueError(f"cannot view shape {value.shape} as {tuple(shape)}")
            if factor.size > left or left % factor.size:
                if left == 0 or factor.size % left:
                    raise ValueError(f"cannot view shape {value.shape} as {tuple(shape)}")
                factor.split(left)
                pool.append(factor.parts[0])  # type: ignore[index]
                factor = factor.parts[1]  # type: ignore[index]
            axis.insert(0, factor)
            left //= factor.size
        dims.insert(0, axis or [Factor(1)])
    if pool:
        raise ValueError(f"cannot view shape {value.shape} as {tuple(shape)}")
    return dims


def refine(a: Value, b: Value) -> list[tuple[Factor, Factor]] | None:
    """Pairs of equal factors of two values of one shape, splitting both where needed; None where they do not divide."""
    pairs: list[tuple[Factor, Factor]] = []
    for axis_a, axis_b in zip(a.dims, b.dims, strict=True):
        pool_a, pool_b = significant(axis_a), significant(axis_b)
        while pool_a and pool_b:
            fa, fb = pool_a.pop(), pool_b.pop()
            if fa.size > fb.size and fa.size % fb.size == 0:
                fa.split(fb.size)
                outer, fa = fa.parts  # type: ignore[misc]
                pool_a.append(outer)
            elif fb.size > fa.size and fb.size % fa.size == 0:
                fb.split(fa.size)
                outer, fb = fb.parts  # type: ignore[misc]
                pool_b.append(outer)
            elif fa.size != fb.size:
                return None
            pairs.append((fa, fb))
    return pairs


def port_permutation(port: list[list[Factor]], wanted: list[Factor]) -> tuple[int, ...] | None:
    """The axis permutation that puts a port's elements in the order `wanted`, or None where none does."""
    wanted = expand(wanted)
    place = {factor: i for i, factor in enumerate(wanted)}
    keyed = []
    for axis, factors in enumerate(port):
        leaves = significant(factors)
        known = [place[leaf] for leaf in leaves or expand(factors) if leaf in place]
        if leaves and known != list(range(known[0], known[0] + len(leaves))):
            compact = [place[leaf] for leaf in leaves]
            between = [f for f in wanted[compact[0] : compact[-1] + 1] if f.size != 1]
            if between != leaves:
                return None
        keyed.append((known[0] if known else -1, axis))
    return tuple(axis for _, axis in sorted(keyed))


def permute_array(array: np.ndarray, dims: list[list[Factor]], wanted: list[Factor]) -> np.ndarray:
    """A constant of the ONNX shape that `dims` describes, flattened in the device order `wanted`."""
    logical = significant([factor for axis in dims for factor in axis])
    perm = [logical.index(factor) for factor in significant(wanted)]
    return np.ascontiguousarray(array.reshape([f.size for f in logical]).transpose(perm)).reshape(-1)
