"""Every kernel as its function launches it, compiled without a GPU: what it reads and writes, and how wide."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

REQUIRED = "XPNET_REQUIRE_CUDA_COMPILE" in os.environ
MISSING = importlib.util.find_spec("numba_cuda") is None

pytestmark = [
    pytest.mark.cuda_compile,
    pytest.mark.skipif(MISSING and not REQUIRED, reason="needs the extra cuda-compile (numba-cuda and its compiler)"),
]

ELEMENTS = ["<f4", "<f8", "<V2", "<f2"]
ITEM = {"<f4": 4, "<f8": 8, "<V2": 2, "<f2": 2, "<i8": 8, "<i4": 4, "|u1": 1, "<u2": 2}
ACCUMULATOR = {"<f4": "<f4", "<f8": "<f8", "<V2": "<f4", "<f2": "<f4"}


class OnDevice:
    """An array that is nowhere."""

    def __init__(self, shape, typestr, address=1 << 30, read_only=False):
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": typestr, "data": (address, read_only), "strides": None, "version": 3,
        }  # fmt: skip


@dataclass
class Launch:
    ptx: str
    values: tuple
    signature: tuple
    grid: tuple
    block: tuple


@pytest.fixture(scope="module", params=[(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
def capability(request):
    return request.param


@pytest.fixture
def launches(capability, monkeypatch):
    """Functions compile their kernels as for a GPU, and what they would launch is collected here."""
    from numba import cuda, types
    from xpnet_kernels.cuda import launch
    from xpnet_kernels.cuda.primitives import BLOCK

    collected = []

    class Compiled:
        def __init__(self, kernel, signature):
            self.signature = signature
            self.ptx, _ = cuda.compile_ptx(kernel, types.void(*signature), cc=capability, launch_bounds=BLOCK)

        def launch(self, values, grid, block, stream):
            collected.append(Launch(self.ptx, values, self.signature, grid, block))

    # Numba asks the current device which code a device function needs.
    device = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
    monkeypatch.setattr("cuda.core.Stream", SimpleNamespace(from_handle=lambda handle: handle))
    monkeypatch.setattr(launch, "compiled", Compiled)
    return collected
