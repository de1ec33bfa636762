"""Methods of every backend: converting arrays, refusing foreign ones, scalars, indices, and choosing kernels."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet
from xpnet.backends import ALIGNMENT, Backend


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

    def test_asarray_does_not_copy_its_own_arrays(self, cpu, strict) -> None:
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
        import array_api_strict

        own = backend.asarray([1.0])
        assert backend.owns(own)
        backend.require(own)
        backend.synchronize()
        host = array_api_strict.asarray([1.0])  # on the other device of the same library
        for foreign in (host, [1.0], 1.0, None):
            assert not backend.owns(foreign)

    def test_the_error_for_a_foreign_array_names_both_backends_and_the_remedy(self, cpu, strict) -> None:
        import array_api_strict

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
    def test_the_error_for_a_host_array_suggests_asarray(self, strict, value, name) -> None:
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


class TestScalars:
    """The same calls on Python numbers and on 0-d arrays."""

    def test_export_and_import_keep_the_numbers(self, backend) -> None:
        vector = backend.aligned_zeros(3, "float64")
        backend.assign(vector, [1.5, 2, backend.scalar(backend.asarray(2.5, "float64"))])
        first, second, third = backend.numbers(vector)
        backend.assign(vector, [first + second, third * 2, first])
        assert backend.to_numpy(vector).tolist() == [3.5, 5.0, 1.5]

    @pytest.mark.parametrize("holds", [True, False])
    def test_select(self, backend, holds) -> None:
        conditions = [holds, backend.scalar(backend.asarray(3.0 if holds else -3.0, "float64")) > 0]
        for condition in conditions:
            assert float(backend.select(condition, 1, backend.scalar(backend.asarray(2.0)))) == (1 if holds else 2)
            vector = backend.aligned_zeros(2, "float64")
            backend.assign(vector, backend.select(condition, [1.0, 2.0], [3.0, 4.0]))
            assert backend.to_numpy(vector).tolist() == ([1.0, 2.0] if holds else [3.0, 4.0])

    @pytest.mark.parametrize(("value", "finite"), [(1e300, True), (np.inf, False), (-np.inf, False), (np.nan, False)])
    def test_what_is_not_finite_fills(self, backend, value, finite) -> None:
        condition = backend.is_finite(backend.scalar(backend.asarray(value, "float64")))
        assert bool(condition) == finite
        target = backend.aligned_zeros(1, "int32")
        backend.fill_unless(condition, target, 1)
        assert target.dtype == backend.xp.int32
        assert backend.to_numpy(target).tolist() == [0 if finite else 1]


class TestTake:
    @pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 2, 3)])
    def test_rows(self, backend, shape) -> None:
        rows = np.arange(np.prod(shape)).reshape(shape)
        taken = backend.take(backend.asarray(rows), backend.asarray([3, 0, 3]), "float32")
        assert taken.dtype == backend.xp.float32
        np.testing.assert_array_equal(backend.to_numpy(taken), rows[[3, 0, 3]])

    def test_a_row_that_is_not_there(self, backend, cpu) -> None:
        rows, indices = backend.asarray([[1.0], [2.0]]), backend.asarray([1, 2, -1])
        if isinstance(backend, type(cpu)):
            with pytest.raises(xpnet.OutOfRangeError, match="row index 2 at row 1 is outside 0 to 1"):
                backend.take(rows, indices, "float64")
        else:
            taken = backend.to_numpy(backend.take(rows, indices, "float64"))
            np.testing.assert_array_equal(taken, [[2.0], [np.nan], [np.nan]])


class TestRange:
    def test_indices_in_range_are_accepted(self, backend) -> None:
        for indices in ([0, 9, 5], np.zeros(0, np.int64)):
            first = backend.require_in_range(backend.asarray(indices), 10, "label")
            assert first is None if backend.synchronous else float(first) == -1.0

    def test_the_first_bad_index_is_raised_or_returned_for_the_report(self, backend) -> None:
        indices = backend.asarray(np.array([3, 10, 255], np.uint8))
        assert backend.require_in_range(indices, 300, "label") is None or not backend.synchronous
        if not backend.synchronous:
            assert float(backend.require_in_range(indices, 10, "label")) == 1.0
            return
        with pytest.raises(xpnet.errors.OutOfRangeError, match="label 10 at row 1 is outside 0 to 9"):
            backend.require_in_range(indices, 10, "label")
        with pytest.raises(IndexError, match="row index -1 at row 0 is outside 0 to 299"):
            backend.require_in_range(backend.asarray([-1, 300]), 300, "row index")


class TestCopies:
    def test_copies_are_the_backend(self, backend) -> None:
        assert copy.deepcopy(backend) is copy.copy(backend) is backend

    @pytest.mark.parametrize("name", ["cpu", "cpu-reference", "float64"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_pickle_keeps_the_name_and_the_type_of_parameters(self, name, dtype) -> None:
        backend = dataclasses.replace(xpnet.backend(name), dtype=dtype)
        pickled = pickle.dumps(backend)
        assert pickle.loads(pickled) == backend
        assert len(pickled) < 200

    def test_a_pickle_of_the_callers_own(self, strict) -> None:
        with pytest.raises(
            xpnet.BackendError,
            match=r"only the backends that .* returns can be pickled, not 'strict'",
        ):
            pickle.dumps(strict)

    def test_a_namespace_needs_no_class_of_its_own(self) -> None:
        """PyTorch's or another's: here NumPy's, as a device that waits for nobody."""
        device = Backend("mine", np, "cpu")
        result = xpnet.ops.softmax_cross_entropy(device, np.zeros((2, 3)), np.array([0, 7]))
        assert np.isnan(result.loss)
        assert float(result.bad_row) == 1.0
