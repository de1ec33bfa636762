"""Gather, bias and activation, dropout in the simulator, against NumPy. Run by test_simulator.py."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cuda import (
    bias_activation,
    bias_activation_backward,
    dropout,
    gather,
    linear,
    linear_backward,
)

from xpnet import random as philox

ACTIVATIONS = {
    None: (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), lambda y: (y > 0).astype(float)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}


def test_gather_divides_truly():
    rows = np.arange(5 * 51, dtype=np.uint8).reshape(5, 51)
    out, error = np.full((3, 51), 7, np.float32), np.array([7])
    gather(rows, np.array([4, 0, 4], np.int32), 255, out, error=error)
    assert (out == rows[[4, 0, 4]].astype(np.float32) / np.float32(255)).all()
    assert error[0] == -1


def test_gather_into_every_type(element, as_float64):
    rows = np.arange(256, dtype=np.uint8).reshape(2, 128)
    out = element.cast(np.zeros((2, 128)))
    gather(rows, np.array([1, 0]), 255.0, out)
    assert as_float64(out) == pytest.approx(rows[[1, 0]] / 255, rel=element.epsilon, abs=0)


@pytest.mark.parametrize("offset", range(5))
@pytest.mark.parametrize("columns", [16, 21])
def test_gather_from_rows_at_any_alignment(offset, columns, element, as_float64):
    memory = np.arange(offset + 5 * columns, dtype=np.uint8)
    rows = memory[offset:].reshape(5, columns)
    out = element.cast(np.full((4, columns + 1), 7))
    gather(rows, np.array([4, 0, 3, 3]), 255, out[:, 1:])
    assert as_float64(out[:, 1:]) == pytest.approx(rows[[4, 0, 3, 3]] / 255, rel=element.epsilon, abs=0)
    assert (as_float64(out[:, 0]) == 7).all()


def test_gather_reports_bad_indices_and_reads_nothing():
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    out, error = np.zeros((40, 4), np.float32), np.array([7])
    indices = np.arange(40) % 3
    indices[[20, 30]] = -1, 3
    gather(rows, indices, 1.0, out, error=error)
    assert error[0] == 20
    assert np.isnan(out).all(axis=1).nonzero()[0].tolist() == [20, 30]
    assert np.isfinite(out).all(axis=1).sum() == 38


def aligned(values):
    """A copy that starts at a multiple of 16 bytes."""
    memory = np.empty(values.nbytes + 16, np.uint8)
    start = -memory.ctypes.data % 16
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


@pytest.mark.parametrize("label_type", [np.uint8, np.int64, np.uint64])
def test_gather_of_labels(label_type):
    rows, labels = np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([5, 2**8 - 1, 7]).astype(label_type)
    out, labels_out = np.zeros((40, 4), np.float32), np.full(40, 9, label_type)
    indices = np.arange(40) % 3
    indices[[20, 30]] = -1, 3
    gather(rows, indices, 1.0, out, labels=labels, labels_out=labels_out)
    expected = labels[np.arange(40) % 3]
    expected[[20, 30]] = 0
    assert (labels_out == expected).all()


@pytest.mark.parametrize(("step", "rows"), [(0, 20), (1, 20), (2, 10), (4, 20), (2**40 + 2**32 + 5, 10)])
def test_gather_of_the_batch_of_a_step(step, rows):
    """Three batches of 20, 20 and 10 rows; rows beyond the end of the order have a bad index."""
    order = np.random.default_rng(0).permutation(50)
    images, labels_out = np.arange(150, dtype=np.uint8).reshape(50, 3), np.empty(rows + 3, int)
    out, error = np.empty((rows + 3, 3), np.float32), np.array([7])
    place = {"step": np.array([step]), "steps_per_epoch": 3, "batch_size": 20}
    gather(images, order, 1.0, out, labels=np.arange(50), labels_out=labels_out, error=error, **place)
    expected = order[20 * (step % 2**32 % 3) :][: rows + 3]
    assert labels_out.tolist() == [*expected, *[0] * (rows + 3 - len(expected))]
    assert (out[: len(expected)] == images[expected]).all()
    assert np.isnan(out[len(expected) :]).all()
    assert error[0] == (-1 if len(expected) == len(out) else len(expected))


def test_gather_with_arguments_that_do_not_fit():
    rows, order, out = np.zeros((3, 4), np.uint8), np.arange(3), np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"out must have the shape \(3, 4\), not \(2, 4\)"):
        gather(rows, order, 1.0, out)
    with pytest.raises(ValueError, match="labels and labels_out go together"):
        gather(rows, order[:2], 1.0, out, labels=order)
    for batch_size in (-1, 2**31):  # which would read before the indices, and overflow
        with pytest.raises(ValueError, match="batch_size must be a number from 0 to below"):
            gather(rows, order, 1.0, out, step=np.zeros(1, int), batch_size=batch_size)
    with pytest.raises(ValueError, match=r"steps_per_epoch must be a number from 1 to below 2\*\*32, not 0"):
        gather(rows, order, 1.0, out, step=np.zeros(1, int), steps_per_epoch=0, batch_size=2)


@pytest.mark.parametrize("columns", [13, 16, 40], ids=["elements", "vectors", "several blocks of vectors"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_activation(activation, columns, element, as_float64):
    random = np.random.default_rng(0)
    z = aligned(element.cast(random.normal(scale=3, size=(17, columns))))
    bias = aligned(element.cast(random.normal(size=columns)))
    expected = ACTIVATIONS[activation][0](as_float64(z) + as_float64(bias))
    bias_activation(z, bias, activation, z)
    tolerance = max(element.epsilon, 1e-6) if element.accumulator is np.float32 else 1e-14
    assert as_float64(z) == pytest.approx(expected, rel=1.1 * tolerance, abs=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("columns", [13, 16], ids=["elements", "vectors"])
@pytest.mark.parametrize("rows", [0, 1, 21, 90])
def test_bias_activation_backward(activation, rows, columns):
    random = np.random.default_rng(0)
    dy = aligned(random.normal(size=(rows, columns)))
    y = aligned(random.uniform(-0.9, 0.9, size=(rows, columns)))
    dz, db = aligned(np.full((rows, columns), 7.0)), np.full(columns, 7.0)
    bias_activation_backward(dy, y if activation else None, activation, dz, db)
    expected = dy * ACTIVATIONS[activation][1](y)
    assert dz == pytest.approx(expected, rel=1e-15)
    assert db == pytest.approx(expected.sum(axis=0), rel=1e-14, abs=1e-13)


def test_bias_activation_backward_of_every_type_in_place(element, as_float64):
    random = np.random.default_rng(0)
    dy, y = (aligned(element.cast(random.uniform(-0.9, 0.9, size=(23, 24)))) for _ in range(2))
    expected, db = as_float64(dy) * (as_float64(y) > 0), element.cast(np.full(24, 7.0))
    bias_activation_backward(dy, y, "relu", dy, db)
    assert (as_float64(dy) == expected).all()
    bound = (1.1 * element.epsilon + 23 * (2.0**-53 if element.name == "float64" else 2.0**-24)) * np.abs(expected).sum(
        0
    )
    assert (np.abs(as_float64(db) - expected.sum(axis=0)) <= bound).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [0, 1, 21])
def test_linear(activation, rows):
    random = np.random.default_rng(0)
    x, W, b = random.normal(size=(rows, 5)), random.normal(size=(5, 13)), random.normal(size=13)
    y = np.full((rows, 13), 7.0)
    linear(x, W, b, activation, y)
    assert y == pytest.approx(ACTIVATIONS[activation][0](x @ W + b), rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [0, 1, 21])
@pytest.mark.parametrize("input_gradient", [True, False])
def test_linear_backward(activation, rows, input_gradient):
    random = np.random.default_rng(0)
    dy, x, W = random.normal(size=(rows, 13)), random.normal(size=(rows, 5)), random.normal(size=(5, 13))
    y = random.uniform(-0.9, 0.9, size=(rows, 13))
    dW, db = np.full((5, 13), 7.0), np.full(13, 7.0)
    dx = np.full((rows, 5), 7.0) if input_gradient else None
    dy.flags.writeable = False
    if activation is None:
        linear_backward(dy, x, None, W, None, dW, db, None, dx)
    else:
        linear_backward(dy, x, y, W, activation, dW, db, np.full((rows, 13), 7.0), dx)
    dz = dy * ACTIVATIONS[activation][1](y)
    assert dW == pytest.approx(x.T @ dz, abs=1e-13)
    assert db == pytest.approx(dz.sum(axis=0), abs=1e-13)
    if input_gradient:
        assert dx == pytest.approx(dz @ W.T, abs=1e-13)


@pytest.mark.parametrize(("depth", "columns"), [(5, 0), (0, 3)])
def test_linear_without_inputs_or_outputs(depth, columns):
    x, W, b = np.ones((2, depth)), np.ones((depth, columns)), np.full(columns, 0.5)
    y, dW, db, dx = (
        np.full((2, columns), 7.0),
        np.full((depth, columns), 7.0),
        np.full(columns, 7.0),
        np.full_like(x, 7),
    )
    linear(x, W, b, None, y)
    assert (y == 0.5).all()
    linear_backward(y, x, None, W, None, dW, db, None, dx)
    assert (dx == 0).all()
    assert (db == 1.0).all()


def test_linear_refuses_what_does_not_fit():
    x, W, b, y = np.zeros((2, 5)), np.zeros((5, 3)), np.zeros(3), np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"W must have the shape \(5, 3\), not \(4, 3\)"):
        linear(x, W[:4], b, None, y)
    with pytest.raises(TypeError, match="b must be float64, not float32"):
        linear(x, W, b.astype(np.float32), None, y)
    with pytest.raises(ValueError, match="that do not overlap, but they are 0 elements apart"):
        linear(np.broadcast_to(x[:1], (2, 5)), W, b, None, y)
    with pytest.raises(ValueError, match=r"dx must have the shape \(2, 5\)"):
        linear_backward(y, x, None, W, None, W.copy(), b, None, np.zeros((2, 4)))


@pytest.mark.parametrize("step", [5, 2**40 + 3, np.array([2**40 + 3])], ids=["low", "high", "on the device"])
def test_dropout_takes_the_words_of_the_generator(step, element, as_float64):
    x = element.cast(np.random.default_rng(0).normal(size=(3, 47)))
    out = x.copy()
    dropout(x, 0.3, (11, 0xFFFFFFFF), step, out)
    kept = philox.words((11, 0xFFFFFFFF), int(np.ravel(step)[0]), 141).reshape(3, 47) * 2.0**-32 >= 0.3
    factor = as_float64(np.array(1 / 0.7, element.accumulator))
    assert as_float64(out) == pytest.approx(np.where(kept, as_float64(x) * factor, 0), rel=1.1 * element.epsilon)
    assert 0.1 < 1 - kept.mean() < 0.5


def test_nothing_dropped_and_wrong_arguments():
    x = np.arange(20, dtype=np.float32)
    for probability in (0.0, np.float64(0)):  # NumPy's numbers have an array interface, and are none
        dropout(x, probability, (1, 2), 0, x)
        assert x.tolist() == list(range(20))
    with pytest.raises(ValueError, match="from 0 to below 1, not 1"):
        dropout(x, 1, (1, 2), 0, x)
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        bias_activation(np.zeros((1, 1)), np.zeros(1), "swish", np.zeros((1, 1)))
