"""What a training step asks of a CUDA device, counted on the emulated one; and that each step asks the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.emulated_cuda import recorded
from tests.emulated_cuda.memory import MemoryPool
from xpnet.schedules import CosineDecay, Warmup
from xpnet.training import batches_for

# Where cuBLASLt is not installed. With it the kernels of bias and activation are parts of the products.
FORWARD = ["gemm", "kernel forward"]
BACKWARD = ["kernel backward", "gemm", "gemm", "kernel backward", "gemm"]
UNTIL_UPDATE = [
    "kernel take", *FORWARD, *FORWARD, "kernel cross_entropy", *BACKWARD, "kernel check_finite", "kernel finish"
]  # fmt: skip

rng = np.random.default_rng(0)
IMAGES, LABELS = rng.integers(0, 256, (400, 784)).astype(np.uint8), rng.integers(0, 10, 400).astype(np.uint8)


class Run:
    """Steps of 784-50-10 with batches of 100, four in an epoch."""

    def __init__(self, backend: xpnet.Backend, optimizer: xpnet.Optimizer, dropout: bool = False, **options: Any):
        between = [xpnet.Dropout(0.3)] if dropout else []
        layers = xpnet.Linear(784, 50, "relu"), *between, xpnet.Linear(50, 10)
        model = xpnet.Sequential(xpnet.Rescale(255.0), *layers).initialize(backend, seed=0)
        self.trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), optimizer, **options)
        optimizer.set_total_steps(40, 0)
        self.batches = batches_for(model, (IMAGES, LABELS), self.trainer.loss, batch_size=100)
        self.context = xpnet.Context(backend, training=True, reuse=True)

    def step(self) -> Any:
        with recorded() as record:
            self.trainer.train_step(self.batches, self.context)
        return record


@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
@pytest.mark.parametrize(("optimizer", "update"), [("SGD", "sgd"), ("Momentum", "momentum"), ("Adam", "adam")])
def test_a_step_of_two_layers_makes_fourteen_operations_and_waits_for_nothing(
    emulated, optimizer, update, on_nonfinite
) -> None:
    run = Run(emulated, getattr(xpnet, optimizer)(0.01), on_nonfinite=on_nonfinite)
    assert len(run.step().transfers) == 3  # the epoch's order, the step, the hyperparameters of the next steps
    for _ in range(3):
        record = run.step()
        assert record.operations == [*UNTIL_UPDATE, f"kernel {update}"]
        assert record.synchronizations == record.transfers == []
    assert len(run.step().transfers) == 1  # the order of the second epoch
    assert len(run.step().operations) == 14


@pytest.mark.parametrize(
    ("options", "most"), [({"dropout": True}, 16), ({"ema_decay": 0.9}, 20), ({"micro_batch_size": 50}, 57)]
)
def test_a_step_with_more_in_it_waits_for_nothing_either(emulated, options, most) -> None:
    run = Run(emulated, xpnet.SGD(0.1), **options)
    run.step()
    for _ in range(3):
        record = run.step()
        assert len(record.operations) <= most
        assert record.synchronizations == record.transfers == []


@pytest.fixture
def launches(emulated, monkeypatch) -> list[Any]:
    """The kernels that are launched, with their arguments, and the arrays that are allocated."""
    from xpnet_kernels.cuda import launch

    seen: list[Any] = []
    compiled, allocate = launch.compiled, MemoryPool.allocate

    def watched(kernel: Any, signature: Any) -> Any:
        def run(values: Any, grid: Any, block: Any, stream: int) -> None:
            seen.append((kernel.__name__, tuple(values), grid, block, stream))
            compiled(kernel, signature).launch(values, grid, block, stream)

        return SimpleNamespace(launch=run)

    def allocated(pool: MemoryPool, nbytes: int, *more: Any) -> Any:
        seen.append(f"{nbytes} bytes")
        return allocate(pool, nbytes, *more)

    monkeypatch.setattr(launch, "compiled", watched)
    monkeypatch.setattr(MemoryPool, "allocate", allocated)
    return seen


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("rate", [0.01, Warmup(CosineDecay(0.01), 3)], ids=["constant", "schedule"])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_every_step_is_the_same_launches_with_the_same_arguments(emulated, launches, optimizer, rate, dropout) -> None:
    """What a captured graph replays; in the second epoch, too. No array is allocated in a step."""
    run = Run(emulated, getattr(xpnet, optimizer)(rate), dropout)
    run.step()
    launches.clear()
    run.step()
    first = launches.copy()
    for _ in range(2):
        launches.clear()
        run.step()
        assert launches == first
    run.step()  # which begins an epoch
    launches.clear()
    run.step()
    assert launches == first
    assert not [what for what in first if isinstance(what, str)]


@pytest.mark.parametrize("options", [{}, {"micro_batch_size": 30}])
def test_steps_whose_numbers_the_device_keeps_are_those_of_the_cpu(emulated, cpu, options) -> None:
    """Batches, masks, rates and reports of ten steps, from the third on, with a partial batch in each epoch."""
    found = []
    for backend in (cpu, emulated):
        run = Run(backend, xpnet.AdamW(Warmup(CosineDecay(0.01), 3)), dropout=True, **options)
        run.batches = batches_for(
            run.trainer.model, (IMAGES[:250], LABELS[:250]), run.trainer.loss, batch_size=100,
            sampler=xpnet.data.Shuffled(), seed=3,
        )  # fmt: skip
        run.trainer.step = 2
        for _ in range(10):
            run.step()
        parameters = backend.to_numpy(run.trainer.model.parameters.vector)
        found.append((parameters, backend.to_numpy(run.trainer.report)))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=0, atol=2e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5)
