"""Matrix products: those of float32 layers of usual sizes are our own, the others OpenBLAS's, by way of NumPy.

OpenBLAS's threads spin for a tenth of a second after each product. On a machine that does anything else they wait for
each other, up to hundreds of times a small product's own time; on an idle one they leave what comes next in the other
core's cache, and take that core from threads of ours.

Which product is whose depends on its shape and on the processor alone. To measure it on the machine at hand would let
chance choose among results whose last bits differ.
"""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.compilation import InMatrix, OutIntegers, OutMatrix, kernel
from xpnet_kernels.cpu.plain_matrices import plain
from xpnet_kernels.cpu.shared_products import shared_product
from xpnet_kernels.cpu.team import TEAM
from xpnet_kernels.cpu.vectors import LANES

_SINGLE = np.dtype(np.float32)

# With vectors of eight floats OpenBLAS's code is as good as ours, and only small products gain by staying in one core.
_MOST_WORK = {16: 2**29, 8: 2**22, 0: 0}[LANES]  # multiplications
_MOST_ROWS = 1024  # of the left side: more come from memory, and ours are slower
_THIN_ROWS, _THIN_WORK = 2, 2**16  # so few rows are not worth the packing of so much


def multiply(A: np.ndarray, B: np.ndarray, C: np.ndarray, *, transposed: bool = False) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of checked matrices of one type.

    NumPy's product serves what is large, float64 or narrower than a vector, and processors without wide vectors.

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
    if C.dtype == _SINGLE and is_ours(rows, work) and columns >= LANES and not is_thin(rows, work):
        TEAM.run(work, _multiply[_SINGLE], A, B, transposed, C)
    else:
        TEAM.rest()  # for OpenBLAS has threads of its own
        np.matmul(A, B.T if transposed else B, out=C)


def is_ours(rows: int, work: int) -> bool:
    """Whether float32 products, for a batch of so many rows, with so many multiplications, are ours."""
    return 0 < work <= _MOST_WORK and rows <= _MOST_ROWS


def is_thin(rows: int, work: int) -> bool:
    """Whether a product is rather one of a vector with a matrix, as of a single sample with many weights."""
    return rows <= _THIN_ROWS and work > _THIN_WORK


@kernel
def _multiply(words: OutIntegers, A: InMatrix, B: InMatrix, transposed: bool, C: OutMatrix) -> int:
    return shared_product(words, plain(A), plain(B), transposed, plain(C), False)
