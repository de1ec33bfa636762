"""Softmax, and softmax followed by cross-entropy, which is simpler and more exact in one piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from xpnet.backends import Array, Backend
from xpnet.errors import ShapeError


class CrossEntropy(NamedTuple):
    """What one pass over the logits gives.

    Attributes:
        loss: the mean over the rows, a 0-d float64 array on the device.
        losses: (N,), one a row.
        correct: how many rows have their label's logit as the first largest, a 0-d float64 array.
        gradient: (N, C), d loss / d logits; None when it was not asked for.
        bad_row: the first row whose label is no class, else -1: a 0-d float64 array on the device, for the report;
            None where such a label raises at once, or cannot be.
    """

    loss: Array
    losses: Array
    correct: Array
    gradient: Array | None
    bad_row: Array | None = None


def softmax(backend: Backend, x: Array, out: Array | None = None) -> Array:
    """y[i, c] = exp(x[i, c]) / Σₖ exp(x[i, k]), over the last axis.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> softmax(cpu, cpu.asarray([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    xp = backend.xp
    # Subtracting the row's maximum changes nothing in the quotient and keeps exp from overflowing.
    weights = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    y = weights / xp.sum(weights, axis=-1, keepdims=True)
    if out is None:
        return y
    out[...] = y
    return out


def softmax_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = y · (dy - Σₖ dy[k] y[k]), over the last axis."""
    dx = y * (dy - backend.xp.sum(dy * y, axis=-1, keepdims=True))
    if out is None:
        return dx
    out[...] = dx
    return out


def softmax_cross_entropy(
    backend: Backend,
    logits: Array,
    labels: Array,
    gradient: bool = True,
    out: Array | None = None,
) -> CrossEntropy:
    """L = 1/N Σᵢ -log softmax(z)[i, yᵢ], or 1/N Σᵢ Σ_c -t[i, c] log softmax(z)[i, c] for rows of probabilities t.

    Its gradient is (softmax(z) - t) / N for rows that sum to one; computed together, neither the probabilities nor
    their logarithms are ever rounded to zero in between.

    Args:
        backend: where the arrays live.
        logits: (N, C) floating point.
        labels: (N,) class indices of any integer type, or (N, C) rows of probabilities, one-hot included.
        gradient: whether the gradient is wanted.
        out: (N, C), receives the gradient when given.

    Raises:
        OutOfRangeError: a label outside [0, C), naming its row. On a device where looking costs a wait, that row's
            loss is NaN instead, and so is the mean.
        ShapeError: the labels' shape does not fit the logits'.
        DTypeError: class indices that are not integers.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, equations 4.108 and 4.109.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> result = softmax_cross_entropy(cpu, cpu.asarray([[0.0, 0.0]]), cpu.asarray([1]))
    >>> round(float(result.loss), 6), result.gradient
    (0.693147, array([[ 0.5, -0.5]]))
    """
    labels = _fitting_labels(backend, logits, labels)
    fused = backend.kernel("softmax_cross_entropy", *((logits, labels) if labels.ndim == 2 else (logits,)))
    if fused is not None:
        return _fused(backend, fused, logits, labels, gradient, out)
    xp = backend.xp
    rows, classes = logits.shape
    if labels.ndim == 1:
        backend.require_integers(labels, "class indices")
        backend.require_in_range(labels, classes, "label")
        labels = xp.astype(labels, xp.int64, copy=False)  # narrow types cannot hold every class
    targets = labels if labels.ndim == 2 else _one_hot(backend, labels, classes, logits.dtype)
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    log_softmax = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    # A class of no weight adds nothing, even where its log-probability is -inf.
    weighed = xp.where(targets == 0, xp.zeros_like(logits), log_softmax)
    losses = -xp.sum(targets * weighed, axis=1)
    count = rows or float("nan")  # the mean of no rows is NaN
    loss = xp.sum(losses, dtype=xp.float64) / count
    hits = xp.argmax(logits, axis=1) == (xp.argmax(labels, axis=1) if labels.ndim == 2 else labels)
    correct = xp.sum(xp.astype(hits, xp.float64))
    bad_row = None if labels.ndim == 2 or backend.reads_are_free else _first_bad_row(backend, labels, classes)
    if not gradient:
        return CrossEntropy(loss, losses, correct, None, bad_row)
    result = (xp.exp(log_softmax) * xp.sum(targets, axis=1, keepdims=True) - targets) / count
    if out is not None:
        out[...] = result
        result = out
    return CrossEntropy(loss, losses, correct, result, bad_row)


def _fused(
    backend: Backend,
    fused: Callable[..., None],
    logits: Array,
    labels: Array,
    gradient: bool,
    out: Array | None,
) -> CrossEntropy:
    xp, device = backend.xp, backend.device
    summary = xp.empty((4,), dtype=xp.float64, device=device)
    losses = xp.empty(logits.shape[:1], dtype=logits.dtype, device=device)
    if gradient and out is None:
        out = xp.empty(logits.shape, dtype=logits.dtype, device=device)
    try:
        fused(logits, labels, summary=summary, losses=losses, gradient=out if gradient else None)
    except (IndexError, TypeError):
        if labels.ndim == 1:
            backend.require_integers(labels, "class indices")
            backend.require_in_range(labels, logits.shape[1], "label")
        raise
    bad_row = None if backend.reads_are_free else summary[3, ...]
    return CrossEntropy(summary[0, ...], losses, summary[2, ...], out if gradient else None, bad_row)


def _one_hot(backend: Backend, labels: Array, classes: int, dtype: object) -> Array:
    """(N, C) with a one in each label's column; a row of NaN where the label is no class."""
    xp = backend.xp
    columns = xp.arange(classes, dtype=labels.dtype, device=backend.device)
    hot = xp.astype(xp.expand_dims(labels, axis=1) == columns, dtype)
    valid = xp.expand_dims((labels >= 0) & (labels < classes), axis=1)
    return xp.where(valid, hot, xp.full_like(hot, float("nan")))


def _first_bad_row(backend: Backend, labels: Array, classes: int) -> Array:
    """The first row whose label lies outside [0, C), else -1: a 0-d float64 array."""
    xp, rows = backend.xp, labels.shape[0]
    places = xp.arange(rows, dtype=xp.float64, device=backend.device)
    bad = (labels < 0) | (labels >= classes)
    none = xp.full((1,), rows, dtype=xp.float64, device=backend.device)  # after all others: the minimum has a number
    first = xp.min(xp.concat([xp.where(bad, places, xp.full_like(places, rows)), none]))
    return xp.where(first < rows, first, xp.full_like(first, -1.0))


def _fitting_labels(backend: Backend, logits: Array, labels: Array) -> Array:
    """The labels, rows of probabilities in the logits' type; an error when they do not fit the logits."""
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ShapeError(f"expected logits of shape (rows, at least 1 class), got {tuple(logits.shape)}")
    if labels.shape == logits.shape:
        return labels if labels.dtype == logits.dtype else backend.xp.astype(labels, logits.dtype)
    if tuple(labels.shape) != (logits.shape[0],):
        raise ShapeError(
            f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}: expected "
            f"({logits.shape[0]},) class indices or {tuple(logits.shape)} probabilities"
        )
    return labels
