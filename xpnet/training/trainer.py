"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from xpnet import ops
from xpnet.backends import Array
from xpnet.data import Sampler, Samples, Shuffled, epoch_order, steps_per_epoch
from xpnet.errors import CallOrderError, ConfigurationError, NonFiniteError, memory_for, positive_integer
from xpnet.layers import Context, Layer
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.ops import reports
from xpnet.optimizers import Optimizer
from xpnet.training import diagnoses
from xpnet.training.accumulation import MicroBatches
from xpnet.training.averaging import MovingAverage
from xpnet.training.batches import DeviceSamples
from xpnet.training.callbacks import Callback, Record
from xpnet.training.evaluation import evaluate

REPORT_EVERY = 100  # steps; the host waits for the device only then


@dataclass(frozen=True)
class Schedule:
    """How long to train, and when to evaluate: all in steps."""

    steps_per_epoch: int
    total: int
    stop: int
    evaluate_every: int

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation is due when ``step`` steps were taken."""
        return step % self.evaluate_every == 0 or step == self.total


class Trainer:
    """Trains a model, and remembers where it is.

    Args:
        model: initialised.
        loss: what to make small.
        optimizer: how.
        seed: of the order of samples, and of layers that draw.
        micro_batch_size: how many rows of a batch are computed at a time, to save memory: their gradients are
            accumulated to that of the batch, and make one step. None: all at once.
        ema_decay: β of an exponential moving average of the weights, which evaluations and checkpoints are of: 0.999
            remembers some thousand steps. None: no average.
        callbacks: who watches.

    Attributes:
        average: the :class:`~xpnet.training.MovingAverage`; None without ``ema_decay``.
        step: steps taken so far. A trainer whose step, model, optimizer state and report were restored goes on as if
            it had never stopped, for everything that is drawn depends on the seed and the step's number alone.
        history: the records so far, see :class:`~xpnet.training.Callback`.
        best_accuracy, best_step: of the best evaluation so far; None before the first.
        training_seconds: spent in steps so far, without evaluations and checkpoints; the compilation of kernels, on
            their first use, included.
        samples_seen: rows trained on so far.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 8, "tanh"), xpnet.Linear(8, 2))
    >>> _ = model.initialize(xpnet.backend("cpu-reference"), seed=0)
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    >>> trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.Adam(0.05))
    >>> _ = trainer.fit((x, np.array([0, 1, 1, 0])), epochs=200, batch_size=4)
    >>> model.predict_labels(x).tolist()
    [0, 1, 1, 0]
    """

    def __init__(
        self,
        model: Layer,
        loss: SoftmaxCrossEntropy,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        micro_batch_size: int | None = None,
        ema_decay: float | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.seed = seed
        self.callbacks = list(callbacks)
        self.backend = model.require_backend()
        self.step = 0
        self.history: list[Record] = []
        self.best_accuracy: float | None = None
        self.best_step: int | None = None
        self.training_seconds = 0.0
        self.samples_seen = 0
        self.report = ops.new_report(self.backend)
        self.schedule: Schedule | None = None
        self.micro_batches = None if micro_batch_size is None else MicroBatches(model, micro_batch_size)
        self.average = None if ema_decay is None else MovingAverage(model, ema_decay)
        optimizer.initialize(model)
        self._optimizer_state = optimizer.state

    def fit(
        self,
        train: Samples | tuple[Any, ...],
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 100,
        sampler: Sampler | None = None,
        validation: Samples | tuple[Any, ...] | None = None,
        evaluate_every: int | None = None,
        evaluate_train: bool = False,
        stop_after_epoch: int | None = None,
    ) -> list[Record]:
        """Train from ``self.step`` on, and return the history.

        Args:
            train: :class:`~xpnet.data.Samples` or a tuple (x, y).
            epochs, steps: how long in all, counted from step 0; give one of them.
            batch_size: rows in a step; the last batch of an epoch takes what is left.
            sampler: the order; shuffled when None.
            validation: what to evaluate on, and to choose the best by.
            evaluate_every: steps between evaluations; None: at the end of each epoch.
            evaluate_train: evaluate on ``train`` too; otherwise its figures are gathered while training.
            stop_after_epoch: stop early there, to be resumed.

        Raises:
            CallOrderError: the optimizer was given to another trainer since.
            NonFiniteError: the loss is not finite at a reporting point. Checkpoints of earlier moments stay.
            OutOfRangeError: the sampler gave the index of no row; or, at a reporting point of a device, a label of a
                batch was no class.
            OutOfMemoryError: with the batch size and how much was asked for. Checkpoints of earlier moments stay.
        """
        if self.optimizer.state is not self._optimizer_state:
            raise CallOrderError("this trainer's optimizer was given to another one since: make one for each")
        data = DeviceSamples(self.model, train)
        held_out = None if validation is None else DeviceSamples(self.model, validation)
        schedule = _schedule(len(data), batch_size, epochs, steps, evaluate_every, stop_after_epoch)
        self.optimizer.plan(schedule.total, self.step)
        self.schedule = schedule
        self._notify("on_fit_begin")
        self._diagnose("inputs out of range", diagnoses.inputs_out_of_range(data))
        context = Context(self.backend, training=True, seed=self.seed, reuse=True)
        sampler = sampler or Shuffled()
        try:
            with (
                self.backend.ignoring_overflow(),  # the report tells
                memory_for(f"training with batches of {batch_size:,} rows", "make them smaller (--batch-size)"),
            ):
                while self.step < schedule.stop:
                    self._train_until_due(schedule, data, sampler, batch_size, context)
                    report = self._finite_report()
                    if schedule.evaluates_after(self.step):
                        with nullcontext() if self.average is None else self.average.applied():
                            self._evaluate(schedule, data, held_out, evaluate_train, report)
                    self._notify("on_checkpoint")
        finally:
            self._notify("on_fit_end")
        return self.history

    def _train_until_due(
        self, schedule: Schedule, data: DeviceSamples, sampler: Sampler, batch_size: int, context: Context
    ) -> None:
        """Take steps to the next evaluation or the end of the epoch, whichever comes first."""
        began = time.perf_counter()
        epoch, place = divmod(self.step, schedule.steps_per_epoch)
        if place == 0:
            self.report = ops.new_report(self.backend)
        order = self.backend.asarray(epoch_order(sampler, len(data), batch_size, self.seed, epoch))
        for place in range(place, schedule.steps_per_epoch):  # noqa: B020 - from where the epoch stands
            stop = min((place + 1) * batch_size, order.shape[0])  # the standard defines no slice past the end
            self.train_step(data, order[place * batch_size : stop], context)
            self.samples_seen += stop - place * batch_size
            if place % REPORT_EVERY == 0:
                self._report_batch()
            if self.step == schedule.stop or schedule.evaluates_after(self.step):
                break
        self.backend.synchronize()
        self.training_seconds += time.perf_counter() - began

    def train_step(self, data: DeviceSamples, indices: Array, context: Context) -> None:
        """One step on the rows at ``indices``, under a training context; nothing waits for the device."""
        context.step = self.step
        if self.micro_batches is None:
            self._gradients(data, indices, context)
        else:
            self.micro_batches.accumulate(indices, context, lambda part: self._gradients(data, part, context))
        self.optimizer.update(self.step)
        if self.average is not None:
            self.average.update()
        self.step += 1

    def _gradients(self, data: DeviceSamples, indices: Array, context: Context) -> None:
        x, y = data.batch(indices, context, self.model.dtype)
        result = self.loss.forward(self.model.forward(x, context), y, context)
        self.model.backward_parameters(self.loss.backward(context), context)
        ops.accumulate(self.backend, self.report, result, indices.shape[0], self.step + 1)

    def _read_report(self) -> list[float]:
        """The report vector on the host: the one place where training waits for the device."""
        report = reports.read(self.backend, self.report)
        bad_step = report[reports.FIRST_NON_FINITE_STEP]
        if bad_step >= 0:
            raise self._non_finite(f"the loss stopped being finite at step {bad_step:.0f}")
        return report

    def _finite_report(self) -> list[float]:
        """What is not finite shall not become a checkpoint: neither the loss nor, after the last step, a parameter."""
        report = self._read_report()
        if not bool(self.backend.xp.all(self.backend.xp.isfinite(self.model.vectors.parameters.vector))):
            raise self._non_finite(f"a parameter is not finite after step {self.step}")
        return report

    def _non_finite(self, what: str) -> NonFiniteError:
        rate = self.optimizer.rate(max(self.step - 1, 0))
        return NonFiniteError(
            f"{what}, with the learning rate {rate:g}: lower it, and check the data for values that are not finite"
        )

    def _report_batch(self) -> None:
        report = self._read_report()
        self._record("batch", "on_batch", loss=report[reports.LAST_LOSS])

    def _evaluate(
        self,
        schedule: Schedule,
        data: DeviceSamples,
        held_out: DeviceSamples | None,
        evaluate_train: bool,
        report: list[float],
    ) -> None:
        count = report[reports.COUNT]
        train_loss, train_accuracy = report[reports.LOSS_SUM] / count, report[reports.CORRECT] / count
        if evaluate_train:
            train_loss, train_accuracy, _ = evaluate(self.model, data, self.loss)
        figures = {"train_loss": train_loss, "train_accuracy": train_accuracy}
        improved = False
        if held_out is not None:
            outcome = evaluate(self.model, held_out, self.loss)
            improved = self.best_accuracy is None or outcome.accuracy > self.best_accuracy
            if improved:
                self.best_accuracy, self.best_step = outcome.accuracy, self.step
            figures |= {"test_loss": outcome.loss, "test_accuracy": outcome.accuracy}
            figures["best_test_accuracy"] = self.best_accuracy  # type: ignore[assignment]
        self.optimizer.schedule.observe(figures.get("test_loss", train_loss))
        self._diagnose("dead units", diagnoses.dead_units(self.model, data))
        if data.y.ndim == 1 and self.step >= max(schedule.steps_per_epoch, diagnoses.STEPS_TO_LEARN):
            self._diagnose("loss at chance", diagnoses.loss_at_chance(train_loss, train_accuracy, data.outputs))
        self._record("evaluation", "on_evaluation", improved, **figures, training_seconds=self.training_seconds)

    def _diagnose(self, kind: str, message: str | None) -> None:
        """Record trouble the first time it is seen."""
        known = any(record["event"] == "diagnosis" and record["kind"] == kind for record in self.history)
        if message is not None and not known:
            self._record("diagnosis", "on_diagnosis", kind=kind, message=message)

    def _record(self, event: str, moment: str, *more: Any, **figures: Any) -> None:
        epoch = max(1, math.ceil(self.step / self.schedule.steps_per_epoch))  # type: ignore[union-attr]
        record = {"event": event, "step": self.step, "epoch": epoch, **figures}
        self.history.append(record)
        self._notify(moment, record, *more)

    def _notify(self, moment: str, *details: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, moment)(self, *details)


def _schedule(
    samples: int,
    batch_size: int,
    epochs: int | None,
    steps: int | None,
    evaluate_every: int | None,
    stop_after_epoch: int | None,
) -> Schedule:
    per_epoch = steps_per_epoch(samples, batch_size)
    if (epochs is None) == (steps is None):
        raise ConfigurationError(f"give either epochs or steps, not epochs={epochs} and steps={steps}")
    total = positive_integer("steps", steps) if epochs is None else positive_integer("epochs", epochs) * per_epoch
    stop = total
    if stop_after_epoch is not None:
        stop = min(total, positive_integer("stop_after_epoch", stop_after_epoch) * per_epoch)
    every = per_epoch if evaluate_every is None else positive_integer("evaluate_every", evaluate_every)
    return Schedule(per_epoch, total, stop, every)
