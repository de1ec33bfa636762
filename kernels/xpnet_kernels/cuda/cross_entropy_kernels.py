"""The kernel of softmax cross-entropy: four phases, in one launch for a small batch, in several for a large one.

*Weights* computes the weight of every row, if rows have weights; *prepare* sums them, because the gradient of the mean
is divided by the sum. *Rows* computes losses and gradients. *Total* sums the losses. *Prepare* and *total* run in one
block with a fixed order of additions, so that every run has the same bits.

*Rows* reads a row in tiles. The last tile, which is the whole row up to 12,288 float32 elements, stays in registers,
as it is in memory; the others are read again for the gradient, the newest first, while they are in the L2 cache. If a
tile is not full, it is the first. A thread has so few registers that a multiprocessor runs two blocks, and loads the
rows of one while it computes those of the other. Exponentials are relative to the largest logit so far, so none
overflows, and their sum is rescaled when a larger logit follows (online softmax).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import float64, int32, int64, types, uint32
from numba.np.numpy_support import as_dtype

from .cross_entropy_parts import (
    first_bad_label,
    first_column,
    read_row,
    row_loss,
    sum_exponentials,
    target_sums,
    vector_sum,
    weigh_row,
    write_gradient,
)
from .numba_cuda import cuda
from .primitives import (
    HELD_VECTORS,
    add_count,
    advance,
    barrier,
    exponential,
    given,
    lead,
    load,
    logarithm,
    row_at,
    store,
    thread_index,
    width,
)
from .reductions import row_maximum, row_sum

WEIGHTS, PREPARE, ROWS, TOTAL = 1, 2, 4, 8


def held_vectors(smoothed: bool) -> int:
    """The vectors of 16 bytes that a thread keeps in registers; smoothed targets need registers of their own."""
    return HELD_VECTORS // 2 if smoothed else HELD_VECTORS


@lru_cache
def cross_entropy_kernel(accumulator: types.Type, smoothed: bool, probabilities: bool) -> Callable:
    """The kernel for one accumulation type and kind of target.

    ``probabilities``: the targets are rows of probabilities instead of class indices. ``smoothed``: the target of every
    class may be non-zero, because of label smoothing or probabilities.
    """
    real = accumulator
    number = as_dtype(accumulator).type
    zero, one, infinity, nan = number(0), number(1), number(np.inf), number(np.nan)
    lowest = np.finfo(number).min  # stands for −inf where it is subtracted from −inf
    slots = held_vectors(smoothed)
    held_words = 4 * slots

    def cross_entropy(
        phases: int, logits: Any, labels: Any, probability_rows: Any, gradient: Any, summary: Any, losses: Any,
        log_sum_exp: Any, predictions: Any, upstream: Any, class_weights: Any, row_weights: Any, row_count: int,
        columns: int, steps: int, logits_stride: int, probability_stride: int, gradient_stride: int, factor: float,
        mean: bool, label_smoothing: float, z_loss: float, weighted: bool, ignoring: bool, ignore_index: int,
    ) -> None:  # fmt: skip
        lane, threads = cuda.threadIdx.x, cuda.blockDim.x
        block_threads = cuda.blockDim.x * cuda.blockDim.y
        values = cuda.local.array(8, real)
        if phases & WEIGHTS:  # stored in ``losses`` until the next phase has summed them
            row = int64(cuda.blockIdx.x) * block_threads + thread_index()
            if row < row_count:
                losses[row] = weigh_row(
                    labels,
                    class_weights,
                    row_weights,
                    row,
                    columns,
                    not probabilities,
                    ignoring,
                    ignore_index,
                    zero,
                    one,
                )
            barrier()

        if phases & PREPARE:
            weight_sum = float64(row_count)
            if weighted:
                weight_sum = vector_sum(losses, row_count, zero, values, block_threads)
            if thread_index() == 0:
                summary[0] = 0.0
                summary[1] = weight_sum
                summary[2] = 0.0
                summary[3] = -1.0
            barrier()

        if phases & ROWS:
            row = int64(cuda.blockIdx.x) * cuda.blockDim.y + cuda.threadIdx.y
            inside = row < row_count
            row = min(row, row_count - 1)  # threads beyond the last row repeat it, but write nothing
            z = row_at(logits, row * logits_stride)
            row_columns, tiles = int32(columns), int32((steps + slots - 1) // slots)
            step = int32(threads * width(z))
            # This thread's first column; negative, and outside the row, if the first tile is not full.
            start = int32(lane * width(z) - lead(z) - (tiles * slots - steps) * step)
            held = cuda.local.array(held_words, uint32)
            best, place, shift, total = read_row(
                z, start, step, slots, tiles, row_columns, held, values, lowest, infinity
            )
            row_best, place = row_maximum(best, place, threads)
            row_shift = lowest if row_best < lowest else row_best
            if total != 0:
                total *= exponential(shift - row_shift)
            total = real(row_sum(total + sum_exponentials(z, held, slots, row_shift, values), 0.0, threads))

            row_weight = row_weights[row] if given(row_weights) else one
            scale = real(factor) * row_weight  # of the row's gradient
            if given(upstream):
                scale *= upstream[row]
            if mean:
                scale /= real(summary[1])
            keep = one - real(label_smoothing)
            uniform = real(label_smoothing) / real(columns)

            label, known, owner = int32(-1), False, int32(0)
            masked = probabilities and row_weight == 0
            if not probabilities:
                given_label = int64(labels[row])
                known = given_label >= 0 and given_label < columns
                masked = (known and row_weight == 0) or (ignoring and given_label == ignore_index)
                if known:
                    label = int32(given_label)
                    owner = int32(uint32((label + lead(z)) // width(z)) % uint32(threads))
            owns = inside and lane == owner  # the thread with the label's column writes the row's results

            t = advance(probability_rows, row * probability_stride)
            targets = cuda.local.array(8, real)
            weight, cost = zero, zero  # of the target without the label's own term
            if smoothed:
                weight, cost, target = target_sums(
                    z, t, start, step, slots, tiles, row_columns, held, values, probabilities, class_weights, keep,
                    uniform, row_shift, zero, infinity, targets, threads,
                )  # fmt: skip
                if probabilities:
                    label = target

            label_weight, label_logit = zero, zero
            if known:
                label_weight = keep
                if given(class_weights):
                    label_weight *= class_weights[label]
            correct = False
            if owns:  # before the gradient, which may overwrite the logits
                if known:
                    label_logit = load(z, label)
                prediction = first_column(z, place, row_columns, row_best)
                if given(predictions):
                    predictions[row] = prediction
                correct = prediction == label and (known or probabilities) and not masked
            correct_rows = cuda.syncthreads_count(int32(correct))
            if thread_index() == 0 and correct_rows > 0:
                add_count(summary, 2, float64(correct_rows))

            if given(gradient) and inside:
                slope = weight + label_weight
                if z_loss != 0:
                    slope += real(2 * z_loss) * (row_shift + logarithm(total))
                slope *= scale / total
                if not (known or probabilities):
                    slope = nan
                g = row_at(gradient, row * gradient_stride)
                write_gradient(
                    z, g, t, start, step, slots, tiles, row_columns, held, values, row_shift, slope, scale,
                    smoothed, probabilities, class_weights, keep, uniform, masked, zero, targets,
                )  # fmt: skip
                if owns and known and not masked:
                    label_target = label_weight
                    if smoothed:
                        label_target += uniform * class_weights[label] if given(class_weights) else uniform
                    store(g, label, slope * exponential(label_logit - row_shift) - scale * label_target)

            if owns:  # after the gradient, when no part of the row is in registers
                log_total = logarithm(float64(total))
                row_weight = row_weights[row] if given(row_weights) else one
                loss = row_weight * row_loss(log_total, row_shift, weight, cost, label_weight, label_logit, z_loss)
                if masked:
                    loss = 0.0
                elif not (total > 0 and total < infinity and (known or probabilities)):
                    loss = math.nan
                losses[row] = real(loss)
                if given(log_sum_exp):
                    log_sum_exp[row] = real(row_shift + log_total)

        if phases & TOTAL:
            barrier()
            loss = vector_sum(losses, row_count, zero, values, block_threads)
            first_bad = -1
            if math.isnan(loss) and not probabilities:
                first_bad = first_bad_label(labels, row_count, columns, ignoring, ignore_index, block_threads)
            if thread_index() == 0:
                summary[0] = loss / summary[1] if mean else loss
                summary[3] = float64(first_bad)

    return cross_entropy
