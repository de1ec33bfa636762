"""xpnet.backend: choosing a backend."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import xpnet
from xpnet.backends import NAMES


@pytest.mark.parametrize("name", ["cpu", "cpu-reference", "float64"])
def test_the_default_is_the_number_of_cpus(name) -> None:
    backend = xpnet.backend(name)
    assert (backend.name, backend.synchronous) == (name, True)
    assert backend.dtype == ("float64" if name == "float64" else "float32")
    assert (backend.kernels is not None) == (name == "cpu")


def test_unknown() -> None:
    with pytest.raises(xpnet.ConfigurationError, match=f"unknown device 'gpu'.* are {', '.join(NAMES)}"):
        xpnet.backend("gpu")


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_an_invalid_number_of_threads(monkeypatch, text) -> None:
    monkeypatch.setenv("XPNET_NUM_THREADS", text)
    with pytest.raises(xpnet.ConfigurationError, match=f"XPNET_NUM_THREADS must be a whole number .*, not '{text}'"):
        xpnet.backend("cpu")
    assert xpnet.backend("cpu-reference").kernels is None


def test_cuda_where_it_is_unusable_is_an_error_with_the_reason(monkeypatch) -> None:
    monkeypatch.setattr("xpnet.backends.by_name.cuda_problem", lambda number=None: "the reason: the cure")
    with pytest.raises(xpnet.BackendError, match="device 'cuda' cannot be used: the reason: the cure"):
        xpnet.backend("cuda")


@pytest.mark.parametrize("name", ["cuda:", "cuda:-1", "cuda:01", "cuda:one", "cpu:0", "CUDA:0"])
def test_a_device_that_is_no_number(name) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=f"unknown device '{name}'"):
        xpnet.backend(name)


def test_the_number_of_the_device_is_checked_and_named(monkeypatch) -> None:
    monkeypatch.setattr("xpnet.backends.by_name.cuda_problem", lambda number=None: f"GPU {number} is missing")
    with pytest.raises(xpnet.BackendError, match="device 'cuda:7' cannot be used: GPU 7 is missing"):
        xpnet.backend("cuda:7")


def test_auto_is_the_cpu_where_cuda_is_unusable(monkeypatch) -> None:
    monkeypatch.setattr("xpnet.backends.by_name.cuda_problem", lambda number=None: "a reason")
    assert xpnet.backend("auto").name == xpnet.backend().name == "cpu"


def test_equal_by_name() -> None:
    names = ["cpu", "cpu-reference", "float64"]
    assert [[xpnet.backend(a) == xpnet.backend(b) for a in names] for b in names] == np.eye(3, dtype=bool).tolist()
    assert len({xpnet.backend(name) for name in [*names, *names]}) == 3


def test_it_is_frozen(cpu) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        cpu.name = "other"
