"""Softmax cross-entropy, the loss of classification."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.errors import ConfigurationError, DTypeError, OutOfRangeError, ShapeError, finite_number
from xpnet.losses.loss import Loss
from xpnet.parameters import Shape


class SoftmaxCrossEntropy(Loss):
    """L = 1/N Σᵢ -log softmax(z)[i, yᵢ], over logits z (N, C).

    Labels y are (N,) class indices of any integer type, or (N, C) rows of probabilities, one-hot included. Sequences
    have logits (N, T, C) and labels (N, T) or (N, T, C), where every label counts as a row. The options are those of
    PyTorch's ``cross_entropy``; :func:`xpnet.ops.softmax_cross_entropy` has the equation with all of them.

    Args:
        label_smoothing: s, from 0 to below 1: each target t becomes (1 - s) t + s/C.
        class_weights: C numbers of at least 0 that multiply the classes' losses; the mean divides by the sum of the
            labels' weights. None: all 1.
        ignore_index: the label of rows to ignore; only with class indices. None: no row is ignored.
        reduction: "mean", "sum" or "none" (one loss per row).

    Raises:
        ConfigurationError: an option out of range.
        OutOfRangeError: a label that is not a class.
        DTypeError: class indices that are not integers.

    Source: the "SoftmaxWithLoss" layer of Saito, "Deep Learning from Scratch", 2016, section 5.6; label smoothing:
    Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, section 7.

    >>> import xpnet
    >>> backend = xpnet.backend("cpu-reference")
    >>> logits, labels = backend.asarray([[0.0, 0.0], [5.0, 5.0]]), backend.asarray([1, -1])
    >>> round(float(SoftmaxCrossEntropy(ignore_index=-1)(backend, logits, labels)), 6)
    0.693147
    """

    takes_bfloat16 = True

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Iterable[float] | None = None,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.label_smoothing = finite_number("label_smoothing", label_smoothing, low=0.0, below=1.0)
        self.class_weights = None if class_weights is None else _weights(class_weights)
        self.ignore_index = None if ignore_index is None else _label("ignore_index", ignore_index)
        self._device_weights: tuple[Backend, Array] | None = None

    def compute(self, outputs: Array, targets: Array, context: Context) -> ops.BatchLoss:
        """:func:`xpnet.ops.softmax_cross_entropy`."""
        backend, losses, summary = context.backend, None, None
        if context.device_step is not None:  # of a step that may be captured; the results of its parts live together
            shape, dtype = outputs.shape[:-1], self._real_dtype(backend, outputs)
            losses = context.empty(self, f"losses {context.part}", shape, dtype)
            summary = context.empty(self, f"summary {context.part}", (4,), backend.xp.float64)
        return ops.softmax_cross_entropy(
            backend,
            outputs,
            targets,
            context.training,
            self._gradient_memory(outputs, context),
            losses=losses,
            summary=summary,
            label_smoothing=self.label_smoothing,
            class_weights=None if self.class_weights is None else self._weights_for(backend, outputs),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def require_targets(self, y: np.ndarray, output_shape: Shape) -> None:
        """Require class indices within the outputs (or ``ignore_index``), or probabilities of the outputs' shape.

        Raises:
            ShapeError: neither a label for each vector of outputs, nor probabilities of the outputs' shape.
            DTypeError: class indices that are not integers.
            OutOfRangeError: class indices without an output; the message names the row.
        """
        *places, outputs = output_shape
        if y.shape[1:] == tuple(output_shape):
            return
        if y.shape[1:] != tuple(places):
            flatten = (
                "; for one label per sample put a Flatten() in front of the layers" if places and y.ndim == 1 else ""
            )
            raise ShapeError(
                f"labels of shape {y.shape} do not fit logits of shape {(len(y), *output_shape)}: expected "
                f"{(len(y), *places)} class indices or {(len(y), *output_shape)} probabilities{flatten}"
            )
        if y.dtype.kind not in "iu":
            raise DTypeError(f"labels of shape {y.shape} must be integers (class indices), not {y.dtype}")
        bad = (y < 0) | (y >= outputs)
        if self.ignore_index is not None:
            bad &= y != self.ignore_index
        if bad.any():
            row, *_ = place = np.unravel_index(int(np.argmax(bad)), y.shape)
            known = f"the model has {outputs}, for the labels 0 to {outputs - 1}"
            raise OutOfRangeError(f"label {y[place]} at row {row} has no output: {known}")

    def _weights_for(self, backend: Backend, logits: Array) -> Array:
        """The class weights on the device and in the dtype of the logits, copied once."""
        dtype = self._real_dtype(backend, logits)
        if (
            self._device_weights is None
            or self._device_weights[0] is not backend
            or self._device_weights[1].dtype != dtype
        ):
            weights = backend.asarray(self.class_weights, "float64")
            self._device_weights = backend, backend.xp.astype(weights, dtype)
        return self._device_weights[1]

    @staticmethod
    def _real_dtype(backend: Backend, logits: Array) -> Any:
        """The type of losses and weights."""
        return logits.dtype if backend.activation_dtype is None else backend.xp.float32


def _weights(class_weights: Iterable[float]) -> list[float]:
    if isinstance(class_weights, str) or not isinstance(class_weights, Iterable):
        raise ConfigurationError(f"class_weights must be a list of numbers, one per class, not {class_weights!r}")
    return [finite_number("a class weight", weight, low=0.0) for weight in class_weights]


def _label(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not -(2**63) <= operator.index(value) < 2**63:
        raise ConfigurationError(f"{name} must be a whole number of 64 bits, not {value!r}")
    return operator.index(value)
