"""``xpnet evaluate``."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet as library

CPU = ("--device", "cpu-reference")
DIGITS = ("--recipe", "digits", *CPU, "--json")


@pytest.fixture
def run(xpnet: Any) -> dict[str, Any]:
    """A short run on the digits, in the folder ``run``."""
    return xpnet("train", *DIGITS, "--epochs", 3, "--lr", 0.01, "--out", "run").result


@pytest.fixture
def model() -> Path:
    """A model of its own, that no recipe made."""
    model = library.Sequential(library.Flatten(), library.Linear(64, 10))
    library.save_model(model.initialize(library.backend("cpu-reference")), "model.safetensors")
    return Path("model.safetensors")


def test_a_runs_folder_means_its_best_checkpoint_and_its_data(xpnet: Any, run: dict[str, Any]) -> None:
    outcome = xpnet("evaluate", "run", *CPU, "--json")
    assert outcome.status == 0
    assert outcome.err == "device: cpu-reference   file: run/best.safetensors   data: digits\n"
    result = outcome.result
    assert list(result) == ["accuracy", "loss", "samples", "device", "seconds"]
    assert (result["samples"], result["device"]) == (360, "cpu-reference")
    assert result["accuracy"] == run["best_test_accuracy"]


def test_a_checkpoint_by_name(xpnet: Any, run: dict[str, Any]) -> None:
    result = xpnet("evaluate", "run/last.safetensors", *CPU, "--json").result
    assert result["accuracy"] == run["test_accuracy"]
    assert result["loss"] == pytest.approx(run["test_loss"], rel=1e-6)


def test_without_a_best_the_last_counts(xpnet: Any, run: dict[str, Any]) -> None:
    Path("run/best.safetensors").unlink()
    assert xpnet("evaluate", "run", *CPU, "--json").result["accuracy"] == run["test_accuracy"]


@pytest.mark.parametrize("batch_size", [1, 7, 360, 5000])
def test_the_batch_size_does_not_matter(xpnet: Any, run: dict[str, Any], batch_size: int) -> None:
    result = xpnet("evaluate", "run/last.safetensors", "--batch-size", batch_size, *CPU, "--json").result
    assert result["accuracy"] == run["test_accuracy"]
    assert result["loss"] == pytest.approx(run["test_loss"], rel=1e-5)


def test_the_loss_is_the_recipes(xpnet: Any) -> None:
    """Label smoothing raises the loss, in the run and here; a squared error knows no accuracy."""
    import tomli_w

    table = library.load_recipe("digits").to_table()
    table["loss"] = {"type": "SoftmaxCrossEntropy", "label_smoothing": 0.5}
    Path("smooth.toml").write_text(tomli_w.dumps(table))
    run = xpnet("train", "--recipe", "smooth.toml", *CPU, "--json", "--epochs", 1, "--out", "smooth").result
    result = xpnet("evaluate", "smooth/last.safetensors", *CPU, "--json").result
    assert result["loss"] == pytest.approx(run["test_loss"], rel=1e-6)
    model = library.load_model("smooth/last.safetensors", library.backend("cpu-reference"))
    plain = library.evaluate(model, library.data.load("digits").test)
    assert result["loss"] > plain.loss + 0.1


def test_the_printed_line(xpnet: Any, run: dict[str, Any]) -> None:
    outcome = xpnet("evaluate", "run/last.safetensors", *CPU)
    accuracy, loss = run["test_accuracy"], run["test_loss"]
    assert outcome.out.startswith(f"accuracy {accuracy:.4f}   loss {loss:.4f}   (360 samples, ")


def test_pixels_are_scaled_as_they_were_in_training(xpnet: Any) -> None:
    import tomli_w

    recipe = library.load_recipe("digits").to_table()
    del recipe["model"]["layers"][0]  # Rescale
    Path("raw.toml").write_text(tomli_w.dumps(recipe))
    run = xpnet("train", "--recipe", "raw.toml", *CPU, "--json", "--epochs", 1, "--out", "raw").result
    assert xpnet("evaluate", "raw", *CPU, "--json").result["accuracy"] == run["test_accuracy"]


def test_a_model_that_no_recipe_made(xpnet: Any, model: Path) -> None:
    digits = library.data.load("digits")
    loaded = library.load_model(model, library.backend("cpu-reference"))
    expected = (loaded.predict_labels(digits.x_test) == digits.y_test).mean()
    assert xpnet("evaluate", model, "--data", "digits", *CPU, "--json").result["accuracy"] == expected


def test_a_model_of_format_1_that_no_recipe_made(xpnet: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Format 1 divided the pixels of the digits by 16 before any model saw them."""
    digits = library.data.load("digits")
    loaded = library.load_model(model, library.backend("cpu-reference"))
    with monkeypatch.context() as patch:
        patch.setattr(library.checkpoint, "FORMAT_VERSION", 1)
        library.save_model(loaded, model)
    expected = library.evaluate(loaded, (digits.x_test / np.float32(16.0), digits.y_test))
    result = xpnet("evaluate", model, "--data", "digits", *CPU, "--json").result
    assert (result["accuracy"], result["loss"]) == (expected.accuracy, pytest.approx(expected.loss, rel=1e-6))
    assert result["loss"] != library.evaluate(loaded, digits.test).loss


