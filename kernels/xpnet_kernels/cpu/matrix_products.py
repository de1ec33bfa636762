"""Matrix products: those of float32 layers of usual sizes by threads of our own, the others by NumPy's OpenBLAS.

OpenBLAS's threads spin for a tenth of a second after each product. On a machine that does anything else they wait for
each other, up to hundreds of times a small product's own time; and ours, beside them, for them. So a layer's products,
forward and backward, are all ours or all OpenBLAS's, and ours have a rest after one of those.
"""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.compilation import InMatrix, OutIntegers, OutMatrix, kernel
from xpnet_kernels.cpu.product_threads import THREADS
from xpnet_kernels.cpu.shared_products import shared_product
from xpnet_kernels.cpu.vectors import LANES

_SINGLE = np.dtype(np.float32)

# In multiplications. With vectors of eight floats OpenBLAS's code is as good as ours, and only small products gain.
_MOST_WORK = {16: 2**27, 8: 2**22, 0: 0}[LANES]
# In elements of the packed side: that of few rows is not worth the packing; that of many, if it is small, always.
_MOST_PACKED = 2**20
_ALWAYS_PACKED = {16: 2**16, 8: 0, 0: 0}[LANES]


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
    if is_ours(C.dtype, A.shape[0], B.size) and C.shape[1] >= LANES:
        if _multiply[_SINGLE](THREADS.words, A, B, transposed, C):
            THREADS.wake()
    else:
        THREADS.rest()
        np.matmul(A, B.T if transposed else B, out=C)


def is_ours(dtype: np.dtype, rows: int, packed: int) -> bool:
    """Whether products of this type are ours, of so many rows with a matrix of so many elements.

    For a layer that matrix is W, and what is said of one of its three products goes for all.
    """
    work = rows * packed
    if dtype != _SINGLE or work == 0 or packed > _MOST_PACKED:
        return False
    return work <= _MOST_WORK or packed <= _ALWAYS_PACKED


@kernel
def _multiply(words: OutIntegers, A: InMatrix, B: InMatrix, transposed: bool, C: OutMatrix) -> bool:
    return shared_product(words, A, B, transposed, C)
