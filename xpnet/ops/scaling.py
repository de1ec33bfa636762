"""Scaling of inputs: division by a constant, or standardisation to mean 0 and standard deviation 1."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.ops.outputs import store


def rescale(backend: Backend, x: Array, divisor: float, out: Array | None = None) -> Array:
    """y = x / divisor, bit-identical to :func:`xpnet.ops.gather` with that divisor.

    Args:
        backend: where ``x`` lives.
        x: any shape, floating point.
        divisor: what to divide by.
        out: receives y when given.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> rescale(cpu, cpu.asarray([0.0, 51.0, 255.0]), 255.0)
    array([0. , 0.2, 1. ])
    """
    return store(x / divisor, out)


def standardize(backend: Backend, x: Array, mean: Array, deviation: Array, out: Array | None = None) -> Array:
    """y = (x - μ) / σ, channel by channel.

    Args:
        backend: where the arrays live.
        x: (N, C, …) floating point; if ``mean`` has length 1, any shape, and all values share μ and σ.
        mean: (C,), μ.
        deviation: (C,), σ, the standard deviation.
        out: like x, receives y when given.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, mean, deviation = (cpu.asarray(a) for a in ([[3.0, 10.0], [5.0, 30.0]], [4.0, 20.0], [1.0, 10.0]))
    >>> standardize(cpu, x, mean, deviation)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    xp, shape = backend.xp, (-1,) + (1,) * (x.ndim - 2)
    return store((x - xp.reshape(mean, shape)) / xp.reshape(deviation, shape), out)
