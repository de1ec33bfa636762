"""One flat vector, and named views into it.

A model keeps its parameters, its gradients and its buffers in one such vector each. So an optimizer's step is one
operation, a data-parallel step one all-reduce, a move to another device one copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from xpnet.backends import ALIGNMENT, Array, Backend
from xpnet.errors import OutOfMemoryError

Shape = tuple[int, ...]


class NamedVector(Mapping[str, Array]):
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
    >>> weights["b"][...] = 1.0
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
        self._views = {
            name: backend.xp.reshape(self.vector[start : start + math.prod(self.shapes[name])], self.shapes[name])
            for name, start in self.starts.items()
        }

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    @property
    def size(self) -> int:
        """How many numbers the views hold, padding not counted."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def copy_to(self, backend: Backend) -> NamedVector:
        """A copy of the vector and its views on another backend."""
        copy = NamedVector(backend, self.shapes, self.dtype)
        copy.vector[...] = backend.asarray(self.backend.to_numpy(self.vector))
        return copy
