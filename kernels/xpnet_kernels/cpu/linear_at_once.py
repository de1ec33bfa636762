"""The linear layer of usual sizes, checked and computed in one compiled call, forward and backward.

For a small layer the usual checks and calls take as long as its products. Here Python looks only at what compiled code
cannot see. What is declined is left as it was, and goes the general way, where the error messages are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet_kernels.cpu.activations import activate, add_row, differentiate
from xpnet_kernels.cpu.arrays import row
from xpnet_kernels.cpu.compilation import InMatrix, InVector, OutMatrix, OutVector, kernel
from xpnet_kernels.cpu.compiled_checks import apart, rows_fit
from xpnet_kernels.cpu.matrix_products import is_ours, product

_SINGLE = np.dtype(np.float32)
_NO_MATRIX = np.empty((0, 0), np.float32)


def linear_at_once(x: np.ndarray, W: np.ndarray, b: np.ndarray, activation: int, out: np.ndarray) -> bool:
    """Compute ``out = act(x W + b)`` and return true, or do nothing and return false."""
    try:
        work = x.size * W.shape[1]
        return (
            _matrices(x, W, out) and _vector(b)
            and out.flags.writeable
            and is_ours(_SINGLE, work)
            and _linear[_SINGLE](x, W, b, activation, out)
        )  # fmt: skip
    except (AttributeError, IndexError, TypeError):  # no NumPy arrays, no matrices
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
    try:
        work = dy.size * W.shape[0]
        if activation == 0:
            y = dz = _NO_MATRIX
        wanted = dx is not None
        if not wanted:
            dx = _NO_MATRIX
        return (
            _matrices(dy, x, y, W, dW, dz, dx) and _vector(db)
            and dW.flags.writeable and db.flags.writeable and dz.flags.writeable and dx.flags.writeable
            and is_ours(_SINGLE, work)
            and _linear_backward[_SINGLE](dy, x, y, W, activation, dW, db, dz, dx, wanted)
        )  # fmt: skip
    except (AttributeError, IndexError, TypeError):
        return False


def _matrices(*arrays: Any) -> bool:
    for array in arrays:  # noqa: SIM110 - all() of a generator takes twice as long
        if type(array) is not np.ndarray or array.dtype is not _SINGLE or array.ndim != 2:
            return False
    return True


def _vector(array: Any) -> bool:
    return type(array) is np.ndarray and array.dtype is _SINGLE and array.ndim == 1 and array.flags.c_contiguous


@kernel
def _linear(x: InMatrix, W: InMatrix, b: InVector, activation: int, out: OutMatrix) -> bool:
    rows, (inputs, outputs) = x.shape[0], W.shape
    if not (
        rows_fit(x, rows, inputs) and rows_fit(W, inputs, outputs) and b.size == outputs
        and rows_fit(out, rows, outputs) and apart(out, x) and apart(out, W) and apart(out, b)
    ):  # fmt: skip
        return False
    product(x, W, False, out)
    for i in range(rows):
        add_row(row(out, i), b)
        activate(row(out, i), activation)
    return True


@kernel
def _linear_backward(
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
) -> bool:
    (rows, outputs), inputs = dy.shape, W.shape[0]
    if not (
        rows_fit(dy, rows, outputs) and rows_fit(x, rows, inputs) and rows_fit(W, inputs, outputs)
        and rows_fit(dW, inputs, outputs) and apart(dW, dy) and apart(dW, x) and apart(dW, W)
        and db.size == outputs and apart(db, dy) and apart(db, x) and apart(db, W) and apart(db, dW)
    ):  # fmt: skip
        return False
    if wanted and not (
        rows_fit(dx, rows, inputs) and apart(dx, dy) and apart(dx, x) and apart(dx, W) and apart(dx, dW)
        and apart(dx, db)
    ):  # fmt: skip
        return False
    if activation != 0 and not (
        rows_fit(y, rows, outputs) and rows_fit(dz, rows, outputs) and apart(dz, dy) and apart(dz, y)
        and apart(dz, x) and apart(dz, W) and apart(dz, dW) and apart(dz, db) and (not wanted or apart(dz, dx))
    ):  # fmt: skip
        return False
    sums = np.zeros(outputs)
    for i in range(rows):
        if activation != 0:
            target, source = row(dz, i), row(dy, i)
            for c in range(outputs):
                target[c] = source[c]
            differentiate(target, row(y, i), activation)
            add_row(sums, target)
        else:
            add_row(sums, row(dy, i))
    for c in range(outputs):
        db[c] = sums[c]
    if activation != 0:
        product(x.T, dz, False, dW)
        if wanted:
            product(dz, W, True, dx)
    else:  # dz is dy; compiled code has no name for either
        product(x.T, dy, False, dW)
        if wanted:
            product(dy, W, True, dx)
    return True
