"""The update of Adam and AdamW."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.elementwise.flat_vectors import LONGEST_BLOCK, TINY, UNIT, update
from xpnet_kernels.cpu.numba_extensions.callbacks import callback
from xpnet_kernels.cpu.numba_extensions.compilation import (
    INNER,
    InDoubles,
    InFlags,
    InVector,
    OutIntegers,
    OutVector,
    kernel,
)
from xpnet_kernels.cpu.threads.scheduler import INVALID_ARGUMENTS, OK, block_length, block_range, parallel_for


def adam_update(
    values: np.ndarray,
    gradients: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    hyperparameters: np.ndarray,
    *,
    found_inf: np.ndarray | None = None,
) -> None:
    """Adam, or AdamW if the weight decay λ is not 0, on flat vectors, in place.

    θ ← (1 - η λ) θ;  m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  θ ← θ - η m̂ / (√v̂ + ε), with
    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ).

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; Loshchilov and Hutter, "Decoupled weight
    decay regularization", ICLR 2019.

    Args:
        values: θ, a flat contiguous float32 or float64 vector, updated in place.
        gradients: g, like ``values``.
        m: first moments, like ``values``, updated in place.
        v: second moments, like ``values``, updated in place.
        hyperparameters: (η, β₁, β₂, ε, 1 - β₁ᵗ, 1 - β₂ᵗ, λ), float64.
        found_inf: (1,) int32, as :func:`check_finite` writes it; where it is 1 nothing is changed.

    Raises:
        TypeError, ValueError: an array of a wrong type, length or layout.

    >>> import numpy as np
    >>> values, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adam_update(values, np.array([3.0]), m, v, np.array([0.1, 0.9, 0.999, 0.0, 0.1, 0.001, 0.0]))
    >>> values.round(12)  # the first step has the length of the learning rate
    array([0.9])
    """
    update(_adam, ("m", "v"), 7, found_inf, hyperparameters, values, gradients, m, v)


# "arcp" and "ninf" let LLVM divide in single precision by an estimated reciprocal and one Newton step, within two units
# in the last place. A true division after the square root would take most of Adam's time.
@njit(**INNER | {"fastmath": {"contract", "nsz", "arcp", "ninf"}})
def _quotient(a: Any, b: Any) -> Any:
    return a / b


@njit(**INNER)
def _adam_block(values: Any, gradients: Any, m: Any, v: Any, hyperparameters: Any, step: int, block: int) -> None:
    first, last = block_range(values.size, step, block)
    values, gradients, m, v = values[first:last], gradients[first:last], m[first:last], v[first:last]
    real = values.dtype.type
    rate, beta1, beta2, epsilon = hyperparameters[0], hyperparameters[1], hyperparameters[2], hyperparameters[3]
    correction1, correction2, decay = hyperparameters[4], hyperparameters[5], hyperparameters[6]
    keep, length, root = real(1 - rate * decay), real(rate / correction1), real(1 / math.sqrt(correction2))
    b1, a1, b2, a2, eps = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2), real(epsilon)
    tiny, zero, largest = real(TINY), real(0), np.finfo(real).max
    for i in range(values.size):
        g = gradients[i]
        m_i = b1 * m[i] + a1 * g
        v_i = b2 * v[i] + (a2 * g) * g
        m_i = zero if abs(m_i) < tiny else m_i
        v_i = zero if v_i < tiny else v_i
        m[i] = m_i
        v[i] = v_i
        divisor = math.sqrt(v_i) * root + eps
        ratio = _quotient(m_i, divisor)
        values[i] = keep * values[i] - length * (zero if divisor > largest else ratio)


_ADAM = callback(_adam_block)


@kernel
def _adam(
    team: OutIntegers, values: OutVector, gradients: InVector, m: OutVector, v: OutVector, hyperparameters: InDoubles,
    found_inf: InFlags,
) -> int:  # fmt: skip
    if not (gradients.size == m.size == v.size == values.size and hyperparameters.size == 7 and found_inf.size == 1):
        return INVALID_ARGUMENTS
    if found_inf[0] != 0:
        return OK
    step = block_length(team, values.size, UNIT, LONGEST_BLOCK)
    return parallel_for(team, _ADAM((values, gradients, m, v, hyperparameters, step)), -(-values.size // step))
