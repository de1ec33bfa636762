"""The device functions of the softmax cross-entropy kernel, for one row and for the batch.

Constants of the accumulation type are arguments: a literal is float64, and promotes the expressions that contain it.
"""

from __future__ import annotations

import math
from typing import Any

from numba import float64, int32, int64

from .primitives import (
    device_function,
    exponential,
    given,
    largest,
    lead,
    load,
    maximum,
    recomputed,
    thread_index,
    width,
)
from .reductions import block_minimum, row_maximum, row_sum
from .tiles import is_inside, load_masked, load_tile, store_to_row, unpack_again


@device_function
def first_column(row: Any, first: int, columns: int, value: Any) -> int:
    """The first column from ``first`` on, within a vector, that has the value."""
    column = int32(max(first, 0))
    for k in range(width(row) - 1, -1, -1):
        if is_inside(first, k, columns):
            candidate = load(row, first + k)
            if candidate == value or math.isnan(candidate):
                column = int32(first + k)
    return column


@device_function
def sum_exponentials(z: Any, held: Any, slots: int, shift: Any, values: Any) -> float:
    """The sum of exp(z − shift) over a tile: a vector's in their own type, these sums in float64."""
    total = 0.0
    for slot in range(slots):
        unpack_again(z, held, slot, values)
        part = exponential(values[0] - shift)
        for k in range(1, width(z)):
            part += exponential(values[k] - shift)
        total += part
    return total


@device_function
def read_row(
    z: Any, start: int, step: int, slots: int, tiles: int, columns: int, held: Any, values: Any, lowest: Any,
    infinity: Any,
) -> Any:  # fmt: skip
    """Read the row; the last tile stays in ``held``.

    Returns the thread's largest logit and the first column of its vector; and for the tiles before the last, the logit
    that their exponentials are relative to, and their sum.
    """
    best, vector, shift, total = -infinity, int32(0), lowest, 0.0
    tile = int32(0)
    while tile < tiles:
        first = recomputed(int32(start + tile * slots * step))
        load_tile(z, first, step, slots, columns, held)
        for slot in range(slots):
            value = largest(z, held, slot)
            if not (value <= best or math.isnan(best)):
                best, vector = value, int32(tile * slots + slot)
        if tile < tiles - 1:
            if not best <= shift:
                total *= exponential(shift - best)
                shift = best
            total += sum_exponentials(z, held, slots, shift, values)
        tile = int32(tile + 1)
    return best, int32(start + vector * step), shift, total


@device_function
def load_targets(
    t: Any, first: int, columns: int, probabilities: bool, aligned: bool, class_weights: Any, keep: Any, uniform: Any,
    zero: Any, outside: Any, targets: Any, count: int,
) -> Any:  # fmt: skip
    """Fill ``targets`` with a vector of w_c q_c, where q = keep · t + uniform, and t = 0 without probabilities.

    Returns the largest probability; ``outside`` stands for those of columns outside the row.
    """
    for k in range(count):
        targets[k] = zero
    if probabilities:
        load_masked(t, first, columns, aligned, outside, targets, 0)
    largest = targets[0]
    for k in range(1, count):
        largest = maximum(largest, targets[k])
    for k in range(count):
        if is_inside(first, k, columns):
            targets[k] = uniform + keep * targets[k]
            if given(class_weights):
                targets[k] *= class_weights[first + k]
        else:
            targets[k] = zero
    return largest


@device_function
def target_sums(
    z: Any, t: Any, start: int, step: int, slots: int, tiles: int, columns: int, held: Any, values: Any,
    probabilities: bool, class_weights: Any, keep: Any, uniform: Any, shift: Any, zero: Any, infinity: Any,
    targets: Any, threads: int,
) -> Any:  # fmt: skip
    """Σ w_c q_c and Σ w_c q_c (shift − z_c) over the row, and the column of the largest probability.

    The last tile is in ``held`` before the call, the first after it.
    """
    weight, cost = zero, zero
    best, place = -infinity, int32(0)
    aligned = lead(t) == lead(z)
    tile = int32(tiles - 1)
    while tile >= 0:
        first = recomputed(int32(start + tile * slots * step))
        if tile < tiles - 1:
            load_tile(z, first, step, slots, columns, held)
        for slot in range(slots):
            column = int32(first + slot * step)
            value = load_targets(
                t, column, columns, probabilities, aligned, class_weights, keep, uniform, zero, -infinity, targets,
                width(z),
            )  # fmt: skip
            unpack_again(z, held, slot, values)
            for k in range(width(z)):
                if targets[k] != 0:
                    weight += targets[k]
                    cost += targets[k] * (shift - values[k])
            if probabilities and not (value < best or (math.isnan(best) and not math.isnan(value))):
                best, place = value, column
        tile = int32(tile - 1)
    label = int32(-1)
    if probabilities:
        best, place = row_maximum(best, place, threads)
        label = first_column(t, place, columns, best)
    return row_sum(weight, zero, threads), row_sum(cost, zero, threads), label


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
    z: Any, g: Any, t: Any, start: int, step: int, slots: int, tiles: int, columns: int, held: Any, values: Any,
    shift: Any, slope: Any, scale: Any, smoothed: bool, probabilities: bool, class_weights: Any, keep: Any,
    uniform: Any, masked: bool, zero: Any, targets: Any,
) -> None:  # fmt: skip
    """Write slope · exp(z − shift) − scale · w_c q_c, beginning with the tile in ``held``.

    That is the last tile, or the first if the targets are smoothed.
    """
    aligned = lead(g) == lead(z)
    turn = int32(0)
    while turn < tiles:
        tile = turn if smoothed else int32(tiles - 1 - turn)
        first = recomputed(int32(start + tile * slots * step))
        if turn > 0:
            load_tile(z, first, step, slots, columns, held)
        first = recomputed(first)
        for slot in range(slots):
            column = int32(first + slot * step)
            unpack_again(z, held, slot, values)
            for k in range(width(z)):
                values[k] = slope * exponential(values[k] - shift)
            if smoothed:
                load_targets(
                    t, column, columns, probabilities, lead(t) == lead(z), class_weights, keep, uniform, zero, zero,
                    targets, width(z),
                )  # fmt: skip
                for k in range(width(z)):
                    values[k] -= scale * targets[k]
            if masked:
                for k in range(width(z)):
                    values[k] = zero
            store_to_row(g, column, columns, aligned, values)
        turn = int32(turn + 1)


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
def vector_sum(vector: Any, size: int, zero: Any, values: Any, threads: int) -> float:
    """The sum of a vector, computed by one block."""
    total = 0.0
    first = int64(thread_index())
    while first < size:
        for k in range(values.size):
            i = first + k * threads
            values[k] = vector[i] if i < size else zero
        for k in range(values.size):
            total += values[k]
        first = recomputed(first + values.size * threads)
    return row_sum(total, 0.0, threads)


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
    first_bad = block_minimum(first_bad, threads)
    return first_bad if first_bad < row_count else -1
