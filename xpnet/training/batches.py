"""Samples on the device, and the batches drawn from them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from xpnet import ops
from xpnet.backends import Array
from xpnet.data import Samples
from xpnet.errors import ConfigurationError, DTypeError, ShapeError, finite_number
from xpnet.layers import Context, Layer
from xpnet.losses import Loss, SoftmaxCrossEntropy


class DeviceSamples:
    """Samples copied to a backend once; bytes stay bytes there.

    Args:
        model: initialised; the samples go to its backend, and are held against its inputs and outputs.
        samples: :class:`~xpnet.data.Samples`, or a tuple (x, y).
        loss: says which y fit the outputs; softmax cross-entropy when None.

    Raises:
        ShapeError: no samples, x and y of different lengths, or samples that the model or the loss does not take.
        DTypeError: labels, or the inputs of a model that takes integers, that are not integers.
        OutOfRangeError: a label that none of the outputs stands for.
        ConfigurationError: a pixel range that divides nothing, or would divide indices.

    >>> import xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> data = DeviceSamples(model, (np.array([[0, 255], [255, 0]], np.uint8), [0, 2], 255.0))
    >>> data.batch(np.array([1]), Context(model.backend), "float32")
    (array([[1., 0.]], dtype=float32), array([2]))
    """

    def __init__(self, model: Layer, samples: Samples | tuple[Any, ...], loss: Loss | None = None) -> None:
        self.backend = model.require_backend()
        x, y, pixel_range = Samples(*samples)
        x, y = np.asarray(x), np.asarray(y)
        if x.ndim < 2 or len(x) == 0 or len(x) != len(y):
            raise ShapeError(
                f"expected samples x of shape (N, ...) and as many labels y, N at least 1, got {x.shape} and {y.shape}"
            )
        self.output_shape = model.output_shape(x.shape[1:])
        (loss or SoftmaxCrossEntropy()).require_targets(y, self.output_shape)
        self.pixel_range = finite_number("pixel_range", pixel_range, low=sys.float_info.min)
        self.indices = model.takes_integers
        if self.indices and x.dtype.kind not in "iu":
            raise DTypeError(f"this model takes indices, which must be integers, not {x.dtype}")
        if self.indices and self.pixel_range != 1.0:
            raise ConfigurationError(
                f"this model takes indices, and a pixel range of {self.pixel_range:g} would divide them: give 1 "
                "(scale = false in the recipe)"
            )
        with self.backend.memory_for(f"{len(x):,} samples, which stay on the device: take fewer, or use the CPU"):
            self.x = self.backend.asarray(np.ascontiguousarray(x))
            self.y = self.backend.asarray(np.ascontiguousarray(y))

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def batch(self, indices: Array, context: Context, dtype: str) -> tuple[Array, Array]:
        """The rows at ``indices``: x divided by the pixel range and in ``dtype``, or indices as they are; and y."""
        take = self.backend.xp.take
        if self.indices:
            x = take(self.x, indices, axis=0)
        else:
            shape = (indices.shape[0], *self.x.shape[1:])
            out = context.empty(self, "x", shape, getattr(self.backend.xp, dtype))
            x = ops.gather(self.backend, self.x, indices, self.pixel_range, dtype, out)
        return x, self.y[indices] if self.y.ndim == 1 else take(self.y, indices, axis=0)  # take: a microsecond more

    def head(self, count: int, context: Context, dtype: str) -> Array:
        """The first ``count`` rows of x, as ``batch`` gives them."""
        rows = self.backend.xp.arange(min(count, len(self)), device=self.backend.device)
        return self.batch(rows, context, dtype)[0]
