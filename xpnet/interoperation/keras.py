"""Keras: weights written by ``model.save_weights`` or ``numpy.savez(path, *model.get_weights())``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import ConfigurationError, FileFormatError, MissingFileError
from xpnet.interoperation.layouts import Layout, Place, Tensor
from xpnet.interoperation.matching import ForeignWeights, Stored, group_by_layer
from xpnet.layers import BatchNorm, Conv2d, Embedding, LayerNorm, Linear

# In the order of Keras's ``layer.weights``. Kernels of Dense and Conv2D have xpnet's axes.
_KERNEL_AND_BIAS = Tensor("W", "kernel"), Tensor("b", "bias")
_GAMMA_AND_BETA = Tensor("gamma", "gamma"), Tensor("beta", "beta")
_MOVING = Tensor("running_mean", "moving_mean"), Tensor("running_variance", "moving_variance")
LAYOUT: Layout = {
    BatchNorm: (*_GAMMA_AND_BETA, *_MOVING),
    Conv2d: _KERNEL_AND_BIAS,
    Embedding: (Tensor("W", "embeddings"),),
    LayerNorm: _GAMMA_AND_BETA,
    Linear: _KERNEL_AND_BIAS,
}
_BY_NUMBER = {
    layer: tuple(tensor._replace(theirs=f"vars/{place}") for place, tensor in enumerate(tensors))
    for layer, tensors in LAYOUT.items()
}
_NOT_LAYERS = {"optimizer", "seed_generator"}


def from_list(arrays: Mapping[str, np.ndarray], places: Sequence[Place]) -> ForeignWeights:
    """The arrays of ``get_weights``, which has no names: those of each layer in turn."""
    stored = iter([Stored(name, values, values.dtype.name) for name, values in arrays.items()])
    groups: dict[str, dict[str, Stored]] = {}
    for place in places:
        names = [tensor.theirs for tensor in place.tensors(LAYOUT, "Keras")]
        group = dict(zip(names, islice(stored, len(names)), strict=False))  # the last may be incomplete
        if group:
            groups[" ".join(tensor.name for tensor in group.values())] = group
    groups.update({tensor.name: {"": tensor} for tensor in stored})
    return ForeignWeights("Keras", LAYOUT, groups, in_order=True, channels_last=True)


def read_h5(path: Path) -> ForeignWeights:
    """A ``.weights.h5`` file of Keras 3, which has each layer's variables by number."""
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
        # A dataset may refer to another file, or claim a size that the file does not have.
        if item.is_virtual or item.external or sum(tensor.values.nbytes for tensor in found) + item.nbytes > size:
            raise ValueError(f"the file does not contain the data of {name}, of shape {item.shape}")
        found.append(Stored(name, item[()], item.dtype.name))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except PermissionError as error:
        raise MissingFileError(f"cannot read {path}: {error}") from error
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:  # h5py's choice depends on the damage
        raise FileFormatError(f"{path} is damaged or no HDF5 file ({error})") from error
    if not found:
        raise FileFormatError(
            f"{path} holds no layers as Keras 3 writes them: save it by its model.save_weights('model.weights.h5'), or "
            "by numpy.savez('weights.npz', *model.get_weights())"
        )
    return ForeignWeights("Keras", _BY_NUMBER, group_by_layer(found, "/", depth=2), channels_last=True)
