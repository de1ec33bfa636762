"""Memory, streams, devices and products of the emulated device."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

from tests.emulated_cuda import StreamRaceError, emulated_cuda, recorded
from tests.emulated_cuda.memory import ALIGNMENT, OutOfBoundsError, OutOfMemoryError, pool


class TestMemory:
    def test_arrays_are_aligned_and_apart(self, cupy) -> None:
        arrays = [cupy.empty(count, np.float32) for count in (1, 7, 128, 129)]
        addresses = sorted(array.data.ptr for array in arrays)
        assert {address % ALIGNMENT for address in addresses} == {0}
        assert np.diff(addresses).min() > 2 * ALIGNMENT

    def test_what_is_not_written_is_nan(self, cupy) -> None:
        x = cupy.empty((3, 2))
        x[...] = 1.0
        address = x.data.ptr
        del x
        again = cupy.empty((2, 3))
        assert again.data.ptr == address
        assert np.isnan(again.get()).all()
        assert cupy.empty(2, np.int32).get().tolist() == [-1, -1]

    def test_an_address_is_that_of_an_array_until_it_is_gone(self, cupy) -> None:
        x = cupy.zeros(10)
        row = x[2:4]
        address = x.data.ptr
        del x
        pool().chunk_at(address, 80)
        with pytest.raises(OutOfBoundsError, match=r"81 bytes at 0x.* are not within an array"):
            pool().chunk_at(address, 81)
        del row
        with pytest.raises(OutOfBoundsError):
            pool().chunk_at(address)

    def test_the_pool_keeps_what_is_freed_and_does_not_grow(self, cupy) -> None:
        memory = cupy.get_default_memory_pool()
        gc.collect()
        memory.free_all_blocks()
        before = memory.total_bytes(), memory.used_bytes()
        for _ in range(5):
            x = cupy.ones(1000) * 2
            assert memory.used_bytes() == before[1] + 8192
            del x
        assert memory.total_bytes() == before[0] + 2 * 8192
        assert memory.free_bytes() == memory.total_bytes() - memory.used_bytes()
        memory.free_all_blocks()
        assert memory.total_bytes() == before[0]

    def test_a_limit(self, cupy) -> None:
        memory = cupy.get_default_memory_pool()
        memory.set_limit(size=memory.total_bytes() + 1000)
        try:
            with pytest.raises(OutOfMemoryError, match=r"Out of memory allocating 8,192 bytes \(allocated so far: "):
                cupy.zeros(1000)
        finally:
            memory.set_limit(size=0)
        with pytest.raises(MemoryError):
            cupy.empty(2**40)


class TestStreams:
    @pytest.fixture
    def streams(self, cupy) -> list[Any]:
        return [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]

    def test_streams_that_do_not_wait_for_each_other_race(self, cupy, streams) -> None:
        with streams[0]:
            x = cupy.ones(3)
        with streams[1]:
            with pytest.raises(
                StreamRaceError, match=r"multiply on the stream \d+ reads memory that the stream \d+ wrote"
            ):
                x * 2
            with pytest.raises(StreamRaceError, match=r"fill on the stream .* writes memory"):
                x[...] = 3

    def test_a_write_to_what_another_stream_reads_races(self, cupy, streams) -> None:
        x = cupy.ones(3)
        cupy.cuda.get_current_stream().synchronize()
        with streams[0]:
            y = x * 2
        with streams[1]:
            assert (x * 3).shape == y.shape  # two readers
            with pytest.raises(StreamRaceError, match=r"writes memory that the stream \d+ reads, without waiting"):
                x[...] = 4

    @pytest.mark.parametrize("how", ["synchronize", "event", "event of the host", "device", "reading"])
    def test_ways_to_wait(self, cupy, streams, how) -> None:
        with streams[0] as stream:
            x = cupy.ones(3)
            event = stream.record()
            if how == "reading":
                x.get()
        if how == "synchronize":
            streams[0].synchronize()
        elif how == "event":
            streams[1].wait_event(event)
        elif how == "event of the host":
            event.synchronize()
        elif how == "device":
            cupy.cuda.Device().synchronize()
        with streams[1]:
            assert (x * 2).get().tolist() == [2, 2, 2]

    def test_the_default_stream_waits_for_blocking_streams(self, cupy) -> None:
        with cupy.cuda.Stream():
            x = cupy.ones(3)
        y = x * 2
        with cupy.cuda.Stream():
            assert (y * 2).get().tolist() == [4, 4, 4]

    def test_the_current_stream_is_a_threads_own(self, cupy, streams) -> None:
        found = []
        with streams[0], cupy.cuda.ExternalStream(streams[1].ptr):
            assert cupy.cuda.get_current_stream().ptr == streams[1].ptr
            thread = threading.Thread(target=lambda: found.append(cupy.cuda.get_current_stream()))
            thread.start()
            thread.join()
        assert found == [cupy.cuda.Stream.null]
        assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null

    def test_memory_goes_back_to_its_stream(self, cupy, streams) -> None:
        with streams[0]:
            address = cupy.ones(3).data.ptr
        with streams[1]:
            assert cupy.ones(3).data.ptr != address
        with streams[0]:
            assert cupy.ones(3).data.ptr == address

    def test_elapsed_time_needs_a_wait(self, cupy) -> None:
        began = cupy.cuda.get_current_stream().record()
        x = cupy.ones(3)
        ended = cupy.cuda.get_current_stream().record()
        with pytest.raises(RuntimeError, match="cudaErrorNotReady"):
            cupy.cuda.get_elapsed_time(began, ended)
        with recorded() as record:
            ended.synchronize()
        assert cupy.cuda.get_elapsed_time(began, ended) > 0
        assert [wait.split()[0] for wait in record.synchronizations] == ["Event.synchronize"]
        assert x.get().tolist() == [1, 1, 1]


class TestDevices:
    def test_two_devices_do_not_mix(self, cupy) -> None:
        x = cupy.ones(3)
        with cupy.cuda.Device(1):
            y = cupy.ones(3)
            with pytest.raises(ValueError, match="Array device must be same as the current device: array device = 0"):
                x * 2
        for mixed in (lambda: x + y, lambda: cupy.concatenate([x, y]), lambda: x.__setitem__(..., y)):
            with pytest.raises(ValueError, match="array device = 1 while current = 0"):
                mixed()
        assert (x.device, y.device, cupy.cuda.Device()) == (
            cupy.cuda.Device(0),
            cupy.cuda.Device(1),
            cupy.cuda.Device(0),
        )

    def test_a_kernel_takes_no_memory_of_another_device(self, cupy) -> None:
        from xpnet_kernels.cuda import sgd_update

        x, gradient, rate = cupy.ones(3), cupy.ones(3), cupy.full(1, 0.5)
        with cupy.cuda.Device(1), pytest.raises(RuntimeError, match="cudaErrorIllegalAddress"):
            sgd_update(x, gradient, rate)

    def test_a_third_device_is_not_there(self, cupy) -> None:
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            cupy.cuda.Device(2).use()


class TestKernels:
    def test_a_kernel_writes_its_array_and_no_more(self, cupy) -> None:
        from xpnet_kernels.cuda import sgd_update

        x, gradient, rate = cupy.ones(1000), cupy.ones(1000), cupy.full(1, 0.5)
        with recorded() as record:
            sgd_update(x, gradient, rate)
        assert record.operations == ["kernel sgd"]
        assert record.synchronizations == []
        assert x.get().tolist() == [0.5] * 1000
        sgd_update(x[:998], cupy.ones(998), rate)
        assert x[996:].get().tolist() == [0, 0, 0.5, 0.5]

    def test_a_product_outside_its_arrays_is_an_error(self, cupy) -> None:
        from cupy.cuda.device import get_cublas_handle
        from cupy_backends.cuda.libs import cublas

        a, one, zero = cupy.ones((3, 3), np.float32), np.ones(1, np.float32), np.zeros(1, np.float32)
        out = cupy.empty((3, 3), np.float32)

        def multiply(rows: int) -> None:
            cublas.gemmEx(
                get_cublas_handle(), 0, 0, 3, rows, 3, one.ctypes.data, a.data.ptr, 0, 3, a.data.ptr, 0, 3,
                zero.ctypes.data, out.data.ptr, 0, 3, 68, -1,
            )  # fmt: skip

        multiply(3)
        assert out.get().tolist() == [[3.0] * 3] * 3
        with pytest.raises(OutOfBoundsError, match="48 bytes at"):
            multiply(4)


def test_after_it_cupy_is_what_it_was() -> None:
    import sys

    inside = sys.modules["cupy"]
    with emulated_cuda():  # nested: nothing changes
        assert sys.modules["cupy"] is inside
    assert sys.modules["cupy"] is inside
