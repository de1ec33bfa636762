"""Conversion and checks of arrays on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import DTypeError, OutOfRangeError


def host_array(value: Any) -> np.ndarray:
    """A NumPy array, a number or a list of numbers as a NumPy array of the machine's byte order.

    Raises:
        DTypeError: its elements are not numbers.

    >>> host_array([1, 2])
    array([1, 2])
    """
    host = np.asarray(value)
    if host.dtype.kind not in "biuf":
        raise DTypeError(f"expected numbers, got an array of {host.dtype} of shape {host.shape}")
    return host if host.dtype.isnative else host.astype(host.dtype.newbyteorder("="))


def require_indices(values: np.ndarray, below: int, what: str) -> None:
    """Raise OutOfRangeError for the first value that is not in [0, below).

    >>> require_indices(np.array([0, 3]), 3, "label")
    Traceback (most recent call last):
    xpnet.errors.OutOfRangeError: label 3 at row 1 is outside 0 to 2
    """
    bad = (values < 0) | (values >= below)
    if bad.any():
        row = int(np.argmax(bad))
        raise OutOfRangeError(f"{what} {values[row]} at row {row} is outside 0 to {below - 1}")
