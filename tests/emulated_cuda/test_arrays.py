"""The stand-in's arrays differ from NumPy's where CuPy's do."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.emulated_cuda import recorded
from tests.emulated_cuda.operators import FUNCTIONS

MISSING = importlib.util.find_spec("cupy") is None


HOST = np.arange(6, dtype=np.float32).reshape(2, 3)


class TestTransfers:
    @pytest.mark.parametrize(
        "mixed",
        [np.asarray, np.array, list, lambda x: np.array([x[0, 0], x[0, 1]])],
        ids=["asarray", "array", "list", "elements"],
    )
    def test_numpy_gets_no_array_by_itself(self, cupy, mixed) -> None:
        with pytest.raises(
            TypeError, match=r"Implicit conversion to a NumPy array is not allowed. Please use `.get\(\)`"
        ):
            np.asarray(mixed(cupy.asarray(HOST)))

    @pytest.mark.parametrize(
        "mixed",
        [
            lambda x: x + HOST,
            lambda x: HOST + x,
            lambda x: np.add(HOST, x),
            lambda x: np.add(x, x, out=np.zeros((2, 3))),
            lambda x: x == HOST,
            lambda x: x > HOST,
            lambda x: x @ HOST.T,
            lambda x: x.__iadd__(HOST),
            lambda x: x.__add__([1.0]),
            lambda x: x == None,  # noqa: E711
        ],
    )
    def test_arrays_on_the_host_are_not_taken(self, cupy, mixed) -> None:
        with pytest.raises(TypeError, match="Unsupported type"):
            mixed(cupy.asarray(HOST))

    def test_an_array_on_the_host_is_not_assigned(self, cupy) -> None:
        x = cupy.zeros((2, 3))
        with pytest.raises(ValueError, match=r"non-scalar numpy.ndarray cannot be used for fill"):
            x[...] = HOST
        with pytest.raises(TypeError, match="Unsupported type"):
            x[0] = [1, 2, 3]

    def test_numpy_functions_of_arrays_on_the_device_stay_there(self, cupy) -> None:
        x = cupy.asarray(HOST)
        for result in (np.sqrt(x), np.float32(2) * x, 2 * x, np.concatenate([x, x]), np.sum(x)):
            assert type(result) is cupy.ndarray

    def test_copies_from_the_host_are_counted(self, cupy) -> None:
        with recorded() as record:
            x = cupy.asarray(HOST)
            cupy.asarray(x)
            cupy.asarray(3.5)
            x[np.array([0, 1])]
        assert record.operations == ["to device", "fill", "to device", "take"]
        assert [place.rpartition(":")[0] for place in record.transfers] == ["emulated_cuda/test_arrays.py"] * 2
        assert record.synchronizations == []


class TestSynchronizations:
    def test_results_of_reductions_and_indices_stay_on_the_device(self, cupy) -> None:
        x = cupy.asarray(HOST)
        with recorded() as record:
            for scalar in (x[1, 2], x.sum(), cupy.max(x), x[1, 2] * 2 + 1):
                assert type(scalar) is cupy.ndarray
                assert scalar.shape == ()
        assert record.synchronizations == []
        assert record.operations == ["sum", "max", "multiply", "add"]

    @pytest.mark.parametrize(
        ("name", "read"),
        [
            ("float", float),
            ("int", int),
            ("bool", bool),
            ("bool", lambda x: x == 5 and 1),
            ("index", lambda x: range(x.astype(int))),
            ("item", lambda x: x.item()),
            ("get", lambda x: x.get()),
            ("str", str),
            ("repr", repr),
            ("format", lambda x: f"{x:.2f}"),
            ("tolist", lambda x: x.tolist()),
            ("pickle", pickle.dumps),
        ],
    )
    def test_reading_a_value_waits(self, cupy, name, read) -> None:
        x = cupy.asarray(HOST)[1, 2]
        with recorded() as record:
            read(x)
        assert [wait.split()[0] for wait in record.synchronizations] == [name]
        assert record.operations[-1] == "to host"

    def test_asnumpy_waits_and_copies(self, cupy) -> None:
        x = cupy.asarray(HOST)
        with recorded() as record:
            copied = cupy.asnumpy(x)
        copied[...] = 0
        assert cupy.asnumpy(x).tolist() == HOST.tolist()
        assert len(record.synchronizations) == 1

    @pytest.mark.parametrize("mask", [HOST > 2, [True, False]])
    def test_a_mask_waits(self, cupy, mask) -> None:
        x, mask = cupy.asarray(HOST), cupy.asarray(mask)
        expected = HOST.copy()
        with recorded() as record:
            selected = x[mask]
            x[mask] = selected
            x[mask] = 7
        assert len(record.synchronizations) == 3
        expected[mask.get()] = 7
        assert x.get().tolist() == expected.tolist()

    def test_array_api_compat_clips_with_masks(self, cupy) -> None:
        import array_api_compat.cupy as xp

        with recorded() as record:
            clipped = xp.clip(xp.asarray(HOST), 1.0, 3.0)
        assert len(record.synchronizations) == 4
        np.testing.assert_array_equal(clipped.get(), np.clip(HOST, 1, 3))


class TestIndices:
    def test_indices_outside_wrap_around(self, cupy) -> None:
        x, places = cupy.asarray(HOST), cupy.asarray([2, -3, 5])
        np.testing.assert_array_equal(x[places].get(), HOST[[0, 1, 1]])
        np.testing.assert_array_equal(cupy.take(x, places, axis=0).get(), HOST[[0, 1, 1]])
        np.testing.assert_array_equal(x[:, places].get(), HOST[:, [2, 0, 2]])
        np.testing.assert_array_equal(x[cupy.asarray([3, 0]), cupy.asarray([-4, 1])].get(), HOST[[1, 0], [2, 1]])
        x[places] = 9.0
        assert x.get().tolist() == [[9, 9, 9]] * 2

    @pytest.mark.parametrize(
        "key",
        [0, -1, slice(1, None), (0, 1), (..., None, 2), (slice(None, None, -1), 1), np.int64(1), (None, 0), ...],
    )  # fmt: skip
    def test_views_are_free_and_share_the_memory(self, cupy, key) -> None:
        x = cupy.asarray(HOST)
        with recorded() as record:
            seen = x[key]
        assert record.operations == []
        np.testing.assert_array_equal(seen.get(), HOST[key])
        seen[...] = -1.0
        expected = HOST.copy()
        expected[key] = -1.0
        np.testing.assert_array_equal(x.get(), expected)

    def test_an_index_of_the_host_that_is_outside_raises(self, cupy) -> None:
        with pytest.raises(IndexError):
            cupy.asarray(HOST)[2]
        with pytest.raises(IndexError, match="integer or boolean"):
            cupy.asarray(HOST)[cupy.asarray([0.5])]


class TestArithmetic:
    def test_types_are_numpys(self, cupy) -> None:
        x, scalar = cupy.asarray(HOST), cupy.asarray(HOST).sum(dtype=np.float64)
        assert (x * 2.5).dtype == (2.5 * x).dtype == (x * np.float32(2)).dtype == np.float32
        assert (x * scalar).dtype == (x * np.float64(2)).dtype == np.float64
        x += scalar
        assert x.dtype == np.float32
        with pytest.raises(TypeError, match="casting rule"):
            cupy.ones(2, dtype=np.int64).__iadd__(0.5)

    def test_overflow_does_not_warn(self, cupy) -> None:
        x = cupy.asarray([1e308, 0.0]) * 10
        assert np.isnan((x - x)[0].get())
        assert (1 / x).get().tolist() == [0.0, np.inf]

    def test_copies(self, cupy) -> None:
        x = cupy.asarray(HOST)
        with recorded() as record:
            for same in (copy.copy(x), copy.deepcopy(x), x.T.reshape(6), x.ravel(), x.astype(np.float32, copy=False)):
                same[...] = same
        assert record.operations == ["copy"] * 3
        assert (x.ravel().data.ptr, x.T.reshape(6).data.ptr == x.data.ptr) == (x.data.ptr, False)

    def test_another_shape_without_a_copy(self, cupy) -> None:
        x = cupy.asarray(HOST)
        same = x.view()
        same.shape = (3, -1)
        assert (same.shape, x.shape, same.data.ptr) == ((3, 2), (2, 3), x.data.ptr)

    def test_concatenating_copies_each_or_sends_a_list_of_addresses(self, cupy) -> None:
        rows = [cupy.asarray(row) for row in np.arange(18.0).reshape(9, 2)]
        for count, operations in ((8, ["copy"] * 8), (9, ["to device", "concatenate"])):
            with recorded() as record:
                stacked = cupy.stack(rows[:count])
            assert record.operations == operations
            assert stacked.get().tolist() == np.arange(18.0).reshape(9, 2)[:count].tolist()

    @pytest.mark.parametrize("function", ["where", "sum", "take", "matmul"])
    def test_functions_are_numpys(self, cupy, function) -> None:
        x = cupy.asarray(HOST)
        arguments = {"where": (x > 2, x, 1), "sum": (x, 0), "take": (x, cupy.asarray([1]), 1), "matmul": (x, x.T)}
        given = [value.get() if isinstance(value, cupy.ndarray) else value for value in arguments[function]]
        result = getattr(cupy, function)(*arguments[function])
        np.testing.assert_array_equal(result.get(), getattr(np, function)(*given))


def test_every_name_is_one_of_cupys() -> None:
    """Read from the real library, without a GPU; nothing is called."""
    if MISSING:
        pytest.skip("CuPy is not installed")
    code = "import cupy, sys; print([name for name in sys.argv[1:] if not hasattr(cupy, name)])"
    command = [sys.executable, "-c", code, *sorted(FUNCTIONS)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "[]"
