"""Matrix products: our own GEMM for float32 layers of usual sizes, NumPy's (OpenBLAS) for all others.

OpenBLAS's threads spin for a tenth of a second after each product. On a busy machine they wait for each other, up to
hundreds of times as long as a small product takes. On an idle one they move the next operation's data into the other
core's cache, and compete with our threads for that core.

The choice depends on the shape and the processor alone. If it were measured at run time, noise would choose between
results that differ in their last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet_kernels.cpu.gemm.compiled_product import product_address
from xpnet_kernels.cpu.gemm.descriptors import as_strided
from xpnet_kernels.cpu.gemm.numpy_product import matmul
from xpnet_kernels.cpu.gemm.parallel_product import parallel_product
from xpnet_kernels.cpu.numba_extensions.compilation import InMatrix, OutIntegers, OutMatrix, kernel
from xpnet_kernels.cpu.numba_extensions.simd import LANES
from xpnet_kernels.cpu.threads.team import TEAM

_SINGLE = np.dtype(np.float32)

# With AVX2 and NEON OpenBLAS's code is as fast as ours, and only small products gain, from staying on one core.
_MAX_WORK = {16: 2**29, 8: 2**22, 4: 2**22, 0: 0}[LANES]  # multiplications
_MAX_ROWS = 1024  # of A; with more, A comes from memory, and our product is slower
_FEW_ROWS, _PACKING_WORK = 2, 2**16  # with few rows, packing a large B does not pay


def multiply(A: np.ndarray, B: np.ndarray, C: np.ndarray, *, transposed: bool = False) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of checked matrices of one type.

    Args:
        A: (rows, terms), of any strides.
        B: (terms, columns), or (columns, terms) where ``transposed``; its rows are contiguous.
        C: (rows, columns), output.
        transposed: whether B is.

    >>> A, B, C = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 1.0, 1.0], [4.0, 5.0, 6.0]]), np.empty((1, 2))
    >>> multiply(A, B, C, transposed=True)
    >>> C
    array([[ 6., 32.]])
    """
    rows, columns = C.shape
    work = A.size * columns
    if C.dtype == _SINGLE and has_own_product(rows, work) and columns >= LANES and not is_matrix_vector(rows, work):
        TEAM.run(work, _multiply[_SINGLE], product_address(), A, B, transposed, C)
    else:
        TEAM.suspend()  # OpenBLAS has threads of its own
        matmul(A, B.T if transposed else B, out=C)


def has_own_product(rows: int, work: int) -> bool:
    """Whether our GEMM computes float32 products with this many rows and multiplications."""
    return 0 < work <= _MAX_WORK and rows <= _MAX_ROWS


def is_matrix_vector(rows: int, work: int) -> bool:
    """Whether a product is close to one of a vector and a matrix, such as that of a single sample."""
    return rows <= _FEW_ROWS and work > _PACKING_WORK


def own_product_work(x: Any, W: Any) -> int:
    """The multiplications of x W; 0 if these are not float32 matrices or their product is NumPy's."""
    try:
        work = x.size * W.shape[1]
        return work if x.dtype == _SINGLE and has_own_product(x.shape[0], work) else 0
    except (AttributeError, IndexError, TypeError):
        return 0


@kernel
def _multiply(team: OutIntegers, address: int, A: InMatrix, B: InMatrix, transposed: bool, C: OutMatrix) -> int:
    return parallel_product(team, address, as_strided(A), as_strided(B), transposed, as_strided(C), False)
