"""Running out of memory: a clear error with the batch size and the bytes, and a run that can go on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import xpnet
from xpnet.training import batches_for

LIMIT = 100_000  # bytes in one array


class Full:
    """An array namespace whose device has no room for large arrays; it says so as CuPy does."""

    def __init__(self, xp) -> None:
        self._xp = xp

    def __getattr__(self, name):
        return getattr(self._xp, name)

    def empty(self, shape, *, dtype, device):
        count = int(np.prod(shape)) * np.dtype(getattr(np, str(dtype).rpartition(".")[2], dtype)).itemsize
        if count > LIMIT:
            raise MemoryError(f"Out of memory allocating {count:,} bytes (allocated so far: 7 bytes).")
        return self._xp.empty(shape, dtype=dtype, device=device)


@pytest.fixture
def full(strict):
    """array-api-strict with little memory for what a step needs."""

    class FullBackend(type(strict)):
        def owns(self, value) -> bool:  # arrays say they are array-api-strict's, not Full's
            return True

    return FullBackend("full", Full(strict.xp), strict.device)


def trainer_on(backend) -> xpnet.Trainer:
    model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 50, "relu"), xpnet.Linear(50, 10)).initialize(backend)
    return xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))


def test_training_out_of_memory_names_the_batch_size(full) -> None:
    trainer, digits = trainer_on(full), xpnet.data.load("digits")
    expected = (
        r"not enough memory for batches of 1,000 rows: make them smaller, or train on the CPU "
        r"\(Out of memory allocating 256,000 bytes \(allocated so far: 7 bytes\)\.\)"
    )
    with pytest.raises(xpnet.OutOfMemoryError, match=expected) as raised:
        trainer.fit(digits.train, epochs=1, batch_size=1000)
    assert isinstance(raised.value, MemoryError)
    assert trainer.step == 0
    trainer.fit(digits.train, steps=3, batch_size=100)
    assert trainer.step == 3


def test_an_evaluation_out_of_memory_names_the_batch_size(full) -> None:
    model, digits = trainer_on(full).model, xpnet.data.load("digits")
    with pytest.raises(xpnet.OutOfMemoryError, match="an evaluation with batches of 1,000 rows"):
        xpnet.evaluate(model, digits.train)
    assert xpnet.evaluate(model, digits.train, batch_size=100).samples == len(digits.x_train)


def test_samples_that_do_not_fit_on_the_device(cpu, monkeypatch) -> None:
    def no_room(self, value, dtype=None):
        raise MemoryError("Out of memory allocating 92,032 bytes")

    model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 10)).initialize(cpu)
    monkeypatch.setattr(type(cpu), "asarray", no_room)
    with pytest.raises(xpnet.OutOfMemoryError, match=r"1,437 samples, which stay on the device.*92,032 bytes"):
        batches_for(model, xpnet.data.load("digits").train, xpnet.SoftmaxCrossEntropy())


def test_the_last_checkpoint_stays_whole(tmp_path, cpu, monkeypatch) -> None:
    """Memory ends in the second epoch, when a part of the parameters is updated already."""
    recipe, digits = xpnet.load_recipe("digits").with_options(epochs=2), xpnet.data.load("digits")
    undisturbed = xpnet.train(recipe, digits, cpu, out=tmp_path / "undisturbed")
    xpnet.train(recipe, digits, cpu, out=tmp_path / "one", stop_after_epoch=1)
    update, steps = xpnet.Adam.update, SimpleNamespace(left=60)

    def full(self, *arguments):
        steps.left -= 1
        if steps.left < 0:
            self.model.parameters["1.W"][...] = 7.0
            raise MemoryError("Out of memory allocating 512 bytes")
        update(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(xpnet.Adam, "update", full)
        with pytest.raises(xpnet.OutOfMemoryError, match="batches of 32 rows"):
            xpnet.train(recipe, digits, cpu, out=tmp_path / "run")
    saved, expected = (xpnet.load_model(tmp_path / run / "last.safetensors", cpu) for run in ("run", "one"))
    assert saved.vectors.parameters.vector.tobytes() == expected.vectors.parameters.vector.tobytes()
    resumed = xpnet.resume(tmp_path / "run", cpu, lambda name: digits)
    assert resumed["steps"] == undisturbed["steps"] == 90
    for name in ("test_loss", "train_loss", "best_test_accuracy"):
        assert resumed[name] == undisturbed[name]


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), True),
        (
            RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"),
            True,
        ),
        (type("OutOfMemoryError", (RuntimeError,), {})("7 bytes"), True),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), False),
        (ValueError("no memory of that"), False),
    ],
)
def test_which_errors_mean_out_of_memory(cpu, error, full) -> None:
    with pytest.raises(xpnet.OutOfMemoryError if full else type(error)) as raised, cpu.memory_for("a batch: mend it"):
        raise error
    if full:
        assert str(raised.value).startswith("not enough memory for a batch: mend it (")
    else:
        assert raised.value is error


def test_more_random_numbers_than_any_memory_holds() -> None:
    """On a sampler that fills each batch."""
    model = xpnet.Sequential(xpnet.Linear(2, 2)).initialize(xpnet.backend("cpu-reference"))
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
    sampler = xpnet.data.WithReplacement()
    with pytest.raises(
        xpnet.OutOfMemoryError, match=r"batches of 1,099,511,627,776 rows.*\(1,099,511,627,776 random words"
    ):
        trainer.fit((np.zeros((3, 2)), np.array([0, 1, 0])), epochs=1, batch_size=2**40, sampler=sampler)


def test_numpys_own_memory_error_is_translated(cpu) -> None:
    """NumPy's own error, from a layer that no memory holds for that many rows."""
    model = xpnet.Sequential(xpnet.Linear(1, 2**20), xpnet.Linear(2**20, 1)).initialize(cpu)
    samples = np.broadcast_to(np.zeros((1, 1), np.float32), (2**24, 1)), np.zeros(2**24, np.int64)
    with pytest.raises(xpnet.OutOfMemoryError, match=r"batches of 16,777,216 rows.*Unable to allocate 64.0 TiB"):
        xpnet.evaluate(model, samples, batch_size=2**24)
