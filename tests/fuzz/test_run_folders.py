"""Hostile run folders: what ``xpnet train --resume`` reads before it takes a step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import xpnet
from xpnet.data import Dataset
from xpnet.training import Callback, Trainer, resume, train

X = np.random.default_rng(0).uniform(size=(12, 4)).astype(np.float32)
DATA = Dataset("small", X, np.arange(12) % 3, X, np.arange(12) % 3, classes=3)
RECIPE = {
    "name": "small",
    "data": {"name": "small"},
    "model": {"layers": [{"type": "Linear", "inputs": 4, "outputs": 3}]},
    "loss": {"type": "SoftmaxCrossEntropy"},
    "optimizer": {"type": "Momentum", "learning_rate": 0.03},
    "training": {"batch_size": 8, "epochs": 4},
}


class EverythingReadError(Exception):
    """Nothing is left to read."""


class BeforeTheFirstStep(Callback):
    """Ends a run that would go on."""

    def on_fit_begin(self, trainer: Trainer) -> None:
        raise EverythingReadError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, stopped half-way."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipe = xpnet.configuration.recipe_from_table(RECIPE)
    train(recipe, DATA, xpnet.backend("cpu-reference"), out=folder, stop_after_epoch=2)
    return folder


@pytest.fixture
def read(run: Path, tmp_path: Path) -> Callable[[str], Callable[[Path], None]]:
    """``read(name)``: go on with a run of which that file is another."""
    backend = xpnet.backend("cpu-reference")

    def reader(name: str) -> Callable[[Path], None]:
        folder = tmp_path / "copy"
        shutil.copytree(run, folder)

        def read(path: Path) -> None:
            (folder / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes())
            (folder / name).write_bytes(path.read_bytes())
            with suppress(EverythingReadError):
                resume(folder, backend, lambda data: DATA, callbacks=[BeforeTheFirstStep()])

        return read

    return reader


@st.composite
def histories(draw: st.DrawFn, lines: list[str], misshapen: Any) -> bytes:
    """A history of as many bytes, or of more, in which a line is another."""
    lines = list(lines)
    place = draw(st.integers(0, len(lines) - 1))
    value = json.dumps(draw(misshapen(json.loads(lines[place]))))
    lines[place] = draw(st.sampled_from([value, value, value, "[" * 500 + "]" * 500, "{}", "NaN", "9" * 5000]))
    text = "\n".join(lines) + "\n"
    length = sum(len(line) + 1 for line in lines)
    return draw(st.sampled_from([text, text.ljust(3 * length, "\n"), "\n" * 400 + text])).encode()


@st.composite
def states(draw: st.DrawFn, content: bytes, misshapen: Any) -> bytes:
    """Checkpoints with other metadata: counters, report, recipe, length of the history."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    texts = header["__metadata__"]
    key = draw(st.sampled_from([key for key in texts if not key.startswith("format")]))
    if draw(st.integers(0, 5)) == 0:
        del texts[key]
    else:
        texts[key] = json.dumps(draw(misshapen(json.loads(texts[key]))))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[end:]


def test_changed_bytes_of_the_history(fuzz: Any, mutated: Any, run: Path, read: Any) -> None:
    history = (run / "metrics.jsonl").read_bytes()
    fuzz(mutated(history), read("metrics.jsonl"), history)


def test_hostile_histories(fuzz: Any, misshapen: Any, run: Path, read: Any) -> None:
    history = (run / "metrics.jsonl").read_text()
    fuzz(histories(history.splitlines(), misshapen), read("metrics.jsonl"), history.encode())


def test_hostile_states(fuzz: Any, misshapen: Any, run: Path, read: Any) -> None:
    last = (run / "last.safetensors").read_bytes()
    fuzz(states(last, misshapen), read("last.safetensors"), last)
