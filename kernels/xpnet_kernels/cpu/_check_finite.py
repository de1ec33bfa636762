"""The check of a flat vector for NaN and infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.checks.arguments import check_input, check_kind, check_output
from xpnet_kernels.cpu.elementwise.flat_vectors import FLAG, LONGEST_BLOCK, UNIT, call_compiled
from xpnet_kernels.cpu.numba_extensions.callbacks import callback
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, REDUCTION, InVector, OutFlags, OutIntegers, kernel
from xpnet_kernels.cpu.threads.scheduler import INVALID_ARGUMENTS, block_length, block_range, parallel_for


def check_finite(gradients: np.ndarray, found_inf: np.ndarray) -> None:
    """``found_inf[0] = 1`` if an element of ``gradients`` is NaN or infinite, else 0.

    Args:
        gradients: flat contiguous float32 or float64 vector.
        found_inf: (1,) int32, output.

    Raises:
        TypeError, ValueError: an array of a wrong type, length or layout.

    >>> import numpy as np
    >>> found_inf = np.empty(1, np.int32)
    >>> check_finite(np.array([1.0, np.nan]), found_inf)
    >>> found_inf
    array([1], dtype=int32)
    """
    error = call_compiled(_check_finite, gradients, found_inf)
    if error is None:
        return
    check_kind("gradients", gradients, 1)
    check_input("gradients", gradients, gradients.dtype, gradients.shape)
    check_output("found_inf", found_inf, FLAG, (1,))
    raise error


@njit(**REDUCTION)
def _sum_of_zeros(vector: Any) -> Any:
    """Σ 0 · x, which is NaN when an element is NaN or infinite, and else 0."""
    zero = vector.dtype.type(0)
    total = zero
    for i in range(vector.size):
        total += zero * vector[i]
    return total


@njit(**INNER)
def _check_finite_block(gradients: Any, found_inf: Any, step: int, block: int) -> None:
    first, last = block_range(gradients.size, step, block)
    if _sum_of_zeros(gradients[first:last]) != 0:
        found_inf[0] = 1


_CHECK = callback(_check_finite_block)


@kernel
def _check_finite(team: OutIntegers, gradients: InVector, found_inf: OutFlags) -> int:
    if found_inf.size != 1:
        return INVALID_ARGUMENTS
    found_inf[0] = 0
    step = block_length(team, gradients.size, UNIT, LONGEST_BLOCK)
    return parallel_for(team, _CHECK((gradients, found_inf, step)), -(-gradients.size // step))
