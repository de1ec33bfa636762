"""Backends: an array namespace, the device its arrays live on, and the fused kernels that serve it.

This package alone knows one device from another. Everything above it asks the backend it was given, and nothing is
kept in a global: a model lives on one backend and says which.
"""

from xpnet.backends.backend import ALIGNMENT, FLOATING, Array, Backend
from xpnet.backends.by_name import NAMES, backend
from xpnet.backends.cuda_problem import cuda_problem
from xpnet.backends.host import require_indices
from xpnet.backends.memory import is_memory_full
from xpnet.backends.numpy_backend import NumPyBackend

__all__ = [
    "ALIGNMENT",
    "FLOATING",
    "NAMES",
    "Array",
    "Backend",
    "NumPyBackend",
    "backend",
    "cuda_problem",
    "is_memory_full",
    "require_indices",
]
