"""CuPy's backend, with a stand-in for CuPy."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import xpnet
from xpnet.backends import PRECISIONS
from xpnet.backends.cupy_backend import CudaKernels


class Device:
    """CuPy's: a context in which the device is the current one; they nest."""

    entered: ClassVar[list[int]] = [0]

    def __init__(self, number: int | None = None) -> None:
        self.id = self.entered[-1] if number is None else number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __enter__(self) -> Device:
        self.entered.append(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.entered.pop() == self.id


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stack of current devices of a stand-in for CuPy on two GPUs."""
    monkeypatch.setattr(Device, "entered", entered := [0])
    here = lambda what: (what, entered[-1])  # noqa: E731 - what was done, and on which device
    stream = SimpleNamespace(synchronize=lambda: done.append(here("waited")), record=lambda: here("event"))
    done: list[Any] = []
    cuda = SimpleNamespace(
        Device=Device,
        runtime=SimpleNamespace(
            getDevice=lambda: entered[-1],
            getDeviceCount=lambda: 2,
            getDeviceProperties=lambda number: {"name": b"GPU of kind %d" % number, "totalGlobalMem": 16 * 2**30},
        ),
        get_current_stream=lambda: stream,
        get_elapsed_time=lambda began, ended: 1500.0,
    )
    pool = SimpleNamespace(total_bytes=lambda: 7 + entered[-1])
    cupy = SimpleNamespace(cuda=cuda, asnumpy=np.asarray, get_default_memory_pool=lambda: pool, done=done)
    namespace = SimpleNamespace(
        float32=np.float32,
        asarray=lambda value, dtype, device: here(np.asarray(value, dtype).tolist()),
        zeros=lambda shape, dtype, device: here(shape),
    )
    monkeypatch.setattr("xpnet.backends.by_name.cuda_problem", lambda number=None: None)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)
    return entered


@pytest.mark.parametrize(("names", "number"), [(("auto", "cuda"), 0), (("cuda:0",), 0), (("cuda:1",), 1)], ids=str)
def test_each_method_computes_on_the_backends_own_device(current: list[int], names: Any, number: int) -> None:
    for name in names:
        backend = xpnet.backend(name)
        assert (backend.name, backend.device.id, backend.synchronous) == (name.replace("auto", "cuda"), number, False)
        assert backend.asarray([1, 2], "float32") == ([1.0, 2.0], number)
        assert backend.aligned_zeros(3, "float32") == ((3,), number)
        assert (backend.mark(), backend.peak_memory()) == (("event", number), 7 + number)
        assert backend.seconds_between("began", "ended") == 1.5
        backend.synchronize()
        assert sys.modules["cupy"].done[-1] == ("waited", number)
        for again in (copy.deepcopy(backend), pickle.loads(pickle.dumps(backend))):
            assert (again, again.name) == (backend, backend.name)
    assert current == [0]


def test_devices_of_other_numbers_are_other_backends(current: list[int]) -> None:
    assert xpnet.backend("cuda:0") != xpnet.backend("cuda:1")
    with Device(1):
        assert xpnet.backend("cuda").device == Device(1)  # the current one


def test_a_context_on_another_device_is_an_error_that_says_what_to_write(current: list[int]) -> None:
    backend = xpnet.backend("cuda:1")
    expected = (
        "backend 'cuda:1' computes on GPU 1, but GPU 0 is the current one: compute under 'with backend.on_device():'"
    )
    with pytest.raises(xpnet.BackendError, match=f"^{expected.replace('(', '.').replace(')', '.')}$"):
        xpnet.Context(backend)
    with backend.on_device(), backend.on_device():
        assert xpnet.Context(backend).backend is backend
        assert current == [0, 1, 1]
    xpnet.Context(xpnet.backend("cuda:0"))


def test_the_devices(current: list[int]) -> None:
    assert xpnet.backends.cuda_devices() == {
        "cuda:0": "GPU of kind 0, 16 GiB",
        "cuda:1": "GPU of kind 1, 16 GiB",
    }


def test_on_cuda_each_is_launched_on_the_current_stream(monkeypatch) -> None:
    import xpnet_kernels.cuda

    launches, stream = [], SimpleNamespace(ptr=41)
    cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    kernels = CudaKernels()
    monkeypatch.setattr(
        xpnet_kernels.cuda, "sgd_update", lambda *args, **keywords: launches.append((args, keywords)), raising=False
    )
    kernels.sgd_update("values", finite=None)
    stream.ptr = 42
    kernels.sgd_update("values")
    assert launches == [(("values",), {"stream": 41, "finite": None}), (("values",), {"stream": 42})]
    assert getattr(kernels, "no_such_kernel", None) is None


def test_kernels_of_the_callers_own_stay_at_every_precision(current: list[int]) -> None:
    cuda, own = xpnet.backend("cuda"), SimpleNamespace()
    assert dataclasses.replace(cuda, kernels=own).at_precision("tf32").kernels is own
    assert cuda.at_precision("float32") is cuda
    assert [cuda.at_precision("tf32").at_precision(name).kernels.tf32 for name in PRECISIONS] == [False, True, False]
