"""xpnet.data.batches: order, slices, parts and gathering, for samples on the device, on the host, and in a file."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.context import Context
from xpnet.data import Batch, Batches, InOrder, Shuffled, WithReplacement
from xpnet.errors import ConfigurationError, ShapeError

X = np.arange(7 * 6, dtype=np.uint8).reshape(7, 2, 3)
Y = np.array([3, 1, 4, 1, 5, 9, 2])


def rows_of(batches: Batches, step: int) -> list[int]:
    return batches.backend.to_numpy(batches.at(step).indices).tolist()


@pytest.mark.parametrize("sampler", [Shuffled(), InOrder(), WithReplacement()])
def test_steps_are_slices_of_one_epoch_after_the_other(backend, sampler) -> None:
    batches = Batches(backend, X, Y, batch_size=3, sampler=sampler, seed=5)
    assert batches.steps_per_epoch == 3
    expected = [sampler.epoch(7, 3, 5, epoch)[start : start + 3].tolist() for epoch in range(3) for start in (0, 3, 6)]
    assert [rows_of(batches, step) for step in range(9)] == expected
    assert [rows_of(batches, step) for step in (8, 0, 4)] == [expected[step] for step in (8, 0, 4)]
    assert [backend.to_numpy(batch.indices).tolist() for batch in batches.epoch(1)] == expected[3:6]


def test_the_order_of_every_epoch_is_in_the_same_memory(cpu) -> None:
    """A captured step reads it there; what the sampler gave is not written."""
    orders = np.arange(7), np.arange(7)[::-1]

    class Given:
        name = "given"

        def epoch(self, samples, batch_size, seed, epoch):
            return orders[epoch]

    batches = Batches(cpu, X, Y, batch_size=3, sampler=Given())
    first = batches.order(0)
    assert batches.order(1) is first
    assert first.tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert orders[0].tolist() == list(range(7))
    ordered = batches.in_order(3)
    assert ordered.order(0) is not first
    assert first.tolist() == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("dtype", ["float32", None])
def test_a_batch_is_the_same_where_the_device_knows_its_step(backend, dtype) -> None:
    batches = Batches(backend, X, Y, batch_size=4, sampler=Shuffled(), seed=5, dtype=dtype)
    context = Context(backend)
    for step in (0, 1, 3):
        for part in batches.at(step).parts(3):
            expected = [np.array(backend.to_numpy(array)) for array in batches.gather(part, context)]
            context.step = step + part.number * 2**32
            context.device_step = backend.asarray(np.array([context.step]))
            for ours, theirs in zip(batches.gather(part, context), expected, strict=True):
                np.testing.assert_array_equal(backend.to_numpy(ours), theirs)
            rows = Batch(backend.asarray(np.array([6, 0])))  # of the caller's own choice
            assert backend.to_numpy(batches.gather(rows, context)[1]).tolist() == [2, 3]
            other = batches.at(step ^ 1)  # of a step that is not the device's
            x, expected = batches.gather(other, context)[0], X[backend.to_numpy(other.indices)]
            np.testing.assert_array_equal(backend.to_numpy(x), expected)
            context.device_step = None


def test_partial_batches_can_be_left_out(backend) -> None:
    batches = Batches(backend, X, Y, batch_size=3, sampler=Shuffled(), seed=5, drop_last=True)
    epochs = [Shuffled().epoch(7, 3, 5, epoch) for epoch in range(2)]
    expected = [epoch[start : start + 3].tolist() for epoch in epochs for start in (0, 3)]
    assert batches.steps_per_epoch == 2
    assert [rows_of(batches, step) for step in range(4)] == expected


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_batch_larger_than_the_set_is_the_set(cpu, drop_last) -> None:
    batches = Batches(cpu, X, Y, batch_size=100, drop_last=drop_last)
    assert (batches.steps_per_epoch, rows_of(batches, 0)) == (1, list(range(7)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, None])
def test_parts_cover_the_batch_in_order(cpu, size) -> None:
    batch = Batch(np.array([7, 1, 4, 0, 2, 9, 5]))
    parts = batch.parts(size)
    assert len(parts) == (1 if size is None else -(-7 // size))
    np.testing.assert_array_equal(np.concatenate([part.indices for part in parts]), batch.indices)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.start for part in parts] == [(size or 0) * number for number in range(len(parts))]
    assert {part.rows for part in parts[:-1]} <= {size}


class By255:
    def divisor_for(self, dtype: str) -> float:
        assert dtype == "uint8"
        return 255.0


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_a_batch_is_gathered_and_divided(backend, resident, dtype) -> None:
    rescale = None if dtype is None else By255()
    batches = Batches(backend, X, Y, batch_size=4, dtype=dtype, rescale=rescale, resident=resident)
    context = Context(backend, reuse=True)
    for rows in ([2, 0, 2, 6], [5]):
        x, y = batches.gather(Batch(backend.asarray(np.array(rows))), context)
        expected = X[rows] if dtype is None else X[rows] / np.dtype(dtype).type(255)
        np.testing.assert_array_equal(backend.to_numpy(x), expected, strict=True)
        assert backend.to_numpy(y).tolist() == Y[rows].tolist()
        assert context.prescaled is rescale


def test_labels_in_a_column_of_a_table(backend) -> None:
    table = backend.asarray(np.stack([Y, Y + 1], axis=1))
    batches = Batches(backend, X, table[:, 1])
    _, y = batches.gather(Batch(backend.asarray(np.array([2, 0]))), Context(backend))
    assert backend.to_numpy(y).tolist() == [5, 4]


def test_samples_without_targets(backend) -> None:
    x, y = Batches(backend, X, dtype="float32").gather(Batch(backend.asarray(np.array([1]))), Context(backend))
    assert (backend.to_numpy(x).tolist(), y) == (X[1:2].astype(float).tolist(), None)


def test_a_file_larger_than_memory_is_read_batch_by_batch(cpu, tmp_path) -> None:
    """A sparse file of 1 TiB: all of it would fit nowhere."""
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(2**30, 1024))
    images[2**29 + 1] = 7
    batches = Batches(cpu, images, batch_size=2, resident=False)
    x, _ = batches.gather(Batch(np.array([0, 2**29 + 1])), Context(cpu))
    assert (x[0] == 0).all()
    assert (x[1] == 7).all()


def test_in_order_of_the_set_for_evaluations(backend) -> None:
    batches = Batches(backend, X, Y, batch_size=3, sampler=Shuffled(), seed=5)
    rows_of(batches, 0)
    ordered = batches.in_order(batch_size=5)
    assert [rows_of(ordered, step) for step in range(2)] == [[0, 1, 2, 3, 4], [5, 6]]
    assert rows_of(batches, 1) == Shuffled().epoch(7, 3, 5, 0)[3:6].tolist()


@pytest.mark.parametrize("batch_size", [0, 2.5, True, "all"])
def test_a_batch_size_that_cannot_be(cpu, batch_size) -> None:
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number of at least 1"):
        Batches(cpu, X, Y, batch_size=batch_size)


@pytest.mark.parametrize("targets", [2, len(Y) - 1])
def test_another_number_of_targets(cpu, targets) -> None:
    with pytest.raises(ShapeError, match=rf"as many targets as the {len(X)} samples, got shape \({targets},\)"):
        Batches(cpu, X, Y[:targets], batch_size=2)
