"""What the driver is handed at a launch, by a stand-in for cuLaunchKernel that reads it as CUDA documents it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from types import SimpleNamespace

import pytest

MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

pytestmark = pytest.mark.skipif(MISSING, reason="needs numba-cuda")

CODES = {"int64": ctypes.c_int64, "float64": ctypes.c_double, "bool": ctypes.c_uint8}
SUCCESS, INVALID_VALUE, INVALID_CONTEXT = 0, 1, 201


class Driver:
    """cuLaunchKernel for one signature; it answers with each status in turn."""

    def __init__(self, signature, *statuses):
        self.signature, self.statuses, self.launches = signature, list(statuses), []

    def launch(self, function, *numbers_and_arguments):
        *numbers, parameters, extra = numbers_and_arguments
        assert extra == 0
        pointers = (ctypes.c_void_p * len(self.signature)).from_address(parameters)
        values = [
            CODES.get(str(kind), ctypes.c_uint64).from_address(pointer).value
            for kind, pointer in zip(self.signature, pointers, strict=True)
        ]
        self.launches.append((int(function), *numbers, values))
        return (self.statuses.pop(0) if self.statuses else SUCCESS,)


@pytest.fixture
def build(monkeypatch):
    """A compiled kernel of this signature whose driver answers with these statuses, and the driver."""
    from numba import types
    from xpnet_kernels.cuda.compiled_kernel import CompiledKernel

    def make(*statuses):
        signature = (types.CPointer(types.float32), types.int64, types.float64, types.boolean, types.boolean)
        driver = Driver(signature, *statuses)
        monkeypatch.setattr("cuda.bindings.driver.cuLaunchKernel", driver.launch)
        overload = SimpleNamespace(library=SimpleNamespace(get_cufunc=lambda: SimpleNamespace(handle=1234)))
        return CompiledKernel("name", overload, signature), driver

    return make


def test_arguments(build):
    kernel, driver = build()
    kernel.launch((2**63 + 16, -(2**63), 0.1, True, False), (70_000, 1, 1), (32, 4, 1), 77)
    kernel.launch((0, 2**63 - 1, float("inf"), False, True), (1, 1, 1), (256, 1, 1), 0)
    assert driver.launches == [
        (1234, 70_000, 1, 1, 32, 4, 1, 0, 77, [2**63 + 16, -(2**63), 0.1, 1, 0]),
        (1234, 1, 1, 1, 256, 1, 1, 0, 0, [0, 2**63 - 1, float("inf"), 0, 1]),
    ]


def test_a_thread_that_has_not_used_cuda_gets_a_context(build, monkeypatch):
    kernel, driver = build(INVALID_CONTEXT)
    made = []
    monkeypatch.setattr("numba.cuda.current_context", lambda: made.append(threading.get_ident()))
    kernel.launch((0, 5, 0.0, True, True), (1, 1, 1), (32, 1, 1), 0)
    assert made == [threading.get_ident()]
    assert driver.launches[0] == driver.launches[1]
    assert len(driver.launches) == 2


def test_a_refused_launch(build, monkeypatch):
    kernel, _ = build(INVALID_VALUE)
    with pytest.raises(RuntimeError, match=r"name was not launched .* block \(2048, 1, 1\): CUDA_ERROR_INVALID_VALUE"):
        kernel.launch((0, 5, 0.0, True, True), (1, 1, 1), (2048, 1, 1), 0)


def test_threads_do_not_mix_their_arguments(build, monkeypatch):
    """The driver is called without Python's lock, so another thread may launch the kernel meanwhile."""
    kernel, driver = build()
    first_is_inside, second_has_begun = threading.Event(), threading.Event()
    launch = driver.launch

    def slow(*arguments):
        if not first_is_inside.is_set():
            first_is_inside.set()
            second_has_begun.wait(5)
        return launch(*arguments)

    monkeypatch.setattr("cuda.bindings.driver.cuLaunchKernel", slow)

    def second():
        first_is_inside.wait(5)
        threading.Timer(0.05, second_has_begun.set).start()
        kernel.launch((2, 2, 2.0, False, False), (1, 1, 1), (32, 1, 1), 0)

    thread = threading.Thread(target=second)
    thread.start()
    kernel.launch((1, 1, 1.0, True, True), (1, 1, 1), (32, 1, 1), 0)
    thread.join()
    assert [launch[-1] for launch in driver.launches] == [[1, 1, 1.0, 1, 1], [2, 2, 2.0, 0, 0]]
