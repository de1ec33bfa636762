"""Whole runs on the CPU and on another device: recipes, evaluation, checkpoints that change places, reruns, memory."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.backends import Backend
from xpnet.data import Dataset

# For what takes the emulated device more than some seconds.
LONG = pytest.mark.parametrize(
    "device",
    ["strict", pytest.param("emulated", marks=pytest.mark.cuda_compile), pytest.param("cuda", marks=pytest.mark.gpu)],
    indirect=True,
)

TRAINABLE = [name for name in xpnet.recipe_names() if xpnet.load_recipe(name).weights is None]


def shortened(dataset: Dataset) -> Dataset:
    """The first 2,000 rows to train on and 1,000 to test on."""
    return replace(
        dataset, x_train=dataset.x_train[:2000], y_train=dataset.y_train[:2000], x_test=dataset.x_test[:1000],
        y_test=dataset.y_test[:1000],
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return xpnet.data.load("digits")


@pytest.fixture
def digits_recipe() -> xpnet.Recipe:
    return xpnet.load_recipe("digits").with_options(epochs=2)


def bits(model: xpnet.Layer) -> bytes:
    return model.backend.to_numpy(model.vectors.parameters.vector).tobytes()


@LONG
@pytest.mark.parametrize("name", TRAINABLE)
def test_recipes_reach_the_same_accuracy(cpu: Backend, device: Backend, tmp_path: Path, name: str) -> None:
    recipe = xpnet.load_recipe(name)
    try:
        data = shortened(xpnet.data.load(recipe.data, download=False))
    except xpnet.MissingFileError:
        pytest.skip(f"XPNET_DATA_DIR names no folder with {recipe.data} in it")
    recipe = recipe.with_options(steps=20, evaluate_every=10)
    runs = [xpnet.train(recipe, data, backend, out=tmp_path / backend.name) for backend in (cpu, device)]
    for figure in [figure for figure in runs[0] if figure.endswith("_accuracy")]:
        assert runs[1][figure] == pytest.approx(runs[0][figure], abs=0.003)
    assert runs[1]["test_loss"] == pytest.approx(runs[0]["test_loss"], rel=1e-3)
    assert runs[1]["diagnoses"] == runs[0]["diagnoses"]


def test_evaluation(cpu: Backend, device: Backend, digits: Dataset) -> None:
    model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 50, "relu"), xpnet.Linear(50, 10)).initialize(cpu)
    ours = xpnet.evaluate(model, digits.test, batch_size=100)
    theirs = xpnet.evaluate(model.to(device), digits.test, batch_size=100)
    assert (theirs.accuracy, theirs.samples) == (ours.accuracy, ours.samples)
    assert theirs.loss == pytest.approx(ours.loss, rel=2e-6)


@pytest.mark.parametrize("there_and_back", [False, True])
def test_a_model_changes_places_by_file_and_in_memory(
    cpu: Backend, device: Backend, tmp_path: Path, there_and_back: bool
) -> None:
    first, second = (device, cpu) if there_and_back else (cpu, device)
    model = xpnet.Sequential(xpnet.Linear(12, 9, "relu"), xpnet.Linear(9, 5)).initialize(first, seed=4)
    xpnet.save_model(model, tmp_path / "model.safetensors")
    loaded, moved = xpnet.load_model(tmp_path / "model.safetensors", second), model.to(second)
    assert bits(loaded) == bits(moved) == bits(model)
    assert loaded.backend is moved.backend is second
    assert bits(moved.to(first)) == bits(model)


@LONG
@pytest.mark.parametrize("there_and_back", [False, True])
def test_a_run_that_is_resumed_elsewhere(
    cpu: Backend, device: Backend, tmp_path: Path, digits: Dataset, digits_recipe: xpnet.Recipe, there_and_back: bool
) -> None:
    """The same batches from where it was: the first half has the same bits, the second the same numbers nearly."""
    first, second = (device, cpu) if there_and_back else (cpu, device)
    whole = xpnet.train(digits_recipe, digits, first, out=tmp_path / "whole")
    xpnet.train(digits_recipe, digits, first, out=tmp_path / "moved", stop_after_epoch=1)
    moved = xpnet.resume(tmp_path / "moved", second, lambda name: digits)
    assert (moved["device"], moved["steps"]) == (second.name, whole["steps"])
    assert moved["test_accuracy"] == pytest.approx(whole["test_accuracy"], abs=0.003)
    models = [xpnet.load_model(tmp_path / run / "last.safetensors", cpu) for run in ("whole", "moved")]
    for name, expected in models[0].parameters.items():
        np.testing.assert_allclose(models[1].parameters[name], expected, rtol=1e-3, atol=1e-4)


@LONG
def test_reruns_have_the_same_bits(
    device: Backend, tmp_path: Path, digits: Dataset, digits_recipe: xpnet.Recipe
) -> None:
    for run in ("first", "second"):
        xpnet.train(digits_recipe, digits, device, out=tmp_path / run)
    models = [xpnet.load_model(tmp_path / run / "last.safetensors", device) for run in ("first", "second")]
    assert bits(models[0]) == bits(models[1])


@LONG
def test_memory_does_not_grow_with_the_epochs(device: Backend, digits: Dataset) -> None:
    """CUDA's in bytes; the stand-in's in arrays."""
    import array_api_strict

    def in_use() -> int:
        gc.collect()
        known = device.peak_memory()
        stand_in = type(array_api_strict.ones(1))
        return known if known is not None else sum(type(thing) is stand_in for thing in gc.get_objects())

    model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 16, "relu"), xpnet.Linear(16, 10)).initialize(device)
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.Adam(1e-3))
    used = []
    for epochs in (3, 50):
        trainer.fit(digits.train, validation=digits.test, epochs=epochs, batch_size=500)
        used.append(in_use())
    assert used[0] == used[1] > 0


def test_pixels_that_are_no_numbers_are_told_at_the_next_report(device: Backend, digits: Dataset) -> None:
    x = digits.x_train / np.float32(16)
    x[777, 3, 3] = np.nan
    model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 10)).initialize(device)
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
    with pytest.raises(xpnet.NonFiniteError, match=r"step 78 .* in the inputs \(sample 777 of the"):
        trainer.fit((x, digits.y_train), epochs=1, batch_size=10, sampler=xpnet.data.InOrder())


def test_streams_of_ones_own(any_cuda: Backend, digits: Dataset) -> None:
    """Runs on other streams than the default, one after the other and in two threads at once: the same bits."""
    from concurrent.futures import ThreadPoolExecutor

    import cupy

    def run(stream: cupy.cuda.Stream) -> bytes:
        with stream:
            model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 50, "relu"), xpnet.Linear(50, 10))
            trainer = xpnet.Trainer(model.initialize(any_cuda), xpnet.SoftmaxCrossEntropy(), xpnet.Adam(1e-3))
            trainer.fit(digits.train, epochs=1, batch_size=100)
            return bits(model)

    expected = run(cupy.cuda.Stream.null)
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert [run(streams[0]), *pool.map(run, streams)] == [expected] * 3


def test_a_gpu_without_room_is_told_with_the_bytes(any_cuda: Backend, digits: Dataset) -> None:
    import cupy

    pool = cupy.get_default_memory_pool()
    model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 4096, "relu"), xpnet.Linear(4096, 10)).initialize(
        any_cuda
    )
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**20)
    try:
        with pytest.raises(xpnet.OutOfMemoryError, match=r"batches of 1,437 rows.*allocating [\d,]+ bytes"):
            trainer.fit(digits.train, epochs=1, batch_size=1437)
    finally:
        pool.set_limit(size=0)
    trainer.fit(digits.train, epochs=1, batch_size=100)
    assert trainer.step == 15
