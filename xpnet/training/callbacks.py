"""What may watch a training run."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
Trainer = Any  # xpnet.training.Trainer, which imports this module


class Callback:
    """Moments of a run, each with nothing to do unless a subclass says otherwise.

    A record is a plain dict of numbers and texts: "event" ("batch", "evaluation" or "diagnosis"), "step" (steps
    taken), "epoch" (begun ones, from 1), and what the event has to tell.
    """

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step; ``trainer.step`` tells where a resumed run goes on."""

    def on_batch(self, trainer: Trainer, record: Record) -> None:
        """At every reporting point, with that batch's loss."""

    def on_diagnosis(self, trainer: Trainer, record: Record) -> None:
        """When trouble was found, with its name and what to do about it."""

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """After an evaluation; ``improved`` when it is the best so far."""

    def on_checkpoint(self, trainer: Trainer) -> None:
        """When the run may be resumed from: after an evaluation or an epoch, every N steps if asked for, at a stop."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last step, or when the run failed."""
