"""The second of two CUDA devices, while the first is the current one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends import Backend

DIGITS = xpnet.data.load("digits")
SMALL = (DIGITS.x_train[:64] / 16, DIGITS.y_train[:64])


@pytest.fixture
def second(emulated: Backend) -> Backend:
    """The second device of the emulation, which refuses arrays of another than the current one."""
    return xpnet.backend("cuda:1")


def network(backend: Backend) -> xpnet.Sequential:
    hidden = xpnet.Linear(64, 16, "relu"), xpnet.BatchNorm(16), xpnet.Dropout(0.25)
    return xpnet.Sequential(xpnet.Flatten(), *hidden, xpnet.Linear(16, 10)).initialize(backend, seed=3)


def devices_of(model: xpnet.Layer) -> set[int]:
    return {array.device.id for views in model.vectors for array in (views.vector, *views.values())}


def current() -> int:
    import cupy

    return cupy.cuda.runtime.getDevice()


def test_a_model_is_trained_evaluated_and_asked_there(cpu: Backend, second: Backend) -> None:
    histories, answers = [], []
    for backend in (cpu, second):
        model = network(backend)
        trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.Momentum(0.02), ema_decay=0.5)
        trainer.fit(SMALL, epochs=2, batch_size=20, validation=SMALL)
        histories.append(trainer.history[-1])
        assert trainer.average is not None
        with trainer.average.applied():
            answers.append(model.predict(DIGITS.x_test[:9] / 16))
    assert devices_of(model) | {array.device.id for array in model.gradients.values()} == {1}
    assert {vector.vector.device.id for vector in trainer.optimizer.state.values()} == {1}
    assert histories[1]["validation_loss"] == pytest.approx(histories[0]["validation_loss"], rel=1e-4)
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)
    assert current() == 0


def test_copies_and_moves(cpu: Backend, emulated: Backend, second: Backend) -> None:
    model = network(second)
    state = model.state_dict()
    for copy, device in (
        (pickle.loads(pickle.dumps(model)), 1),
        (network(cpu).to(second), 1),
        (model.to(emulated), 0),
        (model.to(xpnet.backend("cuda:0")), 0),
    ):
        assert devices_of(copy) == {device}
        copy.load_state_dict(state)
        copy.parameters["1.b"] = 1.0 + np.arange(16)
        assert copy.backend.to_numpy(copy.parameters["1.b"]).tolist() == list(range(1, 17))
    assert current() == 0


def test_arrays_of_the_other_device_are_refused(emulated: Backend, second: Backend) -> None:
    model = network(second)
    x = emulated.asarray(np.zeros((2, 8, 8)), "float32")
    expected = r"got a \w+\.ndarray on <CUDA Device 0>, but this model lives on backend 'cuda:1': copy it to the host"
    with pytest.raises(xpnet.BackendError, match=expected):
        model(x)
    assert model(second.asarray(np.zeros((2, 8, 8)), "float32")).device.id == 1


def test_passes_of_ones_own_say_where_they_must_run(second: Backend) -> None:
    model, x = network(second), second.asarray(np.zeros((2, 8, 8)), "float32")
    with pytest.raises(xpnet.BackendError, match=r"GPU 0 is the current one: compute under 'with backend\.on_device"):
        xpnet.Context(second)
    with second.on_device():
        context = xpnet.Context(second, training=True)
        dx = model.backward(model.forward(x, context), context)
    assert (dx.device.id, current()) == (1, 0)


@pytest.mark.parametrize("elsewhere", ["cpu", "cuda"])
def test_a_run_that_began_there_is_resumed_anywhere(second: Backend, tmp_path: Path, elsewhere: str) -> None:
    recipe = xpnet.load_recipe("digits").with_options(steps=6, batch_size=300)
    run = xpnet.train(recipe, DIGITS, second, out=tmp_path / "run", stop_after_epoch=1)
    assert run["device"] == "cuda:1"
    resumed = xpnet.resume(tmp_path / "run", xpnet.backend(elsewhere), xpnet.data.load)
    assert (run["steps"], resumed["steps"], resumed["device"]) == (5, 6, elsewhere)


def test_it_is_compared_and_profiled_there(second: Backend) -> None:
    from xpnet.parity import compare_recipe
    from xpnet.profile import profile_step

    recipe = xpnet.load_recipe("digits").with_options(batch_size=20)
    parity = compare_recipe(recipe, DIGITS, [xpnet.backend("float64"), second], steps=1)
    assert parity.first_divergence is None
    assert xpnet.Linear(3, 2).initialize(second, dtype="float64").backend is second
    layer = xpnet.Linear(3, 2, "tanh").initialize(second, dtype="float64")
    assert max(check.error for check in xpnet.check_gradients(layer, np.ones((2, 3)), samples=3)) < 1e-6
    assert profile_step(recipe, DIGITS, second, steps=1).device == "cuda:1"
    assert current() == 0


@pytest.mark.usefixtures("emulated")
def test_a_device_that_is_not_there(capsys: Any) -> None:
    from xpnet.cli import main

    expected = "device 'cuda:2' cannot be used: the driver shows 2 GPUs, cuda:0 to cuda:1: name one of them, or see"
    with pytest.raises(xpnet.BackendError, match=f"^{expected}"):
        xpnet.backend("cuda:2")
    assert main(["doctor"]) == 0
    assert "cuda:0 is Emulated device, 4 GiB; cuda:1 is Emulated device, 4 GiB; fused kernels compile" in (
        capsys.readouterr().out
    )
