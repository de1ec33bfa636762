"""Callbacks: methods that a trainer calls during a run."""

from __future__ import annotations

from typing import Any

Trainer = Any  # xpnet.Trainer, whose module imports this one
Record = dict[str, Any]


class Callback:
    """Base class of callbacks, whose methods do nothing unless a subclass overrides them.

    ====================  ==============================================================================================
    method                when
    ====================  ==============================================================================================
    ``on_fit_begin``      once, before the first step
    ``on_batch``          after the first step of an epoch, and every hundredth from there on
    ``on_diagnosis``      the first time that a kind of problem is found
    ``on_evaluation``     every ``evaluate_every`` steps, by default after each epoch; and after the last step
    ``on_checkpoint``     after each evaluation and each epoch, every ``checkpoint_every`` steps, and at a stop
    ``on_fit_end``        once, also when the run or another callback raised
    ====================  ==============================================================================================

    At one step they are called in this order, ``on_diagnosis`` right before the batch or evaluation that found the
    problem, each on the callbacks in the order of the trainer's list. The host has synchronised with the device before
    each call, so reading the model costs no further wait. At ``on_checkpoint`` all parameters and running statistics
    are finite.

    A callback may call ``trainer.stop()`` and ``trainer.diagnose(kind, message)``; an exception that it raises ends the
    run. It must not change parameters, optimizer or records: otherwise a resumed run has other bits.

    A record is a plain dict of numbers and strings: "event" ("batch", "evaluation" or "diagnosis"), "step" (steps
    taken), "epoch" (the current one, from 1), and the keys below. ``trainer.history`` holds all records; in a resumed
    run it begins with those up to the checkpoint.

    ============  ======================================================================================================
    event         keys
    ============  ======================================================================================================
    "batch"       "loss" of that batch
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
        """Before the first step; ``trainer.step`` is above 0 in a resumed run."""

    def on_batch(self, trainer: Trainer, record: Record) -> None:
        """At every reporting point, with that batch's loss."""

    def on_diagnosis(self, trainer: Trainer, record: Record) -> None:
        """When a problem is found; the record names it and says how to fix it."""

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """After an evaluation; ``improved`` when it is the best so far."""

    def on_checkpoint(self, trainer: Trainer) -> None:
        """When the state is to be saved, so that the run can be resumed from here."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last step, or when the run failed."""
