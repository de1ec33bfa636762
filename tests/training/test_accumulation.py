"""xpnet.training.accumulation: micro-batches make the step of the whole batch."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Trainer
from xpnet.training.accumulation import GradientAccumulation


def network(backend) -> xpnet.Sequential:
    layers = xpnet.Linear(4, 6, "tanh"), xpnet.Linear(6, 3)
    return xpnet.Sequential(*layers).initialize(backend, seed=1, dtype="float64")


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 100])
def test_training_is_that_of_the_whole_batches(backend, small_data, rows) -> None:
    """Batches of 8, of which the last has 6, in parts that fit and in parts that do not."""
    runs = []
    for micro_batch_size in (None, rows):
        model, loss, optimizer = network(backend), xpnet.SoftmaxCrossEntropy(), xpnet.Adam(0.03)
        run = Trainer(model, loss, optimizer, micro_batch_size=micro_batch_size)
        run.fit(small_data.train, epochs=5, batch_size=8, validation=small_data.test)
        runs.append(run)
    vectors = [backend.to_numpy(run.model.parameters.vector) for run in runs]
    np.testing.assert_allclose(vectors[1], vectors[0], rtol=0, atol=1e-12)
    assert runs[1].step == runs[0].step == 20
    assert runs[1].samples_seen == runs[0].samples_seen
    for ours, theirs in zip(*(run.history for run in runs), strict=True):
        if ours["event"] == "evaluation":
            for figure in ("train_loss", "train_accuracy", "validation_loss"):
                assert ours[figure] == pytest.approx(theirs[figure], abs=1e-12)


LOSSES = {
    "weights and an ignored label": xpnet.SoftmaxCrossEntropy(0.1, class_weights=[1.0, 2.0, 5.0], ignore_index=0),
    "sum": xpnet.SoftmaxCrossEntropy(reduction="sum"),
    "none": xpnet.SoftmaxCrossEntropy(reduction="none"),
    "squares": xpnet.MeanSquaredError(),
    "binary": xpnet.BinaryCrossEntropy(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_batch_count_by_their_weights_in_the_loss(backend, small_data, name) -> None:
    """In file order some parts of two rows have nothing but ignored labels, and so has a whole batch of four."""
    loss, order = LOSSES[name], np.argsort(small_data.y_train, kind="stable")
    x, y = small_data.x_train[order], small_data.y_train[order]
    targets = y if isinstance(loss, xpnet.SoftmaxCrossEntropy) else np.eye(3)[y]
    assert (y[:4] == 0).all()
    assert (y[4:8] == 0).sum() not in (0, 4)
    runs = []
    for micro_batch_size in (None, 2):
        run = Trainer(network(backend), loss, xpnet.SGD(0.01), micro_batch_size=micro_batch_size)
        run.fit((x, targets), epochs=3, batch_size=4, sampler=xpnet.data.InOrder())
        runs.append(run)
    vectors = [backend.to_numpy(run.model.parameters.vector) for run in runs]
    np.testing.assert_allclose(vectors[1], vectors[0], rtol=0, atol=1e-12)
    figures = [run.history[-1] for run in runs]
    assert figures[1]["train_loss"] == pytest.approx(figures[0]["train_loss"], abs=1e-12)
    assert figures[1]["train_accuracy"] == pytest.approx(figures[0]["train_accuracy"], nan_ok=True)


def test_each_part_draws_anew_and_no_other_step_draws_the_same(cpu) -> None:
    model = xpnet.Linear(1, 2).initialize(cpu)
    trainer, steps, parts = Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), micro_batch_size=2), [], []
    backpropagate = trainer.training_step.gradients

    def gradients(x, y, context):
        steps.append(context.step)
        parts.append(x.ravel().tolist())
        return backpropagate(x, y, context)

    trainer.training_step.gradients = gradients
    trainer.fit((np.arange(5.0)[:, None], np.zeros(5, int)), steps=3, batch_size=5, sampler=xpnet.data.InOrder())
    assert parts[:3] == [[0.0, 1.0], [2.0, 3.0], [4.0]]
    assert len(set(steps)) == 9
    assert steps[::3] == [0, 1, 2]


@pytest.mark.parametrize("rows", [0, 2.5, "all"])
def test_a_number_of_rows_that_cannot_be(cpu, rows) -> None:
    with pytest.raises(xpnet.ConfigurationError, match="micro_batch_size must be a whole number of at least 1"):
        Trainer(network(cpu), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(), micro_batch_size=rows)


def nan_at(small_data, row: int):
    x = small_data.x_train.copy()
    x[row] = np.nan
    return x, small_data.y_train


def test_a_step_with_a_part_that_is_not_finite_is_left_out(backend, small_data) -> None:
    """The run with its second batch left out is that which never had it; so is the average."""
    left_out, without = (
        Trainer(
            network(backend),
            xpnet.SoftmaxCrossEntropy(),
            xpnet.SGD(0.1),
            micro_batch_size=3,
            ema_decay=0.5,
            on_nonfinite="skip",
        )
        for _ in range(2)
    )
    left_out.fit(nan_at(small_data, 14), epochs=1, batch_size=8, sampler=xpnet.data.InOrder())
    x, y = (np.delete(array, np.s_[8:16], axis=0) for array in small_data.train[:2])
    without.fit((x, y), epochs=1, batch_size=8, sampler=xpnet.data.InOrder())
    assert left_out.history[-1]["skipped_steps"] == 1
    for vector in (lambda run: run.model.parameters.vector, lambda run: run.average.values.vector):
        np.testing.assert_array_equal(backend.to_numpy(vector(left_out)), backend.to_numpy(vector(without)))


def test_a_step_with_a_part_that_is_not_finite_stops_the_run(backend, small_data) -> None:
    run = Trainer(network(backend), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), micro_batch_size=3, ema_decay=0.5)
    with pytest.raises(xpnet.NonFiniteError, match=r"step 2 stopped being finite in the inputs \(sample 14 of"):
        run.fit(nan_at(small_data, 14), epochs=1, batch_size=8, sampler=xpnet.data.InOrder())
    assert np.isfinite(backend.to_numpy(run.average.values.vector)).all()


def test_a_bad_label_is_named_by_its_row_in_the_batch(strict) -> None:
    """On a device that waits for nobody: the joined result counts rows from the batch's first."""
    model = network(strict)
    loss, context = xpnet.SoftmaxCrossEntropy(), xpnet.Context(strict, training=True)
    labels = strict.asarray(np.array([0, 1, 2, 0, 7, 1, 9]))
    outputs = strict.asarray(np.zeros((7, 3)))
    parts = list(xpnet.data.Batch(strict.asarray(np.arange(7))).parts(3))

    def compute(part):
        rows = part.indices
        return loss.forward(strict.xp.take(outputs, rows, axis=0), strict.xp.take(labels, rows, axis=0), context)

    result = GradientAccumulation(model.gradients)(map(compute, parts), len(parts))
    assert int(result.bad_row) == 4
    assert result.losses.shape == (7,)
