"""Metrics of classification: accuracy, top-k accuracy, confusion matrix."""

from __future__ import annotations

import math

from xpnet.backends import Array, Backend
from xpnet.errors import ConfigurationError, ShapeError, positive_integer


def accuracy(backend: Backend, outputs: Array, labels: Array) -> Array:
    """The fraction of rows whose largest output is that of their label: a 0-d float64 array on the device.

    Args:
        backend: where the arrays live.
        outputs: (…, C) logits or probabilities, at least one row of them.
        labels: (…) class indices, or (…, C) rows whose largest entry is the label (one-hot).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> float(accuracy(cpu, cpu.asarray([[0.1, 0.9], [0.8, 0.2]]), cpu.asarray([1, 1])))
    0.5
    """
    outputs, expected = _rows(backend, outputs, labels)
    xp = backend.xp
    return xp.mean(xp.astype(xp.argmax(outputs, axis=1) == expected, xp.float64))


def top_k_accuracy(backend: Backend, outputs: Array, labels: Array, k: int = 5) -> Array:
    """The fraction of rows whose label is among the k largest outputs: a 0-d float64 array on the device.

    Among equal outputs the first rank higher, so that k = 1 is ``accuracy``.

    Args:
        backend: where the arrays live.
        outputs: (…, C) logits or probabilities, at least one row of them.
        labels: as in ``accuracy``.
        k: from 1 to C.

    Raises:
        ConfigurationError: ``k`` is outside that range.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> float(top_k_accuracy(cpu, cpu.asarray([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), cpu.asarray([1, 2]), k=2))
    0.5
    """
    outputs, expected = _rows(backend, outputs, labels)
    if positive_integer("k", k) > outputs.shape[1]:
        raise ConfigurationError(f"k must be at most the number of classes, {outputs.shape[1]}, not {k}")
    xp = backend.xp
    is_label = _one_hot(backend, expected, outputs.shape[1])
    value = xp.sum(xp.where(is_label, outputs, xp.zeros_like(outputs)), axis=1, keepdims=True)
    columns = xp.arange(outputs.shape[1], device=backend.device)
    earlier = columns < xp.expand_dims(expected, axis=1)
    # ~(outputs <= value) rather than outputs > value: a NaN must rank before the label's output.
    before = ~(outputs <= value) | ((outputs == value) & earlier)
    hits = (xp.sum(xp.astype(before, xp.int64), axis=1) < k) & xp.any(is_label, axis=1)
    return xp.mean(xp.astype(hits, xp.float64))


def confusion_matrix(backend: Backend, outputs: Array, labels: Array) -> Array:
    """M[i, j], the number of rows of class i whose largest output is j: (C, C) int64, on the device.

    Args:
        backend: where the arrays live.
        outputs: (…, C) logits or probabilities, at least one row of them.
        labels: as in ``accuracy``; rows whose label is not a class are ignored.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> confusion_matrix(cpu, cpu.asarray([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), cpu.asarray([1, 1, 1]))
    array([[0, 0],
           [1, 2]])
    """
    outputs, expected = _rows(backend, outputs, labels)
    xp, classes = backend.xp, outputs.shape[1]
    true, predicted = (
        xp.astype(_one_hot(backend, indices, classes), xp.float64) for indices in (expected, xp.argmax(outputs, axis=1))
    )
    return xp.astype(backend.matmul(xp.matrix_transpose(true), predicted), xp.int64)  # exact: counts stay below 2**53


def _rows(backend: Backend, outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Outputs as (N, C) and labels as (N,) int64; ShapeError when their shapes do not match."""
    backend.require(outputs)
    backend.require(labels)
    xp, shape = backend.xp, outputs.shape
    if len(shape) < 2 or math.prod(shape) == 0 or tuple(labels.shape) not in (shape[:-1], shape):
        raise ShapeError(
            f"expected outputs of shape (…, classes) and a label per row, got {tuple(shape)} and {tuple(labels.shape)}"
        )
    classes = xp.argmax(labels, axis=-1) if labels.ndim == len(shape) else xp.astype(labels, xp.int64)
    return xp.reshape(outputs, (-1, shape[-1])), xp.reshape(classes, (-1,))


def _one_hot(backend: Backend, indices: Array, classes: int) -> Array:
    """(N, C) bool; all False where the index is not a class."""
    columns = backend.xp.arange(classes, device=backend.device)
    return backend.xp.expand_dims(indices, axis=1) == columns
