"""xpnet.backends: bringing arrays here, refusing foreign ones, and choosing kernels."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest

import xpnet
from xpnet.backends import ALIGNMENT, NAMES, _CudaKernels


class TestByName:
    @pytest.mark.parametrize("name", ["cpu", "cpu-reference", "float64"])
    def test_the_cpu_backends(self, name) -> None:
        backend = xpnet.backend(name)
        assert (backend.name, backend.synchronous) == (name, True)
        assert backend.dtype == ("float64" if name == "float64" else "float32")
        assert (backend.kernels is not None) == (name == "cpu")

    def test_an_unknown_name_is_refused_with_the_choices(self) -> None:
        with pytest.raises(xpnet.ConfigurationError, match=f"unknown device 'gpu'.* are {', '.join(NAMES)}"):
            xpnet.backend("gpu")

    @pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
    def test_a_wrong_number_of_threads_is_refused(self, monkeypatch, text) -> None:
        monkeypatch.setenv("XPNET_NUM_THREADS", text)
        with pytest.raises(
            xpnet.ConfigurationError, match=f"XPNET_NUM_THREADS must be a whole number .*, not '{text}'"
        ):
            xpnet.backend("cpu")
        assert xpnet.backend("cpu-reference").kernels is None

    def test_cuda_where_it_is_unusable_is_an_error_with_the_reason(self, monkeypatch) -> None:
        monkeypatch.setattr("xpnet.backends.cuda_problem", lambda: "the reason: the cure")
        with pytest.raises(xpnet.BackendError, match="device 'cuda' cannot be used: the reason: the cure"):
            xpnet.backend("cuda")

    def test_auto_is_the_cpu_where_cuda_is_unusable(self, monkeypatch) -> None:
        monkeypatch.setattr("xpnet.backends.cuda_problem", lambda: "a reason")
        assert xpnet.backend("auto").name == xpnet.backend().name == "cpu"

    def test_cuda_lives_on_the_current_device_and_stream(self, monkeypatch) -> None:
        waited = []
        stream = SimpleNamespace(synchronize=lambda: waited.append("stream"), record=lambda: "event")
        cuda = SimpleNamespace(
            Device=lambda: "GPU 0", get_current_stream=lambda: stream, get_elapsed_time=lambda began, ended: 1500.0
        )
        pool = SimpleNamespace(total_bytes=lambda: 7)
        cupy = SimpleNamespace(cuda=cuda, asnumpy=np.asarray, get_default_memory_pool=lambda: pool)
        monkeypatch.setattr("xpnet.backends.cuda_problem", lambda: None)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", SimpleNamespace())
        for name in ("auto", "cuda"):
            backend = xpnet.backend(name)
            assert (backend.name, backend.device, backend.synchronous) == ("cuda", "GPU 0", False)
        backend.synchronize()
        assert waited == ["stream"]
        assert (backend.mark(), backend.seconds_between("began", "ended"), backend.peak_memory()) == ("event", 1.5, 7)

    def test_backends_are_equal_by_name(self) -> None:
        names = ["cpu", "cpu-reference", "float64"]
        assert [[xpnet.backend(a) == xpnet.backend(b) for a in names] for b in names] == np.eye(3, dtype=bool).tolist()
        assert len({xpnet.backend(name) for name in [*names, *names]}) == 3

    def test_a_backend_is_frozen(self, cpu) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            cpu.name = "other"


class TestArrays:
    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float32", "float64"])
    def test_an_array_of_numbers_keeps_its_type_and_values(self, backend, dtype) -> None:
        host = np.array([[0, 1], [1, 0], [1, 1]], dtype)
        array = backend.asarray(host)
        backend.require(array)
        assert array.dtype == getattr(backend.xp, dtype)
        assert backend.to_numpy(array).dtype == host.dtype
        np.testing.assert_array_equal(backend.to_numpy(array), host)

    @pytest.mark.parametrize("value", [3, 2.5, True, [1, 2, 3], [[0.5], [1.5]], np.float32(0.5), np.arange(4)[::2]])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_type_asked_for(self, backend, value, dtype) -> None:
        array = backend.asarray(value, dtype)
        assert array.dtype == getattr(backend.xp, dtype)
        np.testing.assert_array_equal(backend.to_numpy(array), np.asarray(value, dtype))
        again = backend.asarray(array, "float64")
        assert again.dtype == backend.xp.float64
        np.testing.assert_array_equal(backend.to_numpy(again), np.asarray(value, dtype))

    def test_an_array_that_is_here_stays_as_it_is(self, cpu, strict) -> None:
        for backend in (cpu, strict):
            array = backend.asarray([1.0, 2.0], "float32")
            assert backend.asarray(array) is array
            assert backend.asarray(array, "float32") is array

    def test_another_shape_of_the_same_memory(self, backend) -> None:
        array = backend.aligned_zeros(6, "float64")
        backend.reshape(array, (2, 3))[1, 0] = 7.0
        assert backend.to_numpy(array).tolist() == [0, 0, 0, 7, 0, 0]

    def test_fortran_order_and_other_byte_orders(self, backend) -> None:
        fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(fortran)), fortran)
        for dtype in (">f4", ">i2", "<u4"):
            array = backend.to_numpy(backend.asarray(np.array([1, 2, 300]).astype(dtype)))
            assert array.dtype.isnative
            assert array.tolist() == [1, 2, 300]

    @pytest.mark.parametrize("value", [np.array(["a"]), np.array([None]), np.array([1j]), None, "text"], ids=repr)
    def test_arrays_of_other_things_than_numbers_are_refused(self, backend, value) -> None:
        with pytest.raises(xpnet.DTypeError, match="expected numbers, got an array of"):
            backend.asarray(value)

    def test_to_numpy_shares_memory_on_the_cpu(self, cpu) -> None:
        array = cpu.asarray([1.0, 2.0])
        assert np.shares_memory(cpu.to_numpy(array), array)

    def test_a_backend_owns_its_own_arrays_alone(self, backend, strict) -> None:
        own = backend.asarray([1.0])
        assert backend.owns(own)
        backend.require(own)
        backend.synchronize()
        host = array_api_strict.asarray([1.0])  # on the other device of the same library
        for foreign in (host, [1.0], 1.0, None):
            assert not backend.owns(foreign)

    def test_a_foreign_array_names_both_sides_and_the_mending_call(self, cpu, strict) -> None:
        mend = r"copy it to the host with its own backend's to_numpy, then call model\.backend\.asarray"
        there = strict.asarray([1.0])
        for refuse in (cpu.require, cpu.asarray):
            with pytest.raises(
                xpnet.BackendError, match=rf"got a array_api_strict\.Array on .*device1.* backend 'cpu': {mend}"
            ):
                refuse(there)
        for refuse in (strict.require, strict.asarray):
            with pytest.raises(xpnet.BackendError, match=rf"array_api_strict\.Array on .*CPU_DEVICE.*'strict': {mend}"):
                refuse(array_api_strict.asarray([1.0]))

    @pytest.mark.parametrize(("value", "name"), [(np.zeros(2), "numpy.ndarray on cpu"), ([1.0], "builtins.list")])
    def test_a_host_array_is_mended_by_asarray(self, strict, value, name) -> None:
        message = f"got a {name}, but this model lives on backend 'strict': call model.backend.asarray"
        with pytest.raises(xpnet.BackendError, match=message):
            strict.require(value)
        strict.require(strict.asarray(value))


class TestMemory:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("count", [0, 1, 7, 1000])
    def test_aligned_zeros(self, backend, count, dtype) -> None:
        array = backend.aligned_zeros(count, dtype)
        backend.require(array)
        assert (tuple(array.shape), array.dtype) == ((count,), getattr(backend.xp, dtype))
        assert not backend.to_numpy(array).any()
        array[...] = 3.0
        assert backend.to_numpy(array).sum() == 3.0 * count

    def test_aligned_zeros_start_on_a_boundary(self, cpu) -> None:
        arrays = [cpu.aligned_zeros(count, "float32") for count in range(1, 40)]
        assert {array.ctypes.data % ALIGNMENT for array in arrays} == {0}
        assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays)

    @pytest.mark.parametrize("name", ["cpu", "cpu-reference", "float64"])
    def test_ignoring_overflow(self, name) -> None:
        with xpnet.backend(name).ignoring_overflow():  # a warning would be an error here
            huge = np.array([1e308]) * 10.0
            assert np.isnan(huge - huge)


class TestKernels:
    @pytest.fixture
    def fused(self, cpu):
        return dataclasses.replace(cpu, kernels=SimpleNamespace(square=np.square))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_kernel_takes_contiguous_floating_point_arrays(self, fused, dtype) -> None:
        array = np.ones((3, 4), dtype)
        assert fused.kernel("square", array) is np.square
        assert fused.kernel("square", array, array[1], array[1:]) is np.square
        array.flags.writeable = False
        assert fused.kernel("square", array) is np.square

    @pytest.mark.parametrize(
        "array", [np.ones(3, np.float16), np.ones(3, int), np.ones((3, 4)).T, np.ones(4)[::2], np.ones(3, ">f4")]
    )
    def test_arrays_of_other_types_and_layouts_get_no_kernel(self, fused, array) -> None:
        assert fused.kernel("square", np.ones(3), array) is None

    def test_an_unknown_kernel_is_none(self, fused, cpu) -> None:
        assert fused.kernel("cube", np.ones(3)) is None
        assert cpu.kernel("no such kernel", np.ones(3)) is None

    def test_other_backends_have_no_kernels(self, strict, reference) -> None:
        for backend in (strict, reference):
            assert backend.kernel("softmax_cross_entropy", backend.asarray([[1.0]])) is None

    def test_the_cpu_has_its_kernels(self, cpu) -> None:
        for name in ("softmax_cross_entropy", "gather", "sgd_update", "momentum_update", "adam_update"):
            assert callable(cpu.kernel(name, np.ones((1, 1), np.float32)))

    def test_cuda_kernels_are_launched_on_the_current_stream(self, monkeypatch) -> None:
        import xpnet_kernels.cuda

        launches, stream = [], SimpleNamespace(ptr=41)
        cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
        kernels = _CudaKernels(cupy)
        monkeypatch.setattr(
            xpnet_kernels.cuda, "sgd_update", lambda *args, **keywords: launches.append((args, keywords)), raising=False
        )
        kernels.sgd_update("values", finite=None)
        stream.ptr = 42
        kernels.sgd_update("values")
        assert launches == [(("values",), {"stream": 41, "finite": None}), (("values",), {"stream": 42})]
        assert getattr(kernels, "no_such_kernel", None) is None


class TestRange:
    def test_indices_in_range_are_accepted(self, backend) -> None:
        backend.require_in_range(backend.asarray([0, 9, 5]), 10, "label")
        backend.require_in_range(backend.asarray(np.zeros(0, np.int64)), 10, "label")

    def test_the_first_offender_is_named_where_reads_are_free(self, backend) -> None:
        indices = backend.asarray(np.array([3, 10, 255], np.uint8))
        if not backend.synchronous:
            backend.require_in_range(indices, 10, "label")  # would wait for the device: says nothing
            return
        with pytest.raises(xpnet.errors.OutOfRangeError, match="label 10 at row 1 is outside 0 to 9"):
            backend.require_in_range(indices, 10, "label")
        with pytest.raises(IndexError, match="row index -1 at row 0 is outside 0 to 299"):
            backend.require_in_range(backend.asarray([-1, 300]), 300, "row index")
        backend.require_in_range(indices, 300, "label")  # more classes than a byte counts
