"""Losses that compare each output with its own target."""

from __future__ import annotations

import numpy as np

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import OutOfRangeError, ShapeError
from xpnet.losses.loss import Loss
from xpnet.parameters import Shape


class MeanSquaredError(Loss):
    """L = 1/n Σ (y - t)², over all n outputs y of a batch and their targets t.

    Targets have the outputs' shape, or (N,) for outputs (N, 1). There is no accuracy: training reports NaN, and the
    best evaluation is the one with the smallest loss.

    Args:
        reduction: "mean", "sum" or "none" (one loss per output).

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, equation 1.2, without its factor 1/2.

    >>> import xpnet
    >>> backend = xpnet.backend("cpu-reference")
    >>> float(MeanSquaredError()(backend, backend.asarray([[1.0, 5.0]]), backend.asarray([[1.0, 3.0]])))
    2.0
    """

    def compute(self, outputs: Array, targets: Array, context: Context) -> ops.BatchLoss:
        """:func:`xpnet.ops.mean_squared_error`."""
        out = self._gradient_memory(outputs, context)
        return ops.mean_squared_error(
            context.backend, outputs, targets, context.training, out, reduction=self.reduction
        )

    def require_targets(self, y: np.ndarray, output_shape: Shape) -> None:
        """Require a target for each output.

        Raises:
            ShapeError: targets of another shape.
        """
        _require_target_for_each(y, output_shape)


class BinaryCrossEntropy(Loss):
    """L = -1/n Σ (t log σ(z) + (1 - t) log(1 - σ(z))), over all n logits z of a batch and their targets t.

    Targets are probabilities, 0 and 1 included, of the logits' shape, or (N,) for logits (N, 1). A logit is correct
    if z > 0 and t > 1/2, or neither; the accuracy is the fraction of correct logits.

    Args:
        reduction: "mean", "sum" or "none" (one loss per logit).

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, equation 4.90.

    >>> import xpnet
    >>> backend = xpnet.backend("cpu-reference")
    >>> loss = BinaryCrossEntropy()(backend, backend.asarray([[0.0], [1000.0]]), backend.asarray([1, 1]))
    >>> round(float(loss), 6)
    0.346574
    """

    def compute(self, outputs: Array, targets: Array, context: Context) -> ops.BatchLoss:
        """:func:`xpnet.ops.binary_cross_entropy`."""
        out = self._gradient_memory(outputs, context)
        return ops.binary_cross_entropy(
            context.backend, outputs, targets, context.training, out, reduction=self.reduction
        )

    def require_targets(self, y: np.ndarray, output_shape: Shape) -> None:
        """Require a probability for each logit.

        Raises:
            ShapeError: targets of another shape.
            OutOfRangeError: a target outside [0, 1]; the message names the row.
        """
        _require_target_for_each(y, output_shape)
        bad = ~((y >= 0) & (y <= 1))
        if bad.any():
            row = int(np.argmax(bad.reshape(len(y), -1).any(axis=1)))
            raise OutOfRangeError(
                f"target {y[row]} at row {row} is no probability: binary cross-entropy takes numbers from 0 to 1"
            )


def _require_target_for_each(y: np.ndarray, output_shape: Shape) -> None:
    if y.shape[1:] != tuple(output_shape) and not (y.ndim == 1 and tuple(output_shape) == (1,)):
        raise ShapeError(
            f"targets of shape {y.shape} do not fit outputs of shape {(len(y), *output_shape)}: expected a target for "
            "each output"
        )
