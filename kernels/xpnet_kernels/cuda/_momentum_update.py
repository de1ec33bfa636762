"""The update of gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from .flat_vectors import prepare_update
from .optimizer_kernels import momentum_kernel
from .prepared import run


def momentum_update(
    values: Any, gradients: Any, velocity: Any, hyperparameters: Any, *, found_inf: Any = None, stream: int = 0
) -> None:
    """v ← μ v + g; θ ← θ - η v, or with Nesterov momentum θ - η (g + μ v), in place.

    ``hyperparameters`` is (η, μ, 1 for Nesterov momentum or 0). The definition is PyTorch's, after Sutskever et al.,
    "On the importance of initialization and momentum in deep learning", ICML 2013.
    """
    run(
        prepare_update,
        stream,
        momentum_kernel,
        ("velocity",),
        3,
        hyperparameters,
        found_inf,
        values,
        gradients,
        velocity,
    )
