"""Nothing waits for the device between reporting points: every look at a value is counted, on a stand-in for one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import xpnet
from xpnet.data import steps_per_epoch
from xpnet.training import batches_for
from xpnet.training.trainer import REPORT_EVERY

STAND_IN = pytest.mark.parametrize("backend", ["strict"], indirect=True)
LOOKS = (
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__complex__",
    "__len__",
    "__iter__",
    "__array__",
    "to_device",
)


@pytest.fixture
def looks(monkeypatch) -> Counter[str]:
    """How often a value of an array was looked at, by the way it was done."""
    import array_api_strict

    counts: Counter[str] = Counter()
    for name in LOOKS:
        original = getattr(array_api_strict.ones(1).__class__, name, None)
        if original is None:
            continue

        def look(self, *arguments, _name=name, _original=original, **keywords):
            counts[_name] += 1
            return _original(self, *arguments, **keywords)

        monkeypatch.setattr(array_api_strict.ones(1).__class__, name, look)
    return counts


@pytest.fixture
def device(backend, looks) -> xpnet.Backend:
    """array-api-strict on ``device1``, with its transfers and waits counted too."""

    class Watched(type(backend)):
        def to_numpy(self, array):
            before = looks.copy()
            host = super().to_numpy(array)
            looks.clear()  # a transfer counts once, however it is done
            looks.update(before)
            looks["to_numpy"] += 1
            return host

        def synchronize(self):
            looks["synchronize"] += 1

    return Watched(**vars(backend))


def trainer_on(device: xpnet.Backend, optimizer: str, loss: xpnet.Loss | None = None, options=None, **more):
    images = xpnet.Reshape([1, 8, 8]), xpnet.Conv2d(1, 4, 3, padding=1, activation="relu")
    smaller = xpnet.MaxPool2d(2), xpnet.AvgPool2d(2), xpnet.Flatten(), xpnet.Linear(16, 8, "relu")
    block = xpnet.Residual(xpnet.Linear(8, 8), xpnet.Tanh(), xpnet.LayerNorm(8), xpnet.GELU())
    regularized = xpnet.Linear(8, 8), xpnet.BatchNorm(8), xpnet.LeakyReLU(), xpnet.Dropout(0.25), xpnet.Softplus()
    layers = *images, *smaller, block, *regularized, xpnet.Linear(8, 10)
    model = xpnet.Sequential(*layers).initialize(device)
    made = getattr(xpnet, optimizer)(0.01, **(options or {}))
    return xpnet.Trainer(model, loss or xpnet.SoftmaxCrossEntropy(), made, **more)


@STAND_IN
@pytest.mark.parametrize(
    ("optimizer", "options", "more"),
    [
        ("SGD", {}, {}),
        ("Momentum", {"weight_decay": 0.1, "clip_value": 0.1}, {}),
        ("Adam", {}, {}),
        (
            "AdamW",
            {"clip_norm": 1.0, "frozen": "1.b", "learning_rate_factors": {"*.W": 0.5}},
            {"micro_batch_size": 10, "ema_decay": 0.9},
        ),
        ("AdaGrad", {}, {}),
        ("RMSProp", {}, {}),
        ("Lion", {}, {}),
    ],
)
def test_a_step_reads_nothing_from_the_device(device, looks, optimizer, options, more):
    trainer = trainer_on(device, optimizer, options=options, **more)
    batches = batches_for(trainer.model, xpnet.data.load("digits").train, trainer.loss, batch_size=32)
    context = xpnet.Context(device, training=True, reuse=True)
    batches.order(0)
    looks.clear()
    for _ in range(40):
        trainer.train_step(batches, context)
    assert looks == {}
    device.to_numpy(trainer.report)
    assert looks == {"to_numpy": 1}  # the counter counts


@STAND_IN
@pytest.mark.parametrize(
    "loss",
    [
        xpnet.SoftmaxCrossEntropy(0.1, class_weights=range(1, 11), ignore_index=3),
        xpnet.SoftmaxCrossEntropy(reduction="sum"),
        xpnet.MeanSquaredError(),
        xpnet.BinaryCrossEntropy(),
    ],
    ids=["options", "sum", "squares", "binary"],
)
def test_a_step_with_another_loss_reads_nothing_from_the_device(device, looks, loss):
    trainer, digits = trainer_on(device, "SGD", loss), xpnet.data.load("digits")
    y = digits.y_train if isinstance(loss, xpnet.SoftmaxCrossEntropy) else np.eye(10)[digits.y_train]
    batches = batches_for(trainer.model, (digits.x_train, y), loss, batch_size=32)
    context = xpnet.Context(device, training=True, reuse=True)
    trainer.train_step(batches, context)
    looks.clear()
    for _ in range(4):
        trainer.train_step(batches, context)
    assert looks == {}


@STAND_IN
def test_metrics_read_nothing_from_the_device(device, looks):
    outputs, labels = device.asarray(np.eye(5)), device.asarray([0, 1, 2, 3, 0])
    looks.clear()
    for metric in (xpnet.accuracy, xpnet.top_k_accuracy, xpnet.confusion_matrix):
        metric(device, outputs, labels)
    assert looks == {}


@STAND_IN
def test_an_embedding_reads_nothing_from_the_device(device, looks):
    layers = xpnet.Embedding(6, 4), xpnet.Flatten(), xpnet.Linear(12, 2)
    trainer = xpnet.Trainer(xpnet.Sequential(*layers).initialize(device), xpnet.SoftmaxCrossEntropy(), xpnet.Adam(0.1))
    samples = np.arange(240).reshape(80, 3) % 6, np.arange(80) % 2
    batches = batches_for(trainer.model, samples, trainer.loss, batch_size=20)
    context = xpnet.Context(device, training=True, reuse=True)
    batches.order(0)
    looks.clear()
    for _ in range(3):
        trainer.train_step(batches, context)
    assert looks == {}


@STAND_IN
def test_a_run_reads_the_device_at_its_reports_alone(device, looks):
    """Steps 0, 100 and 200 report; more steps between them change nothing."""
    digits = xpnet.data.load("digits")
    counts = []
    for steps in (210, 290):
        trainer = trainer_on(device, "Adam")
        looks.clear()
        trainer.fit(digits.train, validation=digits.test, steps=steps, batch_size=4)
        counts.append(dict(looks))
    assert counts[0] == counts[1]
    assert counts[0]["to_numpy"] > 3


@STAND_IN
@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 32), (3, 32), (3, 4)])
def test_the_reads_of_a_whole_run_with_its_checkpoints(device, looks, tmp_path, epochs, batch_size):
    """The trainer's path of the command line, from the recipe to the last checkpoint: every look has its reason."""
    recipe = xpnet.load_recipe("digits").with_options(epochs=epochs, batch_size=batch_size)
    digits = xpnet.data.load("digits")
    looks.clear()
    xpnet.train(recipe, digits, device, out=tmp_path / "run")
    reports = -(-steps_per_epoch(len(digits.x_train), batch_size) // REPORT_EVERY)
    checkpoint = 4 + 2 * 4 + 1  # W and b of two layers, with Adam's two moments; the report
    evaluation = 2  # the report of training, that of the test set
    assert looks == {
        "to_numpy": 1 + checkpoint + epochs * (reports + evaluation + checkpoint),  # at first the range of the inputs
        "__bool__": epochs,  # are the parameters finite?
        "__float__": epochs,  # is a unit alive?
        "synchronize": epochs,  # how long did it take?
    }
    looks.clear()
    xpnet.resume(tmp_path / "run", device, lambda name: digits, epochs=epochs + 1)
    again = 1 + reports + evaluation + checkpoint
    assert looks == {"to_numpy": again, "__bool__": 1, "__float__": 1, "synchronize": 1}
