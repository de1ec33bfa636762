"""Element-wise activations, each beside its derivative, which is written in terms of the output y."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from xpnet.backends import Array, Backend


def relu(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y = max(x, 0), element by element; NaN stays NaN.

    Args:
        backend: where ``x`` lives.
        x: any shape, floating point.
        out: receives y when given; may be ``x``.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> relu(cpu, cpu.asarray([-1.0, 2.0]))
    array([0., 2.])
    """
    xp = backend.xp
    return _deliver(xp.where(x < 0, xp.zeros_like(x), x), out)


def relu_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else 0 (at the kink, where the derivative is undefined, too)."""
    xp = backend.xp
    return _deliver(xp.where(y > 0, dy, xp.zeros_like(dy)), out)


def sigmoid(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y = 1 / (1 + exp(-x)), element by element.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> sigmoid(cpu, cpu.asarray([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    xp = backend.xp
    decay = xp.exp(-xp.abs(x))  # never above 1, so nothing overflows; for x < 0 the fraction is multiplied by exp(x)
    return _deliver(xp.where(x < 0, decay, xp.ones_like(x)) / (1 + decay), out)


def sigmoid_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = dy · y (1 - y)."""
    return _deliver(dy * y * (1 - y), out)


def tanh(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y = tanh(x), element by element.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> tanh(cpu, cpu.asarray([0.0, 1000.0]))
    array([0., 1.])
    """
    return _deliver(backend.xp.tanh(x), out)


def tanh_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = dy · (1 - y²)."""
    return _deliver(dy * (1 - y * y), out)


def _deliver(result: Array, out: Array | None) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


class Activation(NamedTuple):
    """An activation and its derivative in terms of its output."""

    forward: Callable[..., Array]
    backward: Callable[..., Array]


ACTIVATIONS = {
    "relu": Activation(relu, relu_backward),
    "sigmoid": Activation(sigmoid, sigmoid_backward),
    "tanh": Activation(tanh, tanh_backward),
}
