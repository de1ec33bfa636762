"""The update of stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from .flat_vectors import prepare_update
from .optimizer_kernels import sgd_kernel
from .prepared import run


def sgd_update(values: Any, gradients: Any, hyperparameters: Any, *, found_inf: Any = None, stream: int = 0) -> None:
    """θ ← θ - η g on flat vectors, in place; ``hyperparameters`` is (η,), on the device.

    As in all updates, nothing is changed if ``found_inf``, (1,) int32, is given and not 0.
    """
    run(prepare_update, stream, sgd_kernel, (), 1, hyperparameters, found_inf, values, gradients)
