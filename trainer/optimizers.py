"""Update weights in place from their gradients. One row of `OPTIMIZERS` each; PyTorch's conventions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np

from ._common import Array, lookup, require_number
from .graph import Graph, Parameter
from .schedules import Schedule, get_schedule


class Optimizer:
    """What optimizers share: learning rate, weight decay, and state per weight array.

    An optimizer belongs to the network that it trains: its state stays from one call to the next, and starts
    again when it meets another network.

    Parameters
    ----------
    learning_rate : float or Schedule
        Step size, constant or over the epochs of a fit.
    weight_decay : float
        L2 penalty: adds ``weight_decay * weight`` to each gradient, biases included (`fit` has l1 and l2, which spare
        them).
    """

    kind: ClassVar[str] = "optimizer"
    slots: ClassVar[tuple[str, ...]] = ()
    decoupled: ClassVar[bool] = False  # the weight decay shrinks weights itself, and does not join the gradient

    def __init__(self, learning_rate: float | Schedule, *, weight_decay: float = 0.0) -> None:
        self.schedule = get_schedule(learning_rate)
        self.weight_decay = require_number(weight_decay, "weight_decay")
        self.rate = self.schedule(0.0)
        self._owner: object = None
        self.reset()

    def reset(self) -> None:
        """Forget all state."""
        self.steps = 0
        self.state: dict[str, tuple[Array, ...]] = {}

    def bind(self, net: Graph) -> None:
        """Make `net` the network that the state belongs to."""
        if self._owner is not net.token:
            self.reset()
            self._owner = net.token

    def step(self, parameters: Iterable[Parameter]) -> None:
        """Move each weight against its gradient, by `rate`."""
        self.steps += 1
        for name, value, grad in parameters:
            if name not in self.state or self.state[name][0].shape != value.shape:
                self.state[name] = tuple(np.zeros_like(value) for _ in range(1 + len(self.slots)))
            scratch, *slots = self.state[name]
            if self.weight_decay and self.decoupled:
                value *= 1 - self.rate * self.weight_decay
            if self.weight_decay and not self.decoupled:
                np.multiply(value, self.weight_decay, out=scratch)
                scratch += grad
            else:
                np.copyto(scratch, grad)
            self.update(value, scratch, *slots)

    def update(self, value: Array, grad: Array, *slots: Array) -> None:
        """Change `value` in place. `grad` is a copy with the weight decay in it, free to be overwritten."""
        raise TypeError(f"{type(self).__name__} defines no update")


class SGD(Optimizer):
    """Stochastic gradient descent: ``v = momentum * v + g; weight -= rate * v`` (Polyak 1964).

    With `nesterov` the step is ``g + momentum * v`` instead of v (Sutskever et al. 2013).
    """

    kind = "sgd"
    slots = ("velocity",)

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self.momentum = require_number(momentum, "momentum", 0.0, 1.0)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum: SGD(0.01, momentum=0.9, nesterov=True)")

    def update(self, value: Array, grad: Array, *slots: Array) -> None:
        if self.momentum:
            (velocity,) = slots
            velocity *= self.momentum
            velocity += grad
            if self.nesterov:
                grad += self.momentum * velocity
            else:
                np.copyto(grad, velocity)
        grad *= self.rate
        value -= grad


class Momentum(SGD):
    """`SGD` with a momentum of 0.9 unless told otherwise."""

    kind = "momentum"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.9,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


class Adam(Optimizer):
    """Adaptive moments with bias correction, eps outside the root (Kingma & Ba 2015)."""

    kind = "adam"
    slots = ("mean", "square")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self.beta1 = require_number(beta1, "beta1", 0.0, 1.0)
        self.beta2 = require_number(beta2, "beta2", 0.0, 1.0)
        self.eps = require_number(eps, "eps", open_low=True)

    def update(self, value: Array, grad: Array, *slots: Array) -> None:
        mean, square = slots
        mean += (1 - self.beta1) * (grad - mean)
        np.square(grad, out=grad)
        square += (1 - self.beta2) * (grad - square)
        np.sqrt(square, out=grad)
        grad /= math.sqrt(1 - self.beta2**self.steps)
        grad += self.eps
        np.divide(mean, grad, out=grad)
        grad *= self.rate / (1 - self.beta1**self.steps)
        value -= grad


class AdamW(Adam):
    """`Adam` whose weight decay goes past the moments: ``weight *= 1 - rate * weight_decay`` (Loshchilov & Hutter 2019).

    Biases included.
    """

    kind = "adamw"
    decoupled = True

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(learning_rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)


class RMSProp(Optimizer):
    """``s = rho s + (1 - rho) g**2; weight -= rate * g / (sqrt(s) + eps)`` (Hinton, Srivastava & Swersky 2012).

    With `momentum` the step is ``v = momentum * v + g / (sqrt(s) + eps)``; with `centered` the running mean of g is
    taken out of s (Graves 2013).
    """

    kind = "rmsprop"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        *,
        rho: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self.rho = require_number(rho, "rho", 0.0, 1.0)
        self.eps = require_number(eps, "eps", open_low=True)
        self.momentum = require_number(momentum, "momentum", 0.0, 1.0)
        self.centered = bool(centered)
        wanted = {"square": True, "velocity": bool(self.momentum), "mean": self.centered}
        self.slots = tuple(slot for slot, on in wanted.items() if on)  # type: ignore[misc]

    def update(self, value: Array, grad: Array, *slots: Array) -> None:
        square = slots[0]
        square += (1 - self.rho) * (grad * grad - square)
        spread = square
        if self.centered:
            mean = slots[-1]
            mean += (1 - self.rho) * (grad - mean)
            spread = np.maximum(square - mean * mean, 0)  # rounding must not make it negative
        grad /= np.sqrt(spread) + self.eps
        if self.momentum:
            velocity = slots[1]
            velocity *= self.momentum
            velocity += grad
            np.copyto(grad, velocity)
        grad *= self.rate
        value -= grad


class Adagrad(Optimizer):
    """``s += g**2; weight -= rate * g / (sqrt(s) + eps)`` (Duchi, Hazan & Singer 2011)."""

    kind = "adagrad"
    slots = ("total",)

    def __init__(
        self, learning_rate: float | Schedule = 0.01, *, eps: float = 1e-10, weight_decay: float = 0.0
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self.eps = require_number(eps, "eps", open_low=True)

    def update(self, value: Array, grad: Array, *slots: Array) -> None:
        (total,) = slots
        total += grad * grad
        grad /= np.sqrt(total) + self.eps
        grad *= self.rate
        value -= grad


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {o.kind: o for o in (SGD, Momentum, Adam, AdamW, RMSProp, Adagrad)}


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return the optimizer of that name with its defaults, or `optimizer` itself if it is one.

    Raises
    ------
    ValueError
        If the name is not in `OPTIMIZERS`.
    """
    return optimizer if isinstance(optimizer, Optimizer) else lookup(OPTIMIZERS, optimizer, "optimizer")()


