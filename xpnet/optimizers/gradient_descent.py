"""Gradient descent, with and without momentum."""

from __future__ import annotations

from typing import Unpack

from xpnet import ops
from xpnet.errors import finite_number
from xpnet.optimizers.optimizer import Optimizer, OptimizerOptions
from xpnet.schedules import Schedule


class SGD(Optimizer):
    """θ ← θ - η g.

    Args:
        learning_rate: η.
        options: those of every :class:`Optimizer`.

    >>> SGD(0.1).learning_rate
    0.1
    """

    operation = staticmethod(ops.sgd_update)

    def __init__(self, learning_rate: float | Schedule = 1e-3, **options: Unpack[OptimizerOptions]) -> None:
        super().__init__(learning_rate, **options)


class Momentum(Optimizer):
    """v ← μ v + g;  θ ← θ - η v.

    Args:
        learning_rate: η.
        momentum: μ, from 0 to below 1.
        options: those of every :class:`Optimizer`.

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    >>> Momentum(0.01).momentum
    0.9
    """

    slots = ("velocity",)
    operation = staticmethod(ops.momentum_update)

    def __init__(
        self, learning_rate: float | Schedule = 1e-3, momentum: float = 0.9, **options: Unpack[OptimizerOptions]
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = finite_number("momentum", momentum, low=0.0, below=1.0)

    def _step_hyperparameters(self, step: int, rate: float, decay: float) -> list[float]:
        return [rate, self.momentum, 0.0]


class Nesterov(Momentum):
    """v ← μ v + g;  θ ← θ - η (g + μ v): momentum with look-ahead.

    Args:
        learning_rate: η.
        momentum: μ, from 0 to below 1.
        options: those of every :class:`Optimizer`.

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning",
    2013, in PyTorch's form.

    >>> Nesterov(0.01).momentum
    0.9
    """

    def _step_hyperparameters(self, step: int, rate: float, decay: float) -> list[float]:
        return [rate, self.momentum, 1.0]
