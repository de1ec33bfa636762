"""The matrix product as one piece of compiled code, which all kernels call by its address.

A copy in each of them would take seconds to compile.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.compilation import INNER, kernel
from xpnet_kernels.cpu.outlining import call_outlined, on_stack, outlined
from xpnet_kernels.cpu.panels import product
from xpnet_kernels.cpu.plain_matrices import plain_matrix, words_of


@njit(**INNER)
def multiply_by(code: int, A: Any, B: Any, transposed: bool, C: Any) -> None:
    """As :func:`product`, by the code that :func:`product_code` has found."""
    call_outlined(code, on_stack((words_of(A), words_of(B), transposed, words_of(C))), 0)


@kernel
def product_code() -> int:
    """The address of the code."""
    nothing = (0, 0, 0, 0, 0)
    return _PRODUCT((nothing, nothing, False, nothing))[0]


@njit(**INNER)
def _product_of_words(A: Any, B: Any, transposed: bool, C: Any, block: int) -> None:
    product(plain_matrix(A), plain_matrix(B), transposed, plain_matrix(C))


_PRODUCT = outlined(_product_of_words)
