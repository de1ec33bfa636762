"""Data of the user's own with which something is wrong, or odd: one sentence and nothing left behind, or a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet as library

CPU = ("--device", "cpu-reference")
ROWS = 20


def images(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, 8, 8)).astype(np.uint8)


def labels(rows: int = ROWS) -> np.ndarray:
    return np.arange(rows) % 10


def with_pixel(value: float) -> np.ndarray:
    x = images() / 255.0
    x[3, 4, 5] = value
    return x


def save(name: str = "mine.npz", **changes: Any) -> None:
    arrays = {"x_train": images(), "y_train": labels(), "x_test": images(), "y_test": labels(), **changes}
    np.savez(name, **{name: array for name, array in arrays.items() if array is not None})


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a label below 0": ({"y_train": labels() - 1}, "mine.npz: y_train row 0 is -1; "),
    "a label too many": (
        {"y_train": np.r_[labels(ROWS - 1), 10]},
        "the recipe digits gives 10 outputs, but mine.npz has 11 classes",
    ),
    "an absurd label": ({"y_test": np.r_[labels(ROWS - 1), 2**62]}, f"at most 1048576 classes, not {2**62 + 1}"),
    "a label beyond the one-hot ones": (
        {"y_train": np.eye(10)[labels()], "y_test": labels() + 1},
        "mine.npz: y_test row 9 is 10; 10 classes have the labels 0 to 9",
    ),
    "labels with fractions": ({"y_train": labels() / 2}, "mine.npz: y_train is float64; expected class indices"),
    "labels of text": ({"y_train": labels().astype("U")}, "mine.npz: y_train is <U"),
    "NaN for a pixel": ({"x_train": with_pixel(np.nan), "x_test": images() / 255.0}, "x_train row 3 holds NaN"),
    "infinity for a pixel": (
        {"x_test": with_pixel(np.inf), "x_train": images() / 255.0},
        "x_test row 3 holds NaN, inf",
    ),
    "more than float32 can": ({"x_train": with_pixel(1e300), "x_test": images() / 255.0}, "x_train row 3 holds NaN"),
    "whole numbers for pixels": ({"x_train": images().astype(int)}, "mine.npz: x_train is int64; expected uint8"),
    "complex pixels": ({"x_train": images() * 1j}, "mine.npz: x_train is complex128"),
    "two types": ({"x_test": images() / 255.0}, "mine.npz: x_train is uint8 and x_test float32; give both the same"),
    "two shapes": ({"x_test": images().reshape(ROWS, 64)}, "x_train has shape (8, 8) and one of x_test (64,)"),
    "another shape than the recipe's": (
        {"x_train": images()[:, :5], "x_test": images()[:, :5]},
        "the recipe digits does not fit the data set mine.npz, whose samples have the shape (5, 8)",
    ),
    "no axis of samples": ({"x_train": images()[0, 0]}, "mine.npz: x_train has shape (8,)"),
    "fewer labels": ({"y_train": labels(7)}, "mine.npz: x_train has 20 rows and y_train 7"),
    "nothing to train on": ({"x_train": images(0), "y_train": labels(0)}, "mine.npz: x_train has shape (0, 8, 8)"),
    "nothing to test on": ({"x_test": images(0), "y_test": labels(0)}, "mine.npz: x_test has shape (0, 8, 8)"),
    "images of no pixels": ({"x_train": images()[:, :0]}, "mine.npz: x_train has shape (20, 0, 8)"),
    "a set missing": ({"x_test": None}, "mine.npz holds x_train, y_test, y_train; expected exactly the arrays x_train"),
    "pickled objects": (
        {"y_train": np.array([{}] * ROWS)},
        "mine.npz is not a whole .npz file of plain arrays: y_train",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_bad_data_are_answered_in_one_sentence(xpnet: Any, command: str, name: str) -> None:
    arrays, message = BAD[name]
    save(**arrays)
    if command == "train":
        arguments = ["--recipe", "digits"]
    else:
        model = library.Sequential(library.Flatten(), library.Linear(64, 10))
        library.save_model(model.initialize(library.backend("cpu-reference")), "model.safetensors")
        arguments = ["model.safetensors"]
        message = message.removeprefix("the recipe digits")
        if "gives 10 outputs" in message:
            message = "label 10 at row"
            save(y_test=arrays["y_train"])
        elif "does not fit" in message:
            message = "Linear(64, 10) takes samples of shape (64,), not (40,)"
    before = sorted(os.listdir())
    complaint = xpnet(command, *arguments, "--data", "mine.npz", *CPU).complaint
    assert complaint.startswith(f"xpnet {command}: ")
    assert message in complaint
    assert sorted(os.listdir()) == before


def test_files_in_the_place_of_the_data(xpnet: Any) -> None:
    Path("folder.npz").mkdir()
    Path("text.npz").write_text("1 2 3")
    save("whole.npz")
    Path("half.npz").write_bytes(Path("whole.npz").read_bytes()[:2000])
    for name, message in {
        "folder.npz": "folder.npz is not a file; expected exactly the arrays",
        "text.npz": "text.npz is not a whole .npz file of plain arrays: File is not a zip file",
        "half.npz": "half.npz is not a whole .npz file of plain arrays: File is not a zip file",
    }.items():
        complaint = xpnet("train", "--recipe", "digits", "--data", name, *CPU).complaint
        assert message in complaint
        assert not Path("runs").exists()


def recipe(outputs: int = 10, hidden: int = 16) -> None:
    """``mine.toml``, a network for ``mine.npz``."""
    import tomli_w

    table = library.load_recipe("digits").to_table()
    first = {"type": "Linear", "inputs": 64, "outputs": hidden, "activation": "relu"}
    table["model"]["layers"] = [
        {"type": "Rescale"},
        {"type": "Flatten"},
        first,
        {"type": "Linear", "inputs": hidden, "outputs": outputs},
    ]
    table["training"] |= {"batch_size": 8, "epochs": 3}
    Path("mine.toml").write_text(tomli_w.dumps(table))


@pytest.mark.parametrize(("label", "classes"), [(0, 1), (9, 10)])
def test_a_set_of_one_class(xpnet: Any, label: int, classes: int) -> None:
    recipe(classes)
    save(y_train=np.full(ROWS, label), y_test=np.full(ROWS, label))
    result = xpnet("train", "--recipe", "mine.toml", "--data", "mine.npz", *CPU, "--out", "run", "--json").result
    assert (result["test_accuracy"], result["diagnoses"]) == (1.0, [])
    figures = xpnet("evaluate", "run", *CPU, "--json").result
    assert figures["accuracy"] == 1.0
    assert figures["loss"] == pytest.approx(result["test_loss"])
    assert (figures["loss"] == 0.0) == (classes == 1)


def test_a_batch_larger_than_the_set(xpnet: Any) -> None:
    """Every step is the whole set: as with a batch of just its size."""
    recipe()
    save()
    whole, more = (
        xpnet("train", "--recipe", "mine.toml", "--data", "mine.npz", "--batch-size", size, *CPU, "--json").result
        for size in (ROWS - ROWS // 10, 10**6)
    )
    assert (whole["steps"], more["steps"]) == (3, 3)
    assert whole["test_loss"] == more["test_loss"]


@pytest.mark.parametrize(("outputs", "hidden"), [(0, 16), (10, 0)])
def test_layers_of_no_units(xpnet: Any, outputs: int, hidden: int) -> None:
    recipe(outputs, hidden)
    complaint = xpnet("train", "--recipe", "mine.toml", *CPU).complaint
    assert "s must be a whole number of at least 1, not 0" in complaint
    assert "recipe mine.toml: model.layers[" in complaint
    assert not Path("runs").exists()


@pytest.mark.parametrize("hidden", [10**13, 10**17, 2**62])
def test_layers_that_no_memory_holds(xpnet: Any, hidden: int) -> None:
    recipe(hidden=hidden)
    complaint = xpnet("train", "--recipe", "mine.toml", *CPU).complaint
    assert f"not enough memory for {64 * hidden + hidden + 10 * hidden + 10:,} numbers of type float32" in complaint
    assert not Path("runs").exists()
