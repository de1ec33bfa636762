"""What every loss is."""

from __future__ import annotations

import numpy as np

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.errors import CallOrderError, one_of
from xpnet.parameters import Shape


class Loss:
    """A loss: a number for a batch of outputs and targets, and its gradient.

    The loss stays on the device until somebody reads it (``float(loss)``). A subclass keeps its constructor's
    arguments under their own names, and defines ``compute`` and ``require_targets``.

    Args:
        reduction: "mean", "sum" or "none". Under "none" the call gives every loss, and row i of the gradient is that of
            row i's loss; a trainer makes their sum small.

    Raises:
        ConfigurationError: an unknown reduction.

    >>> import xpnet
    >>> class AbsoluteError(Loss):
    ...     def compute(self, backend, outputs, targets, gradient, out):
    ...         distance, n = outputs - targets, targets.shape[0]
    ...         losses, slope = backend.xp.abs(distance), backend.xp.sign(distance) / n
    ...         return ops.BatchLoss(losses.mean(), losses, float("nan"), slope, weight=n, rows=n)
    ...     def require_targets(self, y, output_shape):
    ...         pass
    >>> cpu = xpnet.backend("cpu")
    >>> float(AbsoluteError()(cpu, cpu.asarray([[1.0], [5.0]]), cpu.asarray([[1.0], [3.0]])))
    1.0
    """

    _gradient: Array | None = None

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = one_of("reduction", reduction, ops.REDUCTIONS)

    def compute(
        self, backend: Backend, outputs: Array, targets: Array, gradient: bool, out: Array | None
    ) -> ops.BatchLoss:
        """The operation."""
        raise NotImplementedError(f"{type(self).__name__} defines no compute")

    def require_targets(self, y: np.ndarray, output_shape: Shape) -> None:
        """Raise for targets, on the host and for a whole set, that outputs of that shape cannot be held against."""
        raise NotImplementedError(f"{type(self).__name__} defines no require_targets")

    def __call__(self, backend: Backend, outputs: Array, targets: Array) -> Array:
        """The loss, a 0-d float64 array; under the reduction "none" the losses."""
        result = self.forward(outputs, targets, Context(backend))
        return result.losses if self.reduction == "none" else result.loss

    def forward(self, outputs: Array, targets: Array, context: Context) -> ops.BatchLoss:
        """The loss, and under ``context.training`` its gradient too, from the same pass."""
        for array in (outputs, targets):
            context.backend.require(array)
        out = context.empty(self, "gradient", outputs.shape, outputs.dtype) if context.training else None
        result = self.compute(context.backend, outputs, targets, context.training, out)
        self._gradient = result.gradient
        return result

    def backward(self, context: Context) -> Array:
        """d loss / d outputs, of the outputs' shape.

        Raises:
            CallOrderError: no forward pass under ``training=True`` came before, or it was already used.
        """
        gradient, self._gradient = self._gradient, None
        if gradient is None:
            raise CallOrderError(
                f"{type(self).__name__}.backward needs a forward pass under Context(training=True) before it"
            )
        return gradient
