"""The kernel of softmax cross-entropy: four phases, in one launch for a small batch, in several for a large one.

*Weights* computes the weight of every row, if rows have weights; *prepare* sums them, because the gradient of the mean
is divided by the sum. *Rows* computes losses and gradients. *Total* sums the losses. *Prepare* and *total* run in one
block with a fixed order of additions, so that every run has the same bits.

*Rows* reads a row in tiles. The last tile, which is the whole row up to 32K float32 elements, stays in registers; the
others are read again for the gradient, the newest first, while they are in the L2 cache. Exponentials are relative to
the largest logit so far, so none overflows, and their sum is rescaled when a larger logit follows (online softmax).
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
    exponentiate,
    first_bad_label,
    read_row,
    row_arg_max,
    row_loss,
    target_sums,
    vector_sum,
    weigh_row,
    write_gradient,
)
from .numba_cuda import cuda
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
    store,
    thread_index,
    width,
)
from .reductions import row_sum

WEIGHTS, PREPARE, ROWS, TOTAL = 1, 2, 4, 8


def held_bytes(smoothed: bool) -> int:
    """The bytes of a row that a thread keeps in registers; smoothed targets need registers of their own."""
    return HELD_BYTES // 2 if smoothed else HELD_BYTES


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
    held_size = held_bytes(smoothed) // np.dtype(number).itemsize

    def cross_entropy(
        phases: int, logits: Any, labels: Any, probability_rows: Any, gradient: Any, summary: Any, losses: Any,
        log_sum_exp: Any, predictions: Any, upstream: Any, class_weights: Any, row_weights: Any, row_count: int,
        columns: int, tiles: int, logits_stride: int, probability_stride: int, gradient_stride: int, factor: float,
        mean: bool, label_smoothing: float, z_loss: float, weighted: bool, ignoring: bool, ignore_index: int,
    ) -> None:  # fmt: skip
        lane, threads = cuda.threadIdx.x, cuda.blockDim.x
        block_threads = cuda.blockDim.x * cuda.blockDim.y
        buffer = cuda.local.array(32, real)
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
                weight_sum = vector_sum(losses, row_count, zero, buffer, block_threads)
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
            row_weight = row_weights[row] if given(row_weights) else one
            scale = real(factor) * row_weight  # of the row's gradient
            if given(upstream):
                scale *= upstream[row]
            if mean:
                scale /= real(summary[1])
            keep = one - real(label_smoothing)
            uniform = real(label_smoothing) / real(columns)

            z = advance(logits, row * logits_stride)
            step = threads * width(z)
            start = lane * width(z) - lead(z)  # this thread's first column
            held = cuda.local.array(held_size, real)
            best, column, shift, total = read_row(z, start, step, tiles, columns, held, lowest, infinity)
            row_best, prediction = row_arg_max(best, column, columns, threads)
            row_shift = lowest if row_best < lowest else row_best
            if total != 0:
                total *= math.exp(float64(shift) - row_shift)
            total = row_sum(total + exponentiate(held, width(z), row_shift), threads)

            label, known, owner = int64(-1), False, int64(0)
            masked = probabilities and row_weight == 0
            if not probabilities:
                label = int64(labels[row])
                known = label >= 0 and label < columns
                masked = (known and row_weight == 0) or (ignoring and label == ignore_index)
                if known:
                    owner = int64(uint32((label + lead(z)) // width(z)) % uint32(threads))
            owns = inside and lane == owner  # the thread with the label's column writes the row's results

            t = advance(probability_rows, row * probability_stride)
            targets, values = cuda.local.array(8, real), cuda.local.array(8, real)
            weight, cost = zero, zero  # of the target without the label's own term
            if smoothed:
                weight, cost, target = target_sums(
                    z, t, start, step, columns, probabilities, class_weights, keep, uniform, row_shift, zero,
                    infinity, targets, values, threads,
                )  # fmt: skip
                if probabilities:
                    label = target

            label_weight, label_logit, label_exponential = zero, zero, zero
            if known:
                label_weight = keep
                if given(class_weights):
                    label_weight *= class_weights[label]
            correct = False
            if owns:
                if known:
                    label_logit = load(z, label)
                    label_exponential = exponential(label_logit - row_shift)
                log_total = logarithm(total)
                loss = row_weight * row_loss(log_total, row_shift, weight, cost, label_weight, label_logit, z_loss)
                if masked:
                    loss = 0.0
                elif not (total > 0 and total < infinity and (known or probabilities)):
                    loss = math.nan
                losses[row] = real(loss)
                if given(log_sum_exp):
                    log_sum_exp[row] = real(row_shift + log_total)
                if given(predictions):
                    predictions[row] = prediction
                correct = prediction == label and (known or probabilities) and not masked
            correct_rows = cuda.syncthreads_count(int32(correct))
            if thread_index() == 0 and correct_rows > 0:
                add_count(summary, 2, float64(correct_rows))

            if given(gradient) and inside:
                slope = weight + label_weight
                if z_loss != 0:
                    slope += real(2 * z_loss) * (row_shift + logarithm(real(total)))
                slope *= scale / real(total)
                if not (known or probabilities):
                    slope = nan
                g = advance(gradient, row * gradient_stride)
                write_gradient(
                    z, g, t, start, step, tiles, columns, held, row_shift, slope, scale, smoothed, probabilities,
                    class_weights, keep, uniform, masked, zero, infinity, targets,
                )  # fmt: skip
                if owns and known and not masked:
                    label_target = label_weight
                    if smoothed:
                        label_target += uniform * class_weights[label] if given(class_weights) else uniform
                    store(g, label, slope * label_exponential - scale * label_target)

        if phases & TOTAL:
            barrier()
            loss = vector_sum(losses, row_count, zero, buffer, block_threads)
            first_bad = -1
            if math.isnan(loss) and not probabilities:
                first_bad = first_bad_label(labels, row_count, columns, ignoring, ignore_index, block_threads)
            if thread_index() == 0:
                summary[0] = loss / summary[1] if mean else loss
                summary[3] = float64(first_bad)

    return cross_entropy
