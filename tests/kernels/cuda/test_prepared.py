"""Which calls repeat the checks and plans of the CUDA kernels, and which do not."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from types import SimpleNamespace

import numpy as np
import pytest

MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

pytestmark = pytest.mark.skipif(MISSING, reason="needs numba-cuda")

ADDRESS = 1 << 40


def on_device(shape, typestr="<f4", address=ADDRESS, strides=None, read_only=False):
    """An array that is nowhere."""
    return SimpleNamespace(
        __cuda_array_interface__={
            "shape": shape, "typestr": typestr, "data": (address, read_only), "strides": strides, "version": 3,
        }
    )  # fmt: skip


@pytest.fixture
def plans():
    """A function that plans work, and what it was called with."""
    calls = []

    def prepare(*arguments):
        calls.append(arguments)
        return [arguments]

    return SimpleNamespace(prepare=prepare, calls=calls)


def test_the_same_memory_and_options_are_planned_once(plans):
    from xpnet_kernels.cuda.prepared import planned

    first = planned(plans.prepare, on_device((3, 4)), "relu", 0.5, None)
    assert planned(plans.prepare, on_device((3, 4)), "relu", 0.5, None) is first
    assert len(plans.calls) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (4, 3)}, {"typestr": "<i4"}, {"address": ADDRESS + 4}, {"strides": (32, 4)}, {"read_only": True},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_other_memory_is_planned_anew(plans, change):
    from xpnet_kernels.cuda.prepared import planned

    planned(plans.prepare, on_device((3, 4)))
    planned(plans.prepare, on_device(**{"shape": (3, 4)} | change))
    assert len(plans.calls) == 2


@pytest.mark.parametrize(("one", "other"), [("relu", None), (0.5, 0.25), (1, 1.0), (1, True), (3, np.int64(3))])
def test_other_options_are_planned_anew(plans, one, other):
    from xpnet_kernels.cuda.prepared import planned

    for option in (one, other, one, other):
        assert planned(plans.prepare, option)[0][0] is option
    assert len(plans.calls) == 2


def test_options_without_a_hash_are_planned_each_time(plans):
    from xpnet_kernels.cuda.prepared import planned

    for _ in range(2):
        planned(plans.prepare, [1, 2])
    assert len(plans.calls) == 2


def test_an_error_is_not_remembered_and_comes_back():
    from xpnet_kernels.cuda import bias_activation

    z, good = on_device((3, 4)), on_device((4,))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"bias must have the shape \(4,\), not \(5,\)"):
            bias_activation(z, on_device((5,)), None, z)
        with pytest.raises(TypeError, match="bias must be float32, not float64"):
            bias_activation(z, on_device((4,), "<f8"), None, z)
        with pytest.raises(TypeError, match=r"bias must be an array on the GPU .*, not ndarray"):
            bias_activation(z, np.zeros(4, np.float32), None, z)
        with pytest.raises(ValueError, match="out is an output, but this array is read-only"):
            bias_activation(z, good, None, on_device((3, 4), read_only=True))


def test_an_array_between_two_items_is_an_error_before_a_gpu_fails_on_it():
    from xpnet_kernels.cuda import bias_activation

    z, between = on_device((3, 4)), on_device((3, 4), address=ADDRESS + 2)
    with pytest.raises(ValueError, match="z must be aligned to its 4-byte items, but its address is 0x10000000002"):
        bias_activation(between, on_device((4,)), None, z)
    empty = on_device((0, 4), address=1)  # of which no item is accessed
    bias_activation(empty, on_device((4,)), None, empty)


def test_an_array_that_has_changed_is_checked_again(monkeypatch):
    """An object may get other memory, as PyTorch's do when they are resized: who it is says nothing."""
    from xpnet_kernels.cuda import launch, sgd_update

    launches = []
    queued = SimpleNamespace(launch=lambda values, *_: launches.append(values))
    monkeypatch.setattr(launch, "compiled", lambda *_: queued)
    values, gradients, rate = on_device((100,)), on_device((100,)), on_device((1,), "<f8")
    sgd_update(values, gradients, rate)
    assert launches == [[ADDRESS, ADDRESS, ADDRESS, 0, 100]]
    gradients.__cuda_array_interface__ |= {"data": (ADDRESS + 64, False)}
    sgd_update(values, gradients, rate)
    assert launches[1] == [ADDRESS, ADDRESS + 64, ADDRESS, 0, 100]
    gradients.__cuda_array_interface__ |= {"shape": (99,)}
    with pytest.raises(ValueError, match=r"gradients must have the shape \(100,\), not \(99,\)"):
        sgd_update(values, gradients, rate)


def test_the_step_of_dropout_is_a_number_of_64_bits(monkeypatch):
    from xpnet_kernels.cuda import dropout, launch

    launches = []
    queued = SimpleNamespace(launch=lambda values, *_: launches.append(values))
    monkeypatch.setattr(launch, "compiled", lambda *_: queued)
    x = on_device((100,))
    for step in (0, 7, np.int64(8), 2**63 - 1, 2**64 - 1):
        dropout(x, 0.25, (1, 2), step, x)
    assert [values[3] for values in launches] == [0, 7, 8, 2**63 - 1, -1]
    assert {(*values[:3], *values[4:]) for values in launches} == {
        (ADDRESS, ADDRESS, 0, 1, 2, 2**30, 1 / 0.75, 100),
    }


@pytest.mark.cuda_compile  # where CuPy is installed
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "|u1", "<u2", "<i8"])
def test_a_cupy_array_says_by_its_attributes_what_the_interface_says(dtype):
    import cupy
    from cupy.cuda.memory import MemoryPointer, UnownedMemory
    from xpnet_kernels.cuda.arrays import INTEGERS, REALS, array, memory

    owner = (ctypes.c_char * 4096)()
    address = ctypes.addressof(owner)
    whole = cupy.ndarray((6, 8), dtype, MemoryPointer(UnownedMemory(address, 4096, owner, 0), 0))
    item = np.dtype(dtype).itemsize
    for part, strides in (
        (whole, None),
        (whole[1:, :5], (8 * item, item)),
        (whole[2], None),
        (whole[:, 3:4], (8 * item, item)),
    ):
        offset = part.data.ptr - address
        described = on_device(part.shape, dtype, address + offset, strides)
        by_attributes, by_interface = (array("x", memory(value), (*REALS, *INTEGERS)) for value in (part, described))
        assert repr(by_attributes) == repr(by_interface)
    with pytest.raises(ValueError, match="x must have contiguous rows"):
        array("x", memory(whole[:, ::2]), (*REALS, *INTEGERS))
