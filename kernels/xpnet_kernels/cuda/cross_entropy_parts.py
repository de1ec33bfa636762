"""What the kernel of softmax cross-entropy is made of: arg-max, targets, and sums over the batch."""

from __future__ import annotations

import math
from typing import Any

from numba import float64, int64

from .primitives import device_function, exponential, given, lead, thread_index, width
from .reductions import row_max, row_sum
from .tiles import fetch_tile


@device_function
def arg_max(values: Any, offset: int, count: int, first: int, best: Any, column: int) -> Any:
    """Update the largest value so far, NaN above all, and its column, by ``count`` columns from ``first``."""
    beaten = False
    for k in range(count):
        beaten |= not values[offset + k] <= best
    if beaten:
        for k in range(count):
            value = values[offset + k]
            if not (value <= best or math.isnan(best)):
                best = value
                column = first + k
    return best, column


@device_function
def row_arg_max(best: Any, column: int, columns: int, threads: int) -> Any:
    """The largest value of the row and its first column, from the threads' own."""
    row_best = row_max(best, threads)
    candidate = column if best == row_best or math.isnan(best) else columns
    return row_best, -row_max(-candidate, threads)


@device_function
def exponentiate(held: Any, shift: Any) -> None:
    """Replace each value z by exp(z − shift)."""
    for i in range(held.size):
        held[i] = exponential(held[i] - shift)


@device_function
def sum_by_vectors(held: Any, count: int) -> float:
    """The sum of all values: of ``count`` at a time in their own type, and of those sums in float64."""
    total = 0.0
    for first in range(0, held.size, count):
        part = held[first]
        for k in range(1, count):
            part += held[first + k]
        total += part
    return total


@device_function
def weigh_targets(
    targets: Any, count: int, first: int, columns: int, class_weights: Any, keep: Any, uniform: Any
) -> None:
    """Turn target probabilities t into w_c q_c, where q = keep · t + uniform, for the columns in the row."""
    for k in range(count):
        if first + k >= 0 and first + k < columns:
            targets[k] = uniform + keep * targets[k]
            if given(class_weights):
                targets[k] *= class_weights[first + k]


@device_function
def sum_weights(
    labels: Any, class_weights: Any, row_weights: Any, row_count: int, columns: int, classes: bool, ignoring: bool,
    ignore_index: int, threads: int,
) -> float:  # fmt: skip
    """The sum of the rows' weights, by one block. ``classes``: the labels are class indices."""
    if not (given(class_weights) or given(row_weights) or ignoring):
        return float64(row_count)
    total = 0.0
    row = int64(thread_index())
    while row < row_count:
        weight = float64(row_weights[row]) if given(row_weights) else 1.0
        if classes:
            label = int64(labels[row])
            if ignoring and label == ignore_index:
                weight = 0.0
            elif given(class_weights) and label >= 0 and label < columns:
                weight *= class_weights[label]
        total += weight
        row += threads
    return row_sum(total, threads)


@device_function
def sum_losses(losses: Any, row_count: int, outside: Any, buffer: Any, threads: int) -> float:
    """The sum of the losses, by one block; ``buffer`` holds 32 of them, and ``outside`` is 0."""
    step = threads * width(losses)
    total = 0.0
    first = thread_index() * width(losses) - lead(losses)
    while first < row_count:
        fetch_tile(losses, first, step, 32 // width(losses), row_count, outside, buffer)
        for i in range(32):
            total += buffer[i]
        first += 32 * threads
    return row_sum(total, threads)


@device_function
def first_bad_label(labels: Any, row_count: int, columns: int, ignoring: bool, ignore_index: int, threads: int) -> int:
    """The first row whose label is not a class, −1 when there is none, by one block."""
    first_bad = row_count
    row = int64(thread_index())
    while row < row_count:
        label = int64(labels[row])
        if (label < 0 or label >= columns) and not (ignoring and label == ignore_index):
            first_bad = min(first_bad, row)
        row += threads
    first_bad = -row_max(-first_bad, threads)
    return first_bad if first_bad < row_count else -1
