"""Optimizers that adapt each parameter's step to its past gradients."""

from __future__ import annotations

import math
from typing import Unpack

from xpnet import ops
from xpnet.errors import finite_number
from xpnet.optimizers.optimizer import CommonOptions, Optimizer, OptimizerOptions
from xpnet.schedules import Schedule


class AdaGrad(Optimizer):
    """s ← s + g²;  θ ← θ - η g / (sqrt(s) + ε).

    Args:
        learning_rate: η.
        epsilon: ε, at least 0.
        options: those of every :class:`Optimizer`.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
    2011, figure 1, with diagonal matrices.

    >>> AdaGrad().learning_rate
    0.01
    """

    slots = ("squares",)
    operation = staticmethod(ops.adagrad_update)

    def __init__(
        self, learning_rate: float | Schedule = 1e-2, epsilon: float = 1e-10, **options: Unpack[OptimizerOptions]
    ) -> None:
        super().__init__(learning_rate, **options)
        self.epsilon = finite_number("epsilon", epsilon, low=0.0)

    def _step_hyperparameters(self, step: int, rate: float, decay: float) -> list[float]:
        return [rate, self.epsilon]


class RMSProp(Optimizer):
    """v ← α v + (1-α) g²;  θ ← θ - η g / (sqrt(v) + ε).

    Args:
        learning_rate: η.
        alpha: α, from 0 to below 1.
        epsilon: ε, at least 0.
        options: those of every :class:`Optimizer`.

    Source: Tieleman and Hinton, "Neural networks for machine learning", 2012, lecture 6.5.

    >>> RMSProp().alpha
    0.99
    """

    slots = ("v",)
    operation = staticmethod(ops.rmsprop_update)

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        alpha: float = 0.99,
        epsilon: float = 1e-8,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.alpha = finite_number("alpha", alpha, low=0.0, below=1.0)
        self.epsilon = finite_number("epsilon", epsilon, low=0.0)

    def _step_hyperparameters(self, step: int, rate: float, decay: float) -> list[float]:
        return [rate, self.alpha, self.epsilon]


class Adam(Optimizer):
    """m ← β₁ m + (1-β₁) g;  v ← β₂ v + (1-β₂) g²;  θ ← θ - η m̂ / (sqrt(v̂) + ε), with m̂ = m / (1-β₁ᵗ), v̂ alike.

    Args:
        learning_rate: η.
        beta1: β₁, from 0 to below 1.
        beta2: β₂, from 0 to below 1.
        epsilon: ε, at least 0.
        options: those of every :class:`Optimizer`.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.

    >>> Adam().epsilon
    1e-08
    """

    slots = ("m", "v")
    operation = staticmethod(ops.adam_update)

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta1 = finite_number("beta1", beta1, low=0.0, below=1.0)
        self.beta2 = finite_number("beta2", beta2, low=0.0, below=1.0)
        self.epsilon = finite_number("epsilon", epsilon, low=0.0)

    def _step_hyperparameters(self, step: int, rate: float, decay: float) -> list[float]:
        b1, b2 = self.beta1, self.beta2
        return [rate, b1, b2, self.epsilon, _correction(b1, step), _correction(b2, step), decay]


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← (1-ηλ) θ - η m̂ / (sqrt(v̂) + ε).

    Args:
        learning_rate: η.
        beta1: β₁, from 0 to below 1.
        beta2: β₂, from 0 to below 1.
        epsilon: ε, at least 0.
        weight_decay: λ; for parameters with two or more axes, unless ``weight_decay_mask`` names others ("*": all).
        options: the others of every :class:`Optimizer`.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2, in PyTorch's form.

    >>> AdamW().weight_decay
    0.01
    """

    decoupled_weight_decay = True

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay=weight_decay, **options)


def _correction(beta: float, step: int) -> float:
    """1 - βᵗ at t = step + 1, without cancellation where βᵗ is close to 1."""
    return -math.expm1((step + 1) * math.log(beta)) if beta else 1.0
