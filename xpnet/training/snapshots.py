"""Models and trainers: saving them to checkpoints, and restoring them."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import checkpoint
from xpnet.backends import Backend
from xpnet.book_pickle import read_book_pickle, sigmoid_network_shapes
from xpnet.checkpoint import Checkpoint
from xpnet.configuration import Recipe
from xpnet.errors import ConfigurationError, Error, FileFormatError
from xpnet.layers import Flatten, Layer, Linear, Rescale, Sequential
from xpnet.parameters import NamedVector, Shape
from xpnet.registry import build, describe
from xpnet.training import reports
from xpnet.training.trainer import Trainer

PICKLES = (".pkl", ".pickle")
_COUNT, _NUMBER = "a whole number of at least 0", "a number"
_STATE = {  # of a trainer, beside its arrays; the best is None before the first evaluation
    "seed": "a whole number",
    "step": _COUNT,
    "best_accuracy": _NUMBER,
    "best_loss": _NUMBER,
    "best_step": _COUNT,
    "training_seconds": _NUMBER,
    "samples_seen": _COUNT,
}

_MODEL = ("parameters/", "buffers/")  # what the names of a model's tensors begin with


def save_model(model: Layer, path: str | Path, recipe: Recipe | None = None) -> None:
    """Write a model's architecture, parameters and buffers, atomically.

    Args:
        model: initialised.
        path: of the file.
        recipe: the model's; ``xpnet evaluate`` takes the name of the data set from it.

    Raises:
        ConfigurationError: the name ends like a pickle's, or a layer's class is not registered.
        CallOrderError: the model is not initialised.
        RunFolderError: the file cannot be written.

    >>> import tempfile, xpnet
    >>> model = Sequential(Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, f"{folder}/model.safetensors")
    ...     copy = load_model(f"{folder}/model.safetensors", model.backend)
    >>> bool((copy.parameters["0.W"] == model.parameters["0.W"]).all())
    True
    """
    if Path(path).suffix.lower() in PICKLES:
        raise ConfigurationError(f"{path} would be read as a book's pickle: end the name in .safetensors")
    metadata = {} if recipe is None else {"recipe": recipe.to_table()}
    checkpoint.save(path, Checkpoint(_tensors(_model_vectors(model)), {"model": describe(model), **metadata}))


def load_model(path: str | Path, backend: Backend) -> Sequential:
    """Read a model from a checkpoint, or from a book's pickle (W1 b1 W2 b2 …: a sigmoid network of those shapes).

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is damaged, or holds no model, or one with a class that is not registered.

    >>> import tempfile, xpnet
    >>> model = Sequential(Linear(2, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model.initialize(xpnet.backend("cpu-reference")), f"{folder}/model.safetensors")
    ...     load_model(f"{folder}/model.safetensors", xpnet.backend("float64")).dtype
    'float64'
    """
    return load_model_and_metadata(path, backend)[0]


def load_model_and_metadata(path: str | Path, backend: Backend) -> tuple[Sequential, dict[str, Any]]:
    """As ``load_model``, with the file's metadata: the recipe, in a run's checkpoint; none in a pickle.

    >>> import tempfile, xpnet
    >>> model, recipe = Sequential(Linear(2, 3)), xpnet.load_recipe("digits")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model.initialize(xpnet.backend("cpu-reference")), f"{folder}/model.safetensors", recipe)
    ...     _, metadata = load_model_and_metadata(f"{folder}/model.safetensors", model.backend)
    >>> metadata["recipe"]["name"]
    'digits'
    """
    path = Path(path)
    if path.suffix.lower() in PICKLES:
        return _model_from_book(path, backend), {}
    saved = checkpoint.load(path)
    return model_from(saved, backend, str(path)), saved.metadata


def model_from(saved: Checkpoint, backend: Backend, origin: str) -> Sequential:
    """The model in a checkpoint; errors call the file ``origin``.

    Raises:
        FileFormatError: it holds no model, or tensors that do not match it.

    >>> import xpnet
    >>> table = {"type": "Sequential", "layers": [{"type": "Linear", "inputs": 1, "outputs": 1}]}
    >>> saved = Checkpoint({"parameters/0.W": np.ones((1, 1)), "parameters/0.b": np.zeros(1)}, {"model": table})
    >>> model_from(saved, xpnet.backend("cpu-reference"), "memory").parameters["0.W"]
    array([[1.]])
    """
    if "model" not in saved.metadata:
        raise FileFormatError(f"{origin} does not say which model it holds")
    try:
        model = build("layer", saved.metadata["model"])
    except Error as error:
        raise FileFormatError(f"the model in {origin} cannot be built: {error}") from None
    # Before anything is allocated: the file may describe a larger model than it holds.
    parameters, buffers = model.declared()
    declared = {"parameters/": parameters, "buffers/": buffers}
    _require_tensors(
        {prefix + name: item.shape for prefix, items in declared.items() for name, item in items.items()},
        tuple(declared),
        saved,
        origin,
    )
    # The wider of the file's type and the backend's, so that a float64 backend computes in float64.
    dtypes = {str(array.dtype) for name, array in saved.tensors.items() if name.startswith("parameters/")}
    model.allocate(backend, "float64" if "float64" in dtypes | {backend.dtype} else "float32")
    _restore(_model_vectors(model), saved, origin)
    return model


def capture(trainer: Trainer, metadata: Mapping[str, Any]) -> Checkpoint:
    """The whole state of a run, with ``metadata`` added."""
    state = {name: getattr(trainer, name) for name in _STATE}
    report = reports.by_name(trainer.backend, trainer.report)
    own = {"model": describe(trainer.model), **state, "report": report, "schedule": trainer.optimizer.schedule_state}
    return Checkpoint(_tensors(_trainer_vectors(trainer)), {**own, **metadata})


def restore(trainer: Trainer, saved: Checkpoint, origin: str) -> None:
    """Restore the state that ``capture`` saved; training then continues with the same bits."""
    try:
        state = {name: saved.metadata[name] for name in _STATE}
        report = saved.metadata["report"]
    except KeyError as error:
        raise FileFormatError(f"{origin} lacks {error}: it holds a model, but no run to resume") from None
    for name, wanted in _STATE.items():
        if not _is_valid(wanted, state[name]) and not (name.startswith("best") and state[name] is None):
            raise FileFormatError(f"{origin} is damaged: {name} is {reprlib.repr(state[name])}, not {wanted}")
    if not isinstance(report, dict) or not all(_is_valid(_NUMBER, value) for value in report.values()):
        raise FileFormatError(
            f"{origin} has a report that is no table of numbers: it is damaged, or older than format 1"
        )
    schedule = saved.metadata.get("schedule", {})
    if not isinstance(schedule, dict) or schedule.keys() != trainer.optimizer.schedule_state.keys():
        raise FileFormatError(
            f"{origin} was trained with another learning-rate schedule: its state is {reprlib.repr(schedule)}, that of "
            f"{type(trainer.optimizer.schedule).__name__} has {sorted(trainer.optimizer.schedule_state)}"
        )
    for name, own in trainer.optimizer.schedule_state.items():
        if not _is_valid(_NUMBER, schedule[name]) and not (own is None and schedule[name] is None):
            raise FileFormatError(
                f"{origin} is damaged: {name} of its schedule is {reprlib.repr(schedule[name])}, not {_NUMBER}"
            )
    _restore(_trainer_vectors(trainer), saved, origin, (*_MODEL, "optimizer/"))
    trainer.optimizer.schedule_state = schedule
    vars(trainer).update(state)
    if trainer.on_nonfinite == "stop":  # steps that the run skipped before must not stop it now
        report = {**report, "first_non_finite_step": -1.0}
    trainer.report = reports.from_names(trainer.backend, report)


def _is_valid(wanted: str, value: object) -> bool:
    if wanted == _NUMBER:
        return isinstance(value, float) or (type(value) is int and value.bit_length() < 64)
    return type(value) is int and (wanted != _COUNT or 0 <= value < 2**63)


def _model_vectors(model: Layer) -> dict[str, NamedVector]:
    parameters, _, buffers = model.vectors
    return {"parameters/": parameters, "buffers/": buffers}


def _trainer_vectors(trainer: Trainer) -> dict[str, NamedVector]:
    """Parameters in a checkpoint are those that are evaluated: of a moving average, with the weights beside it."""
    vectors = _model_vectors(trainer.model)
    if trainer.average is not None:
        vectors |= {"parameters/": trainer.average.values, "optimizer/weights/": vectors["parameters/"]}
    return vectors | {f"optimizer/{slot}/": vector for slot, vector in trainer.optimizer.state.items()}


def _tensors(vectors: Mapping[str, NamedVector]) -> dict[str, np.ndarray]:
    return {
        prefix + name: vector.backend.to_numpy(view)
        for prefix, vector in vectors.items()
        for name, view in vector.items()
    }


def _restore(
    vectors: Mapping[str, NamedVector], saved: Checkpoint, origin: str, prefixes: tuple[str, ...] = _MODEL
) -> None:
    """Fill the vectors by name; writes nothing unless every name with a prefix, every shape and type agrees."""
    shapes = {prefix + name: shape for prefix, vector in vectors.items() for name, shape in vector.shapes.items()}
    _require_tensors(shapes, prefixes, saved, origin)
    for prefix, vector in vectors.items():
        with vector.backend.ignoring_overflow():
            for name in vector:
                vector[name] = saved.tensors[prefix + name]


def _require_tensors(needed: Mapping[str, Shape], prefixes: tuple[str, ...], saved: Checkpoint, origin: str) -> None:
    found = {name: array for name, array in saved.tensors.items() if name.startswith(prefixes)}
    if found.keys() != needed.keys():
        raise FileFormatError(f"{origin} holds the tensors {sorted(found)}; the model needs {sorted(needed)}")
    for name, shape in needed.items():
        if found[name].shape != tuple(shape):
            raise FileFormatError(f"{origin}: {name} has shape {found[name].shape}; the model needs {tuple(shape)}")
        if found[name].dtype.kind != "f":
            raise FileFormatError(f"{origin}: {name} has dtype {found[name].dtype}; a model's are floating point")


def _model_from_book(path: Path, backend: Backend) -> Sequential:
    weights = read_book_pickle(path)
    sizes = sigmoid_network_shapes(weights)
    last = len(sizes) - 2
    linears = [
        Linear(sizes[place], sizes[place + 1], activation="sigmoid" if place < last else None)
        for place in range(last + 1)
    ]
    model = Sequential(Rescale(), Flatten(), *linears).allocate(backend)
    with backend.ignoring_overflow():  # a float64 weight beyond float32's range becomes infinite
        for place in range(1, last + 2):
            for kind in ("W", "b"):
                model.parameters[f"{place}.{kind}"] = weights[f"{kind}{place}"]
    return model
