"""How another library stores a layer's tensors, and the layers of a model that have tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from xpnet.backends import Array
from xpnet.errors import ConfigurationError
from xpnet.layers import Layer
from xpnet.layers.tree import described, full_name, walk
from xpnet.parameters import Shape


class Tensor(NamedTuple):
    """A parameter or buffer of a layer, as another library stores it.

    Attributes:
        ours: its name in xpnet's layer.
        theirs: its name in the other library.
        axes: the permutation from xpnet's axes to theirs, as for ``numpy.transpose``; (): no permutation.
    """

    ours: str
    theirs: str
    axes: tuple[int, ...] = ()

    def their_shape(self, shape: Shape) -> Shape:
        """The shape in the other library of an array with this shape in xpnet.

        >>> Tensor("W", "weight", (3, 2, 0, 1)).their_shape((5, 5, 1, 8))
        (8, 1, 5, 5)
        """
        return tuple(shape[axis] for axis in self.axes) if self.axes else tuple(shape)

    def to_theirs(self, array: np.ndarray) -> np.ndarray:
        """xpnet's array in their layout, C-contiguous."""
        return np.ascontiguousarray(np.transpose(array, self.axes) if self.axes else array)

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """Their array in xpnet's layout, a view."""
        return np.transpose(array, np.argsort(self.axes)) if self.axes else array


Layout = Mapping[type[Layer], tuple[Tensor, ...]]
Known = TypeVar("Known")


class Place(NamedTuple):
    """A layer with tensors, and its name in the model.

    Attributes:
        name: the prefix of its parameters' names, such as "1" or "1.0"; "" for the model itself.
        layer: the layer.
        views: its own parameters and buffers by name.
    """

    name: str
    layer: Layer
    views: dict[str, Array]

    def __str__(self) -> str:
        return described(self.name, self.layer)

    def tensors(self, table: Layout, library: str) -> list[Tensor]:
        """The layer's tensors in another library, without those it lacks: a Linear may have no bias."""
        return [tensor for tensor in counterpart(self.layer, table, library) if tensor.ours in self.views]

    def full_name(self, own: str) -> str:
        """The model's name for the tensor that the layer calls ``own``."""
        return full_name(self.name, own)


def places(model: Layer) -> list[Place]:
    """The layers of an initialised model that have parameters or buffers, in order."""
    found = []
    for name, layer in walk(model):
        views = {own: layer.parameters[own] for own in layer.parameter_specs()}
        views |= {own: layer.buffers[own] for own in layer.buffer_specs()}
        if views:
            found.append(Place(name, layer, views))
    return found


def counterpart(layer: Layer, table: Mapping[type[Layer], Known], library: str) -> Known:
    """The table's entry for a layer; ConfigurationError if there is none."""
    if type(layer) not in table:
        known = ", ".join(sorted(cls.__name__ for cls in table))
        raise ConfigurationError(
            f"{described(layer.path, layer)} has no known counterpart in {library}; these have: {known}"
        )
    return table[type(layer)]
