"""One flat vector, and named views into it.

A model keeps its parameters, its gradients and its buffers in one such vector each. So an optimizer's step is one
operation, a data-parallel step one all-reduce, a move to another device one copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from xpnet.backends import ALIGNMENT, Array, Backend
from xpnet.errors import CallOrderError, OutOfMemoryError, ShapeError

Shape = tuple[int, ...]


class Views(dict[str, Array]):
    """Views into a flat vector by name, read like any dict; ``views["W"] = value`` writes into the vector.

    A value may be an array of the backend or of NumPy, a number or a list; it is cast to the vector's type.

    Args:
        views: by name.
        owner: whose they are, for messages.
        whole: all views of the model, these among them; None: the layer is not initialised.

    Raises:
        ShapeError: a value of another shape than the view's.
        CallOrderError: the layer is not initialised.

    >>> from xpnet.backends import backend
    >>> model = NamedVector(backend("cpu-reference"), {"0.W": (2, 3), "0.b": (3,)}, "float32")
    >>> layer = model.under("0.", "layer 0 (Linear)")
    >>> layer["b"] = [5, 6, 7]
    >>> model["0.b"]
    array([5., 6., 7.], dtype=float32)
    >>> layer["b"] = 7.0
    Traceback (most recent call last):
    xpnet.errors.ShapeError: 'b' of layer 0 (Linear) has shape (3,), and was given a value of shape ()
    """

    def __init__(self, views: Mapping[str, Array], owner: str, whole: NamedVector | None) -> None:
        super().__init__(views)
        self.owner = owner
        self._whole = whole

    @property
    def whole(self) -> NamedVector | None:
        """All views of the model."""
        return self._whole

    def __setitem__(self, name: str, value: Any) -> None:
        view, whole = self[name], self.whole
        if value is view or whole is None:  # the same after views[name] += value, which wrote in place
            return
        array = whole.backend.asarray(value, whole.dtype)
        if tuple(array.shape) != tuple(view.shape):
            raise ShapeError(
                f"{name!r} of {self.owner} has shape {tuple(view.shape)}, and was given a value of shape "
                f"{tuple(array.shape)}"
            )
        view[...] = array

    def __missing__(self, name: str) -> NoReturn:
        if self.whole is None:
            raise CallOrderError(
                f"there is no array {name!r} yet: call initialize(xpnet.backend('auto')) on the model first"
            )
        raise KeyError(f"{self.owner} has no array {name!r}; it has {', '.join(self) or 'none'}")

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Not for views.

        Raises:
            TypeError: always.
        """
        raise TypeError("the arrays are views into one vector, and their names are fixed: assign to one of them")

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # alone they are arrays; with their model, they become its views again


class NamedVector(Views):
    """A flat, zeroed vector on a backend, and a view of it for each name.

    Every view starts on a 256-byte boundary, as vector loads need; the padding between two views stays zero. A view
    updated in place updates the vector, and the other way round.

    Args:
        backend: where the vector lives.
        shapes: the shape of each named view, in order.
        dtype: "float32" or "float64".

    Attributes:
        vector: all of it, padding included.
        starts: where in it each view begins.

    Raises:
        OutOfMemoryError: there is not enough for them.

    >>> from xpnet.backends import backend
    >>> weights = NamedVector(backend("cpu-reference"), {"W": (2, 3), "b": (3,)}, "float32")
    >>> weights["b"] = [1.0, 1.0, 1.0]
    >>> float(weights.vector.sum()), weights.vector.shape
    (3.0, (128,))
    """

    def __init__(self, backend: Backend, shapes: Mapping[str, Shape], dtype: str) -> None:
        self.backend = backend
        self.shapes = dict(shapes)
        self.dtype = dtype
        boundary = ALIGNMENT // np.dtype(dtype).itemsize
        self.starts: dict[str, int] = {}
        end = 0
        for name, shape in self.shapes.items():
            self.starts[name] = end
            end += -(-math.prod(shape) // boundary) * boundary
        try:
            self.vector = backend.aligned_zeros(end, dtype)
        except (MemoryError, ValueError) as error:  # NumPy's name for more than the address space is ValueError
            raise OutOfMemoryError(f"not enough memory for {self.size:,} numbers of type {dtype}: {error}") from error
        views = {
            name: backend.xp.reshape(self.vector[start : start + math.prod(self.shapes[name])], self.shapes[name])
            for name, start in self.starts.items()
        }
        super().__init__(views, "the model", None)

    @property
    def whole(self) -> NamedVector:
        """Itself."""
        return self

    @property
    def size(self) -> int:
        """How many numbers the views hold, padding not counted."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def under(self, prefix: str, owner: str) -> Views:
        """The views whose names begin with ``prefix``, by what follows it."""
        cut = len(prefix)
        views = {name[cut:]: view for name, view in self.items() if name.startswith(prefix)}
        return Views(views, owner, self)

    def copy_to(self, backend: Backend) -> NamedVector:
        """A copy of the vector and its views on another backend."""
        copy = NamedVector(backend, self.shapes, self.dtype)
        copy.vector[...] = backend.asarray(self.backend.to_numpy(self.vector))
        return copy

    def __reduce__(self) -> Any:
        return _restored, (self.backend, self.shapes, self.dtype, np.array(self.backend.to_numpy(self.vector)))


def _restored(backend: Backend, shapes: Mapping[str, Shape], dtype: str, numbers: np.ndarray) -> NamedVector:
    vector = NamedVector(backend, shapes, dtype)
    vector.vector[...] = backend.asarray(numbers)
    return vector
