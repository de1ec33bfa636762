"""A matrix product as sixteen words, for a thread that cannot be handed arrays: addresses, shapes, strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.compilation import ARITHMETIC
from xpnet_kernels.cpu.panels import product
from xpnet_kernels.cpu.vectors import FLOAT, INDEX

TASK_WORDS = 16

_MATRIX = types.Array(types.float32, 2, "A", aligned=False)


@njit(**ARITHMETIC)
def write_task(task: Any, A: Any, B: Any, transposed: bool, C: Any) -> None:
    """Note a product as :func:`product` takes it; whoever computes it sees that the arrays live until then."""
    _write_matrix(task[0:5], A)
    _write_matrix(task[5:10], B)
    _write_matrix(task[10:15], C)
    task[15] = transposed


@njit(**ARITHMETIC)
def compute_task(task: Any) -> None:
    """The product that was noted."""
    A, B, C = _read_matrix(task[0:5]), _read_matrix(task[5:10]), _read_matrix(task[10:15])
    product(A, B, task[15] != 0, C)


@njit(**ARITHMETIC)
def _write_matrix(words: Any, matrix: Any) -> None:
    words[0], (words[1], words[2]), (words[3], words[4]) = _address(matrix), matrix.shape, matrix.strides


@njit(**ARITHMETIC)
def _read_matrix(words: Any) -> Any:
    return _matrix(words[0], words[1], words[2], words[3], words[4])


@intrinsic
def _address(typing_context: Any, matrix: Any) -> tuple[Any, Callable[..., Any]]:
    """Where the matrix begins."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(make_array(signature.args[0])(context, builder, arguments[0]).data, INDEX)

    return types.int64(matrix), generate


@intrinsic
def _matrix(
    typing_context: Any, address: Any, rows: Any, columns: Any, row_stride: Any, column_stride: Any
) -> tuple[Any, Callable[..., Any]]:
    """The float32 matrix there; the strides are in bytes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        address, rows, columns, *strides = arguments
        result = make_array(_MATRIX)(context, builder)
        start = builder.inttoptr(address, FLOAT.as_pointer())
        populate_array(result, start, [rows, columns], strides, INDEX(4), None)
        return result._getvalue()

    return _MATRIX(types.int64, *[types.intp] * 4), generate
