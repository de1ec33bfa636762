"""What a step of training asks of a CUDA device: no wait and no copy from the host; and that faults are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.emulated_cuda import Record, StreamRaceError, recorded
from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.backends.cupy_backend import CudaKernels
from xpnet.training import reports
from xpnet.training.batches import batches_for

OPTIMIZERS = {
    "sgd": lambda: xpnet.SGD(0.1),
    "momentum": lambda: xpnet.Momentum(0.1),
    "adam": lambda: xpnet.Adam(1e-3),
}
MOST_OPERATIONS = 14  # of a step of 784-50-10

NETWORKS: dict[str, Callable[[], list[xpnet.Layer]]] = {
    "784-50-10": lambda: [xpnet.Linear(784, 50, "relu"), xpnet.Linear(50, 10)],
    "activations": lambda: [
        xpnet.Linear(784, 16), xpnet.GELU(), xpnet.Linear(16, 16), xpnet.LeakyReLU(), xpnet.Linear(16, 16, "tanh"),
        xpnet.Softplus(), xpnet.Linear(16, 16), xpnet.Sigmoid(), xpnet.Dropout(0.3), xpnet.Linear(16, 10),
    ],
    "convolutions": lambda: [
        xpnet.Reshape([1, 28, 28]), xpnet.Conv2d(1, 2, 5, 2, activation="relu"), xpnet.MaxPool2d(2), xpnet.BatchNorm(2),
        xpnet.AvgPool2d(2), xpnet.Flatten(), xpnet.LayerNorm(18), xpnet.Residual(xpnet.Linear(18, 18)), xpnet.ReLU(),
        xpnet.Linear(18, 10),
    ],
}  # fmt: skip


def trainer_of(
    backend: Backend, network: str = "784-50-10", optimizer: str = "sgd", labels: int = 10
) -> Callable[[], Record]:
    """A function that takes a step of 100 rows and returns what it asked of the device."""
    random = np.random.default_rng(0)
    model = xpnet.Sequential(xpnet.Rescale(255.0), *NETWORKS[network]()).initialize(backend, seed=1)
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), OPTIMIZERS[optimizer]())
    samples = random.integers(0, 256, (400, 784), np.uint8), random.integers(0, labels, 400)
    batches = batches_for(model, samples, trainer.loss, batch_size=100)
    context = xpnet.Context(backend, training=True, reuse=True)

    def step() -> Record:
        with recorded() as record:
            trainer.train_step(batches, context)
        return record

    return step


def require_no_wait(step: Callable[[], Record]) -> Record:
    """The record of a later step, in which the host neither waits for the device nor sends it anything large."""
    step()  # allocates, and orders the epoch
    record = step()
    assert record.synchronizations == []
    return record


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_operations_of_a_step(emulated: Backend, optimizer: str) -> None:
    record = require_no_wait(trainer_of(emulated, optimizer=optimizer))
    assert len(record.operations) <= MOST_OPERATIONS, record.operations
    assert record.operations.count("gemm") == 5
    assert record.operations[-1] == f"kernel {optimizer}"
    assert record.transfers == []


@pytest.mark.parametrize("network", NETWORKS)
def test_no_step_waits(emulated: Backend, network: str) -> None:
    require_no_wait(trainer_of(emulated, network))


class TestFaults:
    """Faults planted in the backend or in a layer: each is found by what the tests above and beside check."""

    def test_a_layer_that_computes_on_the_host(self, emulated: Backend, monkeypatch) -> None:
        def forward(self: xpnet.ReLU, x: Array, context: xpnet.Context) -> Array:
            self.saved = np.maximum(np.asarray(x), 0)
            return self.saved

        monkeypatch.setattr(xpnet.ReLU, "forward", forward)
        with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
            trainer_of(emulated, "convolutions")()

    def test_a_layer_with_an_array_of_the_host(self, emulated: Backend, monkeypatch) -> None:
        monkeypatch.setattr(xpnet.ReLU, "forward", lambda self, x, context: x * (np.ones(x.shape, np.float32)))
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
            trainer_of(emulated, "convolutions")()

    def test_a_backend_that_waits_for_each_kernel(self, emulated: Backend, monkeypatch) -> None:
        import cupy
        import xpnet_kernels.cuda

        def waiting(self: CudaKernels, name: str) -> Callable:
            def launch(*arguments: Any, **keywords: Any) -> None:
                getattr(xpnet_kernels.cuda, name)(*arguments, **keywords)
                cupy.cuda.get_current_stream().synchronize()

            return launch

        monkeypatch.setattr(CudaKernels, "__getattr__", waiting)
        with pytest.raises(AssertionError, match=r"Stream.synchronize at devices/test_steps.py"):
            require_no_wait(trainer_of(emulated))

    def test_a_loss_that_is_read_in_each_step(self, emulated: Backend, monkeypatch) -> None:
        compute = xpnet.SoftmaxCrossEntropy.compute

        def reading(self: xpnet.SoftmaxCrossEntropy, *arguments: Any) -> ops.BatchLoss:
            result = compute(self, *arguments)
            return result if result.loss < 1e9 else result._replace(loss=1e9)

        monkeypatch.setattr(xpnet.SoftmaxCrossEntropy, "compute", reading)
        with pytest.raises(AssertionError, match=r"bool at devices/test_steps.py"):
            require_no_wait(trainer_of(emulated))

    def test_a_row_index_that_nobody_checks(self, emulated: Backend, monkeypatch) -> None:
        """CuPy would take another row for it."""
        rows, indices = emulated.asarray([[1.0], [2.0]]), emulated.asarray([1, 2])

        def require_nan() -> None:
            taken = emulated.to_numpy(emulated.take(rows, indices, "float32"))
            np.testing.assert_array_equal(taken, [[2.0], [np.nan]])

        require_nan()
        fault = lambda self, rows, indices, dtype: self.xp.take(rows, indices, axis=0)  # noqa: E731
        monkeypatch.setattr(type(emulated), "take", fault)
        with pytest.raises(AssertionError):
            require_nan()

    @pytest.mark.parametrize("fused", [True, False])
    def test_a_label_outside_the_classes(self, emulated: Backend, monkeypatch, fused: bool) -> None:
        """It is told at the next report, and the step changes no parameter; without the check, nothing is told."""
        if not fused:
            monkeypatch.setattr(type(emulated), "kernel", lambda self, name, *arrays: None)

        def require_told() -> None:
            logits, labels = emulated.asarray(np.zeros((3, 4)), "float32"), emulated.asarray([0, 3, 4])
            result, report = ops.softmax_cross_entropy(emulated, logits, labels), reports.new_report(emulated)
            ops.end_step(emulated, report, result, 7)
            with pytest.raises(xpnet.OutOfRangeError, match="the label at row 2 of the batch of step 7 is outside"):
                reports.read(emulated, report)

        require_told()
        if not fused:
            monkeypatch.setattr(type(emulated), "require_in_range", lambda self, indices, below, what: None)
            with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
                require_told()

    def test_a_kernel_on_another_stream(self, emulated: Backend, monkeypatch) -> None:
        import cupy
        import xpnet_kernels.cuda

        def train() -> None:
            with cupy.cuda.Stream(non_blocking=True):
                require_no_wait(trainer_of(emulated))

        train()

        def on_the_default_stream(self: CudaKernels, name: str) -> Callable:
            return getattr(xpnet_kernels.cuda, name)

        monkeypatch.setattr(CudaKernels, "__getattr__", on_the_default_stream)
        emulated = replace(emulated, kernels=CudaKernels())  # which has looked up none of them yet
        with pytest.raises(
            StreamRaceError, match=r"on the stream 0 (reads|writes) memory that the stream \d+ (wrote|reads)"
        ):
            train()

    def test_a_product_on_another_stream(self, emulated: Backend, monkeypatch) -> None:
        import cupy
        from xpnet_kernels.cuda.matrix_products import Product

        queue = Product.queue
        monkeypatch.setattr(Product, "queue", lambda self, stream: queue(self, 0))
        with cupy.cuda.Stream(non_blocking=True), pytest.raises(StreamRaceError, match="without waiting for it"):
            require_no_wait(trainer_of(emulated))
