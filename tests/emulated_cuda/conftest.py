"""The stand-in for CuPy, in place of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulated_cuda import emulated_cuda


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    """The module; skips the test without numba-cuda, whose compiler makes the kernels."""
    pytest.importorskip("numba_cuda")
    with emulated_cuda():
        import cupy

        yield cupy
