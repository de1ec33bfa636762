"""Comparison of backends that compute in bfloat16 or TF32 with one in float64."""

from __future__ import annotations

from typing import Any

import pytest

import xpnet
from xpnet import ops
from xpnet.backends import Backend
from xpnet.parity import Parity, compare

DIGITS = xpnet.data.load("digits")


def compared(backend: Backend, *layers: xpnet.Layer, steps: int = 2) -> Parity:
    reference = xpnet.backend("float64")
    model = xpnet.Sequential(xpnet.Rescale(16.0), *layers).initialize(reference, seed=2)
    backends, train = [reference, backend], DIGITS.train
    return compare(model, xpnet.SoftmaxCrossEntropy(), xpnet.Adam(), train, backends, batch_size=50, steps=steps)


def mixed() -> list[xpnet.Layer]:
    """Layers that take bfloat16, and such that compute in float32."""
    return [
        xpnet.Reshape([1, 8, 8]), xpnet.Conv2d(1, 4, 3, activation="relu"), xpnet.MaxPool2d(2), xpnet.Flatten(),
        xpnet.BatchNorm(36), xpnet.Linear(36, 16, "tanh"), xpnet.GELU(), xpnet.Dropout(0.2), xpnet.Linear(16, 10),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["cpu-reference", "emulated"])
def test_bfloat16_agrees_within_its_own_roundings(name: str, request: pytest.FixtureRequest) -> None:
    backend = xpnet.backend(name) if name != "emulated" else request.getfixturevalue(name)
    parity = compared(backend.at_precision("bf16"), *mixed())
    assert parity.first_divergence is None
    rows = {(row.layer, row.quantity, row.array): row for row in parity.rows}
    relative = {key[:2]: row.relative for key, row in rows.items()}
    assert 2.0**-12 < relative["5 Linear", "forward"] < 2.0**-8  # rounded, once or twice
    assert relative["8 Linear", "gradient"] < 2.0**-12 or relative["5 Linear", "gradient"] < 2.0**-8  # of dz
    assert max(value for (_, quantity), value in relative.items() if quantity == "update") < 1e-6  # in float32
    assert parity.drift[0].parameters < 2.0**-8


def test_tf32_agrees_within_its_own(emulated: Backend) -> None:
    parity = compared(
        emulated.at_precision("tf32"), xpnet.Flatten(), xpnet.Linear(64, 16, "tanh"), xpnet.Linear(16, 10)
    )
    assert parity.first_divergence is None
    assert max(row.relative for row in parity.rows if row.layer == "1 Linear") > 2.0**-14


def test_a_wrong_product_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ops.linear_backward

    def wrong(
        backend: Backend, dy: Any, x: Any, y: Any, W: Any, activation: Any, dW: Any, *more: Any, **named: Any
    ) -> Any:
        dx = right(backend, dy, x, y, W, activation, dW, *more, **named)
        if backend.precision == "bf16" and W.shape[0] == 16:
            dW *= -1.0
        return dx

    monkeypatch.setattr(ops, "linear_backward", wrong)
    parity = compared(xpnet.backend("cpu-reference").at_precision("bf16"), *mixed())
    found = parity.first_divergence
    assert found is not None
    assert (found.layer, found.quantity, found.array, found.step) == ("8 Linear", "gradient", "W", 1)


def test_statistics_that_were_rounded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = xpnet.BatchNorm.forward

    def wrong(self: xpnet.BatchNorm, x: Any, context: xpnet.Context) -> Any:
        y = right(self, x, context)
        if context.training and self.backend is not None and self.backend.precision == "bf16":
            narrow, wide = self.backend.narrowed, self.backend.widened
            self.buffers["running_mean"] = wide(narrow(self.buffers["running_mean"]))
        return y

    monkeypatch.setattr(xpnet.BatchNorm, "forward", wrong)
    parity = compared(xpnet.backend("cpu-reference").at_precision("bf16"), *mixed())
    found = parity.first_divergence
    assert found is not None
    assert (found.layer, found.array) == ("4 BatchNorm", "running_mean")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from xpnet.cli import main

    command = ["parity", "--recipe", "digits", "--steps", "1", "--precision"]
    assert main([*command, "bf16", "--backends", "float64,cpu-reference"]) == 0
    assert "float64, cpu-reference agree in 1 steps" in capsys.readouterr().out
    assert main([*command, "bf16", "--backends", "float64,cpu"]) == 2
    assert "bf16 needs a CUDA device, not backend 'cpu'" in capsys.readouterr().err
    assert main([*command, "fp8"]) == 2
    assert "unknown precision 'fp8'; the choices are float32, tf32, bf16" in capsys.readouterr().err
