"""The base class of losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.errors import ConfigurationError, one_of
from xpnet.parameters import Shape


class Loss:
    """The base class of losses: the loss of a batch and its gradient, from one pass.

    A subclass defines ``per_row`` and stores every constructor argument in an attribute of the same name; reductions
    and training reports are derived from the losses per row. (xpnet's own losses define ``compute``, the whole
    operation, instead.) A loss without arguments can be a function: see :class:`FunctionLoss`.

    Args:
        reduction: "mean", "sum" or "none". Under "none" a call returns all losses, and row i of the gradient is that of
            loss i; a trainer minimises their sum.

    Raises:
        ConfigurationError: an unknown reduction.

    >>> import xpnet
    >>> class Huber(Loss):
    ...     def per_row(self, outputs, targets):
    ...         error = outputs[:, 0] - targets
    ...         inside, slope = abs(error) < 1, error.clip(-1, 1)
    ...         return inside * error**2 / 2 + ~inside * (abs(error) - 0.5), slope[:, None]
    >>> cpu = xpnet.backend("cpu")
    >>> result = Huber().forward(cpu.asarray([[1.0], [5.0]]), cpu.asarray([0.5, 3.0]), Context(cpu, training=True))
    >>> float(result.loss), result.gradient.tolist()
    (0.8125, [[0.25], [0.5]])
    """

    reduction: str = "mean"  # of a subclass whose constructor does not call this one
    takes_bfloat16: bool = False  # others get outputs in float32

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "compute" in vars(cls) and "takes_bfloat16" not in vars(cls):
            cls.takes_bfloat16 = False  # the base class's says nothing about a new compute

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = one_of("reduction", reduction, ops.REDUCTIONS)

    def per_row(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """The loss of each row, (N,), and the gradient of each row's loss with respect to its outputs."""
        raise NotImplementedError(f"{type(self).__name__} defines neither per_row nor compute")

    def compute(self, outputs: Array, targets: Array, context: Context) -> ops.BatchLoss:
        """What ``forward`` returns, of arrays of the context's backend."""
        result = self.per_row(outputs, targets)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ConfigurationError(
                f"the loss returned a {type(result).__name__}: return a tuple of two arrays, the loss of each row and "
                "the gradient of each row's loss with respect to its outputs"
            )
        losses, row_gradients = result
        if context.training and row_gradients is None:
            raise ConfigurationError("the loss returned None for the gradient: return losses, gradient")
        row_gradients = row_gradients if context.training else None
        out = self._gradient_memory(outputs, context)
        return ops.batch_loss(context.backend, outputs, losses, row_gradients, out, reduction=self.reduction)

    def require_targets(self, y: np.ndarray, output_shape: Shape) -> None:
        """Raise if the targets of a data set, on the host, do not match outputs of that shape."""

    def __call__(self, backend: Backend, outputs: Any, targets: Any) -> Array:
        """The loss, a 0-d float64 array on the device; under the reduction "none" the losses."""
        with backend.on_device():
            result = self.forward(outputs, targets, Context(backend))
        return result.losses if self.reduction == "none" else result.loss

    def forward(self, outputs: Array, targets: Array, context: Context) -> ops.BatchLoss:
        """The loss of a batch and, under ``context.training``, its gradient."""
        for array in (outputs, targets):
            context.backend.require(array)
        if context.backend.activation_dtype is not None and not (self.takes_bfloat16 and targets.ndim < outputs.ndim):
            outputs = context.backend.widened(outputs)  # targets of the outputs' shape are not rounded to their type
        return self.compute(outputs, targets, context)

    def _gradient_memory(self, outputs: Array, context: Context) -> Array | None:
        return context.empty(self, "gradient", outputs.shape, outputs.dtype) if context.training else None
