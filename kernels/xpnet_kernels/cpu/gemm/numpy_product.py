"""NumPy's matrix product, with warnings that its result bears out.

On arm64 NumPy's libraries, OpenBLAS and Apple's Accelerate, compute products in the processor's streaming mode (SME).
Leaving it sets all flags for floating-point exceptions (Arm Architecture Reference Manual, FPSR), so that NumPy, which
reads them after the product, warns of "divide by zero encountered in matmul", overflow and invalid values when the
product is right. NumPy's own issues 28687 and 29820 are about it.
"""

from __future__ import annotations

import platform

import numpy as np

_FLAGS_LIE = platform.machine().lower() in ("aarch64", "arm64")


def _checked_matmul(A: np.ndarray, B: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """``numpy.matmul`` of matrices; it warns only if an element of the product is not finite."""
    flags: list[str] = []
    with np.errstate(divide="call", over="call", invalid="call", call=lambda kind, _: flags.append(kind)):
        product = np.matmul(A, B, out=out)
    if flags:
        finite = np.isfinite(np.asarray(product))
        if not finite.all():
            i, j = np.unravel_index(finite.argmin(), finite.shape)
            np.sum(A[i] * B[:, j])  # the same sum in NumPy's own loops, whose flags are true: as the caller wants it
    return product


# Elsewhere the flags are true, and a small product need not take one or two microseconds longer.
matmul = _checked_matmul if _FLAGS_LIE else np.matmul
