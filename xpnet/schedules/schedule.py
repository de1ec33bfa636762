"""The base class of schedules, and the constant schedule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from xpnet.errors import finite_number

State = Mapping[str, Any]
_NO_STATE: State = MappingProxyType({})


class Schedule:
    """The base class of schedules: functions of the step and, for some, of the total number of steps.

    Attributes:
        spans_the_run: whether it depends on the total number of steps.
        state: other numbers (or None) that it depends on, by name, for checkpoints.

    >>> class InverseTime(Schedule):
    ...     def __call__(self, step, total_steps=None):
    ...         return 0.1 / (1 + step)
    >>> import xpnet
    >>> xpnet.SGD(InverseTime()).rate(step=9)
    0.01
    """

    spans_the_run: bool = False
    state: State = _NO_STATE

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """The learning rate at a step."""
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def observe(self, loss: float) -> None:
        """Called after every evaluation with the validation loss, or with the training loss if there is no other."""

    def reset(self) -> None:
        """Return to the initial state."""

    def restore(self, state: State) -> None:
        """Restore an earlier ``state``."""


class ConstantRate(Schedule):
    """η at every step.

    Raises:
        ConfigurationError: η is not a number of at least 0.

    >>> ConstantRate(0.1)(1000)
    0.1
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """η."""
        return self.learning_rate


def as_schedule(learning_rate: float | Schedule) -> Schedule:
    """A schedule unchanged, a number of at least 0 as a ConstantRate; else ConfigurationError.

    >>> as_schedule(0.1)(7)
    0.1
    """
    return learning_rate if isinstance(learning_rate, Schedule) else ConstantRate(learning_rate)
