"""The schedule that follows the loss of evaluations."""

from __future__ import annotations

import math

from xpnet.errors import finite_number, positive_integer
from xpnet.schedules.schedule import Schedule, State


class ReduceOnPlateau(Schedule):
    """The learning rate is multiplied by γ after more than ``patience`` evaluations in a row without improvement.

    An improvement is a loss below (1 - threshold) times the lowest so far; the definition is PyTorch's.

    Args:
        learning_rate: the initial learning rate.
        factor: γ, below 1.
        patience: evaluations without improvement that change nothing.
        threshold: the minimum relative improvement, from 0 to below 1.
        minimum: the lower bound of the learning rate.

    Raises:
        ConfigurationError: an argument out of range.

    >>> schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.1):
    ...     schedule.observe(loss)
    >>> schedule(1000)
    0.5
    """

    def __init__(
        self,
        learning_rate: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        minimum: float = 0.0,
    ) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)
        self.factor = finite_number("factor", factor, low=0.0, below=1.0)
        self.patience = positive_integer("patience", patience)
        self.threshold = finite_number("threshold", threshold, low=0.0, below=1.0)
        self.minimum = finite_number("minimum", minimum, low=0.0)
        self._rate, self._best, self._waited = self.learning_rate, math.inf, 0

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """The current rate, whatever the step."""
        return self._rate

    @property
    def state(self) -> State:  # type: ignore[override]
        """The rate, the lowest loss so far, and the evaluations without improvement counted so far."""
        return {"rate": self._rate, "best_loss": self._best, "waited": self._waited}

    def observe(self, loss: float) -> None:
        """Count evaluations without improvement, of which a NaN is one, and reduce the rate if there are too many."""
        if loss < self._best * (1 - self.threshold):
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._rate, self._waited = max(self._rate * self.factor, self.minimum), 0

    def reset(self) -> None:
        """Start again from the initial learning rate."""
        self._rate, self._best, self._waited = self.learning_rate, math.inf, 0

    def restore(self, state: State) -> None:
        """Restore an earlier ``state``."""
        self._rate, self._best, self._waited = state["rate"], state["best_loss"], state["waited"]
