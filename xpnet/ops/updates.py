"""Update rules of the optimizers, on flat vectors.

Values that change between steps come in ``hyperparameters``, a small float64 array on the device, so that a captured
step can be replayed. All functions update their vectors in place, and skip the update if ``found_inf``, (1,) int32, is
given and not 0.
"""

from __future__ import annotations

from typing import Any

from xpnet.backends import Array, Backend


def check_finite(backend: Backend, gradients: Array, loss: Array, found_inf: Array) -> None:
    """found_inf ← 0 if all gradients and the loss are finite, else 1: the update must then be skipped.

    Args:
        backend: where the arrays live.
        gradients: (P,).
        loss: 0-d; it can be infinite although all gradients are finite.
        found_inf: (1,) int32, overwritten.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> found_inf = cpu.asarray([0], "int32")
    >>> check_finite(cpu, cpu.asarray([1.0, float("inf")]), cpu.asarray(0.5), found_inf)
    >>> found_inf
    array([1], dtype=int32)
    """
    xp, fused = backend.xp, backend.kernel("check_finite", gradients)
    if fused is None:
        found_inf[...] = xp.astype(~xp.all(xp.isfinite(gradients)), xp.int32)
    else:
        fused(gradients, found_inf)
    backend.fill_unless(backend.is_finite(loss), found_inf, 1)


def restore_if_found_inf(backend: Backend, values: Array, earlier: Array, found_inf: Array) -> None:
    """values ← earlier if ``found_inf``, (1,) int32, is not 0: undoes what a skipped step wrote.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> mean = cpu.asarray([float("nan"), 0.0])
    >>> restore_if_found_inf(cpu, mean, cpu.asarray([1.0, 2.0]), cpu.asarray([1], "int32"))
    >>> mean
    array([1., 2.])
    """
    values[...] = backend.xp.where(found_inf == 0, values, earlier)


def sgd_update(
    backend: Backend, values: Array, gradients: Array, hyperparameters: Array, found_inf: Array | None = None
) -> None:
    """θ ← θ - η g.

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        hyperparameters: (1,) float64: η, the learning rate.
        found_inf: (1,) int32; unless it is 0, nothing is updated.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta = cpu.asarray([1.0, 2.0])
    >>> sgd_update(cpu, theta, cpu.asarray([10.0, 20.0]), cpu.asarray([0.1]))
    >>> theta
    array([0., 0.])
    """
    fused = backend.kernel("sgd_update", values, gradients)
    if fused is not None:
        fused(values, gradients, hyperparameters, found_inf=found_inf)
        return
    (rate,) = scalars(backend, hyperparameters, values.dtype)
    assign(backend, found_inf, values, values - rate * gradients)


def momentum_update(
    backend: Backend,
    values: Array,
    gradients: Array,
    velocity: Array,
    hyperparameters: Array,
    found_inf: Array | None = None,
) -> None:
    """v ← μ v + g;  θ ← θ - η v, or with Nesterov's look-ahead θ ← θ - η (g + μ v).

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        velocity: (P,), v, updated; zero before the first step.
        hyperparameters: (3,) float64: η, the learning rate; μ, the momentum; 1 for Nesterov's form, else 0.
        found_inf: (1,) int32; unless it is 0, nothing is updated.

    Source: Polyak, 1964, with the learning rate outside the velocity, as in PyTorch.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta, velocity = cpu.asarray([1.0]), cpu.asarray([2.0])
    >>> momentum_update(cpu, theta, cpu.asarray([1.0]), velocity, cpu.asarray([0.1, 0.5, 0.0]))
    >>> theta, velocity
    (array([0.8]), array([2.]))
    """
    fused = backend.kernel("momentum_update", values, gradients, velocity)
    if fused is not None:
        fused(values, gradients, velocity, hyperparameters, found_inf=found_inf)
        return
    rate, momentum, nesterov = scalars(backend, hyperparameters, values.dtype)
    assign(backend, found_inf, velocity, flush_denormals(backend, momentum * velocity + gradients))
    ahead = gradients + momentum * velocity
    assign(backend, found_inf, values, values - rate * (nesterov * ahead + (1 - nesterov) * velocity))


def adam_update(
    backend: Backend,
    values: Array,
    gradients: Array,
    m: Array,
    v: Array,
    hyperparameters: Array,
    found_inf: Array | None = None,
) -> None:
    """m ← β₁ m + (1-β₁) g;  v ← β₂ v + (1-β₂) g²;  θ ← (1-ηλ) θ - η (m/c₁) / (sqrt(v/c₂) + ε), with cᵢ = 1 - βᵢᵗ.

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        m: (P,), running mean of the gradient, updated; zero before the first step.
        v: (P,), running mean of its square, updated; zero before the first step.
        hyperparameters: (7,) float64: η, β₁, β₂, ε, c₁, c₂, and λ, the decoupled weight decay.
        found_inf: (1,) int32; unless it is 0, nothing is updated.

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
        fused(values, gradients, m, v, hyperparameters, found_inf=found_inf)
        return
    xp = backend.xp
    rate, beta1, beta2, epsilon, correction1, correction2, decay = (hyperparameters[index, ...] for index in range(7))
    # Differences from 1 are computed in float64: in float32, 1 - β₂ has a relative error of 1.3e-5.
    factors = xp.stack([beta1, 1 - beta1, beta2, 1 - beta2, 1 - rate * decay, rate / correction1, correction2, epsilon])
    b1, a1, b2, a2, keep, step, correction2, epsilon = scalars(backend, factors, values.dtype)
    assign(backend, found_inf, m, flush_denormals(backend, b1 * m + a1 * gradients))
    assign(backend, found_inf, v, flush_denormals(backend, b2 * v + a2 * gradients * gradients))
    assign(backend, found_inf, values, keep * values - step * m / (xp.sqrt(v) / xp.sqrt(correction2) + epsilon))


def assign(backend: Backend, found_inf: Array | None, target: Array, values: Array) -> None:
    """Target ← values, unless ``found_inf`` is set."""
    target[...] = values if found_inf is None else backend.xp.where(found_inf == 0, values, target)


def scalars(backend: Backend, hyperparameters: Array, dtype: Any) -> list[Array]:
    """The hyperparameters as 0-d arrays of ``dtype``."""
    hyperparameters = backend.xp.astype(hyperparameters, dtype)
    return [hyperparameters[index, ...] for index in range(hyperparameters.shape[0])]


def flush_denormals(backend: Backend, moment: Array) -> Array:
    """The moment, with 0 for magnitudes below 1e-36."""
    # Without input, a weight's moments decay into denormal numbers, with which processors compute far more slowly.
    xp = backend.xp
    return xp.where(xp.abs(moment) < 1e-36, xp.zeros_like(moment), moment)
