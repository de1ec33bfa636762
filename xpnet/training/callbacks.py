"""Callbacks: what is called at the moments of a training run."""

from __future__ import annotations

from typing import Any

Trainer = Any  # xpnet.Trainer, whose module imports this one
Record = dict[str, Any]


class Callback:
    """Base class: a method for each moment of a run, which does nothing unless a subclass overrides it.

    ====================  ==============================================================================================
    moment                when
    ====================  ==============================================================================================
    ``on_fit_begin``      once, before the first step
    ``on_batch``          after the first step of an epoch, and every hundredth from there on
    ``on_diagnosis``      when a kind of trouble is seen for the first time
    ``on_evaluation``     after the steps that ``evaluate_every`` names, or each epoch; and after the last step
    ``on_checkpoint``     after each evaluation, each epoch, every ``checkpoint_every`` steps, and at a stop
    ``on_fit_end``        once, whatever happened; also where the run, or another callback, raised
    ====================  ==============================================================================================

    At one step they come in this order, a diagnosis right before the batch or evaluation at which it was made, and each
    reaches the callbacks in the order of the trainer's list. Between the moments the device works alone; at each of
    them the host has waited for it anyhow, so looking at the model there costs no more than that. At
    ``on_checkpoint`` all parameters and running statistics are finite.

    A callback may call ``trainer.stop()`` and ``trainer.diagnose(kind, message)``, and what it raises ends the run. It
    must not change parameters, optimizer or records: a run resumes with the same bits only then.

    A record is a plain dict of numbers and texts: "event" ("batch", "evaluation" or "diagnosis"), "step" (steps
    taken), "epoch" (begun ones, from 1), and what the event has to tell. ``trainer.history`` holds all of them; a
    resumed run begins with those of its first part.

    ============  ======================================================================================================
    event         figures
    ============  ======================================================================================================
    "batch"       "loss", of that batch
    "diagnosis"   "kind", "message"
    "evaluation"  "train_loss", "train_accuracy"; with a validation set "validation_loss", "validation_accuracy",
                  "best_validation_accuracy"; under ``on_nonfinite="skip"`` "skipped_steps"; "training_seconds"
    ============  ======================================================================================================

    >>> import numpy as np, xpnet
    >>> class UntilHalf(xpnet.Callback):
    ...     def on_evaluation(self, trainer, record, improved):
    ...         if record["train_loss"] < 0.5:
    ...             trainer.stop()
    >>> model = xpnet.Sequential(xpnet.Linear(2, 2)).initialize(xpnet.backend("cpu-reference"))
    >>> trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(1.0), callbacks=[UntilHalf()])
    >>> history = trainer.fit((np.eye(2), np.array([0, 1])), epochs=100)
    >>> trainer.step < 10, 0.4 < history[-1]["train_loss"] < 0.5
    (True, True)
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
