"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

from xpnet import ops
from xpnet.backends import Array
from xpnet.configuration import ON_NONFINITE
from xpnet.data import Sampler, Samples, Shuffled, epoch_order
from xpnet.errors import CallOrderError, NonFiniteError, one_of
from xpnet.layers import Context, Layer
from xpnet.losses import Loss, SoftmaxCrossEntropy
from xpnet.ops import reports
from xpnet.ops.batch_loss import counted_loss
from xpnet.optimizers import Optimizer
from xpnet.training import diagnoses
from xpnet.training.accumulation import MicroBatches
from xpnet.training.batches import DeviceSamples
from xpnet.training.callbacks import VALIDATION_NAMES, Callback, Record
from xpnet.training.evaluation import Evaluation, evaluate
from xpnet.training.moving_average import MovingAverage
from xpnet.training.replay import first_non_finite
from xpnet.training.schedule import Schedule

BatchOf = Callable[[int], Array]  # from a step's number to the rows of its batch

REPORT_EVERY = 100  # steps; the host waits for the device only then


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
        on_nonfinite: what becomes of a step whose loss or gradients are not all finite. Nothing is updated either way.
            "stop": no later step is taken; the next report raises, and names the layer. "skip": the step is left out
            and counted, and the run goes on.

    Attributes:
        average: the :class:`~xpnet.training.MovingAverage`; None without ``ema_decay``.
        step: steps taken so far. A trainer whose step, model, optimizer state and report were restored goes on as if
            it had never stopped, for everything that is drawn depends on the seed and the step's number alone.
        history: the records so far, see :class:`~xpnet.training.Callback`.
        best_accuracy, best_loss, best_step: of the best evaluation so far, by accuracy, or by loss where the loss calls
            no row right or wrong; None before the first.
        training_seconds: spent in steps so far, without evaluations and checkpoints; the compilation of kernels, on
            their first use, included.
        samples_seen: rows trained on so far.

    Raises:
        ConfigurationError: an option out of its range.
        CallOrderError: the model is not initialised.

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
        loss: Loss,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        micro_batch_size: int | None = None,
        ema_decay: float | None = None,
        callbacks: Iterable[Callback] = (),
        on_nonfinite: str = ON_NONFINITE[0],
    ) -> None:
        self.on_nonfinite = one_of("on_nonfinite", on_nonfinite, ON_NONFINITE)
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.seed = seed
        self.callbacks = list(callbacks)
        self.backend = model.require_backend()
        self.step = 0
        self.history: list[Record] = []
        self.best_accuracy: float | None = None
        self.best_loss: float | None = None
        self.best_step: int | None = None
        self.training_seconds = 0.0
        self.samples_seen = 0
        self.report = ops.new_report(self.backend)
        self.schedule: Schedule | None = None
        self._stopping = False
        self._found_inf = self.backend.aligned_zeros(1, "int32")
        _, gradients, buffers = model.vectors
        self._gradients, self._buffers = gradients.vector, buffers.vector
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
        validation_name: str = VALIDATION_NAMES[0],
        evaluate_every: int | None = None,
        evaluate_train: bool = False,
        checkpoint_every: int | None = None,
        stop_after_epoch: int | None = None,
    ) -> list[Record]:
        """Train from ``self.step`` on, and return the history.

        Args:
            train: :class:`~xpnet.data.Samples` or a tuple (x, y).
            epochs, steps: how long in all, counted from step 0; give one of them.
            batch_size: rows in a step; the last batch of an epoch takes what is left.
            sampler: the order; shuffled when None.
            validation: what to evaluate on, and to choose the best by.
            validation_name: what the records call its figures: "test" (test_loss, …), or "validation" where the test
                set is kept for the end.
            evaluate_every: steps between evaluations; None: at the end of each epoch.
            evaluate_train: evaluate on ``train`` too; otherwise its figures are gathered while training.
            checkpoint_every: steps between checkpoints, beside those after each evaluation and at the end of each
                epoch; None: those alone. Which steps are saved changes no bit of the run.
            stop_after_epoch: stop early there, to be resumed.

        Raises:
            CallOrderError: the optimizer was given to another trainer since.
            NonFiniteError: at a reporting point, a step was not finite, and ``on_nonfinite`` is "stop": the model is as
                that step found it. Checkpoints of earlier moments stay.
            OutOfRangeError: the sampler gave the index of no row; or, at a reporting point of a device, a label of a
                batch was no class.
            OutOfMemoryError: with the batch size and how much was asked for. Checkpoints of earlier moments stay.
        """
        if self.optimizer.state is not self._optimizer_state:
            raise CallOrderError("this trainer's optimizer was given to another one since: make one for each")
        one_of("validation_name", validation_name, VALIDATION_NAMES)
        data = DeviceSamples(self.model, train, self.loss)
        held_out = None if validation is None else DeviceSamples(self.model, validation, self.loss)
        schedule = Schedule.of(len(data), batch_size, epochs, steps, evaluate_every, checkpoint_every, stop_after_epoch)
        self.optimizer.set_total_steps(schedule.total, self.step)
        self.schedule = schedule
        self._stopping = False
        context = Context(self.backend, training=True, seed=self.seed, reuse=True)
        sampler = sampler or Shuffled()

        @lru_cache(maxsize=1)
        def order_of(epoch: int) -> Array:
            return self.backend.asarray(epoch_order(sampler, len(data), batch_size, self.seed, epoch))

        def batch_of(step: int) -> Array:
            epoch, place = divmod(step, schedule.steps_per_epoch)
            order = order_of(epoch)
            return order[place * batch_size : min((place + 1) * batch_size, order.shape[0])]  # no slice past the end

        try:
            self._notify("on_fit_begin")
            self._diagnose("inputs out of range", diagnoses.inputs_out_of_range(data))
            with (
                self.backend.ignoring_overflow(),  # the report tells
                self.backend.memory_for(f"batches of {batch_size:,} rows: make them smaller, or train on the CPU"),
            ):
                while self.step < schedule.stop:
                    self._train_until_due(schedule, data, batch_of, context)
                    report = self._finite_report(data, batch_of)
                    if schedule.evaluates_after(self.step):
                        with nullcontext() if self.average is None else self.average.applied():
                            self._evaluate(schedule, data, held_out, validation_name, evaluate_train, report)
                    self._notify("on_checkpoint")
                    if self._stopping:
                        break
        finally:
            self._notify("on_fit_end")
        return self.history

    def stop(self) -> None:
        """Let ``fit`` end after the step under way, or the next one, with a checkpoint; to be resumed.

        For a callback, another thread or a signal handler: nothing happens but that the wish is noted.
        """
        self._stopping = True

    def _train_until_due(
        self,
        schedule: Schedule,
        data: DeviceSamples,
        batch_of: BatchOf,
        context: Context,
    ) -> None:
        """Take steps to the next checkpoint, or until somebody asks for a stop."""
        began = time.perf_counter()
        if self.step % schedule.steps_per_epoch == 0:
            left_out = self.report[reports.SKIPPED_STEPS, ...]  # of the whole run
            self.report = ops.new_report(self.backend)
            self.report[reports.SKIPPED_STEPS] = left_out
        for step in range(self.step, schedule.next_checkpoint(self.step)):
            indices = batch_of(step)
            self.train_step(data, indices, context)
            self.samples_seen += indices.shape[0]
            if step % schedule.steps_per_epoch % REPORT_EVERY == 0:
                self._report_batch(data, batch_of)
            if self._stopping:
                break
        self.backend.synchronize()
        self.training_seconds += time.perf_counter() - began

    def train_step(self, data: DeviceSamples, indices: Array, context: Context) -> None:
        """One step on the rows at ``indices``, under a training context; nothing waits for the device."""
        context.step = self.step
        kept_buffers = self.backend.xp.asarray(self._buffers, copy=True) if self._buffers.shape[0] else None
        if self.micro_batches is None:
            result = self._backpropagate(data, indices, context)
        else:
            result = self.micro_batches.accumulate(
                indices, context, lambda part: self._backpropagate(data, part, context)
            )
        ops.check_finite(self.backend, self._gradients, counted_loss(self.backend, result), self._found_inf)
        if self.on_nonfinite == "stop":
            reports.hold(self.backend, self.report, self._found_inf)
        self.optimizer.update(self.step, self._found_inf)
        if self.average is not None:
            self.average.update(self._found_inf)
        if kept_buffers is not None:
            ops.take_back(self.backend, self._buffers, kept_buffers, self._found_inf)
        self.step += 1
        ops.accumulate(self.backend, self.report, result, self.step, self._found_inf)

    def _backpropagate(self, data: DeviceSamples, indices: Array, context: Context) -> ops.BatchLoss:
        """The loss on these rows, with its gradient left in the model."""
        x, y = data.batch(indices, context, self.model.dtype)
        result = self.loss.forward(self.model.forward(x, context), y, context)
        self.model.backward_parameters(self.loss.backward(context), context)
        return result

    def _read_report(self, data: DeviceSamples, batch_of: BatchOf) -> list[float]:
        """The report vector on the host: the one place where training waits for the device."""
        report = reports.read(self.backend, self.report)
        bad_step = int(report[reports.FIRST_NON_FINITE_STEP])
        if bad_step >= 0 and self.on_nonfinite == "stop":
            context = Context(self.backend, training=True, seed=self.seed)
            context.step = bad_step - 1
            batch = batch_of(bad_step - 1)
            parts = [batch] if self.micro_batches is None else self.micro_batches.parts(batch, context)
            places = (first_non_finite(self.model, self.loss, data, part, context) for part in parts)
            where = next(filter(None, places), None)
            raise self._non_finite(f"step {bad_step} stopped being finite in {where or 'a place that a replay hides'}")
        return report

    def _finite_report(self, data: DeviceSamples, batch_of: BatchOf) -> list[float]:
        """What is not finite shall not become a checkpoint: neither the loss nor what the last step left behind."""
        report, xp = self._read_report(data, batch_of), self.backend.xp
        parameters, _, buffers = self.model.vectors
        finite = [xp.all(xp.isfinite(vector)) for vector in (parameters.vector, buffers.vector)]
        if not bool(xp.logical_and(*finite)):
            what = "running statistic" if bool(finite[0]) else "parameter"
            raise self._non_finite(f"a {what} is not finite after step {self.step}")
        return report

    def _non_finite(self, what: str) -> NonFiniteError:
        rate = self.optimizer.rate(max(self.step - 1, 0))
        return NonFiniteError(
            f"{what}, with the learning rate {rate:g}: lower it, and check the data for values that are not finite"
        )

    def _report_batch(self, data: DeviceSamples, batch_of: BatchOf) -> None:
        report = self._read_report(data, batch_of)
        self._diagnose("skipped steps", self._steps_left_out(report))
        self._record("batch", "on_batch", loss=report[reports.LAST_LOSS])

    def _steps_left_out(self, report: list[float]) -> str | None:
        left_out = int(report[reports.SKIPPED_STEPS])
        message = f"{left_out} of {self.step} steps were left out: their loss or gradients were not finite"
        return message if left_out else None

    def _evaluate(
        self,
        schedule: Schedule,
        data: DeviceSamples,
        held_out: DeviceSamples | None,
        name: str,
        evaluate_train: bool,
        report: list[float],
    ) -> None:
        train_loss, train_accuracy = reports.means(report)
        if evaluate_train:
            train_loss, train_accuracy, _ = evaluate(self.model, data, self.loss)
        figures = {"train_loss": train_loss, "train_accuracy": train_accuracy}
        if self.on_nonfinite == "skip":
            figures["skipped_steps"] = int(report[reports.SKIPPED_STEPS])
        improved = False
        if held_out is not None:
            outcome = evaluate(self.model, held_out, self.loss)
            improved = self._is_best(outcome)
            if improved:
                self.best_accuracy, self.best_loss, self.best_step = outcome.accuracy, outcome.loss, self.step
            figures |= {f"{name}_loss": outcome.loss, f"{name}_accuracy": outcome.accuracy}
            figures[f"best_{name}_accuracy"] = self.best_accuracy  # type: ignore[assignment]
        self.optimizer.schedule.observe(figures.get(f"{name}_loss", train_loss))
        self._diagnose("skipped steps", self._steps_left_out(report))
        self._diagnose("dead units", diagnoses.dead_units(self.model, data))
        classifies = isinstance(self.loss, SoftmaxCrossEntropy) and data.y.ndim == len(data.output_shape)  # indices
        if classifies and self.step >= max(schedule.steps_per_epoch, diagnoses.STEPS_TO_LEARN):
            self._diagnose(
                "loss at chance", diagnoses.loss_at_chance(train_loss, train_accuracy, data.output_shape[-1])
            )
        self._record("evaluation", "on_evaluation", improved, **figures, training_seconds=self.training_seconds)

    def _is_best(self, outcome: Evaluation) -> bool:
        if self.best_accuracy is None or self.best_loss is None:
            return True
        if math.isnan(outcome.accuracy):
            return outcome.loss < self.best_loss
        return outcome.accuracy > self.best_accuracy

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
