"""The kernel of softmax cross-entropy: three phases, in one launch for a small batch and in three for a large one.

*Weights* sums the rows' weights, which the gradient of the mean divides by. *Rows* does the work, below. *Total* sums
the losses. The first and the last are one block with a fixed order of additions: the same bits on every run.

A row is gone through in tiles. The last one, the whole of a row of up to 32K float32, stays in registers; those before
it are read again for the gradient, newest first, while they are in the L2 cache. Exponentials are taken against the
largest logit so far, so none overflows, and their sum is rescaled when a larger one comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, float64, int32, int64, types
from numba.np.numpy_support import as_dtype

from .cross_entropy_parts import (
    arg_max,
    exponentiate,
    first_bad_label,
    row_arg_max,
    sum_by_vectors,
    sum_losses,
    sum_weights,
    weigh_targets,
)
from .primitives import (
    HELD_BYTES,
    add_count,
    advance,
    barrier,
    exponential,
    given,
    lead,
    load,
    logarithm,
    recomputed,
    store,
    thread_index,
    width,
)
from .reductions import row_sum
from .tiles import deliver_tile, fetch, fetch_tile

WEIGHTS, ROWS, TOTAL = 1, 2, 4


def held_bytes(smoothed: bool) -> int:
    """Of a row in one thread's registers; smoothed targets need registers of their own."""
    return HELD_BYTES // 2 if smoothed else HELD_BYTES


