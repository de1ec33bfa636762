"""The check of a flat vector for NaN and infinity."""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from .arrays import REALS, accumulator, array, output
from .flat_vectors import SMALL, grid_of, vectors
from .launch import LaunchPlan
from .optimizer_kernels import CHECK, RESET, check_finite_kernel


def check_finite(gradients: Any, found_inf: Any, *, stream: int = 0) -> None:
    """``found_inf[0] = 1``, (1,) int32, if an element of a flat vector is NaN or infinite, else 0."""
    g = array("gradients", gradients, REALS, dimensions=1)
    flag = output("found_inf", found_inf, (types.int32,), shape=(1,))
    check, size = plan(g.element), g.shape[0]
    grid, block = grid_of(g)
    if vectors(g) <= SMALL:
        check.launch([RESET | CHECK, g, flag, size], 1, block, stream)
    else:
        check.launch([RESET, g, flag, size], 1, block, stream)
        check.launch([CHECK, g, flag, size], grid, block, stream)


@cache
def plan(element: types.Type) -> LaunchPlan:
    """The launches for one element type."""
    return LaunchPlan(check_finite_kernel(accumulator(element)), element, types.int32)
