"""A flat vector and named views into it.

A model keeps its parameters, gradients and buffers in one flat vector each: an optimizer step is then one operation, a
data-parallel reduction one all-reduce, a move to another device one copy.
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
    """A dictionary of views into a flat vector; ``views["W"] = value`` writes into the vector.

    A value may be an array of the backend or of NumPy, a number or a list; it is cast to the vector's dtype.

    Args:
        views: the arrays by name.
        owner: the layer or model that they belong to, for error messages.
        base: the model's vector; None: the layer is not initialised.

    Raises:
        ShapeError: the value's shape differs from the view's.
        CallOrderError: the layer is not initialised.

    >>> from xpnet.backends import backend
    >>> model = NamedVector(backend("cpu-reference"), {"0.W": (2, 3), "0.b": (3,)}, "float32")
    >>> layer = model.under("0.", "layer 0 (Linear)")
    >>> layer["b"] = [5, 6, 7]
    >>> model["0.b"]
    array([5., 6., 7.], dtype=float32)
    >>> layer["b"] = 7.0
    Traceback (most recent call last):
    xpnet.errors.ShapeError: 'b' of layer 0 (Linear) has shape (3,), but got a value of shape ()
    """

    def __init__(self, views: Mapping[str, Array], owner: str, base: NamedVector | None) -> None:
        super().__init__(views)
        self.owner = owner
        self._base = base

    @property
    def base(self) -> NamedVector | None:
        """The model's vector."""
        return self._base

    def __setitem__(self, name: str, value: Any) -> None:
        view, base = self[name], self.base
        if value is view or base is None:  # views[name] += value has already written, and assigns the view itself
            return
        array = base.backend.asarray(value, base.dtype)
        if tuple(array.shape) != tuple(view.shape):
            raise ShapeError(
                f"{name!r} of {self.owner} has shape {tuple(view.shape)}, but got a value of shape {tuple(array.shape)}"
            )
        with base.backend.on_device():
            view[...] = array

    def __missing__(self, name: str) -> NoReturn:
        if self.base is None:
            raise CallOrderError(
                f"there is no array {name!r} yet: call initialize(xpnet.backend('auto')) on the model first"
            )
        raise KeyError(f"{self.owner} has no array {name!r}; it has {', '.join(self) or 'none'}")

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to add or remove views.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "the arrays are views into one vector, and their names are fixed: assign to one, as in views['W'] = …"
        )

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # pickled alone they are plain arrays; a pickled model makes its views anew


class NamedVector(Views):
    """A flat vector of zeros on a backend, with named views into it.

    Every view starts on a 256-byte boundary, for aligned vector loads; the padding between views stays zero.

    Args:
        backend: where the vector is allocated.
        shapes: the shape of each named view, in order.
        dtype: "float32" or "float64".

    Attributes:
        vector: the whole vector, padding included.
        starts: the offset of each view, by name.

    Raises:
        OutOfMemoryError: there is not enough memory.

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
        except (MemoryError, ValueError) as error:  # NumPy's ValueError: beyond the address space
            raise OutOfMemoryError(f"not enough memory for {self.size:,} numbers of type {dtype}: {error}") from error
        views = {
            name: backend.xp.reshape(self.vector[start : start + math.prod(self.shapes[name])], self.shapes[name])
            for name, start in self.starts.items()
        }
        super().__init__(views, "the model", None)

    @property
    def base(self) -> NamedVector:
        """Itself."""
        return self

    @property
    def size(self) -> int:
        """The number of elements, padding excluded."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def under(self, prefix: str, owner: str) -> Views:
        """The views whose names begin with ``prefix``, by the rest of their names."""
        views = {name.removeprefix(prefix): view for name, view in self.items() if name.startswith(prefix)}
        return Views(views, owner, self)

    def copy_to(self, backend: Backend) -> NamedVector:
        """A copy of the vector and its views on another backend."""
        return _restored(backend, self.shapes, self.dtype, self.backend.to_numpy(self.vector))

    def __reduce__(self) -> Any:
        return _restored, (self.backend, self.shapes, self.dtype, np.array(self.backend.to_numpy(self.vector)))


def _restored(backend: Backend, shapes: Mapping[str, Shape], dtype: str, numbers: np.ndarray) -> NamedVector:
    vector = NamedVector(backend, shapes, dtype)
    with backend.on_device():
        vector.vector[...] = backend.asarray(numbers)
    return vector
