"""Recognising the out-of-memory errors of several libraries."""

from __future__ import annotations


def is_memory_full(error: Exception) -> bool:
    """Whether an error of NumPy, CuPy, cuBLAS or Numba means that memory is full.

    >>> is_memory_full(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")), is_memory_full(OSError())
    (True, False)
    """
    text = f"{type(error).__name__}: {error}".lower().replace("_", "")
    words = ("outofmemory", "memoryallocation", "allocfailed")
    return isinstance(error, MemoryError) or any(word in text for word in words)


def first_line(error: Exception) -> str:
    """The first line of an error's message.

    >>> first_line(OSError("disk\\nfull")), first_line(OSError())
    ('disk', 'no message')
    """
    return (str(error).strip() or "no message").splitlines()[0]
