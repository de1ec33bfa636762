"""Importing weights from files of PyTorch, Keras and DeZero."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnet.data.npz import read_arrays
from xpnet.errors import ConfigurationError, DTypeError, FileFormatError, MissingFileError
from xpnet.interoperation import dezero, keras, pytorch
from xpnet.interoperation.channels_last import feature_orders
from xpnet.interoperation.layouts import Place, Tensor, places
from xpnet.interoperation.matching import ForeignWeights, Stored, match
from xpnet.layers import Layer
from xpnet.parameters import Shape

FLOATING = ("float16", "bfloat16", "float32", "float64")

_SCALING = {"mean", "deviation"}
_HINTS = {
    **dict.fromkeys(
        (".pt", ".pth", ".bin", ".ckpt"),
        "is a pickle, which may run any code, so xpnet does not read it: in PyTorch, save it by "
        "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')",
    ),
    **dict.fromkeys((".pkl", ".pickle"), "is a pickle: xpnet evaluate reads those of the books"),
    ".keras": "is a whole Keras model: save its weights by model.save_weights('model.weights.h5')",
}


class Imported(NamedTuple):
    """The source of an imported parameter or buffer.

    Attributes:
        name: its name in the model.
        source: its name in the file.
        dtype: its element type in the file, which may differ from the model's.

    >>> Imported(name="0.W", source="fc1.weight", dtype="float32").source
    'fc1.weight'
    """

    name: str
    source: str
    dtype: str


def import_weights(
    model: Layer, path: str | Path, names: Sequence[str] | None = None, input_shape: Shape | None = None
) -> list[Imported]:
    """Fill an initialised model with weights from another library's file; no code from the file runs.

    The file is PyTorch's ``state_dict`` in safetensors (.safetensors), Keras 3's ``model.save_weights`` (.weights.h5;
    needs h5py), the ``model.get_weights()`` of any Keras (.npz, by ``numpy.savez(path, *weights)``), or DeZero's
    ``model.save_weights`` (.npz). Its layers are matched with the model's by order and shapes. Most formats sort names,
    so the order is the natural one ("fc2" before "fc10"); if it is ambiguous, an error asks for ``names``. Floats of
    other types are converted to the model's.

    The files contain no architecture: activations and strides must be those of the given model. So must the scaling of
    the inputs: Rescale has no weights, and Standardize is overwritten only if the file contains one.

    Args:
        model: its parameters and buffers are overwritten; if an error is raised, none is.
        path: of the file; the suffix determines the format.
        names: the file's layers to take, first to last, such as ["conv", "fc"]; None: all.
        input_shape: of one sample, (C, H, W); needed for a Keras network that flattens images of several channels, or
            normalises samples that may be images, and does not begin with a Reshape or a Linear.

    Returns:
        the source of each parameter and buffer, in the model's order.

    Raises:
        MissingFileError: the file does not exist, or cannot be read.
        FileFormatError: the file is damaged, or has more layers than the model.
        ShapeError: its tensors do not fit; the message names the layer and both shapes.
        DTypeError: its numbers are not floats, or too large for the model's type.
        ConfigurationError: the suffix is unknown, a package is missing, the order of the file's layers is ambiguous, or
            the other library has no counterpart of a layer, or one that computes something else.

    >>> import tempfile, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "dezero.npz"), **{"l0/W": np.ones((2, 3)), "l0/b": np.zeros(3)})
    ...     import_weights(model, Path(folder, "dezero.npz"))[0]
    Imported(name='0.W', source='l0/W', dtype='float64')
    >>> model(model.backend.asarray([[1.0, 1.0]]))
    array([[2., 2., 2.]], dtype=float32)
    """
    path, backend = Path(path), model.require_backend()
    targets = places(model)
    trained = [place for place in targets if not place.layer.preprocesses]
    foreign = _read(path, trained)
    if not any(set(group) == _SCALING for group in foreign.groups.values()):
        targets = trained  # the file has no Standardize: the model's is kept
    if names is not None:
        foreign = foreign.select(names)
    groups = match(targets, foreign, str(path))
    orders = feature_orders(model, input_shape) if foreign.channels_last else {}
    imported, converted = [], []
    for place, group in zip(targets, groups, strict=True):
        for tensor in place.tensors(foreign.layout, foreign.library):
            stored = group[tensor.theirs]
            values = _in_features_order(tensor, stored.values, orders.get(place.name))
            converted.append((place.views[tensor.ours], _cast(path, stored, values, model.dtype)))
            imported.append(Imported(place.full_name(tensor.ours), stored.name, stored.dtype))
    for view, values in converted:
        view[...] = backend.asarray(values)
    return imported


def _read(path: Path, targets: Sequence[Place]) -> ForeignWeights:
    if not path.exists():
        raise MissingFileError(f"there is no file {path}")
    if not path.is_file():
        raise FileFormatError(f"{path} is not a file: name the file with the weights")
    ending = path.suffix.lower()
    if ending == ".safetensors":
        return pytorch.read_state_dict(path)
    if ending in (".h5", ".hdf5"):
        return keras.read_h5(path)
    if ending == ".npz":
        arrays = read_arrays(path, "expected the weights of DeZero (l0/W) or of Keras (arr_0)")
        if arrays and all(name.startswith("arr_") for name in arrays):
            return keras.from_list(arrays, targets)
        return dezero.from_arrays(arrays)
    hint = _HINTS.get(ending, "has an unknown suffix; expected .safetensors, .weights.h5 or .npz")
    raise ConfigurationError(f"{path} {hint}")


def _in_features_order(tensor: Tensor, values: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """The values in xpnet's layout; ``order`` reorders tensors with an entry or a row for each input feature."""
    ours = tensor.to_ours(values)
    return ours if order is None or tensor.ours == "b" else ours[order]


def _cast(path: Path, stored: Stored, values: np.ndarray, dtype: str) -> np.ndarray:
    if stored.dtype not in FLOATING:
        raise DTypeError(f"{path}: {stored.name} has elements of type {stored.dtype}; expected {', '.join(FLOATING)}")
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(values, dtype)
    if not np.array_equal(np.isfinite(cast), np.isfinite(values)):
        raise DTypeError(f"{path}: {stored.name} has {stored.dtype} values beyond the model's {dtype}")
    return cast
