"""The update of Adam and AdamW."""

from __future__ import annotations

from typing import Any

from .flat_vectors import prepare_update
from .optimizer_kernels import adam_kernel
from .prepared import run


def adam_update(
    values: Any, gradients: Any, m: Any, v: Any, hyperparameters: Any, *, found_inf: Any = None, stream: int = 0
) -> None:
    """Adam, or AdamW if the weight decay λ is not 0, in place.

    θ ← (1 - η λ) θ;  m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  θ ← θ - η m̂ / (√v̂ + ε), with
    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). ``hyperparameters`` is (η, β₁, β₂, ε, 1 - β₁ᵗ, 1 - β₂ᵗ, λ).

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; Loshchilov and Hutter, "Decoupled weight
    decay regularization", ICLR 2019.
    """
    run(prepare_update, stream, adam_kernel, ("m", "v"), 7, hyperparameters, found_inf, values, gradients, m, v)
