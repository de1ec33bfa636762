"""The compiled softmax cross-entropy of a block of rows, with every option."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.cross_entropy.row_softmax import CHUNK, argmax, maximum, scale_row, softmax_row, total
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import row
from xpnet_kernels.cpu.numba_extensions.compilation import (
    INNER,
    REDUCTION,
    InIntegers,
    InMatrix,
    InVector,
    OutIntegers,
    OutMatrix,
    OutVector,
    kernel,
)


@kernel
def weight_sum(
    labels: InIntegers, class_weights: InVector, row_weights: InVector, classes: int, has_ignored: bool, ignored: int
) -> tuple[int, float]:
    """(the first row with a bad label or -1, the sum of the rows' weights)."""
    weights = 0.0
    for i in range(labels.size):
        y = labels[i]
        if has_ignored and y == ignored:
            continue
        if y < 0 or y >= classes:
            return i, weights
        weight = np.float64(class_weights[y]) if class_weights.size > 0 else 1.0
        weights += weight * row_weights[i] if row_weights.size > 0 else weight
    return -1, weights


@njit(**REDUCTION)
def _weighted_gap(z: Any, weights: Any, top: Any) -> float:
    """Σ w (top - z); a weight of 0 contributes 0 even where z is -inf."""
    gap = 0.0
    for c in range(z.size):
        gap += weights[c] * (np.float64(top) - np.float64(z[c])) if weights[c] != 0 else 0.0
    return gap


@njit(**REDUCTION)
def _target_sums(z: Any, target: Any, weights: Any, sharp: float, flat: float, top: Any) -> tuple[float, float]:
    """(Σ w q, Σ w q (top - z)) for q = sharp · target + flat."""
    weight, gap = 0.0, 0.0
    for c in range(z.size):
        wq = weights[c] * (sharp * target[c] + flat)
        weight += wq
        gap += wq * (np.float64(top) - np.float64(z[c])) if wq != 0 else 0.0
    return weight, gap


@njit(**INNER)
def _subtract_target(g: Any, target: Any, weights: Any, sharp: float, flat: float, factor: float) -> None:
    for c in range(g.size):
        g[c] -= factor * (weights[c] * (sharp * target[c] + flat))


@njit(**INNER)
def _subtract_weights(g: Any, weights: Any, factor: Any) -> None:
    for c in range(g.size):
        g[c] -= factor * weights[c]


@kernel
def cross_entropy_rows(
    logits: InMatrix,
    labels: InIntegers,
    targets: InMatrix,
    losses: OutVector,
    gradient: OutMatrix,
    log_sum_exp: OutVector,
    predictions: OutIntegers,
    class_weights: InVector,
    row_weights: InVector,
    upstream: InVector,
    scale: float,
    smoothing: float,
    z_loss: float,
    has_ignored: bool,
    ignored: int,
    in_place: bool,
    first: int,
    last: int,
) -> int:
    """Compute the rows from ``first`` to before ``last``; return how many of them are correct.

    An array that is not given is empty. The factor of a row's gradient is ``scale · upstream[i] · row_weights[i]``.
    With smoothing or probabilities ``class_weights`` must be given.
    """
    real = logits.dtype.type
    classes = logits.shape[1]
    references = np.empty((classes + CHUNK - 1) // CHUNK, logits.dtype)
    buffer = np.empty(min(classes, CHUNK), logits.dtype)
    dense, needs_softmax = targets.shape[0] > 0, log_sum_exp.size > 0 or predictions.size > 0
    sharp, flat = 1 - smoothing, smoothing / classes
    all_class_weights = total(class_weights) if smoothing > 0 else 0.0
    correct = 0
    for i in range(first, last):
        z = row(logits, i)
        g = row(gradient, i if gradient.size > 0 else 0)
        row_weight = np.float64(row_weights[i]) if row_weights.size > 0 else 1.0
        y = argmax(row(targets, i)) if dense else labels[i]
        masked = row_weight == 0 or (has_ignored and y == ignored)

        # Read before the logits may be overwritten: Σ w q; Σ w q (top - z) without the label's own term; the label's
        # weight and logit.
        weight, gap, label_weight, z_y = 0.0, 0.0, 0.0, 0.0
        if masked:
            losses[i] = 0
        elif dense:
            weight, gap = _target_sums(z, row(targets, i), class_weights, sharp, flat, maximum(z))
        else:
            z_y = np.float64(z[y])
            label_weight = sharp * class_weights[y] if class_weights.size > 0 else sharp
            weight = label_weight + flat * all_class_weights
            if smoothing > 0:
                gap = flat * _weighted_gap(z, class_weights, maximum(z))

        if needs_softmax or not masked:
            top, prediction, sum_ = softmax_row(z, g, references, buffer, in_place)
            log_sum = math.log(sum_)
            if log_sum_exp.size > 0:
                log_sum_exp[i] = top + log_sum
            if predictions.size > 0:
                predictions[i] = prediction
        if masked:
            for c in range(g.size):
                g[c] = 0
            continue
        correct += prediction == y

        # Differences from the largest logit avoid cancellation.
        if label_weight != 0:
            gap += label_weight * (top - z_y)
        loss, slope = weight * log_sum + gap, weight
        if z_loss != 0:
            loss += z_loss * (top + log_sum) ** 2
            slope += 2 * z_loss * (top + log_sum)
        losses[i] = row_weight * loss

        if g.size > 0:
            factor = scale * row_weight * (upstream[i] if upstream.size > 0 else real(1))
            scale_row(g, references, top, factor * slope / sum_)
            if dense:
                _subtract_target(g, row(targets, i), class_weights, sharp, flat, factor)
            else:
                p_y, wq_y = math.exp(z_y - top) / sum_, label_weight
                if smoothing > 0:
                    _subtract_weights(g, class_weights, real(factor * flat))
                    wq_y += flat * class_weights[y]
                g[y] = factor * (slope * p_y - wq_y)
    return correct
