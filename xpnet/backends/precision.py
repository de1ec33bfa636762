"""The precisions in which a model's passes can compute, see docs/decisions/0006-precision.md."""

from __future__ import annotations

import numpy as np

from xpnet.errors import BackendError

PRECISIONS = ("float32", "tf32", "bf16")  # the first is the default: the element type of the model's parameters


def bfloat16() -> np.dtype:
    """bfloat16 as an element type of NumPy and CuPy.

    Raises:
        BackendError: the package that defines it is not installed.

    >>> np.asarray(1.01, bfloat16()).astype("float32")
    array(1.0078125, dtype=float32)
    """
    try:
        import ml_dtypes
    except ImportError:
        raise BackendError("bf16 needs the package ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)
