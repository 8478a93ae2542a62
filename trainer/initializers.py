"""Draw initial weights: one function per row of `INITIALIZERS`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._common import Array, Shape, lookup

Initializer = Callable[[Shape, int, int, np.random.Generator], Array]


def he_normal(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """Normal with variance 2 / fan_in, for rectifiers (He, Zhang, Ren & Sun 2015)."""
    return rng.normal(0.0, math.sqrt(2.0 / fan_in), shape)


def he_uniform(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """Uniform with variance 2 / fan_in, for rectifiers (He, Zhang, Ren & Sun 2015)."""
    limit = math.sqrt(6.0 / fan_in)
    return rng.uniform(-limit, limit, shape)


def glorot_normal(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """Normal with variance 2 / (fan_in + fan_out), for sigmoids and tanh (Glorot & Bengio 2010)."""
    return rng.normal(0.0, math.sqrt(2.0 / (fan_in + fan_out)), shape)


def glorot_uniform(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """Uniform with variance 2 / (fan_in + fan_out), for sigmoids and tanh (Glorot & Bengio 2010)."""
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape)


def orthogonal(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """Orthonormal columns (rows, where those are fewer), for recurrent weights (Saxe, McClelland & Ganguli 2014).

    Of more than two axes those after the first count as one.
    """
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1, 1)  # so that all of them are equally likely (Mezzadri 2007)
    return (q if rows >= columns else q.T).reshape(shape)


def zeros(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """All zeros: biases, shifts, running means."""
    return np.zeros(shape)


def ones(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """All ones: scales, running variances."""
    return np.ones(shape)


INITIALIZERS: dict[str, Initializer] = {
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "orthogonal": orthogonal,
    "zeros": zeros,
    "ones": ones,
}


def get_initializer(init: str | Initializer) -> Initializer:
    """Return the initializer of that name, or `init` itself if it is a function.

    Raises
    ------
    ValueError
        If the name is not in `INITIALIZERS`.
    """
    return init if callable(init) else lookup(INITIALIZERS, init, "initializer")
