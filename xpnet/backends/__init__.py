"""Backends: an array namespace, the device of its arrays, and its fused kernels.

Only this package distinguishes devices; all others call methods of a backend that they are given. There is no global
state: each model has one backend.
"""

from xpnet.backends.backend import ALIGNMENT, FLOATING, Array, Backend
from xpnet.backends.by_name import NAMES, backend, cuda_devices
from xpnet.backends.cuda_problem import cuda_problem
from xpnet.backends.host import require_indices
from xpnet.backends.memory import is_memory_full
from xpnet.backends.numpy_backend import NumPyBackend
from xpnet.backends.precision import PRECISIONS

__all__ = [
    "ALIGNMENT",
    "FLOATING",
    "NAMES",
    "PRECISIONS",
    "Array",
    "Backend",
    "NumPyBackend",
    "backend",
    "cuda_devices",
    "cuda_problem",
    "is_memory_full",
    "require_indices",
]
