"""The gradients of the linear layer and its activation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu._bias_activation_backward import bias_activation_backward
from xpnet_kernels.cpu.checks.arguments import check_apart, check_input, check_kind, check_output
from xpnet_kernels.cpu.checks.compiled import apart, rows_fit
from xpnet_kernels.cpu.elementwise.activations import LINEAR, RELU, activation_code, differentiate
from xpnet_kernels.cpu.elementwise.matrices import column_sums
from xpnet_kernels.cpu.gemm.compiled_product import product_address
from xpnet_kernels.cpu.gemm.descriptors import as_strided
from xpnet_kernels.cpu.gemm.epilogues import accumulate_columns, relu_backward
from xpnet_kernels.cpu.gemm.multiply import multiply, own_product_work
from xpnet_kernels.cpu.gemm.parallel_product import parallel_product
from xpnet_kernels.cpu.numba_extensions.array_arguments import ArgumentMismatchError
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import row, stack_array
from xpnet_kernels.cpu.numba_extensions.callbacks import callback
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, InMatrix, OutIntegers, OutMatrix, OutVector, kernel
from xpnet_kernels.cpu.threads.scheduler import INVALID_ARGUMENTS, block_length, block_range, parallel_for
from xpnet_kernels.cpu.threads.team import TEAM

_SINGLE = np.dtype(np.float32)
_MIN_SHARED = 2**14  # elements, each of which is read once
_MAX_SUMS = 512  # columns that are summed at a time
_NO_MATRIX = np.empty((0, 0), np.float32)


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray | None,
    W: np.ndarray,
    activation: str | None,
    dW: np.ndarray,
    db: np.ndarray,
    dz: np.ndarray | None,
    dx: np.ndarray | None = None,
) -> None:
    """With dz = dy · act′: ``dW = xᵀ dz``, ``db = Σ_rows dz``, ``dx = dz Wᵀ``.

    Args:
        dy: (N, outputs) float32 or float64, the gradient with respect to the output.
        x: (N, inputs), the input of the forward pass.
        y: (N, outputs), its output, from which act′ is computed.
        W: (inputs, outputs).
        activation: as in the forward pass.
        dW: (inputs, outputs), output.
        db: (outputs,), output, summed in float64.
        dz: (N, outputs), output. With the activation ``None`` dz is dy itself; then ``y`` and ``dz`` are not read,
            and may be ``None``.
        dx: (N, inputs), output; ``None``: it is not computed.

    Raises:
        TypeError, ValueError: an array of a wrong type, shape or layout, or an unknown activation.

    >>> import numpy as np
    >>> dy, x, W = np.array([[1.0, 10.0]]), np.array([[2.0, 3.0]]), np.array([[4.0, 5.0], [6.0, 7.0]])
    >>> dW, db, dx = np.empty((2, 2)), np.empty(2), np.empty((1, 2))
    >>> linear_backward(dy, x, None, W, None, dW, db, None, dx)
    >>> dW.tolist(), db.tolist(), dx.tolist()
    ([[2.0, 20.0], [3.0, 30.0]], [1.0, 10.0], [[54.0, 76.0]])
    """
    if _fused_linear_backward(dy, x, y, W, activation_code(activation), dW, db, dz, dx):
        return
    check_kind("dy", dy, 2)
    check_kind("W", W, 2)
    dtype, (rows, outputs), inputs = dy.dtype, dy.shape, W.shape[0]
    check_input("dy", dy, dtype, dy.shape)
    check_input("x", x, dtype, (rows, inputs))
    check_input("W", W, dtype, (inputs, outputs))
    check_output("dW", dW, dtype, W.shape)
    check_output("db", db, dtype, (outputs,))
    if dx is not None:
        check_output("dx", dx, dtype, x.shape)
    outputs_ = [(name, output) for name, output in (("dW", dW), ("db", db), ("dx", dx)) if output is not None]
    for place, (name, output) in enumerate(outputs_):
        for other_name, other in (("dy", dy), ("x", x), ("W", W), *outputs_[:place]):
            check_apart(name, output, other_name, other)
    if activation is None:
        dz = dy
        db[:] = column_sums(dz)
    else:
        if dz is not None:
            for other_name, other in (("dy", dy), ("x", x), ("W", W), *outputs_):
                check_apart("dz", dz, other_name, other)
        bias_activation_backward(dy, y, activation, dz, db)
    multiply(x.T, dz, dW)
    if dx is not None:
        multiply(dz, W, dx, transposed=True)


def _fused_linear_backward(
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
    """Check the arguments and compute all gradients in one compiled call, or do nothing and return false.

    For a small layer, checks in Python and separate calls take as long as the products. Anything else takes the general
    path, which raises the errors.
    """
    work = own_product_work(x, W)
    if work == 0:
        return False
    if activation == LINEAR:
        y = dz = _NO_MATRIX
    with_dx = dx is not None
    if not with_dx:
        dx = _NO_MATRIX
    compiled, address = _linear_backward[_SINGLE], product_address()
    try:
        return TEAM.run(work, compiled, address, dy, x, y, W, activation, dW, db, dz, dx, with_dx)
    except ArgumentMismatchError:
        return False


@njit(**INNER)
def _differentiate(dy: Any, y: Any, activation: int, dz: Any, db: Any, step: int, block: int) -> None:
    """Some columns of dz, where it is not dy, and of db."""
    left, right = block_range(db.size, step, block)
    sums = stack_array(np.float64, _MAX_SUMS)[: right - left]
    for c in range(sums.size):
        sums[c] = 0
    for i in range(dy.shape[0]):
        source = row(dy, i)[left:right]
        if activation == LINEAR:
            accumulate_columns(sums, source)
        elif activation == RELU:
            relu_backward(row(dz, i)[left:right], source, row(y, i)[left:right], sums)
        else:
            target = row(dz, i)[left:right]
            for c in range(target.size):
                target[c] = source[c]
            differentiate(target, row(y, i)[left:right], activation)
            accumulate_columns(sums, target)
    for c in range(sums.size):
        db[left + c] = sums[c]


_DIFFERENTIATE = callback(_differentiate)


@kernel
def _linear_backward(
    team: OutIntegers,
    address: int,
    dy: InMatrix,
    x: InMatrix,
    y: InMatrix,
    W: InMatrix,
    activation: int,
    dW: OutMatrix,
    db: OutVector,
    dz: OutMatrix,
    dx: OutMatrix,
    with_dx: bool,
) -> int:
    (rows, outputs), inputs = dy.shape, W.shape[0]
    if not (
        rows_fit(dy, rows, outputs) and rows_fit(x, rows, inputs) and rows_fit(W, inputs, outputs)
        and rows_fit(dW, inputs, outputs) and apart(dW, dy) and apart(dW, x) and apart(dW, W)
        and db.size == outputs and apart(db, dy) and apart(db, x) and apart(db, W) and apart(db, dW)
    ):  # fmt: skip
        return INVALID_ARGUMENTS
    if with_dx and not (
        rows_fit(dx, rows, inputs) and apart(dx, dy) and apart(dx, x) and apart(dx, W) and apart(dx, dW)
        and apart(dx, db)
    ):  # fmt: skip
        return INVALID_ARGUMENTS
    if activation != LINEAR and not (
        rows_fit(y, rows, outputs) and rows_fit(dz, rows, outputs) and apart(dz, dy) and apart(dz, y)
        and apart(dz, x) and apart(dz, W) and apart(dz, dW) and apart(dz, db) and (not with_dx or apart(dz, dx))
    ):  # fmt: skip
        return INVALID_ARGUMENTS
    step = block_length(team, outputs, 64, _MAX_SUMS) if dy.size > _MIN_SHARED else _MAX_SUMS
    status = parallel_for(team, _DIFFERENTIATE((dy, y, activation, dz, db, step)), -(-outputs // step))
    gradient = as_strided(dz) if activation != LINEAR else as_strided(dy)
    status = max(status, parallel_product(team, address, as_strided(x).T, gradient, False, as_strided(dW), True))
    if with_dx:
        status = max(status, parallel_product(team, address, gradient, as_strided(W), True, as_strided(dx), False))
    return status
