"""Training with each loss: regression, two classes, other reductions, ignored rows, class weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpnet
from tests.training.conftest import ROWS, events, network, on_host, samples, step_by_hand
from xpnet import Adam, Linear, Samples, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.data.samplers import InOrder
from xpnet.training import Callback


class TestOtherLosses:
    """What has no classes trains too."""

    @staticmethod
    def on_a_line(backend: Backend, learning_rate: float, dtype: str = "float64") -> tuple[Trainer, Samples]:
        x = np.random.default_rng(0).uniform(-1.0, 1.0, (64, 3))
        model = Sequential(Linear(3, 1)).initialize(backend, dtype=dtype)
        run = Trainer(model, xpnet.MeanSquaredError(), xpnet.SGD(learning_rate))
        return run, Samples(x, x @ np.array([2.0, -1.0, 0.5]) + 3.0)

    def test_a_regression_finds_the_line(self, backend: Backend) -> None:
        run, data = self.on_a_line(backend, 0.3)
        history = run.fit(data, epochs=60, batch_size=16, validation=data)
        np.testing.assert_allclose(on_host(run.model)["0.W"], [[2.0], [-1.0], [0.5]], atol=1e-3)
        np.testing.assert_allclose(on_host(run.model)["0.b"], [3.0], atol=1e-3)
        last = events(history, "evaluation")[-1]
        residual = run.model.predict(data.x)[:, 0] - data.y
        assert last["validation_loss"] == pytest.approx((residual**2).mean(), rel=1e-12)
        assert np.isnan([last["train_accuracy"], last["validation_accuracy"], last["best_validation_accuracy"]]).all()
        assert events(history, "diagnosis") == []

    def test_without_accuracies_the_best_is_the_smallest_loss(self, cpu: Backend) -> None:
        moments: list[tuple[Any, ...]] = []

        class Improvements(Callback):
            def on_evaluation(self, trainer: Trainer, record: dict[str, Any], improved: bool) -> None:
                moments.append((record["validation_loss"], improved))
                trainer.optimizer.learning_rate = 1.8 if len(moments) == 2 else 0.2  # the third epoch makes it worse

        run, data = self.on_a_line(cpu, 0.2)
        run.callbacks.append(Improvements())
        run.fit(data, epochs=5, batch_size=16, validation=data)
        losses = [loss for loss, _ in moments]
        assert losses[2] > losses[1]
        assert [improved for _, improved in moments] == [
            loss < min(losses[:place], default=np.inf) for place, loss in enumerate(losses)
        ]
        assert run.best_loss == min(losses)
        assert run.best_step == 4 * (losses.index(min(losses)) + 1)

    def test_two_classes_are_learned_with_binary_cross_entropy(self, backend: Backend) -> None:
        x = np.random.default_rng(0).uniform(-1.0, 1.0, (64, 2))
        data = Samples(x, (x[:, 0] > x[:, 1]).astype(np.uint8))
        run = Trainer(Sequential(Linear(2, 1)).initialize(backend), xpnet.BinaryCrossEntropy(), Adam(0.1))
        history = run.fit(data, epochs=30, batch_size=16, validation=data)
        right = (run.model.predict(x)[:, 0] > 0) == data.y
        assert events(history, "evaluation")[-1]["validation_accuracy"] == right.mean() > 0.9
        assert run.best_accuracy is not None

    def test_a_loss_of_zero_is_not_that_of_guessing_one_class(self, cpu: Backend) -> None:
        sure = Sequential(Linear(1, 1, weights=xpnet.Constant(1e5), biases=xpnet.Constant(0.0))).initialize(cpu)
        run = Trainer(sure, xpnet.BinaryCrossEntropy(), xpnet.SGD(0.1))
        history = run.fit((np.array([[1.0], [-1.0]]), np.array([1, 0])), epochs=30, batch_size=2)
        assert events(history, "evaluation")[-1]["train_loss"] == 0.0
        assert events(history, "diagnosis") == []

    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_a_sum_trains_as_a_mean_at_a_smaller_rate_and_reports_the_mean(self, backend: Backend, reduction) -> None:
        x, y = samples(8)
        runs = []
        for kind, rate in (("mean", 0.4), (reduction, 0.1)):
            run = Trainer(network(backend), SoftmaxCrossEntropy(reduction=kind), xpnet.SGD(rate))
            runs.append(events(run.fit((x, y), epochs=5, batch_size=4, validation=(x, y)), "evaluation"))
        for mean, total in zip(*runs, strict=True):
            for figure in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"):
                assert total[figure] == pytest.approx(mean[figure], rel=1e-12)

    def test_rows_that_are_ignored_are_as_if_they_were_not_there(self, backend: Backend) -> None:
        """Even where nothing else is in a batch."""
        x, y = samples(12)
        marked = y.copy()
        marked[[1, 4, 5, 6, 7, 9]] = -1
        loss = SoftmaxCrossEntropy(ignore_index=-1)
        run = Trainer(network(backend), loss, xpnet.SGD(0.5))
        history = run.fit((x, marked), epochs=2, batch_size=4, sampler=InOrder(), validation=(x, marked))
        weights = on_host(network(backend))
        for _ in range(2):
            for rows in ([0, 2, 3], [8, 10, 11]):
                step_by_hand(weights, x[rows], y[rows], 0.5)
        for name, expected in weights.items():
            np.testing.assert_allclose(on_host(run.model)[name], expected, rtol=0, atol=1e-13)
        kept = marked >= 0
        only = xpnet.evaluate(run.model, (x[kept], y[kept]))
        ignoring = xpnet.evaluate(run.model, (x, marked), loss, batch_size=4)
        assert (ignoring.accuracy, ignoring.samples) == (only.accuracy, only.samples) == (only.accuracy, 6)
        assert ignoring.loss == pytest.approx(only.loss, rel=1e-13)
        assert events(history, "evaluation")[-1]["validation_loss"] == pytest.approx(only.loss, rel=1e-13)
        assert np.isnan(xpnet.evaluate(run.model, (x, np.full(12, -1)), loss)[:2]).all()

    def test_class_weights_average_over_batches_of_any_size(self, backend: Backend) -> None:
        x, y = samples()
        model, loss = network(backend), SoftmaxCrossEntropy(class_weights=[1.0, 10.0, 0.1])
        whole, parts = (xpnet.evaluate(model, (x, y), loss, batch_size=size) for size in (ROWS, 3))
        assert parts.loss == pytest.approx(whole.loss, rel=1e-13)

    def test_indices_go_into_an_embedding(self, backend: Backend) -> None:
        """The class is the first of three words."""
        x = np.random.default_rng(0).integers(0, 6, (48, 3)).astype(np.uint8)
        model = Sequential(xpnet.Embedding(6, 4), xpnet.Flatten(), Linear(12, 6)).initialize(backend)
        run = Trainer(model, SoftmaxCrossEntropy(), Adam(0.1))
        history = run.fit((x, x[:, 0]), epochs=40, batch_size=16)
        assert events(history, "evaluation")[-1]["train_accuracy"] == 1.0
        assert (model.predict_labels(x) == x[:, 0]).all()
