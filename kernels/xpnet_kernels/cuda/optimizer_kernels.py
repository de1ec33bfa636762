"""The optimizer kernels: grid-stride loops, in which a thread processes 16 bytes of each vector at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import int64, types

from .numba_cuda import cuda
from .primitives import barrier, device_function, given, lead, width
from .tiles import load_masked, store_masked

RESET, CHECK = 1, 2
TINY = 1e-36  # smaller moments become 0, before they decay to denormal numbers


@device_function
def first_element(flat: Any) -> int:
    """The first element of this thread's first vector, counted from the 16-byte boundary before the array."""
    return (int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x) * width(flat) - lead(flat)


@device_function
def stride(flat: Any) -> int:
    """The distance between a thread's vectors, in elements."""
    return int64(cuda.gridDim.x) * cuda.blockDim.x * width(flat)


@device_function
def is_skipped(found_inf: Any) -> bool:
    """Whether ``found_inf`` is given and set."""
    return given(found_inf) and found_inf[0] != 0


@device_function
def mark_not_finite(
    gradients: Any, first: int, step: int, size: int, zero: Any, buffer: Any, flag: Any, mark: int
) -> None:
    """``flag[0] = mark`` if an element is NaN or infinite, of the vectors from ``first`` on that are ``step`` apart."""
    while first < size:
        load_masked(gradients, first, size, True, zero, buffer, 0)
        for k in range(width(gradients)):
            if buffer[k] - buffer[k] != 0:
                flag[0] = mark
        first += step


@lru_cache
def check_finite_kernel(real: types.Type) -> Callable:
    """The phase RESET sets ``found_inf`` to 0; the phase CHECK sets it to ``mark`` if an element is not finite."""
    zero = real(0)

    def check_finite(phases: int, gradients: Any, found_inf: Any, size: int, mark: int) -> None:
        if phases & RESET:
            if cuda.threadIdx.x == 0:
                found_inf[0] = 0
            barrier()
        if phases & CHECK:
            mark_not_finite(
                gradients, first_element(gradients), stride(gradients), size, zero, cuda.local.array(8, real),
                found_inf, mark,
            )  # fmt: skip

    return check_finite


@lru_cache
def sgd_kernel(real: types.Type) -> Callable:
    """θ ← θ − η g."""
    zero = real(0)

    def sgd(values: Any, gradients: Any, hyperparameters: Any, found_inf: Any, size: int) -> None:
        if is_skipped(found_inf):
            return
        rate = real(hyperparameters[0])
        x, g = cuda.local.array(8, real), cuda.local.array(8, real)
        first = first_element(values)
        while first < size:
            load_masked(values, first, size, True, zero, x, 0)
            load_masked(gradients, first, size, lead(gradients) == lead(values), zero, g, 0)
            for k in range(width(values)):
                x[k] -= rate * g[k]
            store_masked(values, first, size, True, x, 0)
            first += stride(values)

    return sgd


@lru_cache
def momentum_kernel(real: types.Type) -> Callable:
    """v ← μ v + g;  θ ← θ − η v, or θ − η (g + μ v)."""
    zero, one, tiny = real(0), real(1), real(TINY)

    def momentum(values: Any, gradients: Any, velocity: Any, hyperparameters: Any, found_inf: Any, size: int) -> None:
        if is_skipped(found_inf):
            return
        rate, mu = real(hyperparameters[0]), real(hyperparameters[1])
        ahead, here = one, zero  # the weights of v and g in the step
        if hyperparameters[2] != 0:
            ahead, here = mu, one
        x, g, v = cuda.local.array(8, real), cuda.local.array(8, real), cuda.local.array(8, real)
        first = first_element(values)
        while first < size:
            load_masked(values, first, size, True, zero, x, 0)
            load_masked(gradients, first, size, lead(gradients) == lead(values), zero, g, 0)
            load_masked(velocity, first, size, lead(velocity) == lead(values), zero, v, 0)
            for k in range(width(values)):
                v[k] = mu * v[k] + g[k]
                if abs(v[k]) < tiny:
                    v[k] = zero
                x[k] -= rate * (ahead * v[k] + here * g[k])
            store_masked(velocity, first, size, lead(velocity) == lead(values), v, 0)
            store_masked(values, first, size, True, x, 0)
            first += stride(values)

    return momentum


@lru_cache
def adam_kernel(real: types.Type) -> Callable:
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  θ ← (1 − η λ) θ − η m̂ / (√v̂ + ε)."""
    zero, tiny = real(0), real(TINY)

    def adam(values: Any, gradients: Any, m: Any, v: Any, hyperparameters: Any, found_inf: Any, size: int) -> None:
        if is_skipped(found_inf):
            return
        keep = real(1 - hyperparameters[0] * hyperparameters[6])
        step, root = real(hyperparameters[0] / hyperparameters[4]), real(1 / math.sqrt(hyperparameters[5]))
        b1, a1, b2, a2 = (
            real(hyperparameters[1]),
            real(1 - hyperparameters[1]),
            real(hyperparameters[2]),
            real(1 - hyperparameters[2]),
        )
        epsilon = real(hyperparameters[3])
        x, g = cuda.local.array(8, real), cuda.local.array(8, real)
        mean, square = cuda.local.array(8, real), cuda.local.array(8, real)
        first = first_element(values)
        while first < size:
            load_masked(values, first, size, True, zero, x, 0)
            load_masked(gradients, first, size, lead(gradients) == lead(values), zero, g, 0)
            load_masked(m, first, size, lead(m) == lead(values), zero, mean, 0)
            load_masked(v, first, size, lead(v) == lead(values), zero, square, 0)
            for k in range(width(values)):
                mean[k] = b1 * mean[k] + a1 * g[k]
                square[k] = b2 * square[k] + a2 * (g[k] * g[k])
                if abs(mean[k]) < tiny:
                    mean[k] = zero
                if square[k] < tiny:
                    square[k] = zero
                x[k] = keep * x[k] - step * (mean[k] / (math.sqrt(square[k]) * root + epsilon))
            store_masked(m, first, size, lead(m) == lead(values), mean, 0)
            store_masked(v, first, size, lead(v) == lead(values), square, 0)
            store_masked(values, first, size, True, x, 0)
            first += stride(values)

    return adam
