"""Batch normalisation, per channel over the batch, and layer normalisation, over the last axis."""

from __future__ import annotations

import math
from typing import NamedTuple

from xpnet.backends import Array, Backend
from xpnet.ops.outputs import store


class Normalized(NamedTuple):
    """The result of a normalising forward pass.

    Attributes:
        y: the output, of the shape of x.
        normalized: x̂, of the shape of x; the backward pass needs it and ``scale``.
        scale: 1 / sqrt(σ² + ε), with length 1 on the axes that are averaged over.
        mean: μ, of the shape of ``scale``.
        variance: σ², biased, of the shape of ``scale``.
    """

    y: Array
    normalized: Array
    scale: Array
    mean: Array
    variance: Array


def batch_norm(
    backend: Backend, x: Array, gamma: Array, beta: Array, epsilon: float, out: Array | None = None
) -> Normalized:
    """y = γ x̂ + β, x̂ = (x - μ) / sqrt(σ² + ε), with each channel's mean μ and variance σ² over the batch.

    Args:
        backend: where the arrays live.
        x: (N, C) or (N, C, …); statistics are over all axes but C.
        gamma: (C,), γ.
        beta: (C,), β.
        epsilon: ε.
        out: like x, receives y when given.

    Source: Ioffe and Szegedy, "Batch normalization", 2015, algorithm 1.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, one, zero = (cpu.asarray(a) for a in ([[1.0], [3.0]], [1.0], [0.0]))
    >>> batch_norm(cpu, x, one, zero, epsilon=0.0).y
    array([[-1.],
           [ 1.]])
    """
    gamma, beta = _by_channel(backend, gamma, x), _by_channel(backend, beta, x)
    return _normalize(backend, x, _over_batch(x), gamma, beta, epsilon, out)


def batch_norm_inference(
    backend: Backend,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    epsilon: float,
    out: Array | None = None,
) -> Array:
    """y = γ (x - μ) / sqrt(σ² + ε) + β with given μ and σ², (C,) each; the rest as in ``batch_norm``.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> one, mean, variance = (cpu.asarray([a]) for a in (1.0, 5.0, 4.0))
    >>> batch_norm_inference(cpu, cpu.asarray([[9.0]]), one, one, mean, variance, epsilon=0.0)
    array([[3.]])
    """
    scale = gamma / backend.xp.sqrt(variance + epsilon)
    scale, beta, mean = (_by_channel(backend, vector, x) for vector in (scale, beta, mean))
    return store((x - mean) * scale + beta, out)


def batch_norm_backward(
    backend: Backend,
    dy: Array,
    forward: Normalized,
    gamma: Array,
    dgamma: Array,
    dbeta: Array,
    out: Array | None = None,
) -> Array:
    """dβ = Σ dy, dγ = Σ dy x̂, dx = γ / sqrt(σ² + ε) · (dy - dβ/m - x̂ dγ/m), sums over the m values of a channel.

    Args:
        backend: where the arrays live.
        dy: like x.
        forward: the result of the forward pass.
        gamma: (C,).
        dgamma: (C,), overwritten.
        dbeta: (C,), overwritten.
        out: like x, receives dx when given.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, one, dgamma, dbeta = cpu.asarray([[1.0], [3.0]]), *(cpu.asarray([1.0]) for _ in range(3))
    >>> forward = batch_norm(cpu, x, one, one, epsilon=0.0)
    >>> batch_norm_backward(cpu, cpu.asarray([[4.0], [6.0]]), forward, one, dgamma, dbeta).tolist()
    [[0.0], [0.0]]
    >>> dgamma, dbeta
    (array([2.]), array([10.]))
    """
    xp, axes = backend.xp, _over_batch(dy)
    dbeta[...] = xp.sum(dy, axis=axes)
    dgamma[...] = xp.sum(dy * forward.normalized, axis=axes)
    count = _count(dy, axes)
    from_mean, from_variance = (_by_channel(backend, vector / count, dy) for vector in (dbeta, dgamma))
    dx = (_by_channel(backend, gamma, dy) * forward.scale) * (dy - from_mean - forward.normalized * from_variance)
    return store(dx, out)


def layer_norm(
    backend: Backend, x: Array, gamma: Array, beta: Array, epsilon: float, out: Array | None = None
) -> Normalized:
    """y = γ x̂ + β, x̂ = (x - μ) / sqrt(σ² + ε), with mean μ and variance σ² over the last axis.

    Args:
        backend: where the arrays live.
        x: (…, F).
        gamma: (F,), γ.
        beta: (F,), β.
        epsilon: ε.
        out: like x, receives y when given.

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016, equation 4.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, one, zero = (cpu.asarray(a) for a in ([[1.0, 3.0]], [1.0, 1.0], [0.0, 0.0]))
    >>> layer_norm(cpu, x, one, zero, epsilon=0.0).y
    array([[-1.,  1.]])
    """
    return _normalize(backend, x, (x.ndim - 1,), gamma, beta, epsilon, out)


def layer_norm_backward(
    backend: Backend,
    dy: Array,
    forward: Normalized,
    gamma: Array,
    dgamma: Array,
    dbeta: Array,
    out: Array | None = None,
) -> Array:
    """dβ = Σ dy, dγ = Σ dy x̂ over all axes but the last; dx = (g - mean g - x̂ mean(g x̂)) / sqrt(σ² + ε), g = γ dy.

    The arguments are those of ``batch_norm_backward``; the means are over the last axis.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, one, dgamma, dbeta = cpu.asarray([[1.0, 3.0]]), *(cpu.asarray([1.0, 1.0]) for _ in range(3))
    >>> forward = layer_norm(cpu, x, one, one, epsilon=0.0)
    >>> layer_norm_backward(cpu, cpu.asarray([[4.0, 6.0]]), forward, one, dgamma, dbeta).tolist()
    [[0.0, 0.0]]
    >>> dgamma, dbeta
    (array([-4.,  6.]), array([4., 6.]))
    """
    xp, rows = backend.xp, tuple(range(dy.ndim - 1))
    dbeta[...] = xp.sum(dy, axis=rows)
    dgamma[...] = xp.sum(dy * forward.normalized, axis=rows)
    g = gamma * dy
    from_mean = xp.mean(g, axis=-1, keepdims=True)
    from_variance = xp.mean(g * forward.normalized, axis=-1, keepdims=True)
    return store(forward.scale * (g - from_mean - forward.normalized * from_variance), out)


def _normalize(
    backend: Backend, x: Array, axes: tuple[int, ...], gamma: Array, beta: Array, epsilon: float, out: Array | None
) -> Normalized:
    # Two passes: E[x²] - E[x]² cancels where the mean is large.
    mean = _mean(backend, x, axes)
    centred = x - mean
    variance = _mean(backend, centred * centred, axes)
    scale = 1 / backend.xp.sqrt(variance + epsilon)
    normalized = centred * scale
    return Normalized(store(gamma * normalized + beta, out), normalized, scale, mean, variance)


def _mean(backend: Backend, x: Array, axes: tuple[int, ...]) -> Array:
    total = backend.xp.sum(x, axis=axes, keepdims=True, dtype=backend.xp.float64)
    return backend.xp.astype(total / _count(x, axes), x.dtype)


def _count(x: Array, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


def _over_batch(x: Array) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _by_channel(backend: Backend, vector: Array, x: Array) -> Array:
    """(C,) as (C, 1, …, 1), to broadcast against x."""
    return backend.xp.reshape(vector, (-1,) + (1,) * (x.ndim - 2))
