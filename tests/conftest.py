"""One fixture, ``backend``: every test that takes it runs on every backend there is."""

from __future__ import annotations

import os

# OpenBLAS's threads spin while they wait: on a machine with other work they slow each other a hundredfold.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dataclasses import replace
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest

import xpnet
from xpnet.backends import Array, Backend


class ReadOnlyBackend(Backend):
    """The CPU, handing out arrays that may not be written: catches whoever writes into what it was given."""

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        array = super().asarray(value, dtype).view()
        array.flags.writeable = False
        return array


def read_only_backend() -> Backend:
    cpu = xpnet.backend("cpu")
    return ReadOnlyBackend(**{**vars(cpu), "name": "cpu-read-only"})


def strict_backend() -> Backend:
    """array-api-strict on ``device1``: refuses what the standard lacks, and host arrays among its own."""
    device = array_api_strict.Device("device1")
    host = array_api_strict.Device("CPU_DEVICE")
    return Backend(
        name="strict",
        xp=array_api_strict,
        device=device,
        to_numpy=lambda array: np.array(array.to_device(host)),
        ignoring_overflow=lambda: np.errstate(over="ignore", invalid="ignore"),
        reads_are_free=False,
    )


BACKENDS = {
    "cpu": lambda: xpnet.backend("cpu"),
    "cpu-read-only": read_only_backend,
    "cpu-reference": lambda: xpnet.backend("cpu-reference"),
    "strict": strict_backend,
}


@pytest.fixture(params=[*BACKENDS, pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn; CUDA where there is one."""
    return request.getfixturevalue("cuda") if request.param == "cuda" else BACKENDS[request.param]()


@pytest.fixture
def strict() -> Backend:
    """array-api-strict on ``device1`` alone."""
    return strict_backend()


@pytest.fixture
def cuda() -> Backend:
    """CUDA; skips the test where it cannot be used."""
    if problem := xpnet.cuda_problem():
        pytest.skip(problem)
    return xpnet.backend("cuda")


@pytest.fixture
def cpu() -> Backend:
    """NumPy with fused kernels."""
    return xpnet.backend("cpu")


@pytest.fixture
def reference() -> Backend:
    """NumPy without fused kernels, in float64."""
    return replace(xpnet.backend("cpu-reference"), dtype="float64")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with MNIST and the book's weights; skips the test where there is none."""
    folder = os.environ.get("XPNET_DATA_DIR")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("XPNET_DATA_DIR names no folder with MNIST in it")
    return Path(folder)
