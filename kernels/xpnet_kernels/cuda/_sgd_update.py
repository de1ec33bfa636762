"""The update of stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from .flat_vectors import update
from .optimizer_kernels import sgd_kernel


def sgd_update(values: Any, gradients: Any, hyperparameters: Any, *, found_inf: Any = None, stream: int = 0) -> None:
    """θ ← θ - η g on flat vectors, in place; ``hyperparameters`` is (η,), on the device.

    Where ``found_inf``, (1,) int32, is given and does not hold 0, nothing is changed; so with all updates.
    """
    update(sgd_kernel, values, gradients, [], hyperparameters, 1, found_inf, stream)
