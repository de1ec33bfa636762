"""One fixture, ``backend``: every test that takes it runs on every backend there is."""

from __future__ import annotations

import json
import os

# OpenBLAS's threads spin while they wait: on a machine with other work they slow each other a hundredfold.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.emulated_cuda import emulated_cuda
from xpnet import checkpoint
from xpnet.backends import Array, Backend, NumPyBackend


class ReadOnlyBackend(NumPyBackend):
    """The CPU, handing out arrays that may not be written: catches whoever writes into what it was given."""

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        array = super().asarray(value, dtype).view()
        array.flags.writeable = False
        return array


def read_only_backend() -> Backend:
    return ReadOnlyBackend("cpu-read-only", kernels=xpnet.backend("cpu").kernels)


class StrictBackend(Backend):
    """A stand-in for a device: a backend of no library in particular."""

    def ignoring_overflow(self) -> AbstractContextManager[Any]:
        return np.errstate(over="ignore", invalid="ignore")


def strict_backend() -> Backend:
    """array-api-strict on ``device1``: refuses what the standard lacks, and host arrays among its own."""
    import array_api_strict

    return StrictBackend("strict", array_api_strict, array_api_strict.Device("device1"))


BACKENDS = {
    "cpu": lambda: xpnet.backend("cpu"),
    "cpu-read-only": read_only_backend,
    "cpu-reference": lambda: xpnet.backend("cpu-reference"),
    "strict": strict_backend,
}


@pytest.fixture(
    params=[
        *BACKENDS,
        pytest.param("emulated", marks=pytest.mark.cuda_compile),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn; CUDA where there is one, and its emulation when that is asked for."""
    return BACKENDS[request.param]() if request.param in BACKENDS else request.getfixturevalue(request.param)


@pytest.fixture
def strict() -> Backend:
    """array-api-strict on ``device1`` alone."""
    return strict_backend()


@pytest.fixture
def cuda() -> Backend:
    """CUDA; where it cannot be used the test is skipped, or fails if it was required."""
    if problem := xpnet.cuda_problem():
        (pytest.fail if "XPNET_REQUIRE_CUDA" in os.environ else pytest.skip)(problem)
    return xpnet.backend("cuda")


@pytest.fixture
def emulated() -> Iterator[Backend]:
    """CUDA on the emulated device of tests/emulated_cuda."""
    if "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ:
        pytest.importorskip("numba_cuda")
    with emulated_cuda():
        yield xpnet.backend("cuda")


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


CLOCK = {"training_seconds", "metrics_length"}  # what the clock alone decides, and the length of its digits


@pytest.fixture
def history_of() -> Callable[[Path], list[dict[str, Any]]]:
    """The lines of a run's metrics.jsonl, but for the clock's figures."""

    def read(folder: Path) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in record.items() if key not in CLOCK} for record in records]

    return read


@pytest.fixture
def content_of() -> Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]:
    """The bits of every tensor in a checkpoint, and its metadata but for the clock's figures."""

    def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        saved = checkpoint.load(path)
        tensors = {name: (str(array.dtype), array.tobytes()) for name, array in saved.tensors.items()}
        return tensors, {key: value for key, value in saved.metadata.items() if key not in CLOCK}

    return read


@pytest.fixture
def assert_same_run(history_of: Any, content_of: Any) -> Callable[[Path, Path], None]:
    """Weights, optimizer state, report, best so far, history: equal to the bit, but for the clock's figures."""

    def check(one: Path, other: Path) -> None:
        assert history_of(one) == history_of(other)
        for name in ("last.safetensors", "best.safetensors"):
            assert content_of(one / name) == content_of(other / name)

    return check
