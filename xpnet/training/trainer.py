"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from xpnet.backends import PRECISIONS, Array
from xpnet.configuration import ON_NONFINITE
from xpnet.context import Context
from xpnet.data import Batches, Sampler, Samples, Shuffled
from xpnet.errors import CallOrderError, NonFiniteError, one_of, positive_integer
from xpnet.layers import Layer
from xpnet.layers.precision import set_precision
from xpnet.layers.preprocessing import fit_preprocessing
from xpnet.losses import Loss, RowLoss, SoftmaxCrossEntropy, as_loss
from xpnet.optimizers import Optimizer
from xpnet.training import diagnoses, reports
from xpnet.training.batches import batches_for, samples_for
from xpnet.training.callbacks import Callback, Record
from xpnet.training.evaluation import Evaluation, evaluate_batches
from xpnet.training.intervals import Intervals
from xpnet.training.moving_average import MovingAverage
from xpnet.training.replay import first_non_finite
from xpnet.training.step import TrainingStep

REPORT_EVERY = 100  # steps; the host waits for the device only then


class Trainer:
    """Trains a model, and holds the state of the run.

    Args:
        model: initialised.
        loss: to minimise: a :class:`~xpnet.losses.Loss`, or a function as :class:`~xpnet.losses.FunctionLoss` takes.
        optimizer: to minimise it with; one for each trainer.
        seed: of the order of samples, and of layers that draw random numbers.
        micro_batch_size: rows of a batch that are computed at a time, to save memory; their gradients are accumulated
            into one step. None: all at once.
        ema_decay: β of an exponential moving average of the weights, which is evaluated and saved; 0.999 averages
            about a thousand steps. None: no average.
        precision: of the model's passes, from now on: "float32"; "tf32", where products of matrices may round their
            factors to TF32; or "bf16", where activations are bfloat16. Weights and optimizer state are float32.
        callbacks: called during the run, in this order.
        on_nonfinite: what to do at a step whose loss or gradients are not all finite; it updates nothing either way.
            "stop": no further step is taken, and the next report raises and names the layer. "skip": the step is
            counted, and training continues.

    Attributes:
        training_step: gradients → reduce → update, each of which can be replaced, see
            :class:`~xpnet.training.TrainingStep`.
        average: the :class:`~xpnet.training.MovingAverage`; None without ``ema_decay``.
        step: steps taken so far. A trainer whose step, model, optimizer state and report were restored continues as if
            it had never stopped: random numbers depend on the seed and the step alone.
        history: the records so far, see :class:`~xpnet.training.Callback`.
        best_accuracy, best_loss, best_step: of the best evaluation on the validation set so far, by accuracy, or by
            loss where the loss defines no accuracy; None before the first.
        intervals: when the current or last fit evaluates, saves and ends, in steps.
        training_seconds: spent in steps so far, without evaluations and checkpoints, but with the compilation of
            kernels at their first use.
        samples_seen: rows trained on so far.

    Raises:
        ConfigurationError: an option out of its range.
        BackendError: the model's backend does not compute in that precision.
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

    intervals: Intervals

    def __init__(
        self,
        model: Layer,
        loss: Loss | RowLoss,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        micro_batch_size: int | None = None,
        ema_decay: float | None = None,
        precision: str = PRECISIONS[0],
        callbacks: Iterable[Callback] = (),
        on_nonfinite: str = ON_NONFINITE[0],
    ) -> None:
        self.on_nonfinite = one_of("on_nonfinite", on_nonfinite, ON_NONFINITE)
        self.model, self.loss, self.optimizer = model, as_loss(loss), optimizer
        self.seed = seed
        self.callbacks = list(callbacks)
        self.backend = set_precision(model, precision)
        self.step = 0
        self.history: list[Record] = []
        self.best_accuracy: float | None = None
        self.best_loss: float | None = None
        self.best_step: int | None = None
        self.training_seconds = 0.0
        self.samples_seen = 0
        self.average = None if ema_decay is None else MovingAverage(model, ema_decay)
        optimizer.initialize(model)
        self._optimizer_state = optimizer.state
        if micro_batch_size is not None:
            micro_batch_size = positive_integer("micro_batch_size", micro_batch_size)
        self.training_step = TrainingStep(
            model,
            self.loss,
            optimizer,
            micro_batch_size=micro_batch_size,
            average=self.average,
            skip_after_nonfinite=self.on_nonfinite == "stop",
        )
        self._stopping = False

    @property
    def report(self) -> Array:
        """The report vector of the current epoch, see :mod:`xpnet.training.reports`."""
        return self.training_step.report

    @report.setter
    def report(self, report: Array) -> None:
        self.training_step.report = report

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
        checkpoint_every: int | None = None,
        stop_after_epoch: int | None = None,
    ) -> list[Record]:
        """Train from ``self.step`` on, and return the history.

        Args:
            train: :class:`~xpnet.data.Samples` or a tuple (x, y).
            epochs, steps: total length, counted from step 0; give one of them.
            batch_size: rows in a step; the last batch of an epoch may have fewer.
            sampler: the order of samples; shuffled when None.
            validation: samples to evaluate on, which choose the best step.
            evaluate_every: steps between evaluations; None: at the end of each epoch.
            evaluate_train: evaluate on ``train`` too; otherwise its metrics are averages over the epoch's batches so
                far.
            checkpoint_every: steps between checkpoints, besides those after each evaluation and epoch; None: no others.
                Changes no bit of the run.
            stop_after_epoch: stop after this epoch; a later ``fit`` continues.

        Raises:
            CallOrderError: the optimizer has been given to another trainer.
            NonFiniteError: a step was not finite, and ``on_nonfinite`` is "stop"; raised at the next report. The model
                is as before that step, and earlier checkpoints stay.
            OutOfRangeError: the sampler gave an index outside the set; or a label is outside the classes, on a GPU
                raised at the next report.
            OutOfMemoryError: names the batch size and the memory asked for. Earlier checkpoints stay.
        """
        if self.optimizer.state is not self._optimizer_state:
            raise CallOrderError("this trainer's optimizer is now another trainer's: make one for each trainer")
        train = samples_for(self.model, train, self.loss)
        fit_preprocessing(self.model, train.x)
        batches = batches_for(
            self.model, train, self.loss, batch_size=batch_size, sampler=sampler or Shuffled(), seed=self.seed
        )
        held_out = None if validation is None else batches_for(self.model, validation, self.loss)
        self.intervals = Intervals.of(
            batches.steps_per_epoch, epochs, steps, evaluate_every, checkpoint_every, stop_after_epoch
        )
        self.optimizer.set_total_steps(self.intervals.total_steps, self.step)
        self._batches, self._stopping = batches, False
        with self.backend.on_device():
            context = Context(self.backend, training=True, seed=self.seed, reuse=True)
            try:
                self._notify("on_fit_begin")
                self.diagnose("inputs out of range", diagnoses.inputs_out_of_range(self.model, batches))
                with (
                    self.backend.ignoring_overflow(),  # the report records it
                    self.backend.memory_for(f"batches of {batch_size:,} rows: make them smaller, or train on the CPU"),
                ):
                    while self.step < self.intervals.stop:
                        self._train_until_due(context)
                        report = self._finite_report()
                        if self.intervals.evaluates_after(self.step):
                            with nullcontext() if self.average is None else self.average.applied():
                                self._evaluate(held_out, evaluate_train, report)
                        self._notify("on_checkpoint")
                        if self._stopping:
                            break
            finally:
                self._notify("on_fit_end")
        return self.history

    def stop(self) -> None:
        """Let ``fit`` save a checkpoint and return after the current step, or the next one.

        A callback, another thread or a signal handler may call this: it only sets a flag.
        """
        self._stopping = True

    def _train_until_due(self, context: Context) -> None:
        """Take steps until the next checkpoint, or until ``stop`` was called."""
        began, per_epoch = time.perf_counter(), self.intervals.steps_per_epoch
        if self.step % per_epoch == 0:
            reports.start_epoch(self.backend, self.report)
        for step in range(self.step, self.intervals.next_checkpoint(self.step)):
            self.train_step(self._batches, context)
            if step % per_epoch % REPORT_EVERY == 0:
                self._report_batch()
            if self._stopping:
                break
        self.backend.synchronize()
        self.training_seconds += time.perf_counter() - began

    def train_step(self, batches: Batches, context: Context) -> None:
        """Take the next step, under a training context, without waiting for the device."""
        self.samples_seen += self.training_step(batches, self.step, context)
        self.step += 1

    def _read_report(self) -> list[float]:
        """The report vector on the host: the one place where training waits for the device."""
        report = reports.read(self.backend, self.report)
        bad_step = int(report[reports.FIRST_NON_FINITE_STEP])
        if bad_step >= 0 and self.on_nonfinite == "stop":
            where = first_non_finite(self.training_step, self._batches, bad_step - 1, self.seed)
            where = f"in {where}" if where else "(could not locate the first non-finite array)"
            raise self._non_finite(f"step {bad_step} stopped being finite {where}")
        return report

    def _finite_report(self) -> list[float]:
        """The report; raises where loss, parameters or running statistics are not finite, so that none is saved."""
        report, xp = self._read_report(), self.backend.xp
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

    def _report_batch(self) -> None:
        report = self._read_report()
        self.diagnose("skipped steps", self._skipped_steps(report))
        self._record("batch", "on_batch", loss=report[reports.LAST_LOSS])

    def _skipped_steps(self, report: list[float]) -> str | None:
        skipped = int(report[reports.SKIPPED_STEPS])
        message = f"{skipped} of {self.step} steps were skipped: their loss or gradients were not finite"
        return message if skipped else None

    def _evaluate(
        self,
        held_out: Batches | None,
        evaluate_train: bool,
        report: list[float],
    ) -> None:
        train_loss, train_accuracy = reports.means(report)
        if evaluate_train:
            train_loss, train_accuracy, _ = evaluate_batches(self.model, self._batches.in_order(), self.loss)
        metrics = {"train_loss": train_loss, "train_accuracy": train_accuracy}
        if self.on_nonfinite == "skip":
            metrics["skipped_steps"] = int(report[reports.SKIPPED_STEPS])
        improved = False
        if held_out is not None:
            outcome = evaluate_batches(self.model, held_out, self.loss)
            improved = self._is_best(outcome)
            if improved:
                self.best_accuracy, self.best_loss, self.best_step = outcome.accuracy, outcome.loss, self.step
            metrics |= {"validation_loss": outcome.loss, "validation_accuracy": outcome.accuracy}
            metrics["best_validation_accuracy"] = self.best_accuracy  # type: ignore[assignment]
        self.optimizer.schedule.observe(metrics.get("validation_loss", train_loss))
        self.diagnose("skipped steps", self._skipped_steps(report))
        self.diagnose("dead units", diagnoses.dead_units(self.model, self._batches))
        output_shape = self.model.output_shape(tuple(self._batches.x.shape[1:]))
        has_class_indices = self._batches.y.ndim == len(output_shape)
        classifies = isinstance(self.loss, SoftmaxCrossEntropy) and has_class_indices
        if classifies and self.step >= max(self.intervals.steps_per_epoch, diagnoses.STEPS_TO_LEARN):
            self.diagnose("loss at chance", diagnoses.loss_at_chance(train_loss, train_accuracy, output_shape[-1]))
        self._record("evaluation", "on_evaluation", improved, **metrics, training_seconds=self.training_seconds)

    def _is_best(self, outcome: Evaluation) -> bool:
        if self.best_accuracy is None or self.best_loss is None:
            return True
        if math.isnan(outcome.accuracy):
            return outcome.loss < self.best_loss
        return outcome.accuracy > self.best_accuracy

    def diagnose(self, kind: str, message: str | None) -> None:
        """Record a kind of problem, the first time that it is found; a message of None is no problem."""
        known = any(record["event"] == "diagnosis" and record["kind"] == kind for record in self.history)
        if message is not None and not known:
            self._record("diagnosis", "on_diagnosis", kind=kind, message=message)

    def _record(self, event: str, method: str, *more: Any, **content: Any) -> None:
        epoch = max(1, math.ceil(self.step / self.intervals.steps_per_epoch))
        record = {"event": event, "step": self.step, "epoch": epoch, **content}
        self.history.append(record)
        self._notify(method, record, *more)

    def _notify(self, method: str, *details: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, method)(self, *details)
