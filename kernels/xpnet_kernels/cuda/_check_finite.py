"""The check of a flat vector for NaN and infinity."""

from __future__ import annotations

from typing import Any

from numba import types

from .arrays import REALS, accumulator, array, output
from .flat_vectors import SMALL, grid_of, vectors
from .launch import Launch, typed
from .optimizer_kernels import CHECK, RESET, check_finite_kernel
from .prepared import run


def check_finite(gradients: Any, found_inf: Any, *, stream: int = 0) -> None:
    """``found_inf[0] = 1``, (1,) int32, if an element of a flat vector is NaN or infinite, else 0."""
    run(prepare, stream, gradients, found_inf)


def prepare(gradients: Any, found_inf: Any) -> list[Launch]:
    """Check the arrays and plan the launches."""
    g = array("gradients", gradients, REALS, dimensions=1)
    flag = output("found_inf", found_inf, (types.int32,), shape=(1,))
    kernel, size = typed(check_finite_kernel(accumulator(g.element)), g.element, types.int32), g.shape[0]
    grid, block = grid_of(g)
    if vectors(g) <= SMALL:
        return [Launch(kernel, [RESET | CHECK, g, flag, size], 1, block)]
    return [Launch(kernel, [RESET, g, flag, size], 1, block), Launch(kernel, [CHECK, g, flag, size], grid, block)]
