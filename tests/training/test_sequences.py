"""Samples (T, F) with a label for each of their T places, through training, its figures and its diagnoses."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Trainer
from xpnet.losses import SoftmaxCrossEntropy


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    """The class is the place of the largest of three numbers; -1 for every fifth sample's last places."""
    x = np.random.default_rng(0).random((60, 4, 3)).astype(np.float32)
    y = x.argmax(axis=2)
    y[::5, 2:] = -1
    return x, y


def network(backend, bias=True) -> xpnet.Sequential:
    layers = xpnet.Linear(3, 16, "relu", bias=bias), xpnet.LayerNorm(16), xpnet.Dropout(0.0), xpnet.Linear(16, 3)
    return xpnet.Sequential(*layers).initialize(backend, seed=1, dtype="float64")


@pytest.mark.parametrize("bias", [False, True])
def test_it_learns_and_counts_labels(backend, samples, bias) -> None:
    x, y = samples
    model, loss = network(backend, bias), SoftmaxCrossEntropy(ignore_index=-1)
    trainer = Trainer(model, loss, xpnet.Adam(0.02))
    history = trainer.fit(samples, epochs=25, batch_size=12, validation=samples)
    outcome, counted, largest = xpnet.evaluate(model, samples, loss, batch_size=7), y >= 0, model.predict_labels(x)
    assert largest.shape == y.shape
    assert outcome.samples == counted.sum() == 240 - 24
    assert outcome.accuracy == (largest == y)[counted].mean() > 0.9
    z = model.predict(x)
    losses = np.log(np.exp(z).sum(axis=2)) - np.take_along_axis(z, np.maximum(y, 0)[..., None], 2)[..., 0]
    assert outcome.loss == pytest.approx(losses[counted].mean(), rel=1e-12)
    assert trainer.samples_seen == 25 * 60
    assert history[-1]["validation_accuracy"] == outcome.accuracy


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_micro_batches_weigh_by_their_labels(backend, samples, rows, reduction) -> None:
    vectors = []
    for micro_batch_size in (None, rows):
        loss = SoftmaxCrossEntropy(0.1, class_weights=[1.0, 2.0, 5.0], ignore_index=-1, reduction=reduction)
        run = Trainer(network(backend), loss, xpnet.SGD(1e-4), micro_batch_size=micro_batch_size)
        run.fit(samples, epochs=2, batch_size=12)
        vectors.append(np.array(backend.to_numpy(run.model.parameters.vector)))
    np.testing.assert_allclose(vectors[1], vectors[0], rtol=0, atol=1e-12)


def test_probabilities(backend, samples) -> None:
    x, y = samples[0], samples[0].argmax(axis=2)
    runs = []
    for labels in (y, np.eye(3)[y]):
        model = network(backend)
        Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(0.1)).fit((x, labels), epochs=2, batch_size=12)
        runs.append(np.array(backend.to_numpy(model.parameters.vector)))
    np.testing.assert_allclose(runs[1], runs[0], rtol=0, atol=1e-12)


def test_a_loss_at_chance_is_named(cpu, samples) -> None:
    x = samples[0]
    labels = np.random.default_rng(1).integers(3, size=x.shape[:2])
    trainer = Trainer(network(cpu), SoftmaxCrossEntropy(), xpnet.SGD(1e-9))
    for name in ("3.W", "3.b"):
        trainer.model.parameters[name][...] = 0.0
    kinds = [record.get("kind") for record in trainer.fit((x, labels), epochs=10, batch_size=20)]
    assert kinds.count("loss at chance") == 1


def test_dead_units_are_counted_on_the_last_axis(cpu, samples) -> None:
    model = network(cpu)
    model.parameters["0.b"][...] = -100.0
    trainer = Trainer(model, SoftmaxCrossEntropy(ignore_index=-1), xpnet.SGD(1e-3))
    messages = [record.get("message", "") for record in trainer.fit(samples, epochs=1, batch_size=20)]
    assert any("all 16 hidden units of layer 0 are dead" in message for message in messages)


def test_one_label_an_image_without_a_flatten(cpu) -> None:
    x, y = np.zeros((5, 28, 28), np.float32), np.zeros(5, np.int64)
    model = xpnet.Sequential(xpnet.Linear(28, 10)).initialize(cpu)
    with pytest.raises(xpnet.ShapeError, match=r"labels of shape \(5,\) .* \(5, 28, 10\).* put a Flatten\(\) in front"):
        Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(0.1)).fit((x, y), epochs=1)


def test_a_recipe_whose_first_linear_takes_the_rows_of_images(cpu, tmp_path) -> None:
    digits = xpnet.data.load("digits")
    table = xpnet.load_recipe("digits").to_table()
    table["model"] = {"layers": [{"type": "Linear", "inputs": 8, "outputs": 10}]}
    recipe = xpnet.configuration.recipe_from_table(table)
    assert digits.sample_shape == (8, 8)
    with pytest.raises(
        xpnet.ShapeError, match=r"gives \(8, 10\) outputs, .* 10 classes: put a Flatten before its first"
    ):
        xpnet.train(recipe, digits, cpu, out=tmp_path / "run")
