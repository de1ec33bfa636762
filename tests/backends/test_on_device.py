"""Whatever computes with a model does so on the device of the model's backend, which is then the current one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends import NumPyBackend
from xpnet.parity import compare
from xpnet.profile import profile_step

DIGITS = xpnet.data.load("digits")


@dataclass(frozen=True)
class SecondDevice(NumPyBackend):
    """NumPy as the second of two devices: no operation may run while it is not the current one."""

    name: str = "second"
    depth: list[int] = field(default_factory=lambda: [0], compare=False)
    operations: list[str] = field(default_factory=list, compare=False)

    @contextmanager
    def on_device(self) -> Iterator[None]:
        self.depth[0] += 1
        try:
            yield
        finally:
            self.depth[0] -= 1

    def require_on_device(self) -> None:
        assert self.depth[0] > 0, "a context was made while another device was the current one"

    def kernel(self, name: str, *arrays: Any) -> None:
        assert self.depth[0] > 0, f"{name} ran while another device was the current one"
        self.operations.append(name)


def model_on(backend: SecondDevice) -> xpnet.Sequential:
    return xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 8, "relu"), xpnet.Linear(8, 10)).initialize(backend)


def fit(backend: SecondDevice) -> None:
    trainer = xpnet.Trainer(model_on(backend), xpnet.SoftmaxCrossEntropy(), xpnet.Adam(), ema_decay=0.9)
    trainer.fit(DIGITS.train, steps=3, batch_size=20, validation=DIGITS.test)


def run(backend: SecondDevice, folder: Path) -> None:
    recipe = xpnet.load_recipe("digits").with_options(epochs=2)
    xpnet.train(recipe, DIGITS, backend, out=folder, stop_after_epoch=1)
    xpnet.resume(folder, backend, xpnet.data.load)


def gradients(backend: SecondDevice) -> None:
    checks = xpnet.check_gradients(xpnet.Linear(3, 2).initialize(backend, dtype="float64"), np.ones((2, 3)), samples=2)
    assert max(check.error for check in checks) < 1e-6


def parity(backend: SecondDevice) -> None:
    float64 = xpnet.backend("float64")
    model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 10)).initialize(float64)
    found = compare(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), DIGITS.train, [float64, backend], steps=1)
    assert found.first_divergence is None


CALLS: dict[str, Callable[[SecondDevice, Path], Any]] = {
    "call": lambda backend, _: model_on(backend)(backend.asarray(DIGITS.x_test)),
    "predict": lambda backend, _: model_on(backend).predict(DIGITS.x_test),
    "evaluate": lambda backend, _: xpnet.evaluate(model_on(backend), DIGITS.test),
    "loss": lambda backend, _: xpnet.SoftmaxCrossEntropy()(
        backend, backend.asarray([[0.0, 1.0]]), backend.asarray([1])
    ),
    "fit": lambda backend, _: fit(backend),
    "run": run,
    "gradients": lambda backend, _: gradients(backend),
    "parity": lambda backend, _: parity(backend),
    "profile": lambda backend, _: profile_step(xpnet.load_recipe("digits"), DIGITS, backend, steps=1),
}


@pytest.mark.parametrize("call", CALLS)
def test_it_is_the_current_device(call: str, tmp_path: Path) -> None:
    backend = SecondDevice()
    CALLS[call](backend, tmp_path / "run")
    assert backend.operations
    assert backend.depth == [0]


def test_what_is_written_into_a_model_is_written_on_its_device() -> None:
    backend, seen = SecondDevice(), []

    class Watched(np.ndarray):
        def __setitem__(self, key: Any, value: Any) -> None:
            seen.append(backend.depth[0])
            super().__setitem__(key, value)

    object.__setattr__(backend, "aligned_zeros", lambda count, dtype: np.zeros(count, dtype).view(Watched))
    model = model_on(backend)
    model.parameters["1.b"] = 1.0 + np.zeros(8)
    model.load_state_dict(model.state_dict())
    copy.deepcopy(model)
    model.to(backend)
    assert len(seen) >= 4 + 1 + 4 + 4 + 1  # drawn, assigned, loaded, copied, and moved as one vector
    assert min(seen) > 0
