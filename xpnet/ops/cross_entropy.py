"""Softmax, and softmax cross-entropy as one operation, which is simpler and more accurate than two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnet.backends import Array, Backend
from xpnet.ops.batch_loss import BatchLoss, Summary, denominator, reduce_losses
from xpnet.ops.class_targets import (
    check_labels,
    mask_rows,
    require_labels,
    row_mask,
    weighted_targets,
)
from xpnet.ops.outputs import as_rows, store, view_as_rows


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
    return store(y, out)


def softmax_backward(backend: Backend, dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx = y · (dy - Σₖ dy[k] y[k]), over the last axis.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> softmax_backward(cpu, cpu.asarray([[4.0, 0.0]]), y=cpu.asarray([[0.5, 0.5]]))
    array([[ 1., -1.]])
    """
    dx = y * (dy - backend.xp.sum(dy * y, axis=-1, keepdims=True))
    return store(dx, out)


def softmax_cross_entropy(
    backend: Backend,
    logits: Array,
    labels: Array,
    gradient: bool = True,
    out: Array | None = None,
    *,
    losses: Array | None = None,
    summary: Array | None = None,
    label_smoothing: float = 0.0,
    class_weights: Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> BatchLoss:
    """L = 1/N Σᵢ -log softmax(z)[i, yᵢ], or 1/N Σᵢ Σ_c -t[i, c] log softmax(z)[i, c] for rows of probabilities t.

    Its gradient is (softmax(z) - t) / N for rows that sum to one. The logarithm is computed from the logits, never from
    a probability that was rounded to zero.

    With label smoothing s and class weights w, each term is -w[c] q[i, c] log softmax(z)[i, c], where
    q = (1 - s) t + s/C, and the mean divides by Σᵢ w[yᵢ] instead of N (by N for rows of probabilities, as in PyTorch).

    Args:
        backend: where the arrays live.
        logits: (N, C) floating point, or (…, C): every vector along the last axis is a row.
        labels: (N,) class indices of any integer type, or (N, C) rows of probabilities, one-hot included; (…) or
            (…, C) for logits with more axes, whose losses are (…).
        gradient: whether to compute the gradient.
        out: of the logits' shape, C-contiguous, receives the gradient when given.
        losses: (N,), or (…) for logits with more axes, C-contiguous, of the logits' type (of float32 for bfloat16):
            receives the losses when given.
        summary: (4,) float64 memory, which a fused kernel leaves in the result's ``summary``.
        label_smoothing: s, from 0 to 1.
        class_weights: (C,) of the logits' type (of float32 for bfloat16), w; None is 1.
        ignore_index: rows with this label have loss 0, gradient 0 and weight 0, and are never correct.
        reduction: "mean", "sum" or "none"; under "none" row i of the gradient is that of loss i.

    Raises:
        OutOfRangeError: a label outside [0, C); the message names its row (in C order). On an asynchronous backend
            the row's loss, and so the mean, is NaN instead.
        ShapeError: the shape of the labels or the weights does not match the logits'.
        DTypeError: class indices that are not integers.
        ConfigurationError: ``ignore_index`` with rows of probabilities.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, equations 4.108 and 4.109; for label smoothing
    Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, section 7.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> result = softmax_cross_entropy(cpu, cpu.asarray([[0.0, 0.0]]), cpu.asarray([1]))
    >>> round(float(result.loss), 6), result.gradient
    (0.693147, array([[ 0.5, -0.5]]))
    """
    labels = check_labels(backend, logits, labels, class_weights, ignore_index)
    if logits.ndim > 2:
        options: dict[str, Any] = {"losses": losses, "summary": summary, "reduction": reduction}
        options |= {"label_smoothing": label_smoothing, "class_weights": class_weights, "ignore_index": ignore_index}
        return _with_leading_axes(backend, logits, labels, gradient, out, options)
    fused = backend.kernel("softmax_cross_entropy", *((logits, labels) if labels.ndim == 2 else (logits,)))
    if fused is not None:
        wanted = gradient, out, losses, summary, label_smoothing, class_weights, ignore_index, reduction
        return _fused(backend, fused, logits, labels, *wanted)
    if backend.is_bfloat16(logits):  # computed in float32, and rounded once
        wide = softmax_cross_entropy(
            backend,
            backend.widened(logits),
            backend.widened(labels),
            gradient,
            losses=losses,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            ignore_index=ignore_index,
            reduction=reduction,
        )
        return wide._replace(gradient=store(backend.narrowed(wide.gradient), out) if gradient else None)
    xp, dtype, classes = backend.xp, logits.dtype, logits.shape[1]
    counts = bad_row = None
    if labels.ndim == 1:
        bad_row = require_labels(backend, labels, classes, ignore_index)
        counts = row_mask(backend, labels, ignore_index)
        labels = xp.astype(labels, xp.int64, copy=False)  # narrow types cannot hold every class
    targets, weight, rows = weighted_targets(backend, labels, logits, counts, label_smoothing, class_weights)
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    log_softmax = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    # A class with target 0 adds 0, even where its log-probability is -inf.
    masked_log_softmax = xp.where(targets == 0, xp.zeros_like(logits), log_softmax)
    losses = store(-xp.sum(targets * masked_log_softmax, axis=1), losses)
    loss = reduce_losses(backend, losses, weight, reduction)
    hits = xp.argmax(logits, axis=1) == (xp.argmax(labels, axis=1) if labels.ndim == 2 else labels)
    correct = xp.sum(xp.astype(hits if counts is None else hits & counts, xp.float64))
    if not gradient:
        return BatchLoss(loss, losses, correct, None, weight, rows, reduction, bad_row)
    result = xp.exp(log_softmax) * xp.sum(targets, axis=1, keepdims=True) - targets
    # Masked last: the logits of an ignored row may be NaN.
    result = mask_rows(backend, counts, result / denominator(backend, weight, reduction, dtype))
    return BatchLoss(loss, losses, correct, store(result, out), weight, rows, reduction, bad_row)


def _with_leading_axes(
    backend: Backend, logits: Array, labels: Array, gradient: bool, out: Array | None, options: dict[str, Any]
) -> BatchLoss:
    """The loss of logits with more than two axes, computed on them as rows."""
    *axes, classes = logits.shape
    labels = as_rows(backend, labels) if labels.ndim == logits.ndim else backend.reshape(labels, (math.prod(axes),))
    rows, out_rows = as_rows(backend, logits), view_as_rows(backend, out)
    if options["losses"] is not None:
        options["losses"] = backend.reshape(options["losses"], (math.prod(axes),))
    result = softmax_cross_entropy(backend, rows, labels, gradient, out_rows, **options)
    bad_row = None if result.bad_row is None else backend.xp.floor(result.bad_row / max(math.prod(axes[1:]), 1))
    losses = backend.reshape(result.losses, tuple(axes))
    if gradient and out is None:
        out = backend.reshape(result.gradient, (*axes, classes))
    return result._replace(losses=losses, gradient=out if gradient else None, bad_row=bad_row, summary=None)


def _fused(
    backend: Backend,
    fused: Callable[..., None],
    logits: Array,
    labels: Array,
    gradient: bool,
    out: Array | None,
    losses: Array | None,
    summary: Array | None,
    label_smoothing: float,
    class_weights: Array | None,
    ignore_index: int | None,
    reduction: str,
) -> BatchLoss:
    xp, device = backend.xp, backend.device
    if summary is None:
        summary = xp.empty((4,), dtype=xp.float64, device=device)
    if losses is None:
        dtype = logits.dtype if backend.activation_dtype is None else xp.float32
        losses = xp.empty(logits.shape[:1], dtype=dtype, device=device)
    if gradient and out is None:
        out = xp.empty(logits.shape, dtype=logits.dtype, device=device)
    out = out if gradient else None
    try:
        fused(
            logits,
            labels,
            summary=summary,
            losses=losses,
            gradient=out,
            reduction=reduction,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            ignore_index=ignore_index,
        )
    except (IndexError, TypeError):
        if labels.ndim == 1:
            require_labels(backend, labels, logits.shape[1], ignore_index)
        raise
    counts = None if ignore_index is None else row_mask(backend, labels, ignore_index)
    rows = logits.shape[0] if counts is None else xp.sum(xp.astype(counts, xp.float64))
    weight = rows if class_weights is None else summary[1]
    loss, _, correct, bad_row = fields = summary[0], weight, summary[2], summary[3]
    return BatchLoss(loss, losses, correct, out, weight, rows, reduction, bad_row, Summary(summary, fields))
