"""Pickles that people have: the books' own file, and what Python 2 and 3 write."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.book_pickle.conftest import ARRAY, PYTHON_2, QUICK, named, read, state
from xpnet.book_pickle import read_book_pickle, sigmoid_network_shapes

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
# Of the arrays in the books' file, as Python's own unpickler gives them: little-endian, in C order.
DIGESTS = {
    "W1": "2d0714ca8d07d756",
    "W2": "10bbf55337dc7d2a",
    "W3": "fdcf773d0e9734a3",
    "b1": "44a9e3f961c33cd7",
    "b2": "6384406e92d5fe32",
    "b3": "9e4452c9a0a7589e",
}


@pytest.fixture
def sample_weight() -> Path:
    if "XPNET_DATA_DIR" not in os.environ:
        pytest.skip("XPNET_DATA_DIR is not set: the books' weights are not at hand")
    return Path(os.environ["XPNET_DATA_DIR"], "weights", "sample_weight.pkl")


def test_the_books_own_file(sample_weight: Path) -> None:
    digest = "b7f55a27988ba34c3777b0f1bbd464817c8a4db855723e6ff26f703501917a13"
    assert hashlib.sha256(sample_weight.read_bytes()).hexdigest() == digest
    weights = read_book_pickle(sample_weight)
    assert {name: array.shape for name, array in weights.items()} == {
        "b2": (100,),
        "W1": (784, 50),
        "b1": (50,),
        "W2": (50, 100),
        "W3": (100, 10),
        "b3": (10,),
    }
    for name, array in weights.items():
        assert hashlib.sha256(array.astype("<f4").tobytes()).hexdigest().startswith(DIGESTS[name])
    for array in weights.values():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert sigmoid_network_shapes(weights) == [784, 50, 100, 10]


@pytest.mark.parametrize("written", PYTHON_2)
def test_pickles_of_python_2(path: Path, written: str) -> None:
    weights = read(path, PYTHON_2[written])
    assert weights.keys() == {"W1", "b1", "i", "n"}
    np.testing.assert_array_equal(weights["W1"], np.array([[0.5, -1.25], [3, 1e-30]], np.float32), strict=True)
    np.testing.assert_array_equal(weights["b1"], np.array([-0.0, 2.0]), strict=True)
    np.testing.assert_array_equal(weights["i"], np.array([[-1]], np.int64), strict=True)
    np.testing.assert_array_equal(weights["n"], np.array([10, 92, 39, 34, 255], np.uint8), strict=True)
    assert np.signbit(weights["b1"][0])


def test_unicode_keys_of_python_2(path: Path) -> None:
    for key in (b"VW1\n", b"X\x02\x00\x00\x00W1"):
        assert read(path, b"(d" + key + ARRAY + state() + b"s.").keys() == {"W1"}


def test_sizes_that_python_2_wrote_as_long_integers(path: Path) -> None:
    for size in (b"L1L\n", b"\x8a\x01\x01"):
        assert read(path, named(ARRAY + state(shape=size + b"\x85")))["W1"].shape == (1,)


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from("<>")) + draw(st.sampled_from(DTYPES)))
    array = draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    return draw(st.sampled_from([np.ascontiguousarray, np.asfortranarray]))(array) if array.ndim else array


@QUICK
@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), weights(), min_size=1, max_size=4),
    st.sampled_from([3, 4]),
)
def test_what_python_3_pickles_comes_back(path: Path, saved: dict[str, np.ndarray], protocol: int) -> None:
    loaded = read(path, pickle.dumps(saved, protocol))
    assert loaded.keys() == saved.keys()
    for name, array in saved.items():
        native = np.array(array, array.dtype.newbyteorder("="), order="C")
        assert loaded[name].dtype == native.dtype
        assert loaded[name].shape == native.shape
        assert loaded[name].tobytes() == native.tobytes()
        assert loaded[name].flags.c_contiguous
        assert loaded[name].flags.writeable
        assert loaded[name].dtype.isnative


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_hundred_arrays(path: Path, protocol: int) -> None:
    saved = {f"W{i}": np.full((2, 3), i, np.float32) for i in range(100)}
    weights = read(path, pickle.dumps(saved, protocol))
    assert weights.keys() == saved.keys()
    assert all((weights[name] == array).all() for name, array in saved.items())


def test_both_names_of_numpys_private_package(path: Path) -> None:
    for package in (b"numpy.core", b"numpy._core"):
        weights = read(path, named(ARRAY.replace(b"numpy.core", package) + state()))
        assert weights["W1"].tobytes() == b"abcd"


def test_an_array_under_two_names_is_two_arrays(path: Path) -> None:
    bias = np.arange(3.0)
    weights = read(path, pickle.dumps({"b1": bias, "b2": bias}, protocol=3))
    weights["b1"][:] = 7.0
    assert weights["b2"].tolist() == [0.0, 1.0, 2.0]
