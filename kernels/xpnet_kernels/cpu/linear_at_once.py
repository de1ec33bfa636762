"""The linear layer of usual sizes, checked and computed in one compiled call, forward and backward.

For a small layer the usual checks and calls take as long as its products. Here Python looks only at whether such a
product is ours. What is declined is left as it was, and goes the general way, where the error messages are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.activations import LINEAR, RELU, activate, differentiate
from xpnet_kernels.cpu.arguments import UnfitError
from xpnet_kernels.cpu.arrays import row, scratch
from xpnet_kernels.cpu.compilation import INNER, InMatrix, InVector, OutIntegers, OutMatrix, OutVector, kernel
from xpnet_kernels.cpu.compiled_checks import apart, rows_fit
from xpnet_kernels.cpu.matrix_products import is_ours, is_thin
from xpnet_kernels.cpu.outlining import outlined
from xpnet_kernels.cpu.panels import PANEL
from xpnet_kernels.cpu.plain_matrices import plain
from xpnet_kernels.cpu.product_code import multiply_by
from xpnet_kernels.cpu.shared_products import division, is_short, part_of, shared_product
from xpnet_kernels.cpu.sharing import DECLINED, PRODUCT_CODE, block_of, share, stripe
from xpnet_kernels.cpu.team import TEAM
from xpnet_kernels.cpu.vector_rows import add_to_row, add_to_sums, rectify_gradient

_SINGLE = np.dtype(np.float32)
_LEAST_SHARED = 2**14  # elements of which each is used once
_MOST_SUMS = 512  # columns whose sums are taken at a time
# A layer with many inputs and few outputs is divided by its inputs, in halves: what a member reads of x and W is what
# it works at in dW and in the update. By its shape alone, for this makes other sums.
_MANY_INPUTS, _FEW_ROWS = 512, 256
_HALF = _FEW_ROWS * PANEL  # the elements of the second half's sums
_NO_MATRIX = np.empty((0, 0), np.float32)


def linear_at_once(x: np.ndarray, W: np.ndarray, b: np.ndarray, activation: int, out: np.ndarray) -> bool:
    """Compute ``out = act(x W + b)`` and return true, or do nothing and return false."""
    work = _work(x, W)
    if work == 0 or is_thin(x.shape[0], work):
        return False
    compiled = _linear[_SINGLE]
    try:
        return TEAM.run(work, compiled, x, W, b, activation, out)
    except UnfitError:
        return False


def linear_backward_at_once(
    dy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray | None,
    W: np.ndarray,
    activation: int,
    dW: np.ndarray,
    db: np.ndarray,
    dz: np.ndarray | None,
    dx: np.ndarray | None,
) -> bool:
    """Compute dW, db and, where it is given, dx and return true, or do nothing and return false."""
    work = _work(x, W)
    if work == 0:
        return False
    if activation == LINEAR:
        y = dz = _NO_MATRIX
    wanted = dx is not None
    if not wanted:
        dx = _NO_MATRIX
    compiled = _linear_backward[_SINGLE]
    try:
        return TEAM.run(work, compiled, dy, x, y, W, activation, dW, db, dz, dx, wanted)
    except UnfitError:
        return False


def _work(x: Any, W: Any) -> int:
    """The multiplications of x W; 0 where these are no float32 matrices, or their product is not ours."""
    try:
        work = x.size * W.shape[1]
        return work if x.dtype == _SINGLE and is_ours(x.shape[0], work) else 0
    except (AttributeError, IndexError, TypeError):
        return 0


@njit(**INNER)
def _forward(
    code: int, x: Any, W: Any, b: Any, activation: int, out: Any, row_step: int, column_step: int, block: int
) -> None:
    first, last, left, right = part_of(out, row_step, column_step, block)
    multiply_by(code, x[first:last], W[:, left:right], False, out[first:last, left:right])
    for i in range(first, last):
        _finish(row(out, i)[left:right], b[left:right], activation)


@njit(**INNER)
def _finish(y: Any, b: Any, activation: int) -> None:
    add_to_row(y, b, activation == RELU)
    if activation > RELU:
        activate(y, activation)


@njit(**INNER)
def _half_of_the_inputs(code: int, x: Any, W: Any, out: Any, other: Any, half: int) -> None:
    middle = x.shape[1] // 2
    if half == 0:
        multiply_by(code, x[:, :middle], W[:middle], False, out)
    else:
        multiply_by(code, x[:, middle:], W[middle:], False, other)


@njit(**INNER)
def _add_halves(b: Any, activation: int, out: Any, other: Any, step: int, block: int) -> None:
    first, last = block_of(out.shape[0], step, block)
    for i in range(first, last):
        y = row(out, i)
        add_to_row(y, row(other, i), False)
        _finish(y, b, activation)


@njit(**INNER)
def _differentiate(dy: Any, y: Any, activation: int, dz: Any, db: Any, step: int, block: int) -> None:
    """Some columns of dz, where it is not dy, and of db."""
    left, right = block_of(db.size, step, block)
    sums = scratch(np.float64, _MOST_SUMS)[: right - left]
    for c in range(sums.size):
        sums[c] = 0
    for i in range(dy.shape[0]):
        source = row(dy, i)[left:right]
        if activation == LINEAR:
            add_to_sums(sums, source)
        elif activation == RELU:
            rectify_gradient(row(dz, i)[left:right], source, row(y, i)[left:right], sums)
        else:
            target = row(dz, i)[left:right]
            for c in range(target.size):
                target[c] = source[c]
            differentiate(target, row(y, i)[left:right], activation)
            add_to_sums(sums, target)
    for c in range(sums.size):
        db[left + c] = sums[c]


_FORWARD, _DIFFERENTIATE = outlined(_forward), outlined(_differentiate)
_HALF_OF_THE_INPUTS, _ADD_HALVES = outlined(_half_of_the_inputs), outlined(_add_halves)


@kernel
def _linear(words: OutIntegers, x: InMatrix, W: InMatrix, b: InVector, activation: int, out: OutMatrix) -> int:
    rows, (inputs, outputs) = x.shape[0], W.shape
    if not (
        rows_fit(x, rows, inputs) and rows_fit(W, inputs, outputs) and b.size == outputs
        and rows_fit(out, rows, outputs) and apart(out, x) and apart(out, W) and apart(out, b)
    ):  # fmt: skip
        return DECLINED
    row_step, column_step, blocks = division(words, rows, inputs, outputs, False)
    code, samples, weights = words[PRODUCT_CODE], plain(x), plain(W)
    many = inputs >= _MANY_INPUTS and outputs <= PANEL and rows <= _FEW_ROWS
    if many and not is_short(rows, inputs, outputs):
        other = scratch(np.float32, _HALF)[: rows * outputs].reshape(rows, outputs)
        outcome = share(words, _HALF_OF_THE_INPUTS((code, samples, weights, plain(out), other)), 2)
        return max(outcome, share(words, _ADD_HALVES((b, activation, out, other, row_step)), blocks))
    return share(words, _FORWARD((code, samples, weights, b, activation, out, row_step, column_step)), blocks)


@kernel
def _linear_backward(
    words: OutIntegers,
    dy: InMatrix,
    x: InMatrix,
    y: InMatrix,
    W: InMatrix,
    activation: int,
    dW: OutMatrix,
    db: OutVector,
    dz: OutMatrix,
    dx: OutMatrix,
    wanted: bool,
) -> int:
    (rows, outputs), inputs = dy.shape, W.shape[0]
    if not (
        rows_fit(dy, rows, outputs) and rows_fit(x, rows, inputs) and rows_fit(W, inputs, outputs)
        and rows_fit(dW, inputs, outputs) and apart(dW, dy) and apart(dW, x) and apart(dW, W)
        and db.size == outputs and apart(db, dy) and apart(db, x) and apart(db, W) and apart(db, dW)
    ):  # fmt: skip
        return DECLINED
    if wanted and not (
        rows_fit(dx, rows, inputs) and apart(dx, dy) and apart(dx, x) and apart(dx, W) and apart(dx, dW)
        and apart(dx, db)
    ):  # fmt: skip
        return DECLINED
    if activation != LINEAR and not (
        rows_fit(y, rows, outputs) and rows_fit(dz, rows, outputs) and apart(dz, dy) and apart(dz, y)
        and apart(dz, x) and apart(dz, W) and apart(dz, dW) and apart(dz, db) and (not wanted or apart(dz, dx))
    ):  # fmt: skip
        return DECLINED
    step = stripe(words, outputs, 64, _MOST_SUMS) if dy.size > _LEAST_SHARED else _MOST_SUMS
    outcome = share(words, _DIFFERENTIATE((dy, y, activation, dz, db, step)), -(-outputs // step))
    gradient = plain(dz) if activation != LINEAR else plain(dy)
    outcome = max(outcome, shared_product(words, plain(x).T, gradient, False, plain(dW), True))
    if wanted:
        outcome = max(outcome, shared_product(words, gradient, plain(W), True, plain(dx), False))
    return outcome
