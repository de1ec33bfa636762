"""The device functions of the softmax cross-entropy kernel, for one row and for the batch.

Constants of the accumulation type are arguments: a literal is float64, and promotes the expressions that contain it.
"""

from __future__ import annotations

import math
from typing import Any

from numba import float64, int64

from .primitives import device_function, exponential, given, lead, recomputed, thread_index, width
from .reductions import row_max, row_sum
from .tiles import load_masked, load_tile, store_tile


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
def exponentiate(held: Any, count: int, shift: Any) -> float:
    """Replace each value z by exp(z − shift); return their sum.

    ``count`` values at a time are summed in their own type, and these sums in float64.
    """
    total = 0.0
    for first in range(0, held.size, count):
        held[first] = exponential(held[first] - shift)
        part = held[first]
        for k in range(1, count):
            held[first + k] = exponential(held[first + k] - shift)
            part += held[first + k]
        total += part
    return total


@device_function
def read_row(z: Any, start: int, step: int, tiles: int, columns: int, held: Any, lowest: Any, infinity: Any) -> Any:
    """Read the row; the last tile's logits stay in ``held``.

    Returns the thread's largest logit and its column; and for the tiles before the last, the logit that their
    exponentials are relative to, and their sum.
    """
    slots = held.size // width(z)
    best, column, shift, total = -infinity, 0, lowest, 0.0
    for tile in range(tiles):
        first = recomputed(start + tile * slots * step)
        load_tile(z, first, step, slots, columns, -infinity, held)
        for slot in range(slots):
            best, column = arg_max(held, slot * width(z), width(z), first + slot * step, best, column)
        if not best <= shift:
            total *= math.exp(float64(shift) - best)
            shift = best
        if tile < tiles - 1:
            total += exponentiate(held, width(z), shift)
    return best, column, shift, total


@device_function
def load_targets(
    t: Any, first: int, columns: int, probabilities: bool, aligned: bool, class_weights: Any, keep: Any, uniform: Any,
    zero: Any, targets: Any, count: int,
) -> None:  # fmt: skip
    """Fill ``targets`` with a vector of w_c q_c, where q = keep · t + uniform, and t = 0 without probabilities."""
    for k in range(count):
        targets[k] = zero
    if probabilities:
        load_masked(t, first, columns, aligned, zero, targets, 0)
    for k in range(count):
        if first + k >= 0 and first + k < columns:
            targets[k] = uniform + keep * targets[k]
            if given(class_weights):
                targets[k] *= class_weights[first + k]


@device_function
def target_sums(
    z: Any, t: Any, start: int, step: int, columns: int, probabilities: bool, class_weights: Any, keep: Any,
    uniform: Any, shift: Any, zero: Any, infinity: Any, targets: Any, values: Any, threads: int,
) -> Any:  # fmt: skip
    """Σ w_c q_c and Σ w_c q_c (shift − z_c) over the row, and the column of the largest probability."""
    weight, cost = zero, zero
    best, column = -infinity, 0
    aligned = lead(t) == lead(z)
    first = start
    while first < columns:
        load_masked(z, first, columns, True, shift, values, 0)
        load_targets(t, first, columns, probabilities, aligned, class_weights, keep, uniform, zero, targets, width(z))
        for k in range(width(z)):
            if targets[k] != 0:
                weight += targets[k]
                cost += targets[k] * (shift - values[k])
        if probabilities:
            load_masked(t, first, columns, aligned, -infinity, values, 0)
            best, column = arg_max(values, 0, width(z), first, best, column)
        first += step
    if probabilities:
        best, column = row_arg_max(best, column, columns, threads)
    return row_sum(weight, threads), row_sum(cost, threads), column


@device_function
def row_loss(
    log_total: float, shift: Any, weight: Any, cost: Any, label_weight: Any, label_logit: Any, z_loss: float
) -> float:
    """Σ w_c q_c (L − z_c) + ζ L², in differences from the largest logit; with weight 0, an infinite cost adds 0."""
    log_sum_exp = shift + log_total
    loss = z_loss * log_sum_exp * log_sum_exp
    if weight != 0:
        loss += cost + weight * log_total
    if label_weight != 0:
        loss += label_weight * (float64(shift) - label_logit + log_total)
    return loss


@device_function
def write_gradient(
    z: Any, g: Any, t: Any, start: int, step: int, tiles: int, columns: int, held: Any, shift: Any, slope: Any,
    scale: Any, smoothed: bool, probabilities: bool, class_weights: Any, keep: Any, uniform: Any, masked: bool,
    zero: Any, infinity: Any, targets: Any,
) -> None:  # fmt: skip
    """Write slope · exp(z − shift) − scale · w_c q_c; the exponentials of the last tile are in ``held``."""
    count = width(z)
    slots = held.size // count
    for tile in range(tiles - 1, -1, -1):
        first = recomputed(start + tile * slots * step)
        if tile < tiles - 1:
            load_tile(z, first, step, slots, columns, -infinity, held)
            exponentiate(held, count, shift)
        for i in range(held.size):
            held[i] *= slope
        if smoothed:
            for slot in range(slots):
                load_targets(
                    t, first + slot * step, columns, probabilities, lead(t) == lead(z), class_weights, keep, uniform,
                    zero, targets, count,
                )  # fmt: skip
                for k in range(count):
                    held[slot * count + k] -= scale * targets[k]
        if masked:
            for i in range(held.size):
                held[i] = zero
        store_tile(g, first, step, slots, columns, lead(g) == lead(z), held)


@device_function
def weigh_row(
    labels: Any, class_weights: Any, row_weights: Any, row: int, columns: int, classes: bool, ignoring: bool,
    ignore_index: int, zero: Any, one: Any,
) -> Any:  # fmt: skip
    """The weight of a row in the mean. ``classes``: the labels are class indices."""
    weight = row_weights[row] if given(row_weights) else one
    if classes:
        label = int64(labels[row])
        if ignoring and label == ignore_index:
            weight = zero
        elif given(class_weights) and label >= 0 and label < columns:
            weight *= class_weights[label]
    return weight


@device_function
def vector_sum(vector: Any, size: int, zero: Any, buffer: Any, threads: int) -> float:
    """The sum of a vector, computed by one block."""
    slots = buffer.size // width(vector)
    step = threads * width(vector)
    total = 0.0
    first = thread_index() * width(vector) - lead(vector)
    while first < size:
        load_tile(vector, first, step, slots, size, zero, buffer)
        for i in range(buffer.size):
            total += buffer[i]
        first = recomputed(first + slots * step)
    return row_sum(total, threads)


@device_function
def first_bad_label(labels: Any, row_count: int, columns: int, ignoring: bool, ignore_index: int, threads: int) -> int:
    """The first row whose label is not a class, or −1; computed by one block."""
    first_bad = row_count
    row = int64(thread_index())
    while row < row_count:
        label = int64(labels[row])
        if (label < 0 or label >= columns) and not (ignoring and label == ignore_index):
            first_bad = min(first_bad, row)
        row = recomputed(row + threads)
    first_bad = -row_max(-first_bad, threads)
    return first_bad if first_bad < row_count else -1
