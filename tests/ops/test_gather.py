"""xpnet.ops.gather: gathering against NumPy's own indexing, and the division bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import ops

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_bytes_are_divided_bit_for_bit(backend, dtype) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(32, 8)
    batch = ops.gather(backend, backend.asarray(pixels), backend.asarray(np.arange(32)), 255.0, dtype)
    exact = pixels.astype(dtype) / np.dtype(dtype).type(255)
    assert backend.to_numpy(batch).tobytes() == exact.tobytes()


def test_a_float32_quotient_is_the_nearest_to_the_true_one(backend) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(256, 1)
    batch = ops.gather(backend, backend.asarray(pixels), backend.asarray(np.arange(256)), 255.0)
    nearest = np.array([np.float32(pixel / 255) for pixel in range(256)])  # double rounding is harmless here
    assert backend.to_numpy(batch)[:, 0].tolist() == nearest.tolist()
    by_reciprocal = np.arange(256, dtype=np.float32) * (np.float32(1) / np.float32(255))
    assert (by_reciprocal != nearest).sum() == 126  # why it is a division


@pytest.mark.parametrize("index_type", INTEGERS)
def test_indices_of_any_integer_type(backend, index_type) -> None:
    rows = np.arange(300 * 2, dtype=np.int32).reshape(300, 2)
    indices = np.array([5, 0, 127, 5], index_type)
    batch = ops.gather(backend, backend.asarray(rows), backend.asarray(indices))
    assert backend.to_numpy(batch).tolist() == rows[[5, 0, 127, 5]].tolist()


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 4), (6, 1, 3, 2)])
@pytest.mark.parametrize("row_type", ["uint8", "int64", "float32", "float64"])
def test_rows_of_any_shape_and_type(backend, shape, row_type) -> None:
    rows = np.arange(np.prod(shape)).reshape(shape).astype(row_type)
    indices = np.array([5, 0, 0, 3])
    batch = ops.gather(backend, backend.asarray(rows), backend.asarray(indices), 2.0, "float64")
    assert batch.dtype == backend.xp.float64
    np.testing.assert_array_equal(backend.to_numpy(batch), rows[indices] / 2.0)


def test_out_is_filled_and_returned(backend) -> None:
    rows, indices = backend.asarray(np.arange(6, dtype=np.uint8).reshape(3, 2)), backend.asarray([2, 0])
    out = backend.xp.full((2, 2), np.nan, dtype=backend.xp.float32, device=backend.device)
    assert ops.gather(backend, rows, indices, 4.0, out=out) is out
    assert backend.to_numpy(out).tolist() == [[1.0, 1.25], [0.0, 0.25]]


@pytest.mark.parametrize("index_type", ["int64", "uint8"])
def test_no_indices(backend, index_type) -> None:
    rows = backend.asarray(np.ones((3, 2), np.uint8))
    batch = ops.gather(backend, rows, backend.asarray(np.zeros(0, index_type)), 255.0)
    assert batch.shape == (0, 2)


@pytest.mark.parametrize("bad", [-1, 3, 2**40, -(2**63)])
def test_an_index_outside_raises_or_gives_nan(backend, bad) -> None:
    rows, indices = backend.asarray(np.ones((3, 2), np.uint8)), backend.asarray([0, bad, 2])
    if backend.synchronous:
        with pytest.raises(xpnet.errors.OutOfRangeError, match=rf"row index {bad} at row 1 .* 0 to 2"):
            ops.gather(backend, rows, indices)
    else:
        batch = backend.to_numpy(ops.gather(backend, rows, indices))
        np.testing.assert_array_equal(batch, [[1, 1], [np.nan, np.nan], [1, 1]])


@pytest.mark.parametrize("row_type", ["uint8", "float32"])
def test_an_index_beyond_int64_is_reported_as_it_is(backend, row_type) -> None:
    rows = backend.asarray(np.ones((3, 2), row_type))
    indices = backend.asarray(np.array([0, 2**63 + 1], np.uint64))
    if backend.synchronous:
        with pytest.raises(xpnet.errors.OutOfRangeError, match="row index 9223372036854775809 at row 1 is outside"):
            ops.gather(backend, rows, indices)
    else:
        np.testing.assert_array_equal(backend.to_numpy(ops.gather(backend, rows, indices)), [[1, 1], [np.nan, np.nan]])


def test_a_bad_index_leaves_out_alone_where_it_raises(cpu) -> None:
    out = np.full((2, 2), 7.0, np.float32)
    with pytest.raises(IndexError):
        ops.gather(cpu, np.ones((3, 2), np.uint8), np.array([0, 3]), out=out)
    assert (out == 7.0).all()


@pytest.mark.parametrize("indices", [[0.0, 1.0], [True, False, True]])
def test_indices_that_are_no_integers(backend, indices) -> None:
    with pytest.raises(xpnet.DTypeError, match="row indices must be integers, not"):
        ops.gather(backend, backend.asarray(np.ones((3, 2), np.uint8)), backend.asarray(indices))


@pytest.mark.parametrize("row_type", ["uint8", "float32"])
@pytest.mark.parametrize("label_type", ["uint8", "int64"])
def test_labels_are_gathered_with_the_rows(backend, row_type, label_type) -> None:
    rows, labels = np.arange(12).reshape(6, 2).astype(row_type), np.arange(6).astype(label_type)
    taken = backend.xp.zeros((3,), dtype=getattr(backend.xp, label_type), device=backend.device)
    options = {"labels": backend.asarray(labels), "labels_out": taken}
    batch = ops.gather(backend, backend.asarray(rows), backend.asarray([5, 0, 5]), **options)
    assert backend.to_numpy(batch).tolist() == rows[[5, 0, 5]].tolist()
    assert backend.to_numpy(taken).tolist() == [5, 0, 5]


@pytest.mark.parametrize("row_type", ["uint8", "float32"])
@pytest.mark.parametrize(("step", "rows"), [(0, 3), (1, 2), (2, 3), (3 * 2**32 + 7, 2)])
def test_the_batch_of_a_step_in_the_order_of_its_epoch(backend, row_type, step, rows) -> None:
    """Batches of 3 and of 2 rows; the upper half of a step, which numbers parts, counts for nothing."""
    images, order = np.arange(10).reshape(5, 2).astype(row_type), np.array([4, 2, 0, 1, 3])
    of_step = ops.BatchOfStep(backend.asarray(np.array([step])), steps_per_epoch=2, batch_size=3, rows=rows)
    batch = ops.gather(backend, backend.asarray(images), backend.asarray(order), 2.0, of_step=of_step)
    assert backend.to_numpy(batch).tolist() == (images[order[3 * (step % 2) :][:rows]] / 2).tolist()
