"""Keras: what ``model.save_weights`` and ``numpy.savez(path, *model.get_weights())`` write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import ConfigurationError, FileFormatError, MissingFileError
from xpnet.interoperation.layouts import Layout, Place, Tensor, counterpart, walk
from xpnet.interoperation.matching import ForeignWeights, Stored, group_by_layer
from xpnet.layers import Conv2d, Flatten, Layer, Linear, Reshape
from xpnet.layers.sequential import known_input_shape
from xpnet.parameters import Shape

# In the order of Keras's own ``layer.weights``. Both kernels have our axes.
LAYOUT: Layout = {
    Conv2d: (Tensor("W", "kernel"), Tensor("b", "bias")),
    Linear: (Tensor("W", "kernel"), Tensor("b", "bias")),
}
_BY_NUMBER = {
    layer: tuple(tensor._replace(theirs=f"vars/{place}") for place, tensor in enumerate(tensors))
    for layer, tensors in LAYOUT.items()
}
_NOT_LAYERS = {"optimizer", "seed_generator"}


def from_list(arrays: Mapping[str, np.ndarray], places: Sequence[Place]) -> ForeignWeights:
    """The arrays of ``get_weights``, which are the layers' one after the other."""
    stored = iter([Stored(name, values, values.dtype.name) for name, values in arrays.items()])
    groups: dict[str, dict[str, Stored]] = {}
    for place in places:
        names = [tensor.theirs for tensor in counterpart(place.layer, LAYOUT, "Keras")]
        group = dict(zip(names, islice(stored, len(names)), strict=False))  # the last may be incomplete
        if group:
            groups[" ".join(tensor.name for tensor in group.values())] = group
    groups.update({tensor.name: {"": tensor} for tensor in stored})
    return ForeignWeights("Keras", LAYOUT, groups, in_order=True, channels_last=True)


def read_h5(path: Path) -> ForeignWeights:
    """A ``.weights.h5`` file of Keras 3: each layer's variables, by number."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigurationError(
            f"reading {path} needs the package h5py: pip install 'xpnet[keras]' ({error})"
        ) from None
    found: list[Stored] = []
    size = path.stat().st_size

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or "/vars/" not in name or _NOT_LAYERS & set(name.split("/")):
            return
        # Datasets may point to other files, or claim any size without having it.
        if item.is_virtual or item.external or sum(tensor.values.nbytes for tensor in found) + item.nbytes > size:
            raise ValueError(f"the file does not itself hold {name}, of shape {item.shape}")
        found.append(Stored(name, item[()], item.dtype.name))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except PermissionError as error:
        raise MissingFileError(f"cannot read {path}: {error}") from error
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:  # h5py's, by what is damaged
        raise FileFormatError(f"{path} is damaged or no HDF5 file ({error})") from error
    if not found:
        raise FileFormatError(
            f"{path} holds no layers as Keras 3 writes them: save it by its model.save_weights('model.weights.h5'), or "
            "by numpy.savez('weights.npz', *model.get_weights())"
        )
    return ForeignWeights("Keras", _BY_NUMBER, group_by_layer(found, "/", depth=2), channels_last=True)


def feature_orders(model: Layer, input_shape: Shape | None) -> dict[str, np.ndarray]:
    """For each layer behind a Flatten of images, by its name: where Keras has each of our features.

    Keras flattens (H, W, C), xpnet (C, H, W).

    Args:
        model: initialised or not.
        input_shape: of one sample, as xpnet takes it; None: what the first layer tells.

    Raises:
        ConfigurationError: the shape of what is flattened is not known; or a vector becomes an image of several
            channels, which Keras reads in another order.
        ShapeError: the layers do not take such samples.

    >>> from xpnet import Sequential
    >>> model = Sequential(Flatten(), Linear(4, 2))
    >>> feature_orders(model, (2, 1, 2))
    {'1': array([0, 2, 1, 3])}
    """
    shape = known_input_shape(model) or None if input_shape is None else input_shape
    orders: dict[str, np.ndarray] = {}
    order: np.ndarray | None = None
    for name, layer in walk(model):
        if layer.children():
            continue
        if isinstance(layer, Flatten):
            order = _flattened(shape, order)
        elif isinstance(layer, Reshape):
            _require_same_order(layer, shape)
        elif order is not None and layer.declare_parameters():
            orders[name] = order
        if isinstance(layer, Linear):
            order, shape = None, layer.output_shape(shape or (layer.inputs,))
        elif shape is not None:
            shape = layer.output_shape(shape)
    return orders


def _flattened(shape: Shape | None, order: np.ndarray | None) -> np.ndarray | None:
    if shape is None:
        raise ConfigurationError(
            "Keras flattens images in another order than xpnet, and the network does not tell their shape: give that "
            "of its input, such as (3, 32, 32)"
        )
    if len(shape) != 3:
        return order
    channels, height, width = shape
    indices = np.arange(channels * height * width).reshape(height, width, channels)
    return np.transpose(indices, (2, 0, 1)).reshape(-1)


def _require_same_order(layer: Reshape, shape: Shape | None) -> None:
    if len(layer.shape) == 3 and layer.shape[0] > 1 and tuple(layer.shape) != shape:
        raise ConfigurationError(f"Reshape({layer.shape}) makes other images of a vector than Keras's does")
