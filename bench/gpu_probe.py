"""Prints why CUDA cannot be used here; nothing if it can."""

from __future__ import annotations

from xpnet.backends import cuda_problem

print(cuda_problem() or "")
