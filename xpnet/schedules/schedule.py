"""What every schedule is; and the constant one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from xpnet.errors import finite_number

State = Mapping[str, Any]
_NO_STATE: State = MappingProxyType({})


class Schedule:
    """What every schedule is: a function of the step, and for some of the number of all steps.

    Attributes:
        spans_the_run: whether it depends on the number of all steps.
        state: what else it depends on, by name; numbers and None. It goes into checkpoints.

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
        """The learning rate of that step."""
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def observe(self, loss: float) -> None:
        """Told the loss of every evaluation: on the test data, or on the training data where there is no other."""

    def reset(self) -> None:
        """Forget all that was observed."""

    def restore(self, state: State) -> None:
        """Take back an earlier ``state``."""


class ConstantRate(Schedule):
    """η at every step: what a number alone is taken for.

    Raises:
        ConfigurationError: η is no number of at least 0.

    >>> ConstantRate(0.1)(1000)
    0.1
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """η."""
        return self.learning_rate


def as_schedule(learning_rate: float | Schedule) -> Schedule:
    """A schedule as it is, a number of at least 0 as the constant one; else ConfigurationError.

    >>> as_schedule(0.1)(7)
    0.1
    """
    return learning_rate if isinstance(learning_rate, Schedule) else ConstantRate(learning_rate)
