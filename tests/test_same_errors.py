"""Bad input to a trainer, a layer or an operation's shapes is the same error on every backend."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import ops
from xpnet.backends import Backend
from xpnet.training import batches_for, evaluate_batches, reports

X, Y = np.arange(80, dtype=np.uint8).reshape(20, 4), np.arange(20) % 3


def model_on(backend: Backend) -> xpnet.Sequential:
    return xpnet.Sequential(xpnet.Rescale(255.0), xpnet.Linear(4, 5, "relu"), xpnet.Linear(5, 3)).initialize(backend)


def fit(backend: Backend, x: Any = X, y: Any = Y, order: Any = None, **options: Any) -> None:
    trainer = xpnet.Trainer(model_on(backend), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
    sampler = None if order is None else SimpleNamespace(name="own", epoch=lambda *_: np.asarray(order))
    trainer.fit((x, y), **{"epochs": 1, "batch_size": 10, "sampler": sampler} | options)


def loss(backend: Backend, logits: Any, labels: Any) -> None:
    ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels))


def rows(backend: Backend, indices: Any) -> None:
    ops.gather(backend, backend.asarray(X), backend.asarray(indices), 255.0)


LOGITS = np.zeros((2, 3), np.float32)
CALLS: dict[str, tuple[Callable[[Backend], Any], type[Exception], str]] = {
    "a label that is no class": (
        lambda b: fit(b, y=np.where(np.arange(20) == 7, 3, 0)),
        xpnet.OutOfRangeError,
        "label 3 at row 7 has no output: the model has 3, for the labels 0 to 2",
    ),
    "a negative label": (lambda b: fit(b, y=Y - 1), xpnet.OutOfRangeError, "label -1 at row 0 has no output"),
    "labels that are no integers": (lambda b: fit(b, y=Y * 1.0), xpnet.DTypeError, "must be integers"),
    "an index past the end": (
        lambda b: fit(b, order=[*range(19), 20]),
        xpnet.OutOfRangeError,
        "row index 20 at row 19 is outside 0 to 19",
    ),
    "a negative index": (
        lambda b: fit(b, order=[0, 1, -1, *range(17)]),
        xpnet.OutOfRangeError,
        "row index -1 at row 2 is outside 0 to 19",
    ),
    "indices that are no integers": (
        lambda b: fit(b, order=np.arange(20.0)),
        xpnet.DTypeError,
        "SimpleNamespace.epoch gave float64; expected the integer indices of rows",
    ),
    "too few indices": (
        lambda b: fit(b, order=range(10)),
        xpnet.ShapeError,
        "gave an array of shape (10,); expected one index after the other, enough for the epoch's 2 batches of 10",
    ),
    "too many indices": (lambda b: fit(b, order=range(21)), xpnet.ShapeError, "shape (21,)"),
    "indices in rows": (lambda b: fit(b, order=np.zeros((20, 1), int)), xpnet.ShapeError, "shape (20, 1)"),
    "samples of another size": (
        lambda b: fit(b, x=X[:, :3]),
        xpnet.ShapeError,
        "layer 0: Linear(4, 5) takes samples of shape (4,), not (3,)",
    ),
    "fewer labels than samples": (lambda b: fit(b, y=Y[:5]), xpnet.ShapeError, "as many labels y"),
    "pixels that are no numbers": (lambda b: fit(b, x=X.astype(str)), xpnet.DTypeError, "expected numbers"),
    "a batch of no rows": (lambda b: fit(b, batch_size=0), xpnet.ConfigurationError, "batch_size must be"),
    "inputs of another size": (
        lambda b: model_on(b)(b.asarray(LOGITS)),
        xpnet.ShapeError,
        "Linear(4, 5) takes samples of shape (4,), not (3,)",
    ),
    "a label for each class": (
        lambda b: loss(b, LOGITS, [0, 1, 2]),
        xpnet.ShapeError,
        "labels of shape (3,) do not fit logits of shape (2, 3): expected (2,) class indices or (2, 3) probabilities",
    ),
    "logits in one row": (lambda b: loss(b, LOGITS[0], [0]), xpnet.ShapeError, "expected logits of shape"),
    "no class": (lambda b: loss(b, LOGITS[:, :0], [0, 0]), xpnet.ShapeError, "at least 1 class"),
    "class indices that are no integers": (
        lambda b: loss(b, LOGITS, [0.0, 1.0]),
        xpnet.DTypeError,
        "class indices must be integers, not",
    ),
    "row indices that are no integers": (
        lambda b: rows(b, [0.0, 1.0]),
        xpnet.DTypeError,
        "row indices must be integers, not",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_bad_input_is_the_same_error_on_every_backend(backend, call) -> None:
    run, error, message = CALLS[call]
    with pytest.raises(error, match=re.escape(message)) as raised:
        run(backend)
    assert isinstance(raised.value, xpnet.Error)


class TestBehindTheDoor:
    """What was spoilt after it was checked: told at once where reading is free, else when the report is read."""

    @pytest.fixture
    def batches(self, backend) -> xpnet.data.Batches:
        batches = batches_for(model_on(backend), (X, Y), xpnet.SoftmaxCrossEntropy(), batch_size=10)
        batches.y = backend.asarray(np.where(np.arange(20) == 13, 3, 0))
        return batches

    def test_a_bad_label_on_the_device_is_named_in_training(self, backend, batches) -> None:
        trainer = xpnet.Trainer(model_on(backend), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
        context = xpnet.Context(backend, training=True, reuse=True)

        def two_steps_and_a_report() -> None:
            for _ in range(2):
                trainer.train_step(batches, context)
            reports.read(backend, trainer.report)

        with pytest.raises(xpnet.OutOfRangeError, match=r"label (3 )?at row 3 (is outside 0 to 2|of .* step 2)"):
            two_steps_and_a_report()

    def test_a_bad_label_on_the_device_is_named_in_evaluation(self, backend, batches) -> None:
        with pytest.raises(
            xpnet.OutOfRangeError, match=r"label (3 )?at row 3 (is outside 0 to 2|of the batch of step 1)"
        ):
            evaluate_batches(model_on(backend), batches, xpnet.SoftmaxCrossEntropy())


@pytest.mark.parametrize("times", [1, 2])
def test_a_row_that_is_drawn_twice_is_there_twice(backend, times) -> None:
    indices = np.repeat([4, 0, 4, 19], times)
    batch = ops.gather(backend, backend.asarray(X), backend.asarray(indices), 255.0)
    np.testing.assert_array_equal(backend.to_numpy(batch), X[indices] / np.float32(255))
