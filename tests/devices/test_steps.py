"""A step of training on a CUDA device waits for nothing, and faults are found.

Its operations are counted in tests/training/test_device_operations.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import xpnet
from tests.emulated_cuda import Record, StreamRaceError, recorded
from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.backends.cupy_backend import CudaKernels
from xpnet.training import reports
from xpnet.training.batches import batches_for

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


def trainer_of(backend: Backend, network: str = "784-50-10", labels: int = 10) -> Callable[[], Record]:
    """A function that takes a step of 100 rows and returns what it asked of the device."""
    random = np.random.default_rng(0)
    model = xpnet.Sequential(xpnet.Rescale(255.0), *NETWORKS[network]()).initialize(backend, seed=1)
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
    samples = random.integers(0, 256, (400, 784), np.uint8), random.integers(0, labels, 400)
    batches = batches_for(model, samples, trainer.loss, batch_size=100)
    context = xpnet.Context(backend, training=True, reuse=True)

    def step() -> Record:
        with recorded() as record:
            trainer.train_step(batches, context)
        return record

    return step


def require_no_wait(step: Callable[[], Record]) -> Record:
    """The record of a later step, in which the host neither waits for the device nor sends it anything."""
    step()  # allocates, and orders the epoch
    record = step()
    assert record.synchronizations == []
    assert record.transfers == []
    return record


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

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("scalar", lambda self, value: float(value)),
            ("select", lambda self, condition, one, other: self._from_scalars(one if condition else other)),
        ],
    )
    def test_a_step_that_waits(self, emulated: Backend, monkeypatch, name: str, fault: Callable) -> None:
        """At its end, by the operation's plain form: the kernel looks at nothing."""
        kernel = type(emulated).kernel

        def without_end_step(self: Backend, name: str, *arrays: Array) -> Callable | None:
            return None if name == "end_step" else kernel(self, name, *arrays)

        monkeypatch.setattr(type(emulated), "kernel", without_end_step)
        require_no_wait(trainer_of(emulated))
        step = trainer_of(emulated)
        monkeypatch.setattr(type(emulated), name, fault)
        with pytest.raises(AssertionError, match=r"(float|bool) at devices/test_steps.py"):
            require_no_wait(step)

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
