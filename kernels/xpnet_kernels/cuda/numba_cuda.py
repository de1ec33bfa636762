"""``numba.cuda``, imported where its release and NumPy's disagree: the kernels take it from here.

numba-cuda 0.21 to 0.30 registers ``numpy.row_stack``, which NumPy 2.5 no longer has, so that no kernel compiles; and it
asks NumPy for a timedelta without a unit, which is deprecated and an error where warnings are errors.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings

import numpy as np
from numba import config

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "The 'generic' unit for NumPy timedelta", DeprecationWarning)
    from numba import cuda

__all__ = ["cuda"]

_REGISTRATIONS = "numba.cuda.np.arrayobj"  # imported by numba-cuda at its first compilation

if not config.ENABLE_CUDASIM and not hasattr(np, "row_stack") and importlib.util.find_spec(_REGISTRATIONS) is not None:
    np.row_stack = np.vstack  # what it was, while they are imported
    try:
        importlib.import_module(_REGISTRATIONS)
    finally:
        del np.row_stack
