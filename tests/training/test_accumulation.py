"""xpnet.training.accumulation: micro-batches make the step of the whole batch."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Trainer
from xpnet.training.accumulation import MicroBatches


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
            for figure in ("train_loss", "train_accuracy", "test_loss"):
                assert ours[figure] == pytest.approx(theirs[figure], abs=1e-12)


def test_each_part_draws_anew_and_no_other_step_draws_the_same(cpu) -> None:
    model = xpnet.Linear(1, 1).initialize(cpu)
    context, steps, parts = xpnet.Context(cpu, training=True), [], []

    def compute(part):
        steps.append(context.step)
        parts.append(part.tolist())

    for context.step in (0, 1, 2):
        MicroBatches(model, 2).accumulate(np.arange(5), context, compute)
    assert parts[:3] == [[0, 1], [2, 3], [4]]
    assert len(set(steps)) == 9
    assert steps[::3] == [0, 1, 2]
    assert context.step == 2


@pytest.mark.parametrize("rows", [0, 2.5, "all"])
def test_a_number_of_rows_that_cannot_be(cpu, rows) -> None:
    with pytest.raises(xpnet.ConfigurationError, match="micro_batch_size must be a whole number of at least 1"):
        Trainer(network(cpu), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(), micro_batch_size=rows)
