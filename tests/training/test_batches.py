"""xpnet.training.batches: samples that fit a model become its batches; others are refused with the reason."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from xpnet import Samples
from xpnet.backends import Array, Backend
from xpnet.data import Batch, Batches
from xpnet.errors import DTypeError, OutOfRangeError, ShapeError
from xpnet.layers import Context, Embedding, Flatten, Linear, Rescale, Sequential
from xpnet.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from xpnet.training import batches_for


def on_device(backend: Backend, samples: Any, outputs: int) -> Batches:
    """The samples, for a model of so many outputs that divides bytes by 255."""
    features = math.prod(np.shape(samples[0])[1:])
    model = Sequential(Rescale(255.0), Flatten(), Linear(features or 1, outputs)).initialize(backend)
    return batches_for(model, samples, SoftmaxCrossEntropy())


def batch_of(data: Batches, rows: list[int], dtype: str | None = "float32", context: Context | None = None) -> Any:
    backend, data.dtype = data.backend, dtype
    x, y = data.gather(Batch(backend.asarray(np.array(rows))), context or Context(backend))
    return on_host(backend, x), on_host(backend, y)


def on_host(backend: Backend, array: Array) -> np.ndarray:
    return np.array(backend.to_numpy(array))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_byte_is_divided_as_numpy_divides_it(backend: Backend, dtype: str) -> None:
    bytes_ = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    data = on_device(backend, Samples(bytes_, np.array([3, 1, 0, 2])), outputs=4)
    x, y = batch_of(data, [2, 0, 2, 3], dtype)
    np.testing.assert_array_equal(x, bytes_[[2, 0, 2, 3]] / np.dtype(dtype).type(255))
    assert x.dtype == dtype
    assert y.tolist() == [0, 3, 0, 2]


def test_bytes_stay_bytes_on_the_device(backend: Backend) -> None:
    data = on_device(backend, Samples(np.full((3, 2), 7, np.uint8), np.zeros(3, np.uint8)), outputs=1)
    assert data.x.dtype == backend.xp.uint8
    backend.require(data.x)
    backend.require(data.y)
    assert data.samples == 3


def test_any_layout_on_the_host_will_do_and_is_not_written_to(backend: Backend) -> None:
    x = np.arange(24.0).reshape(4, 6)
    strided = x.T[::2]
    strided.flags.writeable = False
    data = on_device(backend, (strided, np.array([1, 0, 1])), outputs=2)
    got, _ = batch_of(data, [2, 1], "float64")
    np.testing.assert_array_equal(got, strided[[2, 1]])
    np.testing.assert_array_equal(x, np.arange(24.0).reshape(4, 6))


def test_lists_will_do_too(backend: Backend) -> None:
    data = on_device(backend, ([[1.0, 2.0], [3.0, 4.0]], [0, 1]), outputs=2)
    x, y = batch_of(data, [1])
    assert (x.tolist(), y.tolist()) == ([[3.0, 4.0]], [1])


def test_rows_of_probabilities(backend: Backend) -> None:
    rows = np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    data = on_device(backend, (np.zeros((3, 1)), rows), outputs=2)
    _, y = batch_of(data, [2, 0])
    np.testing.assert_array_equal(y, rows[[2, 0]])


def test_reused_memory_serves_batches_of_every_size(backend: Backend) -> None:
    values = np.arange(20.0).reshape(10, 2)
    data = on_device(backend, (values, np.arange(10)), outputs=10)
    context = Context(backend, reuse=True)
    for rows in ([0, 1, 2, 3], [9, 8], [5], [4, 5, 6, 7, 8, 9], [1, 0, 3]):
        x, y = batch_of(data, rows, "float64", context)
        np.testing.assert_array_equal(x, values[rows])
        assert y.tolist() == rows


@pytest.mark.parametrize(("count", "rows"), [(2, 2), (3, 3), (1000, 3)])
def test_the_head_is_the_first_rows(backend: Backend, count: int, rows: int) -> None:
    values = np.array([[10, 20], [30, 40], [50, 60]], np.uint8)
    data = on_device(backend, Samples(values, np.zeros(3, int)), outputs=1)
    data.dtype = "float64"
    head = data.head(count, Context(backend))
    np.testing.assert_array_equal(on_host(backend, head), values[:rows] / 255.0)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((0, 2)), np.zeros(0, int)),
        (np.zeros((3, 2)), np.zeros(2, int)),
        (np.zeros(3), np.zeros(3, int)),
        (np.zeros(()), np.zeros(())),
    ],
)
def test_samples_and_labels_must_pair_up(backend: Backend, x: np.ndarray, y: np.ndarray) -> None:
    with pytest.raises(ShapeError) as error:
        on_device(backend, (x, y), outputs=3)
    assert f"N at least 1, got {x.shape} and {y.shape}" in str(error.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2, 3, 1], "label 3 at row 2 has no output: the model has 3, for the labels 0 to 2"),
        ([0, -1, 3, 1], "label -1 at row 1 has no output: the model has 3, for the labels 0 to 2"),
    ],
)
def test_a_label_without_an_output_is_found_before_any_step(backend: Backend, labels: list[int], message: str) -> None:
    with pytest.raises(OutOfRangeError) as error:
        on_device(backend, (np.zeros((4, 2)), np.array(labels)), outputs=3)
    assert str(error.value) == message


def test_class_indices_must_be_integers(backend: Backend) -> None:
    with pytest.raises(DTypeError, match=r"labels of shape \(2,\) must be integers \(class indices\), not float64"):
        on_device(backend, (np.zeros((2, 2)), np.array([0.0, 1.0])), outputs=3)


def test_a_label_beyond_int64_is_reported_as_it_is(backend: Backend) -> None:
    with pytest.raises(OutOfRangeError, match="label 9223372036854775809 at row 1 has no output"):
        on_device(backend, (np.zeros((2, 2)), np.array([0, 2**63 + 1], np.uint64)), outputs=3)


def test_the_loss_says_which_targets_fit(backend: Backend) -> None:
    model, x = Sequential(Linear(2, 1)).initialize(backend), np.zeros((3, 2))
    data = batches_for(model, (x, np.array([0.5, -1.5, 2.0])), MeanSquaredError())
    assert on_host(backend, data.y).tolist() == [0.5, -1.5, 2.0]
    with pytest.raises(OutOfRangeError, match=r"target -1\.5 at row 1 is no probability"):
        batches_for(model, (x, np.array([0.5, -1.5, 2.0])), BinaryCrossEntropy())
    with pytest.raises(ShapeError, match=r"targets of shape \(3, 2\) do not fit outputs of shape \(3, 1\)"):
        batches_for(model, (x, np.zeros((3, 2))), MeanSquaredError())
    batches_for(model, (x, np.array([0, -7, 0])), SoftmaxCrossEntropy(ignore_index=-7))


def test_indices_are_neither_cast_nor_divided(backend: Backend) -> None:
    model = Sequential(Embedding(300, 2), Flatten(), Linear(4, 3)).initialize(backend)
    x, y = np.array([[1, 299], [7, 0], [2, 2]], np.uint16), np.array([0, 1, 2])
    got, labels = batch_of(batches_for(model, (x, y), SoftmaxCrossEntropy()), [2, 0], None)
    assert (got.dtype, got.tolist(), labels.tolist()) == (np.uint16, [[2, 2], [1, 299]], [2, 0])
    with pytest.raises(DTypeError, match="this model takes indices, which must be integers, not float64"):
        batches_for(model, (x.astype(float), y), SoftmaxCrossEntropy())
