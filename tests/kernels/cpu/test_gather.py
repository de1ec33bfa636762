"""A gathered and divided batch is, bit for bit, what NumPy's indexing and division give."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels import cpu

RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 256, (50, 37)).astype(np.uint8)
ALL_PIXELS = np.arange(256, dtype=np.uint8).reshape(1, 256)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index_dtype", [np.int64, np.int32, np.uint8, np.uint64])
@pytest.mark.parametrize("divisor", [255, 16, 1, 0.3])
def test_gather(dtype, index_dtype, divisor):
    for rows, positions in ((ROWS, RNG.integers(0, 50, 23)), (ALL_PIXELS, np.zeros(3)), (ROWS, np.empty(0))):
        rows.flags.writeable = False
        indices = positions.astype(index_dtype)
        out = np.full((len(indices), rows.shape[1]), 7, dtype)
        cpu.gather(rows, indices, divisor, out)
        np.testing.assert_array_equal(out, rows[indices].astype(dtype) / dtype(divisor))


def test_rows_may_be_apart():
    out = np.full((4, 100), 7, np.float32)
    indices = np.array([3, 49, 0, 3, 9, 9, 9])[::2]
    cpu.gather(ROWS[::2, 5:30], indices % 25, 255, out[:, 10:35])
    np.testing.assert_array_equal(out[:, 10:35], ROWS[::2, 5:30][indices % 25] / np.float32(255))
    assert (out[:, :10] == 7).all()
    assert (out[:, 35:] == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("divisor", [-255, -3, -1e-45, 1e-45, np.inf, np.nan, 0.0])
def test_the_sign_of_zero(dtype, divisor):
    out = np.empty((1, 256), dtype)
    cpu.gather(ALL_PIXELS, np.array([0]), divisor, out)
    with np.errstate(all="ignore"):
        expected = ALL_PIXELS.astype(dtype) / dtype(divisor)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(np.signbit(out)[expected == 0], np.signbit(expected)[expected == 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_output_is_on_nothing_else_and_can_be_written(dtype):
    memory = np.zeros(800)
    indices, out = memory.view(np.int64)[:100], memory.view(dtype)[:800].reshape(100, 8)
    rows = np.zeros((3, 8), np.uint8)
    with pytest.raises(ValueError, match="out is an output, but shares memory with indices"):
        cpu.gather(rows, indices, 1, out)
    with pytest.raises(ValueError, match="out is an output, but shares memory with rows"):
        cpu.gather(memory.view(np.uint8)[:24].reshape(3, 8), np.zeros(2, int), 1, memory.view(dtype)[:16].reshape(2, 8))
    read_only = np.zeros((2, 8), dtype)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="out is an output, but this array is read-only"):
        cpu.gather(rows, np.zeros(2, int), 1, read_only)
    assert (memory == 0).all()
    assert (read_only == 0).all()


@pytest.mark.parametrize("bad", [-1, 50, 2**62])
def test_a_bad_index_is_named_before_anything_is_written(bad):
    out, error = np.full((3, 37), 7, np.float32), np.full(1, 7)
    with pytest.raises(IndexError, match=rf"indices\[2\] is {bad}, but .* indices are 0 to 49"):
        cpu.gather(ROWS, np.array([0, 49, bad]), 255, out, error=error)
    assert (out == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_error_word_is_cleared(dtype):
    error = np.full(1, 7)
    cpu.gather(ROWS, np.array([1]), 255, np.empty((1, 37), dtype), error=error)
    assert error[0] == -1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label_dtype", [np.int64, np.uint8, np.uint64])
def test_labels_are_gathered_with_the_rows(dtype, label_dtype):
    labels, indices = np.arange(50).astype(label_dtype), np.array([3, 49, 0, 3])
    out, labels_out = np.full((4, 37), 7, dtype), np.full(4, 7, label_dtype)
    cpu.gather(ROWS, indices, 255, out, labels=labels, labels_out=labels_out)
    assert labels_out.tolist() == [3, 49, 0, 3]
    np.testing.assert_array_equal(out, ROWS[indices].astype(dtype) / np.dtype(dtype).type(255))
    with pytest.raises(IndexError, match=r"indices\[1\] is 50"):
        cpu.gather(ROWS, np.array([0, 50, 0, 0]), 255, out, labels=labels, labels_out=labels_out)
    assert labels_out.tolist() == [3, 49, 0, 3]


@pytest.mark.parametrize(("step", "rows"), [(0, 20), (1, 20), (2, 10), (4, 20), (2**40 + 2**32 + 5, 10)])
def test_the_batch_of_a_step_in_the_order_of_its_epoch(step, rows):
    """Three batches of 20, 20 and 10 rows; the upper half of the step counts for nothing."""
    order, out, labels = np.random.default_rng(1).permutation(50), np.empty((rows, 37)), np.empty(rows, int)
    place = {"step": np.array([step]), "steps_per_epoch": 3, "batch_size": 20}
    cpu.gather(ROWS, order, 1, out, labels=np.arange(50), labels_out=labels, **place)
    assert labels.tolist() == order[20 * (step % 2**32 % 3) :][:rows].tolist()
    np.testing.assert_array_equal(out, ROWS[labels])


def test_invalid_labels():
    out, labels = np.full((1, 37), 7, np.float32), np.arange(50)
    for wrong, message in (
        ({"labels": labels[:49], "labels_out": labels[:1].copy()}, r"labels must have the shape \(50,\), not \(49,\)"),
        ({"labels": labels * 1.0, "labels_out": labels[:1].copy()}, "labels must be integers, not float64"),
        ({"labels": labels, "labels_out": np.zeros(2, int)}, r"labels_out must have the shape \(1,\), not \(2,\)"),
        ({"labels": labels, "labels_out": np.zeros(1, np.int32)}, "labels_out must be int64, not int32"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            cpu.gather(ROWS, np.array([0]), 255, out, **wrong)
    assert (out == 7).all()


def test_invalid_arguments():
    out = np.empty((1, 37), np.float32)
    with pytest.raises(TypeError, match="indices must be integers, not float64"):
        cpu.gather(ROWS, np.zeros(1), 255, out)
    with pytest.raises(ValueError, match=r"indices must have the shape \(1,\), not \(\)"):
        cpu.gather(ROWS, np.array(0), 255, out)
    with pytest.raises(TypeError, match="rows must be uint8, not float64"):
        cpu.gather(ROWS.astype(float), np.array([0]), 255, out)
    with pytest.raises(ValueError, match=r"out must have the shape \(2, 37\), not \(1, 37\)"):
        cpu.gather(ROWS, np.array([0, 1]), 255, out)
    with pytest.raises(ValueError, match="rows must have contiguous rows"):
        cpu.gather(np.asfortranarray(ROWS), np.array([0]), 255, out)