def add_penalty(parameters: Iterable[Parameter], l1: float = 0.0, l2: float = 0.0) -> float:
    """Add the gradient of ``l1 * sum(|w|) + l2 * sum(w**2)`` in place, and return that penalty.

    Weights are arrays of two and more axes: biases, scales and shifts are spared.
    """
    penalty = 0.0
    for _, value, grad in parameters:
        if value.ndim < 2:
            continue
        if l1:
            grad += l1 * np.sign(value)
            penalty += l1 * float(np.abs(value).sum())
        if l2:
            grad += 2 * l2 * value
            penalty += l2 * float(np.vdot(value, value))
    return penalty


def clip_gradients(
    parameters: Iterable[Parameter], clip_norm: float | None = None, clip_value: float | None = None
) -> float:
    """Limit gradients in place and return their joint Euclidean norm before that.

    Parameters
    ----------
    parameters : iterable of Parameter
        Their gradients are changed.
    clip_norm : float, optional
        Scale all gradients together so that their joint norm is at most this (Pascanu, Mikolov & Bengio 2013).
    clip_value : float, optional
        Limit each element to [-clip_value, clip_value] (before the norm is taken).
    """
    grads = [p.grad for p in parameters]
    if clip_value is not None:
        for grad in grads:
            np.clip(grad, -clip_value, clip_value, out=grad)
    norm = math.sqrt(sum(float(np.vdot(grad, grad)) for grad in grads))
    if math.isinf(norm):  # a square was beyond float32, which would make a step of nothing
        norm = math.sqrt(sum(float(np.square(grad, dtype=np.float64).sum()) for grad in grads))
    if clip_norm is not None and norm > clip_norm:
        for grad in grads:
            grad *= clip_norm / norm
    return norm
