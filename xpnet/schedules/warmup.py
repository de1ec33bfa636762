"""Linear warm-up before another schedule."""

from __future__ import annotations

from xpnet.errors import ConfigurationError, finite_number, positive_integer
from xpnet.schedules.schedule import Schedule, State, as_schedule


class Warmup(Schedule):
    """(s + (1 - s) t/n) f(0) for n steps, then f(t - n): a linear warm-up, then the schedule f.

    Args:
        learning_rate: f, a schedule or a number. If it spans the run, it gets the remaining steps.
        steps: n.
        start: s, the fraction of f(0) to start from, from 0 to 1.

    Raises:
        ConfigurationError: an argument out of range; in a call, if f spans the run and the warm-up leaves it no step.

    Source: Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.

    >>> from xpnet.schedules import LinearDecay
    >>> schedule = Warmup(LinearDecay(1.0), steps=2, start=0.5)
    >>> [schedule(step, total_steps=6) for step in range(6)]
    [0.5, 0.75, 1.0, 0.75, 0.5, 0.25]
    """

    def __init__(self, learning_rate: float | Schedule, steps: int, start: float = 1 / 3) -> None:
        self._after = as_schedule(learning_rate)
        self.learning_rate = learning_rate
        self.steps = positive_integer("steps", steps)
        self.start = finite_number("start", start, low=0.0)
        if self.start > 1.0:
            raise ConfigurationError(f"start must be at most 1, not {start!r}")

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """The warm-up, then the schedule."""
        left = None if total_steps is None else total_steps - self.steps
        if left is not None and left < 1 and self.spans_the_run:
            raise ConfigurationError(
                f"a warm-up of {self.steps} steps in a run of {total_steps} leaves none for the schedule after it: "
                "shorten it"
            )
        if step >= self.steps:
            return self._after(step - self.steps, left)
        return self._after(0, left) * (self.start + (1 - self.start) * step / self.steps)

    @property
    def spans_the_run(self) -> bool:  # type: ignore[override]
        """Whether the schedule after the warm-up does."""
        return self._after.spans_the_run

    @property
    def state(self) -> State:  # type: ignore[override]
        """The state of the schedule after the warm-up."""
        return self._after.state

    def observe(self, loss: float) -> None:
        """Passed to the schedule after the warm-up."""
        self._after.observe(loss)

    def reset(self) -> None:
        """Passed to the schedule after the warm-up."""
        self._after.reset()

    def restore(self, state: State) -> None:
        """Passed to the schedule after the warm-up."""
        self._after.restore(state)
