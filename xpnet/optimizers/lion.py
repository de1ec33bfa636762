"""Lion: steps in the direction of the sign of a momentum."""

from __future__ import annotations

from typing import Unpack

from xpnet import ops
from xpnet.errors import finite_number
from xpnet.optimizers.optimizer import Optimizer, OptimizerOptions
from xpnet.schedules import Schedule


class Lion(Optimizer):
    """θ ← (1-ηλ) θ - η sign(β₁ m + (1-β₁) g);  m ← β₂ m + (1-β₂) g.

    Args:
        learning_rate: η; the paper advises 3 to 10 times less than for AdamW, and 3 to 10 times its weight decay.
        beta1: β₁, from 0 to below 1.
        beta2: β₂, from 0 to below 1.
        options: those of every :class:`Optimizer`; its weight decay is decoupled.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.

    >>> Lion().learning_rate
    0.0001
    """

    slots = ("m",)
    operation = staticmethod(ops.lion_update)
    decoupled_weight_decay = True

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta1 = finite_number("beta1", beta1, low=0.0, below=1.0)
        self.beta2 = finite_number("beta2", beta2, low=0.0, below=1.0)

    def _step_hyperparameters(self, step: int, rate: float, decay: float) -> list[float]:
        return [rate, self.beta1, self.beta2, decay]
