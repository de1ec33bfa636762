"""The update of gradient descent with momentum."""

from __future__ import annotations

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


def momentum_update(
    values: np.ndarray,
    gradients: np.ndarray,
    velocity: np.ndarray,
    hyperparameters: np.ndarray,
    *,
    found_inf: np.ndarray | None = None,
) -> None:
    """v ← μ v + g; θ ← θ - η v, or with Nesterov momentum θ - η (g + μ v), on flat vectors, in place.

    The definition is PyTorch's, after Sutskever et al., "On the importance of initialization and momentum in deep
    learning", ICML 2013.

    Args:
        values: θ, a flat contiguous float32 or float64 vector, updated in place.
        gradients: g, like ``values``.
        velocity: v, like ``values``, updated in place.
        hyperparameters: (η, μ, 1 for Nesterov momentum or 0), float64.
        found_inf: (1,) int32, as :func:`check_finite` writes it; where it is 1 nothing is changed.

    Raises:
        TypeError, ValueError: an array of a wrong type, length or layout.

    >>> import numpy as np
    >>> values, velocity = np.array([1.0]), np.array([1.0])
    >>> momentum_update(values, np.array([2.0]), velocity, np.array([0.1, 0.5, 0.0]))
    >>> values, velocity
    (array([0.75]), array([2.5]))
    """
    update(_momentum, ("velocity",), 3, found_inf, hyperparameters, values, gradients, velocity)


@njit(**INNER)
def _momentum_block(values: Any, gradients: Any, velocity: Any, hyperparameters: Any, step: int, block: int) -> None:
    first, last = block_range(values.size, step, block)
    values, gradients, velocity = values[first:last], gradients[first:last], velocity[first:last]
    real = values.dtype.type
    rate, momentum, tiny, zero = real(hyperparameters[0]), real(hyperparameters[1]), real(TINY), real(0)
    ahead, here = (momentum, real(1)) if hyperparameters[2] else (real(1), zero)  # the weights of v and g in the step
    for i in range(values.size):
        g = gradients[i]
        v = momentum * velocity[i] + g
        v = zero if abs(v) < tiny else v
        velocity[i] = v
        values[i] -= rate * (ahead * v + here * g)


_MOMENTUM = callback(_momentum_block)


@kernel
def _momentum(
    team: OutIntegers, values: OutVector, gradients: InVector, velocity: OutVector, hyperparameters: InDoubles,
    found_inf: InFlags,
) -> int:  # fmt: skip
    if not (gradients.size == velocity.size == values.size and hyperparameters.size == 3 and found_inf.size == 1):
        return INVALID_ARGUMENTS
    if found_inf[0] != 0:
        return OK
    step = block_length(team, values.size, UNIT, LONGEST_BLOCK)
    return parallel_for(team, _MOMENTUM((values, gradients, velocity, hyperparameters, step)), -(-values.size // step))
