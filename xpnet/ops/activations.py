"""Element-wise activations and their derivatives: from the output y for those that Linear fuses, else from x."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from xpnet.backends import Array, Backend
from xpnet.ops.outputs import store


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
    return store(xp.where(x < 0, xp.zeros_like(x), x), out)


def relu_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else 0; 0 also at x = 0, where the derivative is undefined.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> relu_backward(cpu, cpu.asarray([5.0, 5.0]), y=cpu.asarray([0.0, 2.0]))
    array([0., 5.])
    """
    xp = backend.xp
    return store(xp.where(y > 0, dy, xp.zeros_like(dy)), out)


def sigmoid(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y = 1 / (1 + exp(-x)), element by element.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> sigmoid(cpu, cpu.asarray([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    xp = backend.xp
    decay = xp.exp(-xp.abs(x))  # at most 1, so nothing overflows; for x < 0, σ(x) = exp(x) / (1 + exp(x))
    return store(xp.where(x < 0, decay, 1.0) / (1 + decay), out)


def sigmoid_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = dy · y (1 - y).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> sigmoid_backward(cpu, cpu.asarray([8.0]), y=cpu.asarray([0.5]))
    array([2.])
    """
    return store(dy * y * (1 - y), out)


def tanh(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y = tanh(x), element by element.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> tanh(cpu, cpu.asarray([0.0, 1000.0]))
    array([0., 1.])
    """
    return store(backend.xp.tanh(x), out)


def tanh_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = dy · (1 - y²).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> tanh_backward(cpu, cpu.asarray([8.0]), y=cpu.asarray([0.5]))
    array([6.])
    """
    return store(dy * (1 - y * y), out)


def gelu(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y = x/2 (1 + tanh(sqrt(2/π) (x + 0.044715 x³))) = x σ(2 sqrt(2/π) (x + 0.044715 x³)), element by element.

    Source: Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", 2016, section 2, the tanh form.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> gelu(cpu, cpu.asarray([-1e30, 1.0, 1e30])).round(6).tolist()
    [0.0, 0.841192, 1e+30]
    """
    xp = backend.xp
    gate, _ = _gelu_gate(backend, x)
    return store(xp.where(x < -_GELU_SATURATED, 0.0, x) * gate, out)


def gelu_backward(backend: Backend, dy: Array, x: Array, out: Array | None = None) -> Array:
    """dx = dy · (g + x g (1 - g) u'), with y = x g, g = σ(u), u = 2 sqrt(2/π) (x + 0.044715 x³).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> gelu_backward(cpu, cpu.asarray([8.0, 8.0]), x=cpu.asarray([0.0, 1e30]))
    array([4., 8.])
    """
    gate, bounded = _gelu_gate(backend, x)
    slope = _GELU_SCALE * (1 + 3 * _GELU_CUBIC * bounded * bounded)
    return store(dy * (gate + bounded * gate * (1 - gate) * slope), out)


_GELU_SCALE, _GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
_GELU_SATURATED = 50.0  # beyond this |x|, σ(u) is exactly 0 or 1, in float64 too


def _gelu_gate(backend: Backend, x: Array) -> tuple[Array, Array]:
    """σ(u), and x clipped so that its cube cannot overflow."""
    xp = backend.xp
    bounded = xp.minimum(xp.maximum(x, -_GELU_SATURATED), _GELU_SATURATED)  # CuPy's clip waits for the GPU
    return sigmoid(backend, _GELU_SCALE * (bounded + _GELU_CUBIC * bounded * bounded * bounded)), bounded


def leaky_relu(backend: Backend, x: Array, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """y = x where x > 0, else negative_slope · x; NaN stays NaN.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> leaky_relu(cpu, cpu.asarray([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """
    return store(backend.xp.where(x > 0, x, negative_slope * x), out)


def leaky_relu_backward(
    backend: Backend, dy: Array, x: Array, negative_slope: float = 0.01, out: Array | None = None
) -> Array:
    """dx = dy where x > 0, else negative_slope · dy, also at x = 0, where the derivative is undefined.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> leaky_relu_backward(cpu, cpu.asarray([5.0, 5.0]), x=cpu.asarray([-1.0, 2.0]))
    array([0.05, 5.  ])
    """
    return store(backend.xp.where(x > 0, dy, negative_slope * dy), out)


def softplus(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y = log(1 + exp(x)), element by element.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> softplus(cpu, cpu.asarray([-1000.0, 0.0, 1000.0])).round(6).tolist()
    [0.0, 0.693147, 1000.0]
    """
    xp = backend.xp
    # max(x, 0) + log(1 + exp(-|x|)): exp cannot overflow, and log1p is accurate for small arguments.
    return store(xp.where(x < 0, xp.zeros_like(x), x) + xp.log1p(xp.exp(-xp.abs(x))), out)


def softplus_backward(backend: Backend, dy: Array, x: Array, out: Array | None = None) -> Array:
    """dx = dy · σ(x).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> softplus_backward(cpu, cpu.asarray([8.0]), x=cpu.asarray([0.0]))
    array([4.])
    """
    return store(dy * sigmoid(backend, x), out)


class Activation(NamedTuple):
    """An activation and its derivative in terms of its output."""

    forward: Callable[..., Array]
    backward: Callable[..., Array]


ACTIVATIONS = {
    "relu": Activation(relu, relu_backward),
    "sigmoid": Activation(sigmoid, sigmoid_backward),
    "tanh": Activation(tanh, tanh_backward),
}
