"""The matrix product compiled once, and called by all kernels through its address.

A copy of it in each of them would take seconds to compile.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.gemm.descriptors import descriptor, from_descriptor
from xpnet_kernels.cpu.gemm.macro_kernel import product
from xpnet_kernels.cpu.numba_extensions.callbacks import arguments_on_stack, callback, invoke
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, kernel

_ANY = np.dtype(np.float32)  # the address does not depend on a kernel's element type


@functools.cache
def product_address() -> int:
    """The address that kernels pass to :func:`call_product`; the first call compiles the product."""
    return _product_address[_ANY]()


@njit(**INNER)
def call_product(address: int, A: Any, B: Any, transposed: bool, C: Any) -> None:
    """As :func:`~xpnet_kernels.cpu.gemm.macro_kernel.product`, through its address."""
    arguments = descriptor(A), descriptor(B), transposed, descriptor(C)
    invoke(address, arguments_on_stack(arguments), 0)


@kernel
def _product_address() -> int:
    nothing = (0, 0, 0, 0, 0)
    return _PRODUCT((nothing, nothing, False, nothing))[0]


@njit(**INNER)
def _product_of_descriptors(A: Any, B: Any, transposed: bool, C: Any, block: int) -> None:
    product(from_descriptor(A), from_descriptor(B), transposed, from_descriptor(C))


_PRODUCT = callback(_product_of_descriptors)
