"""The linear layer and its activation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu._bias_activation import bias_activation
from xpnet_kernels.cpu.checks.arguments import check_apart, check_input, check_kind, check_output
from xpnet_kernels.cpu.checks.compiled import apart, rows_fit
from xpnet_kernels.cpu.elementwise.activations import RELU, activate, activation_code
from xpnet_kernels.cpu.gemm.compiled_product import call_product, product_address
from xpnet_kernels.cpu.gemm.descriptors import as_strided
from xpnet_kernels.cpu.gemm.epilogues import add_bias
from xpnet_kernels.cpu.gemm.macro_kernel import PANEL
from xpnet_kernels.cpu.gemm.multiply import is_matrix_vector, multiply, own_product_work
from xpnet_kernels.cpu.gemm.parallel_product import block_bounds, is_too_short, partition
from xpnet_kernels.cpu.numba_extensions.array_arguments import ArgumentMismatchError
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import row, stack_array
from xpnet_kernels.cpu.numba_extensions.callbacks import callback
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, InMatrix, InVector, OutIntegers, OutMatrix, kernel
from xpnet_kernels.cpu.threads.scheduler import INVALID_ARGUMENTS, block_range, parallel_for
from xpnet_kernels.cpu.threads.team import TEAM

_SINGLE = np.dtype(np.float32)
# A layer with many inputs and few outputs is divided into halves of its inputs: a member then works on the same parts
# of x and W in the forward pass, in dW and in the update. This changes the order of the sums, so it must depend on the
# shape alone.
_MANY_INPUTS, _FEW_ROWS = 512, 256
_HALF_SIZE = _FEW_ROWS * PANEL  # elements of the sums over the second half


def linear(x: np.ndarray, W: np.ndarray, b: np.ndarray, activation: str | None, out: np.ndarray) -> None:
    """``out = act(x W + b)``.

    Args:
        x: (N, inputs) float32 or float64.
        W: (inputs, outputs).
        b: (outputs,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, outputs), output.

    Raises:
        TypeError, ValueError: an array of a wrong type, shape or layout, or an unknown activation.

    >>> import numpy as np
    >>> x, W, b, out = np.array([[1.0, 2.0]]), np.array([[3.0, -4.0], [5.0, 1.0]]), np.ones(2), np.empty((1, 2))
    >>> linear(x, W, b, "relu", out)
    >>> out
    array([[14.,  0.]])
    """
    code = activation_code(activation)
    if _fused_linear(x, W, b, code, out):
        return
    check_kind("x", x, 2)
    check_kind("W", W, 2)
    check_input("x", x, x.dtype, x.shape)
    check_input("W", W, x.dtype, (x.shape[1], W.shape[1]))
    check_input("b", b, x.dtype, W.shape[1:])
    check_output("out", out, x.dtype, (x.shape[0], W.shape[1]))
    check_apart("out", out, "x", x)
    check_apart("out", out, "W", W)
    check_apart("out", out, "b", b)
    multiply(x, W, out)
    bias_activation(out, b, activation, out)


def _fused_linear(x: np.ndarray, W: np.ndarray, b: np.ndarray, activation: int, out: np.ndarray) -> bool:
    """Check the arguments and compute the layer in one compiled call, or do nothing and return false.

    For a small layer, checks in Python and separate calls take as long as the product. Anything else takes the general
    path, which raises the errors.
    """
    work = own_product_work(x, W)
    if work == 0 or is_matrix_vector(x.shape[0], work):
        return False
    compiled, address = _linear[_SINGLE], product_address()
    try:
        return TEAM.run(work, compiled, address, x, W, b, activation, out)
    except ArgumentMismatchError:
        return False


@njit(**INNER)
def _forward_block(
    address: int, x: Any, W: Any, b: Any, activation: int, out: Any, row_step: int, column_step: int, block: int
) -> None:
    first, last, left, right = block_bounds(out, row_step, column_step, block)
    call_product(address, x[first:last], W[:, left:right], False, out[first:last, left:right])
    for i in range(first, last):
        _add_bias_and_activate(row(out, i)[left:right], b[left:right], activation)


@njit(**INNER)
def _add_bias_and_activate(y: Any, b: Any, activation: int) -> None:
    add_bias(y, b, activation == RELU)
    if activation > RELU:
        activate(y, activation)


@njit(**INNER)
def _half_of_inputs(address: int, x: Any, W: Any, out: Any, other: Any, half: int) -> None:
    middle = x.shape[1] // 2
    if half == 0:
        call_product(address, x[:, :middle], W[:middle], False, out)
    else:
        call_product(address, x[:, middle:], W[middle:], False, other)


@njit(**INNER)
def _add_halves(b: Any, activation: int, out: Any, other: Any, step: int, block: int) -> None:
    first, last = block_range(out.shape[0], step, block)
    for i in range(first, last):
        y = row(out, i)
        add_bias(y, row(other, i), False)
        _add_bias_and_activate(y, b, activation)


_FORWARD, _HALF_OF_INPUTS, _ADD_HALVES = callback(_forward_block), callback(_half_of_inputs), callback(_add_halves)


@kernel
def _linear(
    team: OutIntegers, address: int, x: InMatrix, W: InMatrix, b: InVector, activation: int, out: OutMatrix
) -> int:
    rows, (inputs, outputs) = x.shape[0], W.shape
    if not (
        rows_fit(x, rows, inputs) and rows_fit(W, inputs, outputs) and b.size == outputs
        and rows_fit(out, rows, outputs) and apart(out, x) and apart(out, W) and apart(out, b)
    ):  # fmt: skip
        return INVALID_ARGUMENTS
    row_step, column_step, blocks = partition(team, rows, inputs, outputs, False)
    samples, weights = as_strided(x), as_strided(W)
    many = inputs >= _MANY_INPUTS and outputs <= PANEL and rows <= _FEW_ROWS
    if many and not is_too_short(rows, inputs, outputs):
        other = stack_array(np.float32, _HALF_SIZE)[: rows * outputs].reshape(rows, outputs)
        status = parallel_for(team, _HALF_OF_INPUTS((address, samples, weights, as_strided(out), other)), 2)
        return max(status, parallel_for(team, _ADD_HALVES((b, activation, out, other, row_step)), blocks))
    return parallel_for(team, _FORWARD((address, samples, weights, b, activation, out, row_step, column_step)), blocks)
