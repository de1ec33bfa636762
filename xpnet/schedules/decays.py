"""Schedules that are functions of the step alone, or of the step and the total number of steps."""

from __future__ import annotations

import math

from xpnet.errors import ConfigurationError, finite_number, positive_integer
from xpnet.schedules.schedule import Schedule


class StepDecay(Schedule):
    """η γ^⌊t/n⌋: multiplied by γ every n steps.

    Args:
        learning_rate: η, the initial learning rate.
        every: n, in steps.
        factor: γ.

    Raises:
        ConfigurationError: an argument out of range.

    >>> schedule = StepDecay(1.0, every=2, factor=0.5)
    >>> [schedule(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, learning_rate: float, every: int, factor: float = 0.1) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)
        self.every = positive_integer("every", every)
        self.factor = finite_number("factor", factor, low=0.0)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """η γ^⌊t/n⌋."""
        return self.learning_rate * self.factor ** (step // self.every)


class ExponentialDecay(Schedule):
    """η γ^(t/n): multiplied by γ over every n steps, smoothly.

    Args:
        learning_rate: η, the initial learning rate.
        factor: γ.
        every: n, in steps.

    Raises:
        ConfigurationError: an argument out of range.

    >>> schedule = ExponentialDecay(1.0, factor=0.25, every=2)
    >>> [schedule(step) for step in range(3)]
    [1.0, 0.5, 0.25]
    """

    def __init__(self, learning_rate: float, factor: float, every: int = 1) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)
        self.factor = finite_number("factor", factor, low=0.0)
        self.every = positive_integer("every", every)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """η γ^(t/n)."""
        return self.learning_rate * self.factor ** (step / self.every)


class _Spanning(Schedule):
    """A schedule over ``steps`` steps, or over the whole run where that is None."""

    steps: int | None

    @property
    def spans_the_run(self) -> bool:  # type: ignore[override]
        """Whether ``steps`` is None."""
        return self.steps is None

    def _length(self, total_steps: int | None) -> int:
        length = self.steps or total_steps
        if length is None:
            raise ConfigurationError(
                f"{type(self).__name__} without steps spans the run, whose length only a Trainer knows: give steps"
            )
        return length


class LinearDecay(_Spanning):
    """η + (ε - η) t/T: linear from η to ε over T steps, then constant.

    Args:
        learning_rate: η, the initial learning rate.
        final: ε, the final learning rate.
        steps: T; None: the whole run.

    Raises:
        ConfigurationError: an argument out of range; in a call, neither ``steps`` nor ``total_steps``.

    >>> schedule = LinearDecay(1.0, steps=4)
    >>> [schedule(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    def __init__(self, learning_rate: float, final: float = 0.0, steps: int | None = None) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)
        self.final = finite_number("final", final, low=0.0)
        self.steps = None if steps is None else positive_integer("steps", steps)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """η + (ε - η) t/T."""
        length = self._length(total_steps)
        return self.learning_rate + (self.final - self.learning_rate) * min(step, length) / length


class CosineDecay(_Spanning):
    """ε + (η - ε) (1 + cos(π t/T)) / 2: half a cosine from η to ε over T steps, then constant.

    Args:
        learning_rate: η, the initial learning rate.
        final: ε, the final learning rate.
        steps: T; None: the whole run.

    Raises:
        ConfigurationError: an argument out of range; in a call, neither ``steps`` nor ``total_steps``.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, equation 5, without
    restarts.

    >>> schedule = CosineDecay(1.0)
    >>> [round(schedule(step, total_steps=4), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    def __init__(self, learning_rate: float, final: float = 0.0, steps: int | None = None) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)
        self.final = finite_number("final", final, low=0.0)
        self.steps = None if steps is None else positive_integer("steps", steps)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """ε + (η - ε) (1 + cos(π t/T)) / 2."""
        length = self._length(total_steps)
        return _cosine(self.learning_rate, self.final, min(step, length) / length)


class OneCycle(_Spanning):
    """Half a cosine up from η/d to the peak η, then another down to η/(d D) at the last of T steps.

    Args:
        learning_rate: η, the peak.
        rise: the fraction of the steps up to the peak, from 0 to below 1: the peak is at t = rise · T - 1.
        divisor: d, at least 1.
        final_divisor: D, at least 1.
        steps: T; None: the whole run.

    Raises:
        ConfigurationError: an argument out of range; in a call, neither ``steps`` nor ``total_steps``.

    Source: Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    2018, in PyTorch's form, without cycling the momentum.

    >>> schedule = OneCycle(1.0, rise=0.5, divisor=10, final_divisor=100, steps=4)
    >>> [round(schedule(step), 3) for step in range(4)]
    [0.1, 1.0, 0.5, 0.001]
    """

    def __init__(
        self,
        learning_rate: float,
        rise: float = 0.3,
        divisor: float = 25.0,
        final_divisor: float = 1e4,
        steps: int | None = None,
    ) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)
        self.rise = finite_number("rise", rise, low=0.0, below=1.0)
        self.divisor = finite_number("divisor", divisor, low=1.0)
        self.final_divisor = finite_number("final_divisor", final_divisor, low=1.0)
        self.steps = None if steps is None else positive_integer("steps", steps)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """Up to the peak, then down."""
        length = self._length(total_steps)
        start, peak = self.learning_rate / self.divisor, self.rise * length - 1
        if step < peak:
            return _cosine(start, self.learning_rate, step / peak)
        past = (min(step, length - 1) - peak) / (length - 1 - peak)
        return _cosine(self.learning_rate, start / self.final_divisor, past)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
