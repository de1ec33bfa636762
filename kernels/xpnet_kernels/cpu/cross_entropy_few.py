"""Softmax cross-entropy of few classes, without options: rows too short to be vectors, so the columns are.

A tile of rows is laid out column by column, and every step works on one element of each of its rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.arguments import UnfitError
from xpnet_kernels.cpu.arrays import larger, row, scratch, wide_vectors
from xpnet_kernels.cpu.compilation import INNER, InIntegers, InMatrix, OutDoubles, OutMatrix, OutVector, kernel
from xpnet_kernels.cpu.compiled_checks import apart, rows_fit
from xpnet_kernels.cpu.exponential import exponential, logarithm
from xpnet_kernels.cpu.pool import over_rows
from xpnet_kernels.cpu.softmax import argmax

FEW = 64  # above, a row at a time is faster
_TILE_ROWS = 128
_TILE = FEW * _TILE_ROWS
_SMALL_ROWS = 2**14
_NO_GRADIENT = {np.dtype(real): np.empty((0, 0), real) for real in (np.float32, np.float64)}
_INT64 = np.dtype(np.int64)


def serve_small(
    logits: np.ndarray,
    labels: np.ndarray,
    summary: np.ndarray,
    losses: np.ndarray,
    gradient: np.ndarray | None,
    mean: bool,
    in_place: bool,
) -> bool:
    """Serve a small batch at once, or write nothing and return false.

    Its work is so short that the usual checks would double it. What is declined goes the general way, where the error
    messages are.
    """
    try:
        dtype, (rows, classes) = logits.dtype, logits.shape
        if labels.dtype is not _INT64 and labels.dtype.kind in "iu":
            labels = labels.astype(_INT64)
    except (AttributeError, TypeError, ValueError):  # no matrix, no array
        return False
    if rows > _SMALL_ROWS or classes > FEW or dtype not in _NO_GRADIENT:
        return False
    compiled, wanted = _few[dtype], gradient is not None
    if not wanted:
        gradient = _NO_GRADIENT[dtype]
    try:
        return compiled(logits, labels, summary, losses, gradient, wanted, rows if mean else 1, in_place)
    except UnfitError:
        return False


def serve_few(
    logits: np.ndarray,
    labels: np.ndarray,
    summary: np.ndarray,
    losses: np.ndarray,
    gradient: np.ndarray | None,
    mean: bool,
) -> bool:
    """Serve a batch of checked arguments in blocks of rows, or return false: the rows' order is not ascending."""
    compiled = _few[logits.dtype]
    wanted = gradient is not None
    if min(logits.strides[0], gradient.strides[0] if wanted else logits.strides[0]) < 0:
        return False  # before a block is served: the first row, alone in its block, would be
    gradient = gradient if wanted else _NO_GRADIENT[logits.dtype]
    divisor = len(logits) if mean else 1

    def serve(first: int, last: int) -> tuple[bool, np.ndarray]:
        part, rows = np.zeros(4), slice(first, last)
        return compiled(logits[rows], labels[rows], part, losses[rows], gradient[rows], wanted, divisor, True), part

    served, parts = zip(*over_rows(serve, *logits.shape), strict=True)
    summary[:] = sum(parts)
    summary[3] = -1
    return all(served)


@njit(**INNER)
def _may_overwrite(logits: Any, gradient: Any, in_place: bool) -> bool:
    """Whether the two are apart, or row for row the same memory where that is allowed."""
    start, other = logits.ctypes.data, gradient.ctypes.data
    if start == other and logits.strides[0] == gradient.strides[0]:
        return in_place
    return apart(logits, gradient)


@kernel
def _few(
    logits: InMatrix,
    labels: InIntegers,
    summary: OutDoubles,
    losses: OutVector,
    gradient: OutMatrix,
    wanted: bool,
    divisor: float,
    in_place: bool,
) -> bool:
    """Serve a batch and return true, or write nothing and return false: a bad label, shape or layout.

    The loss in ``summary``, and the gradient, which is ``wanted`` or not, are divided by ``divisor``.
    """
    wide_vectors()
    rows, classes = logits.shape
    if not (
        rows_fit(logits, rows, classes)
        and labels.size == rows
        and summary.size == 4
        and losses.size == rows
        and apart(losses, labels)
        and apart(summary, labels)
        and (not wanted or (rows_fit(gradient, rows, classes) and apart(gradient, labels)))
        and (not wanted or _may_overwrite(logits, gradient, in_place))
    ):
        return False
    for i in range(rows):
        if labels[i] < 0 or labels[i] >= classes:
            return False

    scale = 1.0 / divisor
    tile, tops = scratch(logits.dtype, _TILE), scratch(logits.dtype, _TILE_ROWS)
    sums, log_sums = scratch(np.float64, _TILE_ROWS), scratch(np.float64, _TILE_ROWS)
    positions = scratch(np.int32, _TILE_ROWS)
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
        if not wanted:
            continue
        for i in range(size):
            log_sum[i] = scale / sum_[i]
            top[i] = log_sum[i]
        for c in range(classes):
            column = tile[c * size : (c + 1) * size]
            for i in range(size):
                row(gradient, start + i)[c] = column[i] * top[i]
        for i in range(size):
            y = labels[start + i]  # (p - 1) scale, where p - 1 is not rounded as p is: it may be tiny
            row(gradient, start + i)[y] = (np.float64(tile[y * size + i]) - sum_[i]) * log_sum[i]
    summary[0] = loss_sum / divisor
    summary[1] = rows
    summary[2] = correct
    summary[3] = -1
    return True
