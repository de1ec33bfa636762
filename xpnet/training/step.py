"""One step of training: gradients → reduce → update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.data import Batch, Batches
from xpnet.layers import Layer
from xpnet.losses import Loss
from xpnet.optimizers import Optimizer
from xpnet.training import reports
from xpnet.training.accumulation import GradientAccumulation
from xpnet.training.device_steps import PART, DeviceSteps
from xpnet.training.moving_average import MovingAverage


class TrainingStep:
    """θ ← update(reduce(gradients of the batch's parts)); never waits for the device.

    The three functions are attributes, which can be replaced, wrapped and timed:

    - ``gradients(x, y, context)``: forward pass, loss and backward pass of a part of the batch. Writes the gradient
      into the model and returns the :class:`~xpnet.ops.BatchLoss`, whose arrays the next step may overwrite: copy those
      that are to be kept.
    - ``reduce(results, parts)``: the batch's result and gradient from those of its parts. ``results`` is lazy: each is
      computed when it is taken, see :class:`~xpnet.training.accumulation.GradientAccumulation`.
    - ``update(step, found_inf)``: the optimizer's update. Where the loss or a gradient is not finite, ``found_inf`` is
      set and the update leaves parameters and optimizer state unchanged, even if its rule ignores ``found_inf``.

    Args:
        model: initialised.
        loss: to minimise.
        optimizer: initialised with the model.
        micro_batch_size: rows in a part; None: the batch is one part.
        average: moving average of the weights, or None.
        skip_after_nonfinite: skip all steps after one that is not finite.

    Attributes:
        report: the report vector, see :mod:`xpnet.training.reports`.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Linear(1, 2).initialize(xpnet.backend("cpu-reference"))
    >>> optimizer = xpnet.SGD(0.1)
    >>> optimizer.initialize(model)
    >>> step = TrainingStep(model, xpnet.SoftmaxCrossEntropy(), optimizer)
    >>> batches = Batches(model.backend, np.ones((3, 1)), np.array([0, 1, 0]), batch_size=2)
    >>> step(batches, 0, Context(model.backend, training=True))
    2
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        *,
        micro_batch_size: int | None = None,
        average: MovingAverage | None = None,
        skip_after_nonfinite: bool = True,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.micro_batch_size, self.average = micro_batch_size, average
        self.backend = model.require_backend()
        self.report = reports.new_report(self.backend)
        parameters, gradients, buffers = model.vectors
        self._parameters, self._gradients, self._buffers = parameters.vector, gradients.vector, buffers.vector
        self._reads_found_inf = optimizer.reads_found_inf
        self._found_inf = self.backend.aligned_zeros(1, "int32")
        self._guard = ops.Guard(self._gradients, self._found_inf, skip_after_nonfinite)
        self._device_steps = DeviceSteps(self.backend)
        self._earlier_buffers = self.backend.aligned_zeros(self._buffers.shape[0], buffers.dtype)
        self.gradients: Callable[[Array, Array, Context], ops.BatchLoss] = self._backpropagate
        self.reduce: Callable[[Iterable[ops.BatchLoss], int], ops.BatchLoss] = GradientAccumulation(gradients)
        self.update: Callable[[int, Array], None] = self._optimize

    def __call__(self, batches: Batches, step: int, context: Context) -> int:
        """Take a step, under a training context, and return the number of rows in its batch."""
        batch = batches.at(step)
        parts = batch.parts(self.micro_batch_size)
        if self._buffers.shape[0]:
            self._earlier_buffers[...] = self._buffers
        device_steps = self._device_steps.of_parts(step, len(parts))
        result = self.reduce(self.results(batches, parts, step, context, device_steps), len(parts))
        context.step, context.device_step, context.part = step, None, 0
        steps = self._device_steps.vector
        table = None if steps is None else self.optimizer.table(step)
        ops.end_step(self.backend, self.report, result, step + 1, self._guard, steps=steps, table=table)
        self._device_steps.advanced_from(step)
        self._guarded_update(step)
        if self.average is not None:
            self.average.update(self._found_inf)
        if self._buffers.shape[0]:
            ops.restore_if_found_inf(self.backend, self._buffers, self._earlier_buffers, self._found_inf)
        return batch.rows

    def results(
        self,
        batches: Batches,
        parts: list[Batch],
        step: int,
        context: Context,
        device_steps: Sequence[Array] | None = None,
    ) -> Iterator[ops.BatchLoss]:
        """The results of the parts of a step's batch, lazily; the model has the gradient of the last one taken."""
        for part in parts:
            context.step, context.part = step + part.number * PART, part.number  # each draws numbers of its own
            context.device_step = None if device_steps is None else device_steps[part.number]
            yield self.gradients(*batches.gather(part, context), context)

    def _backpropagate(self, x: Array, y: Array, context: Context) -> ops.BatchLoss:
        result = self.loss.forward(self.model.forward(x, context), y, context)
        self.model.backward_parameters(result.gradient, context)
        return result

    def _optimize(self, step: int, found_inf: Array) -> None:
        self.optimizer.update(step, found_inf)

    def _guarded_update(self, step: int) -> None:
        if self._reads_found_inf and self.update == self._optimize:
            self.optimizer.update(step, self._found_inf)  # looked up in each step, so that it can be watched
            return
        written = [self._parameters, *(vector.vector for vector in self.optimizer.state.values())]
        self.backend.unless(self._found_inf, written, lambda: self.update(step, self._found_inf))
