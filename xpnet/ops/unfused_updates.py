"""Update rules of the optimizers without a fused kernel; the conventions are those of ``updates``."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.ops.updates import assign, flush_denormals, scalars


def adagrad_update(
    backend: Backend,
    values: Array,
    gradients: Array,
    squares: Array,
    hyperparameters: Array,
    found_inf: Array | None = None,
) -> None:
    """s ← s + g²;  θ ← θ - η g / (sqrt(s) + ε).

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        squares: (P,), s, updated; zero before the first step.
        hyperparameters: (2,) float64: η, ε.
        found_inf: (1,) int32; unless it is 0, nothing is updated.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
    2011, figure 1, with diagonal matrices.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta, squares = cpu.asarray([1.0]), cpu.asarray([16.0])
    >>> adagrad_update(cpu, theta, cpu.asarray([3.0]), squares, cpu.asarray([0.5, 0.0]))
    >>> theta, squares
    (array([0.7]), array([25.]))
    """
    rate, epsilon = scalars(backend, hyperparameters, values.dtype)
    assign(backend, found_inf, squares, squares + gradients * gradients)
    assign(backend, found_inf, values, values - rate * gradients / (backend.xp.sqrt(squares) + epsilon))


def rmsprop_update(
    backend: Backend,
    values: Array,
    gradients: Array,
    v: Array,
    hyperparameters: Array,
    found_inf: Array | None = None,
) -> None:
    """v ← α v + (1-α) g²;  θ ← θ - η g / (sqrt(v) + ε).

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        v: (P,), running mean of the gradient's square, updated; zero before the first step.
        hyperparameters: (3,) float64: η, α, ε.
        found_inf: (1,) int32; unless it is 0, nothing is updated.

    Source: Tieleman and Hinton, "Neural networks for machine learning", 2012, lecture 6.5.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta, v = cpu.asarray([1.0]), cpu.asarray([0.0])
    >>> rmsprop_update(cpu, theta, cpu.asarray([4.0]), v, cpu.asarray([0.1, 0.75, 0.0]))
    >>> theta, v
    (array([0.8]), array([4.]))
    """
    xp = backend.xp
    rate, alpha, epsilon = (hyperparameters[index, ...] for index in range(3))
    # 1 - α is computed in float64, as in adam_update.
    kept, added, rate, epsilon = scalars(backend, xp.stack([alpha, 1 - alpha, rate, epsilon]), values.dtype)
    assign(backend, found_inf, v, flush_denormals(backend, kept * v + added * gradients * gradients))
    assign(backend, found_inf, values, values - rate * gradients / (xp.sqrt(v) + epsilon))


def lion_update(
    backend: Backend,
    values: Array,
    gradients: Array,
    m: Array,
    hyperparameters: Array,
    found_inf: Array | None = None,
) -> None:
    """θ ← (1-ηλ) θ - η sign(β₁ m + (1-β₁) g);  m ← β₂ m + (1-β₂) g.

    Args:
        backend: where the arrays live.
        values: (P,), θ, updated.
        gradients: (P,), g.
        m: (P,), running mean of the gradient, updated; zero before the first step.
        hyperparameters: (4,) float64: η, β₁, β₂, and λ, the decoupled weight decay.
        found_inf: (1,) int32; unless it is 0, nothing is updated.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> theta, m = cpu.asarray([1.0]), cpu.asarray([0.0])
    >>> lion_update(cpu, theta, cpu.asarray([3.0]), m, cpu.asarray([0.5, 0.9, 0.75, 0.0]))
    >>> theta, m
    (array([0.5]), array([0.75]))
    """
    xp = backend.xp
    rate, beta1, beta2, decay = (hyperparameters[index, ...] for index in range(4))
    factors = xp.stack([beta1, 1 - beta1, beta2, 1 - beta2, 1 - rate * decay, rate])
    b1, a1, b2, a2, keep, rate = scalars(backend, factors, values.dtype)
    assign(backend, found_inf, values, keep * values - rate * xp.sign(b1 * m + a1 * gradients))
    assign(backend, found_inf, m, flush_denormals(backend, b2 * m + a2 * gradients))
