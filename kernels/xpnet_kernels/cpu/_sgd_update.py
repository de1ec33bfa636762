"""The update of stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.elementwise.flat_vectors import LONGEST_BLOCK, UNIT, update
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


def sgd_update(
    values: np.ndarray, gradients: np.ndarray, hyperparameters: np.ndarray, *, found_inf: np.ndarray | None = None
) -> None:
    """θ ← θ - η g on flat vectors, in place.

    Args:
        values: θ, a flat contiguous float32 or float64 vector, updated in place.
        gradients: g, like ``values``.
        hyperparameters: (η,), float64.
        found_inf: (1,) int32, as :func:`check_finite` writes it; where it is 1 nothing is changed.

    Raises:
        TypeError, ValueError: an array of a wrong type, length or layout.

    >>> import numpy as np
    >>> values = np.array([1.0, 2.0])
    >>> sgd_update(values, np.array([1.0, -1.0]), np.array([0.5]))
    >>> values
    array([0.5, 2.5])
    """
    update(_sgd, (), 1, found_inf, hyperparameters, values, gradients)


@njit(**INNER)
def _sgd_block(values: Any, gradients: Any, hyperparameters: Any, step: int, block: int) -> None:
    first, last = block_range(values.size, step, block)
    values, gradients = values[first:last], gradients[first:last]
    rate = values.dtype.type(hyperparameters[0])
    for i in range(values.size):
        values[i] -= rate * gradients[i]


_SGD = callback(_sgd_block)


@kernel
def _sgd(
    team: OutIntegers, values: OutVector, gradients: InVector, hyperparameters: InDoubles, found_inf: InFlags
) -> int:
    if gradients.size != values.size or hyperparameters.size != 1 or found_inf.size != 1:
        return INVALID_ARGUMENTS
    if found_inf[0] != 0:
        return OK
    step = block_length(team, values.size, UNIT, LONGEST_BLOCK)
    return parallel_for(team, _SGD((values, gradients, hyperparameters, step)), -(-values.size // step))
