"""Kernels on flat vectors, such as optimizer updates: a compiled call checks its arguments and shares its work."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.checks.arguments import check_input, check_kind, check_output
from xpnet_kernels.cpu.numba_extensions.array_arguments import ArgumentMismatchError
from xpnet_kernels.cpu.numba_extensions.compilation import REALS, kernel
from xpnet_kernels.cpu.threads.team import TEAM

TINY = 1e-36  # smaller moments become 0, before they decay to denormal numbers, which are many times slower
UNIT = 2**12  # elements; a multiple of what the loops take at a time, so that bits do not depend on the blocks
LONGEST_BLOCK = 2**17  # elements

FLAG = np.dtype(np.int32)
_HYPERPARAMETERS = np.dtype(np.float64)
_WORK = 16  # of an element, in multiplications of a matrix product that take as long
_NOT_FOUND = np.zeros(1, np.int32)
_NOT_FOUND.flags.writeable = False


def update(
    compiled: kernel,
    state_names: tuple[str, ...],
    hyperparameter_count: int,
    found_inf: np.ndarray | None,
    hyperparameters: np.ndarray,
    *vectors: np.ndarray,
) -> None:
    """Run an optimizer's update of the vectors (values, gradients, state …); raise if an argument is invalid."""
    if found_inf is None:
        found_inf = _NOT_FOUND
    error = call_compiled(compiled, *vectors, hyperparameters, found_inf)
    if error is None:
        return
    values, gradients, *state = vectors
    check_kind("values", values, 1)
    check_input("gradients", gradients, values.dtype, values.shape)
    for name, vector in zip(("values", *state_names), (values, *state), strict=True):
        check_output(name, vector, values.dtype, values.shape)
    check_input("hyperparameters", hyperparameters, _HYPERPARAMETERS, (hyperparameter_count,))
    check_input("found_inf", found_inf, FLAG, (1,))
    raise error


def call_compiled(compiled: kernel, first: np.ndarray, *others: np.ndarray) -> ArgumentMismatchError | None:
    """Call a kernel for the first vector's element type; return None, or an error that does not name the argument."""
    if not isinstance(first, np.ndarray) or first.dtype not in REALS:
        return ArgumentMismatchError("expected vectors of float32 or float64")
    function = compiled[first.dtype]
    try:
        valid = TEAM.run(_WORK * first.size, function, first, *others)
    except ArgumentMismatchError as error:
        return error
    return None if valid else ArgumentMismatchError("expected other lengths")