@lru_cache
def cross_entropy_kernel(accumulator: types.Type, smoothed: bool, probabilities: bool) -> Callable:
    """The kernel for one accumulation type and kind of target.

    ``probabilities``: the labels are rows of them, else class indices. ``smoothed``: every class has a part in the
    target, because of label smoothing or probabilities, not the label alone.
    """
    real = accumulator
    number = as_dtype(accumulator).type
    zero, one, infinity, nan = number(0), number(1), number(np.inf), number(np.nan)
    lowest = np.finfo(number).min  # stands for −inf where it is subtracted from −inf
    held_size = held_bytes(smoothed) // np.dtype(number).itemsize

    def kernel(
        phases: int, logits: Any, labels: Any, gradient: Any, summary: Any, losses: Any, log_sum_exp: Any,
        predictions: Any, upstream: Any, class_weights: Any, row_weights: Any, row_count: int, columns: int,
        logits_stride: int, labels_stride: int, gradient_stride: int,
        factor: float, mean: bool, label_smoothing: float, z_loss: float, ignoring: bool, ignore_index: int,
    ) -> None:  # fmt: skip
        lane, threads = cuda.threadIdx.x, cuda.blockDim.x
        block_threads = cuda.blockDim.x * cuda.blockDim.y
        if phases & WEIGHTS:
            weight_sum = sum_weights(
                labels, class_weights, row_weights, row_count, columns, not probabilities, ignoring, ignore_index,
                block_threads,
            )  # fmt: skip
            if thread_index() == 0:
                summary[0] = 0.0
                summary[1] = weight_sum
                summary[2] = 0.0
                summary[3] = -1.0
            barrier()

        if phases & ROWS:
            row = int64(cuda.blockIdx.x) * cuda.blockDim.y + cuda.threadIdx.y
            inside = row < row_count
            row = min(row, row_count - 1)  # threads beyond the last row repeat it, and write nothing
            keep = one - real(label_smoothing)
            uniform = real(label_smoothing) / real(columns)

            z = advance(logits, row * logits_stride)
            count = width(z)
            slots = held_size // count
            step = threads * count
            tile = slots * step
            start = lane * count - lead(z)  # this thread's first column
            held = cuda.local.array(held_size, real)

            best, column, shift, total = -infinity, 0, lowest, 0.0
            first = start
            fetch_tile(z, first, step, slots, columns, -infinity, held)
            while True:
                first = recomputed(first)
                for slot in range(slots):
                    best, column = arg_max(held, slot * count, count, first + slot * step, best, column)
                if not best <= shift:
                    total *= math.exp(float64(shift) - best)
                    shift = best
                if first + tile >= columns:
                    break
                exponentiate(held, shift)
                total += sum_by_vectors(held, count)
                first += tile
                fetch_tile(z, first, step, slots, columns, -infinity, held)
            row_best, prediction = row_arg_max(best, column, columns, threads)
            row_shift = lowest if row_best < lowest else row_best
            if total != 0:
                total *= math.exp(float64(shift) - row_shift)
            exponentiate(held, row_shift)
            total = row_sum(total + sum_by_vectors(held, count), threads)

            row_weight = row_weights[row] if given(row_weights) else one
            label, known, owner = int64(-1), False, int64(0)
            silent = probabilities and row_weight == 0  # counts for nothing
            if not probabilities:
                label = int64(labels[row])
                known = label >= 0 and label < columns
                silent = (known and row_weight == 0) or (ignoring and label == ignore_index)
                if known:
                    owner = (label + lead(z)) // count % threads
            owns = inside and lane == owner

            t = advance(labels, row * labels_stride)
            t_aligned = lead(t) == lead(z)
            target_weight, target_cost = zero, zero  # Σ w_c q_c and Σ w_c q_c (shift − z_c), less the label's own
            targets = cuda.local.array(8, real)
            if smoothed:
                values = cuda.local.array(8, real)
                best, column = -infinity, 0
                position = start
                while position < columns:
                    fetch(z, position, columns, True, zero, values, 0)
                    for k in range(count):
                        targets[k] = zero
                    if probabilities:
                        fetch(t, position, columns, t_aligned, zero, targets, 0)
                    weigh_targets(targets, count, position, columns, class_weights, keep, uniform)
                    for k in range(count):
                        if targets[k] != 0:
                            target_weight += targets[k]
                            target_cost += targets[k] * (row_shift - values[k])
                    if probabilities:
                        fetch(t, position, columns, t_aligned, -infinity, values, 0)
                        best, column = arg_max(values, 0, count, position, best, column)
                    position += step
                target_weight = row_sum(target_weight, threads)
                target_cost = row_sum(target_cost, threads)
                if probabilities:
                    best, label = row_arg_max(best, column, columns, threads)

            label_weight = zero
            if known:
                label_weight = keep
                if given(class_weights):
                    label_weight *= class_weights[label]
            label_exponential = zero
            correct = False
            if owns:
                log_total = logarithm(total)
                row_log_sum_exp = float64(row_shift) + log_total
                loss = z_loss * row_log_sum_exp * row_log_sum_exp
                if target_weight != 0:
                    loss += target_cost + target_weight * log_total
                if known:
                    label_exponential = exponential(load(z, label) - row_shift)
                    if label_weight != 0:
                        loss += label_weight * (float64(row_shift) - load(z, label) + log_total)
                loss *= row_weight
                if silent:
                    loss = 0.0
                elif not (total > 0 and total < infinity and (known or probabilities)):
                    loss = math.nan
                losses[row] = real(loss)
                if given(log_sum_exp):
                    log_sum_exp[row] = real(row_log_sum_exp)
                if given(predictions):
                    predictions[row] = prediction
                correct = prediction == label and (known or probabilities) and not silent
            correct_rows = cuda.syncthreads_count(int32(correct))
            if thread_index() == 0 and correct_rows > 0:
                add_count(summary, 2, float64(correct_rows))

            if given(gradient) and inside:
                scale = real(factor) * row_weight
                if given(upstream):
                    scale *= upstream[row]
                if mean:
                    scale /= real(summary[1])
                slope = target_weight + label_weight
                if z_loss != 0:
                    slope += real(2 * z_loss) * (row_shift + logarithm(real(total)))
                slope *= scale / real(total)
                if not (known or probabilities):
                    slope = nan
                g = advance(gradient, row * gradient_stride)
                aligned = lead(g) == lead(z)
                while True:
                    first = recomputed(first)
                    for i in range(held_size):
                        held[i] *= slope
                    if smoothed:
                        for slot in range(slots):
                            position = first + slot * step
                            for k in range(count):
                                targets[k] = zero
                            if probabilities:
                                fetch(t, position, columns, t_aligned, zero, targets, 0)
                            weigh_targets(targets, count, position, columns, class_weights, keep, uniform)
                            for k in range(count):
                                held[slot * count + k] -= scale * targets[k]
                    if silent:
                        for i in range(held_size):
                            held[i] = zero
                    deliver_tile(g, first, step, slots, columns, aligned, held)
                    if first == start:
                        break
                    first -= tile
                    fetch_tile(z, first, step, slots, columns, -infinity, held)
                    exponentiate(held, row_shift)
                if owns and known and not silent:
                    label_target = label_weight
                    if smoothed:
                        label_target += uniform * class_weights[label] if given(class_weights) else uniform
                    store(g, label, slope * label_exponential - scale * label_target)

        if phases & TOTAL:
            barrier()
            loss_buffer = cuda.local.array(32, real)
            loss = sum_losses(losses, row_count, zero, loss_buffer, block_threads)
            first_bad = -1
            if math.isnan(loss) and not probabilities:
                first_bad = first_bad_label(labels, row_count, columns, ignoring, ignore_index, block_threads)
            if thread_index() == 0:
                summary[0] = loss / summary[1] if mean else loss
                summary[3] = float64(first_bad)

    return kernel
