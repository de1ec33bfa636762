"""Starting a run from given weights: those of a checkpoint that the model has by the same names."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnet import checkpoint
from xpnet.errors import ConfigurationError, DTypeError, ShapeError
from xpnet.layers import Layer
from xpnet.training.callbacks import Callback
from xpnet.training.trainer import Trainer


class LoadedWeights(NamedTuple):
    """What became of the names of a file and of a model.

    Attributes:
        loaded: the names that both have.
        missing: names of the model that the file lacks: they keep their initial values.
        unused: names of the file that the model lacks.

    >>> LoadedWeights(["0.W", "0.b"], ["2.W"], []).difference("a.safetensors")
    'a.safetensors lacks 2.W, which keep their initial values'
    """

    loaded: list[str]
    missing: list[str]
    unused: list[str]

    def difference(self, origin: str) -> str | None:
        """What is not in both, in a sentence; None where the names are the same."""
        parts = []
        if self.missing:
            parts.append(f"{origin} lacks {_listed(self.missing)}, which keep their initial values")
        if self.unused:
            parts.append(f"the model lacks {_listed(self.unused)} of {origin}")
        return "; ".join(parts) or None


def _listed(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def load_weights(model: Layer, path: str | Path) -> LoadedWeights:
    """Copy a checkpoint's parameters and buffers into a model, by name.

    Args:
        model: initialised; nothing of it changes where an error is raised.
        path: a .safetensors file of xpnet.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is no checkpoint of xpnet.
        ConfigurationError: no name is in both.
        ShapeError, DTypeError: a tensor has another shape than the model's, or holds no floating-point numbers.

    >>> import tempfile, xpnet
    >>> cpu = xpnet.backend("cpu-reference")
    >>> small = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(cpu, seed=1)
    >>> large = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Linear(3, 4)).initialize(cpu)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xpnet.save_model(small, f"{folder}/model.safetensors")
    ...     load_weights(large, f"{folder}/model.safetensors")
    LoadedWeights(loaded=['0.W', '0.b'], missing=['1.W', '1.b'], unused=[])
    """
    saved = checkpoint.load(path).tensors
    found = {
        name.removeprefix(kind): tensor
        for kind in ("parameters/", "buffers/")
        for name, tensor in saved.items()
        if name.startswith(kind)
    }
    loaded, missing = load_by_name(model, found, str(path))
    return LoadedWeights(loaded, missing, [name for name in found if name not in loaded])


def load_by_name(model: Layer, found: dict[str, np.ndarray], origin: str) -> tuple[list[str], list[str]]:
    """Copy arrays into a model's parameters and buffers; (names that were copied, names that were not found)."""
    parameters, _, buffers = model.vectors
    views = {name: (vector, view) for vector in (parameters, buffers) for name, view in vector.items()}
    common = [name for name in views if name in found]
    if not common:
        raise ConfigurationError(
            f"{origin} has none of the model's names: it holds {_listed([*found]) or 'no weights'}; the model needs "
            f"{_listed([*views])}"
        )
    for name in common:
        vector, tensor = views[name][0], found[name]
        if tensor.shape != tuple(vector.shapes[name]):
            raise ShapeError(f"{origin}: {name} has shape {tensor.shape}; the model needs {vector.shapes[name]}")
        if tensor.dtype.kind != "f":
            raise DTypeError(f"{origin}: {name} has dtype {tensor.dtype}; a model's weights are floating point")
    for name in common:
        vector, view = views[name]
        with vector.backend.ignoring_overflow():
            view[...] = vector.backend.asarray(found[name], vector.dtype)
    return common, [name for name in views if name not in found]


class TellDifference(Callback):
    """Says, when a run begins, which names of the model and of the file of initial weights did not meet."""

    def __init__(self, message: str) -> None:
        self.message = message

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Tell it as a diagnosis, which is printed, and kept in the run's records."""
        trainer.diagnose("initial weights", self.message)
