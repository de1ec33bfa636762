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
    kernel = typed(check_finite_kernel(accumulator(g.element)), g.element, types.int32)
    grid, block = grid_of(g)
    phases = [(RESET | CHECK, 1)] if vectors(g) <= SMALL else [(RESET, 1), (CHECK, grid)]
    return [Launch(kernel, [phase, g, flag, g.shape[0], 1], blocks, block) for phase, blocks in phases]
