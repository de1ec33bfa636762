"""One step of each optimizer, on flat vectors.

What changes from step to step comes in ``settings``, a small float64 array on the device, so that a recorded step
stays valid when it is played again. All functions update their vectors in place; where ``finite``, (1,) int32, is
given and holds 0, they leave them as they are.
"""

from __future__ import annotations

import math
from typing import Any

from xpnet.backends import Array, Backend


def all_finite(backend: Backend, gradients: Array, loss: Array, finite: Array) -> None:
    """Whether an update with these gradients makes sense: finite ← 1 when they and the loss are finite, else 0.

    Args:
        backend: where the arrays live.
        gradients: (P,).
        loss: 0-d; it may be infinite where no gradient is.
        finite: (1,) int32, overwritten.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> finite = cpu.asarray([1], "int32")
    >>> all_finite(cpu, cpu.asarray([1.0, float("inf")]), cpu.asarray(0.5), finite)
    >>> finite
    array([0], dtype=int32)
    """
    xp = backend.xp
    fused = backend.kernel("all_finite", gradients)
    if fused is None:
        finite[...] = xp.astype(xp.all(xp.isfinite(gradients)) & xp.isfinite(loss), xp.int32)
        return
    fused(gradients, finite)
    if not backend.reads_are_free:
        finite[...] = finite * xp.astype(xp.isfinite(loss), xp.int32)
    elif not math.isfinite(loss):  # four times as fast as on arrays with one element
        finite[0] = 0


def take_back(backend: Backend, values: Array, earlier: Array, finite: Array) -> None:
    """values ← earlier where ``finite``, (1,) int32, holds 0: running statistics that a bad batch has spoilt.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> mean = cpu.asarray([float("nan"), 0.0])
    >>> take_back(cpu, mean, cpu.asarray([1.0, 2.0]), cpu.asarray([0], "int32"))
    >>> mean
    array([1., 2.])
    """
    values[...] = backend.xp.where(finite == 1, values, earlier)


def sgd_update(backend: Backend, values: Array, gradients: Array, settings: Array, finite: Array | None = None) -> None:
    """θ ← θ - η g.

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        settings: (1,) float64: η, the learning rate.
        finite: (1,) int32; 0: nothing is updated. So with all updates.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta = cpu.asarray([1.0, 2.0])
    >>> sgd_update(cpu, theta, cpu.asarray([10.0, 20.0]), cpu.asarray([0.1]))
    >>> theta
    array([0., 0.])
    """
    fused = backend.kernel("sgd_update", values, gradients)
    if fused is not None:
        fused(values, gradients, settings, finite=finite)
        return
    (rate,) = scalars(backend, settings, values.dtype)
    assign(backend, finite, values, values - rate * gradients)


def momentum_update(
    backend: Backend,
    values: Array,
    gradients: Array,
    velocity: Array,
    settings: Array,
    finite: Array | None = None,
) -> None:
    """v ← μ v + g;  θ ← θ - η v, or with Nesterov's look-ahead θ ← θ - η (g + μ v).

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        velocity: (P,), v, updated; zero before the first step.
        settings: (3,) float64: η, the learning rate; μ, the momentum; 1 for Nesterov's form, else 0.
        finite: (1,) int32; 0: nothing is updated.

    Source: Polyak, 1964, with the learning rate outside the velocity, as PyTorch has it.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta, velocity = cpu.asarray([1.0]), cpu.asarray([2.0])
    >>> momentum_update(cpu, theta, cpu.asarray([1.0]), velocity, cpu.asarray([0.1, 0.5, 0.0]))
    >>> theta, velocity
    (array([0.8]), array([2.]))
    """
    fused = backend.kernel("momentum_update", values, gradients, velocity)
    if fused is not None:
        fused(values, gradients, velocity, settings, finite=finite)
        return
    rate, momentum, nesterov = scalars(backend, settings, values.dtype)
    assign(backend, finite, velocity, flushed(backend, momentum * velocity + gradients))
    ahead = gradients + momentum * velocity
    assign(backend, finite, values, values - rate * (nesterov * ahead + (1 - nesterov) * velocity))


def adam_update(
    backend: Backend,
    values: Array,
    gradients: Array,
    m: Array,
    v: Array,
    settings: Array,
    finite: Array | None = None,
) -> None:
    """m ← β₁ m + (1-β₁) g;  v ← β₂ v + (1-β₂) g²;  θ ← (1-ηλ) θ - η (m/c₁) / (sqrt(v/c₂) + ε), with cᵢ = 1 - βᵢᵗ.

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        m: (P,), running mean of the gradient, updated; zero before the first step.
        v: (P,), running mean of its square, updated; zero before the first step.
        settings: (7,) float64: η, β₁, β₂, ε, c₁, c₂, and λ, the decoupled weight decay.
        finite: (1,) int32; 0: nothing is updated.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1; Loshchilov and
    Hutter, "Decoupled weight decay regularization", 2019, for λ.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta, m, v = cpu.asarray([1.0]), cpu.asarray([0.0]), cpu.asarray([0.0])
    >>> adam_update(cpu, theta, cpu.asarray([5.0]), m, v, cpu.asarray([0.1, 0.9, 0.999, 0, 0.1, 0.001, 0]))
    >>> theta
    array([0.9])
    """
    fused = backend.kernel("adam_update", values, gradients, m, v)
    if fused is not None:
        fused(values, gradients, m, v, settings, finite=finite)
        return
    xp = backend.xp
    rate, beta1, beta2, epsilon, correction1, correction2, decay = (settings[index, ...] for index in range(7))
    # Differences from 1 are taken in float64: in float32, 1 - β₂ would be off by 1.3e-5 of itself.
    factors = xp.stack([beta1, 1 - beta1, beta2, 1 - beta2, 1 - rate * decay, rate / correction1, correction2, epsilon])
    b1, a1, b2, a2, keep, step, correction2, epsilon = scalars(backend, factors, values.dtype)
    assign(backend, finite, m, flushed(backend, b1 * m + a1 * gradients))
    assign(backend, finite, v, flushed(backend, b2 * v + a2 * gradients * gradients))
    assign(backend, finite, values, keep * values - step * m / (xp.sqrt(v) / xp.sqrt(correction2) + epsilon))


def assign(backend: Backend, finite: Array | None, target: Array, values: Array) -> None:
    """Target ← values, unless ``finite`` holds 0."""
    target[...] = values if finite is None else backend.xp.where(finite == 1, values, target)


def scalars(backend: Backend, settings: Array, dtype: Any) -> list[Array]:
    """The settings, each a 0-d array of the vectors' type."""
    settings = backend.xp.astype(settings, dtype)
    return [settings[index, ...] for index in range(settings.shape[0])]


def flushed(backend: Backend, moment: Array) -> Array:
    """The moment, with 0 for what is below 1e-36."""
    # A pixel that is rarely on lets its moments decay into denormal numbers, which processors compute far slower.
    xp = backend.xp
    return xp.where(xp.abs(moment) < 1e-36, xp.zeros_like(moment), moment)
