"""Softmax cross-entropy of few classes, without options, vectorised over the rows.

Rows are too short to fill SIMD vectors. So a tile of rows is transposed, and each loop works on one class of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.checks.compiled import apart, rows_fit
from xpnet_kernels.cpu.cross_entropy.row_softmax import argmax
from xpnet_kernels.cpu.elementwise.exponential import exponential, logarithm
from xpnet_kernels.cpu.numba_extensions.array_arguments import ArgumentMismatchError
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import larger, prefer_512_bit_vectors, row, stack_array
from xpnet_kernels.cpu.numba_extensions.compilation import (
    INNER,
    InIntegers,
    InMatrix,
    OutDoubles,
    OutMatrix,
    OutVector,
    kernel,
)
from xpnet_kernels.cpu.threads.pool import over_rows

MAX_CLASSES = 64  # with more, the general code, row by row, is faster
_TILE_ROWS = 128
_TILE = MAX_CLASSES * _TILE_ROWS
_SMALL_ROWS = 2**14
_NO_GRADIENT = {np.dtype(real): np.empty((0, 0), real) for real in (np.float32, np.float64)}
_INT64 = np.dtype(np.int64)


def fused_small_batch(
    logits: np.ndarray,
    labels: np.ndarray,
    summary: np.ndarray,
    losses: np.ndarray,
    gradient: np.ndarray | None,
    mean: bool,
    in_place: bool,
) -> bool:
    """Check and compute a small batch in one compiled call, or write nothing and return false.

    The work is so short that checks in Python would double it. Anything else takes the general path, which raises
    the errors.
    """
    try:
        dtype, (rows, classes) = logits.dtype, logits.shape
        if labels.dtype is not _INT64 and labels.dtype.kind in "iu":
            labels = labels.astype(_INT64)
    except (AttributeError, TypeError, ValueError):  # not an array, or not a matrix
        return False
    if rows > _SMALL_ROWS or classes > MAX_CLASSES or dtype not in _NO_GRADIENT:
        return False
    compiled, with_gradient = _few_classes[dtype], gradient is not None
    if not with_gradient:
        gradient = _NO_GRADIENT[dtype]
    try:
        return compiled(logits, labels, summary, losses, gradient, with_gradient, rows if mean else 1, in_place)
    except ArgumentMismatchError:
        return False


def few_classes_in_blocks(
    logits: np.ndarray,
    labels: np.ndarray,
    summary: np.ndarray,
    losses: np.ndarray,
    gradient: np.ndarray | None,
    mean: bool,
) -> bool:
    """Compute a batch of checked arguments in blocks of rows; return false for rows in descending order in memory."""
    compiled = _few_classes[logits.dtype]
    with_gradient = gradient is not None
    if min(logits.strides[0], gradient.strides[0] if with_gradient else logits.strides[0]) < 0:
        return False  # before any block: a block of a single row would be accepted
    gradient = gradient if with_gradient else _NO_GRADIENT[logits.dtype]
    divisor = len(logits) if mean else 1

    def compute(first: int, last: int) -> tuple[bool, np.ndarray]:
        part, rows = np.zeros(4), slice(first, last)
        return compiled(
            logits[rows], labels[rows], part, losses[rows], gradient[rows], with_gradient, divisor, True
        ), part

    accepted, parts = zip(*over_rows(compute, *logits.shape), strict=True)
    summary[:] = sum(parts)
    summary[3] = -1
    return all(accepted)


@njit(**INNER)
def _may_overwrite(logits: Any, gradient: Any, in_place: bool) -> bool:
    """Whether the two do not overlap, or are the same memory row for row and ``in_place`` allows it."""
    start, other = logits.ctypes.data, gradient.ctypes.data
    if start == other and logits.strides[0] == gradient.strides[0]:
        return in_place
    return apart(logits, gradient)


@kernel
def _few_classes(
    logits: InMatrix,
    labels: InIntegers,
    summary: OutDoubles,
    losses: OutVector,
    gradient: OutMatrix,
    with_gradient: bool,
    divisor: float,
    in_place: bool,
) -> bool:
    """Compute a batch and return true, or write nothing and return false for a bad label, shape or layout.

    The loss in ``summary`` and the gradient (computed if ``with_gradient``) are divided by ``divisor``.
    """
    prefer_512_bit_vectors()
    rows, classes = logits.shape
    if not (
        rows_fit(logits, rows, classes)
        and labels.size == rows
        and summary.size == 4
        and losses.size == rows
        and apart(losses, labels)
        and apart(summary, labels)
        and (not with_gradient or (rows_fit(gradient, rows, classes) and apart(gradient, labels)))
        and (not with_gradient or _may_overwrite(logits, gradient, in_place))
    ):
        return False
    for i in range(rows):
        if labels[i] < 0 or labels[i] >= classes:
            return False

    scale = 1.0 / divisor
    tile, tops = stack_array(logits.dtype, _TILE), stack_array(logits.dtype, _TILE_ROWS)
    sums, log_sums = stack_array(np.float64, _TILE_ROWS), stack_array(np.float64, _TILE_ROWS)
    positions = stack_array(np.int32, _TILE_ROWS)
    loss_sum, correct = 0.0, 0
    for start in range(0, rows, _TILE_ROWS):
        size = min(_TILE_ROWS, rows - start)
        top, sum_, log_sum, position = tops[:size], sums[:size], log_sums[:size], positions[:size]
        for i in range(size):
            top[i] = -np.inf
            sum_[i] = 0
            position[i] = 0
        for c in range(classes):
            column = tile[c * size : (c + 1) * size]
            for i in range(size):
                column[i] = row(logits, start + i)[c]
            for i in range(size):
                position[i] += np.int32(column[i] > top[i]) * (np.int32(c) - position[i])
                top[i] = larger(top[i], column[i])
        for c in range(classes):
            column = tile[c * size : (c + 1) * size]
            for i in range(size):
                column[i] = exponential(column[i] - top[i])
            for i in range(size):
                sum_[i] += column[i]
        for i in range(size):
            log_sum[i] = logarithm(sum_[i])
        for i in range(size):
            y = labels[start + i]
            if sum_[i] != sum_[i]:
                position[i] = argmax(row(logits, start + i))
            correct += position[i] == y
            loss = log_sum[i] + (np.float64(top[i]) - np.float64(row(logits, start + i)[y]))
            losses[start + i] = loss
            loss_sum += loss
        if not with_gradient:
            continue
        for i in range(size):
            log_sum[i] = scale / sum_[i]
            top[i] = log_sum[i]
        for c in range(classes):
            column = tile[c * size : (c + 1) * size]
            for i in range(size):
                row(gradient, start + i)[c] = column[i] * top[i]
        for i in range(size):
            y = labels[start + i]  # (p - 1) scale, without rounding p first: p - 1 may be tiny
            row(gradient, start + i)[y] = (np.float64(tile[y * size + i]) - sum_[i]) * log_sum[i]
    summary[0] = loss_sum / divisor
    summary[1] = rows
    summary[2] = correct
    summary[3] = -1
    return True