@pytest.mark.parametrize("name", ["weights.pkl", "WEIGHTS.PKL"])
def test_a_books_pickle(xpnet: Any, name: str) -> None:
    rng = np.random.default_rng(0)
    W1, W2 = rng.normal(size=(64, 20)).astype(np.float32), rng.normal(size=(20, 10)).astype(np.float32)
    weights = {"W1": W1, "b1": np.zeros(20, np.float32), "W2": W2, "b2": np.zeros(10, np.float32)}
    Path(name).write_bytes(pickle.dumps(weights, protocol=3))
    digits = library.data.load("digits")
    hidden = 1 / (1 + np.exp(-(digits.x_test.reshape(-1, 64) / 255.0) @ W1))
    expected = (np.argmax(hidden @ W2, axis=1) == digits.y_test).mean()
    result = xpnet("evaluate", name, "--data", "digits", *CPU, "--json").result
    assert result["accuracy"] == pytest.approx(expected, abs=1.5 / 360)


def test_a_loss_that_is_not_finite_is_null(xpnet: Any, model: Path) -> None:
    loaded = library.load_model(model, library.backend("cpu-reference"))
    loaded.parameters.vector[...] = float("nan")
    library.save_model(loaded, model)
    assert xpnet("evaluate", model, "--data", "digits", *CPU, "--json").result["loss"] is None
    assert "loss not finite" in xpnet("evaluate", model, "--data", "digits", *CPU).out


def test_what_cannot_be_evaluated(xpnet: Any, model: Path) -> None:
    Path("empty").mkdir()
    Path("notes.txt").write_text("W1 = 3")
    Path("notes.pkl").write_text("W1 = 3")
    Path("cut.safetensors").write_bytes(model.read_bytes()[:-5])
    complaints = {
        ("none.safetensors",): "there is no checkpoint none.safetensors",
        ("none.pkl",): "there is no weight file none.pkl",
        ("empty",): "empty is a folder without best.safetensors or last.safetensors: name a run's folder",
        ("notes.txt",): "notes.txt is damaged or not a safetensors file; use another one",
        ("notes.pkl",): "notes.pkl is not a pickled dict of NumPy arrays",
        ("cut.safetensors",): "cut.safetensors is damaged or not a safetensors file",
        (model, "--data", "digitz"): "unknown data set 'digitz' (did you mean 'digits'?)",
        (model, "--data", "none.npz"): "none.npz cannot be read: No such file",
        (model, "--data", "mnist"): "mnist was not found",
        (model, "--data", "digits", "--batch-size", 0): "batch_size must be a whole number of at least 1, not 0",
        (model, "--data", "digits", "--device", "gpu"): "unknown device 'gpu'",
    }
    for arguments, message in complaints.items():
        complaint = xpnet("evaluate", *CPU, *arguments).complaint
        assert complaint.startswith(f"xpnet evaluate: {message}")


def test_data_of_another_shape(xpnet: Any, model: Path) -> None:
    x, y = np.zeros((3, 5), np.float32), np.array([0, 1, 2])
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    complaint = xpnet("evaluate", model, "--data", "mine.npz", *CPU).complaint
    assert complaint == "xpnet evaluate: layer 1: Linear(64, 10) takes samples of shape (64,), not (5,)"


def test_the_books_own_weights(xpnet: Any, data_dir: Path) -> None:
    shutil.copy(data_dir / "weights" / "sample_weight.pkl", "sample_weight.pkl")
    result = xpnet("evaluate", "sample_weight.pkl", "--data", "mnist", "--data-dir", data_dir, "--json").result
    assert (result["accuracy"], result["samples"]) == (0.9352, 10_000)
