"""Losses defined by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnet.backends import Array
from xpnet.errors import ConfigurationError
from xpnet.losses.loss import Loss
from xpnet.losses.softmax_cross_entropy import SoftmaxCrossEntropy

RowLoss = Callable[[Any, Any], tuple[Any, Any]]


class FunctionLoss(Loss):
    """L = 1/N Σᵢ f(yᵢ, tᵢ), for a function of outputs and targets.

    Args:
        function: given outputs (N, …) and targets (N, …), arrays of one backend, returns the loss of each row, (N,),
            and the gradient of each row's loss with respect to its outputs, of the outputs' shape. It must not write
            into its arguments.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigurationError: ``function`` is not callable, or an unknown reduction.

    >>> import xpnet
    >>> def absolute_error(outputs, targets):
    ...     error = outputs - targets
    ...     return abs(error).sum(axis=1), (error > 0) * 2.0 - 1.0
    >>> cpu = xpnet.backend("cpu")
    >>> float(FunctionLoss(absolute_error)(cpu, cpu.asarray([[1.0], [5.0]]), cpu.asarray([[2.0], [3.0]])))
    1.5
    """

    def __init__(self, function: RowLoss, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if not callable(function):
            raise ConfigurationError(f"a loss must be a Loss or a function of outputs and targets, not {function!r}")
        self.function = function

    def per_row(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """The function's result."""
        return self.function(outputs, targets)


def as_loss(loss: Loss | RowLoss | None) -> Loss:
    """A loss as it is, a function as a FunctionLoss, None as softmax cross-entropy.

    Raises:
        ConfigurationError: a class in place of a loss, or what cannot be called.

    >>> type(as_loss(None)).__name__
    'SoftmaxCrossEntropy'
    """
    if loss is None:
        return SoftmaxCrossEntropy()
    if isinstance(loss, type):
        raise ConfigurationError(f"a loss must be an object, not the class {loss.__name__}: call it, {loss.__name__}()")
    return loss if isinstance(loss, Loss) else FunctionLoss(loss)
