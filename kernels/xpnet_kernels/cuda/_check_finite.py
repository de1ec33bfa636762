"""The check of a flat vector for NaN and infinity."""

from __future__ import annotations

from typing import Any

from numba import types

from .arrays import REALS, accumulator, array, output, pointer
from .flat_vectors import SMALL, grid_of, vectors
from .launch import launch, number
from .optimizer_kernels import CHECK, RESET, check_finite_kernel


def check_finite(gradients: Any, found_inf: Any, *, stream: int = 0) -> None:
    """``found_inf[0] = 1``, (1,) int32, if an element of a flat vector is NaN or infinite, else 0."""
    g = array("gradients", gradients, REALS, dimensions=1)
    flag = output("found_inf", found_inf, (types.int32,), shape=(1,))
    kernel = check_finite_kernel(accumulator(g.element))
    arguments = [pointer(g, g.element), pointer(flag, types.int32), number(g.shape[0]), number(1)]
    grid, block = grid_of(g)
    if vectors(g) <= SMALL:
        launch(kernel, [number(RESET | CHECK), *arguments], 1, block, stream)
    else:
        launch(kernel, [number(RESET), *arguments], 1, block, stream)
        launch(kernel, [number(CHECK), *arguments], grid, block, stream)
