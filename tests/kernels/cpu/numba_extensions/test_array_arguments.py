"""The custom unboxer reads of an array what NumPy says of it, and rejects everything else."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xpnet_kernels
from numba import njit
from xpnet_kernels import cpu
from xpnet_kernels.cpu import check_finite, sgd_update
from xpnet_kernels.cpu.numba_extensions import simd
from xpnet_kernels.cpu.numba_extensions.array_arguments import _check_array_object
from xpnet_kernels.cpu.numba_extensions.compilation import (
    INNER,
    InBytes,
    InDoubles,
    InFlags,
    InIntegers,
    InMatrix,
    InVector,
    OutDoubles,
    OutMatrix,
    kernel,
)

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


@njit(**INNER)
def _report_matrix(matrix: Any, report: Any) -> None:
    report[0], report[1] = matrix.shape
    report[2], report[3] = matrix.strides
    report[4] = 0.0
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            report[4] += (7 * i + j + 1) * matrix[i, j]


@kernel
def of_matrix(matrix: InMatrix, report: OutDoubles) -> None:
    _report_matrix(matrix, report)


@kernel
def of_bytes(matrix: InBytes, report: OutDoubles) -> None:
    _report_matrix(matrix, report)


@kernel
def of_written_matrix(matrix: OutMatrix) -> None:
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            matrix[i, j] = 10 * i + j


@njit(**INNER)
def _last(vector: Any) -> float:
    return float(vector[vector.size - 1]) if vector.size > 0 else 0.0


@kernel
def of_vectors(reals: InVector, doubles: InDoubles, integers: InIntegers, flags: InFlags, report: OutDoubles) -> None:
    report[0], report[2], report[4], report[6] = reals.size, doubles.size, integers.size, flags.size
    report[1], report[3] = _last(reals), _last(doubles)
    report[5], report[7] = _last(integers), _last(flags)


BASE = np.arange(240).reshape(12, 20)
VIEWS = {
    "whole": lambda a: a,
    "part": lambda a: a[3:7, 5:11],
    "every other": lambda a: a[::3, ::2],
    "backwards": lambda a: a[::-1, ::-1],
    "transposed": lambda a: a.T,
    "one row": lambda a: a[4:5],
    "one row for all": lambda a: np.broadcast_to(a[2], (5, 20)),
    "no row": lambda a: a[:0],
    "no column": lambda a: a[:, :0],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"." + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "of a type made elsewhere": lambda a: a.astype(a.dtype.newbyteorder("=")),
    "with a remark on its type": lambda a: a.astype(np.dtype(a.dtype, metadata={"unit": "m"})),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_a_matrix_is_read_as_numpy_reads_it(view, dtype):
    matrix, report = VIEWS[view](BASE.astype(dtype)), np.zeros(5)
    of_bytes[SINGLE](matrix, report) if dtype == "uint8" else of_matrix[matrix.dtype](matrix, report)
    weights = 7 * np.arange(matrix.shape[0])[:, None] + np.arange(matrix.shape[1]) + 1
    assert report.tolist() == [*matrix.shape, *matrix.strides, (weights * matrix).sum(dtype=np.float64)]


@pytest.mark.parametrize("view", ["whole", "part", "every other", "backwards", "transposed"])
def test_a_matrix_is_written_where_it_lies(view):
    whole = np.full((12, 20), -1.0)
    written = VIEWS[view](whole)
    of_written_matrix[DOUBLE](written)
    np.testing.assert_array_equal(written, 10.0 * np.arange(written.shape[0])[:, None] + np.arange(written.shape[1]))
    assert (whole == -1).sum() == whole.size - written.size


@pytest.mark.parametrize("real", [SINGLE, DOUBLE])
def test_vectors_of_every_type(real):
    vectors = [np.array([1, 2, 3], real), np.array([4.0]), np.array([5, 6]), np.array([7, 8], np.int32)]
    report = np.zeros(8)
    of_vectors[real](*vectors, report)
    assert report.tolist() == [3, 3, 1, 4, 2, 6, 2, 8]
    vectors[2] = np.empty(0, np.int64)
    of_vectors[real](*vectors, report)
    assert report.tolist() == [3, 3, 1, 4, 0, 0, 2, 8]


class Liar(np.ndarray):
    """An array that says it has elements twice as wide as it has."""

    dtype = DOUBLE


class Mask(int):
    """A number that says it is an array."""

    __class__ = np.ndarray  # type: ignore[assignment]
    dtype, ndim = DOUBLE, 2


REFUSED = {
    "nothing": lambda a: None,
    "a number": lambda a: 3.0,
    "a list": lambda a: a.tolist(),
    "text": lambda a: "array",
    "a type": lambda a: np.ndarray,
    "a number of NumPy's": lambda a: a[0, 0],
    "no dimension": lambda a: np.array(1.0, a.dtype),
    "one dimension": lambda a: a[0],
    "three dimensions": lambda a: a[None],
    "other reals": lambda a: a.astype("float64" if a.dtype == SINGLE else "float32"),
    "integers of that size": lambda a: a.view(f"int{8 * a.itemsize}"),
    "the other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "objects": lambda a: a.astype(object),
    "a matrix of NumPy's": lambda a: a.view(np.matrix),
    "masked": np.ma.masked_array,
    "a weak reference": lambda a: weakref.proxy(np.array(a)),
    "a number in disguise": lambda a: Mask(2**62),
    "an array in disguise": lambda a: np.ones((2, 2), "float32" if a.dtype == DOUBLE else "float64").view(Liar),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("real", [SINGLE, DOUBLE])
def test_anything_but_such_a_matrix_is_rejected(name, real):
    report = np.full(5, 9.0)
    with pytest.raises(TypeError, match=f"expected a {real} array of 2 dimension"):
        of_matrix[real](REFUSED[name](BASE.astype(real)), report)
    assert (report == 9).all()


def test_vectors_are_contiguous_and_outputs_writable():
    good = [np.ones(4), np.ones(4), np.ones(4, np.int64), np.ones(4, np.int32)]
    for place, dtype in enumerate(("float64", "float64", "int64", "int32")):
        apart = [*good[:place], np.ones(8, dtype)[::2], *good[place + 1 :]]
        with pytest.raises(TypeError, match=f"expected a contiguous {dtype} array of 1 dimension"):
            of_vectors[DOUBLE](*apart, np.zeros(8))
    report = np.zeros(8)
    report.flags.writeable = False
    with pytest.raises(TypeError, match="expected a contiguous writable float64 array of 1 dimension"):
        of_vectors[DOUBLE](*good, report)
    matrix = np.zeros((2, 2))
    matrix.flags.writeable = False
    with pytest.raises(TypeError, match="expected a writable float64 array of 2 dimension"):
        of_written_matrix[DOUBLE](matrix)
    assert not report.any()
    assert not matrix.any()


def test_overridden_attributes_of_an_array_are_not_used():
    """An update that trusted them would write past the end; a rejected update must raise."""
    liar = np.ones(8, np.float32).view(Liar)
    with pytest.raises(TypeError, match=r"expected a contiguous writable float64 array of 1 .*, not a Liar"):
        sgd_update(liar, np.ones(8), np.array([0.5]))
    with pytest.raises(TypeError, match=r"expected a contiguous float64 array of 1 .*, not a Liar"):
        check_finite(liar, np.ones(1, np.int32))
    assert (np.asarray(liar) == 1).all()


@pytest.mark.parametrize("make", [np.asarray, lambda a: np.asarray(a).view(np.memmap), lambda a: "no array"])
def test_no_reference_is_leaked(make):
    matrix, report = make(np.ones((2, 2))), np.zeros(5)

    def call() -> None:
        with suppress(TypeError):
            of_matrix[DOUBLE](matrix, report)

    call()
    checks = [thing for thing in gc.get_referrers(_check_array_object) if type(thing) is partial]
    watched = [matrix, report, np.ndarray, DOUBLE, None, *checks]
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(1000):
        call()
    after = [sys.getrefcount(thing) for thing in watched]
    assert all(abs(late - early) < 100 for early, late in zip(before, after, strict=True))
    assert checks or make is np.asarray


def test_code_from_the_cache_knows_arrays_of_another_process(tmp_path):
    """Addresses differ between processes; the second loads what the first has compiled."""
    code = """if True:
        import numpy as np, numba
        from xpnet_kernels.cpu import sgd_update
        from xpnet_kernels.cpu._sgd_update import _sgd
        values = np.ones(3, np.float32)
        sgd_update(values, values.copy(), np.array([0.5]))
        try:
            _sgd[values.dtype](*[np.ones(3)] * 5)
        except TypeError as error:
            print(values.tolist(), error)
    """
    folders = os.pathsep.join([str(Path(xpnet_kernels.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": folders}
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        refusal = "expected a contiguous writable int64 array of 1 dimension(s), not a ndarray"
        assert result.stdout == f"[0.5, 0.5, 0.5] {refusal}\n"
    assert list(tmp_path.rglob("*_sgd*.nbc"))


@pytest.mark.parametrize("dtype", ["float16", "int64", "complex64", "object"])
def test_element_types_that_no_kernel_has_are_named(dtype):
    logits, out = np.ones((4, 3), dtype), {"summary": np.empty(4), "losses": np.empty(4, np.float32)}
    with pytest.raises(TypeError, match=f"logits must be float32 or float64, not {dtype}"):
        cpu.softmax_cross_entropy(logits, np.arange(3).repeat(2)[:4], **out)
    with pytest.raises(TypeError, match=f"x must be float32 or float64, not {dtype}"):
        cpu.linear(logits, logits.T, logits[0], None, np.empty((4, 4), np.float32))
    with pytest.raises(TypeError, match=f"out must be float32 or float64, not {dtype}"):
        cpu.gather(np.ones((4, 3), np.uint8), np.arange(4), 1, logits)


ONES = np.ones((4, 4), np.float32)
CALLS = {
    "adam_update": lambda: cpu.adam_update(*ONES.copy(), np.ones(7)),
    "check_finite": lambda: cpu.check_finite(ONES[0], np.ones(1, np.int32)),
    "gather": lambda: cpu.gather(np.ones((4, 4), np.uint8), np.arange(4), 1, ONES.copy()),
    "linear": lambda: cpu.linear(ONES, ONES[:, :1].copy(), ONES[0, :1], None, ONES[:, :1].copy()),
    "linear_backward": lambda: cpu.linear_backward(
        ONES[:, :1].copy(), ONES, None, ONES[:, :1].copy(), None, ONES[:, :1].copy(), np.ones(1, np.float32), None
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_errors_are_not_taken_for_an_invalid_argument(name, monkeypatch):
    """Such an error must reach the caller, not select the general path."""

    def broken(*arguments: Any) -> bool:
        raise ValueError("XPNET_NUM_THREADS is wrong")

    CALLS[name]()
    monkeypatch.setattr("xpnet_kernels.cpu.threads.team.Team.run", broken)
    if simd.LANES or not name.startswith("linear"):
        with pytest.raises(ValueError, match="XPNET_NUM_THREADS is wrong"):
            CALLS[name]()
