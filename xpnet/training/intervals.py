"""When a run evaluates, when it is saved, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass

from xpnet.errors import ConfigurationError, positive_integer


@dataclass(frozen=True)
class Intervals:
    """When a run evaluates, saves and ends, in steps.

    >>> intervals = Intervals.of(10, epochs=2, evaluate_every=15, checkpoint_every=6)
    >>> step, saved = 0, []
    >>> while step < intervals.stop:
    ...     step = intervals.next_checkpoint(step)
    ...     saved.append(step)
    >>> saved, [step for step in saved if intervals.evaluates_after(step)]
    ([6, 10, 12, 15, 18, 20], [15, 20])
    """

    steps_per_epoch: int
    total_steps: int
    stop: int
    evaluate_every: int
    checkpoint_every: int

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation is due after ``step`` steps."""
        return step % self.evaluate_every == 0 or step == self.total_steps

    def next_checkpoint(self, step: int) -> int:
        """The next step at which the run is saved: at evaluations and ends of epochs, too."""
        periods = (self.steps_per_epoch, self.evaluate_every, self.checkpoint_every)
        return min(self.stop, *(step - step % period + period for period in periods))

    @classmethod
    def of(
        cls,
        per_epoch: int,
        epochs: int | None = None,
        steps: int | None = None,
        evaluate_every: int | None = None,
        checkpoint_every: int | None = None,
        stop_after_epoch: int | None = None,
    ) -> Intervals:
        """The intervals of a run with ``per_epoch`` steps per epoch; the other arguments are :meth:`Trainer.fit`'s."""
        if (epochs is None) == (steps is None):
            raise ConfigurationError(f"give either epochs or steps, not epochs={epochs} and steps={steps}")
        total = positive_integer("steps", steps) if epochs is None else positive_integer("epochs", epochs) * per_epoch
        stop = total
        if stop_after_epoch is not None:
            stop = min(total, positive_integer("stop_after_epoch", stop_after_epoch) * per_epoch)
        return cls(
            per_epoch,
            total,
            stop,
            per_epoch if evaluate_every is None else positive_integer("evaluate_every", evaluate_every),
            per_epoch if checkpoint_every is None else positive_integer("checkpoint_every", checkpoint_every),
        )
