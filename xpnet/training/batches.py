"""Samples on the device, and the batches drawn from them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from xpnet import ops
from xpnet.backends import Array
from xpnet.data import Samples
from xpnet.errors import DTypeError, OutOfRangeError, ShapeError, finite_number, memory_for
from xpnet.layers import Context, Layer


class DeviceSamples:
    """Samples copied to a backend once; bytes stay bytes there.

    Args:
        model: initialised; the samples go to its backend, and are held against its inputs and outputs.
        samples: :class:`~xpnet.data.Samples`, or a tuple (x, y).

    Raises:
        ShapeError: no samples, x and y of different lengths, or samples that the model does not take.
        DTypeError: labels that are not integers.
        OutOfRangeError: a label that none of the outputs stands for.
    """

    def __init__(self, model: Layer, samples: Samples | tuple[Any, ...]) -> None:
        self.backend = model.require_backend()
        x, y, pixel_range = Samples(*samples)
        x, y = np.asarray(x), np.asarray(y)
        if x.ndim < 2 or len(x) == 0 or len(x) != len(y):
            raise ShapeError(
                f"expected samples x of shape (N, ...) and as many labels y, N at least 1, got {x.shape} and {y.shape}"
            )
        self.outputs = model.output_shape(x.shape[1:])[-1]
        if y.ndim == 1:
            _require_labels(y, self.outputs)
        self.pixel_range = finite_number("pixel_range", pixel_range, low=sys.float_info.min)
        with memory_for(f"{len(x):,} samples, which stay on the device", "take fewer, or train on the CPU"):
            self.x = self.backend.asarray(np.ascontiguousarray(x))
            self.y = self.backend.asarray(np.ascontiguousarray(y))

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def batch(self, indices: Array, context: Context, dtype: str) -> tuple[Array, Array]:
        """The rows at ``indices``: x divided by the pixel range and in ``dtype``, and y."""
        shape = (indices.shape[0], *self.x.shape[1:])
        out = context.empty(self, "x", shape, getattr(self.backend.xp, dtype))
        x = ops.take_rows(self.backend, self.x, indices, self.pixel_range, dtype, out)
        return x, self.backend.xp.take(self.y, indices, axis=0)

    def head(self, count: int, context: Context, dtype: str) -> Array:
        """The first ``count`` rows of x, as ``batch`` gives them."""
        rows = self.backend.xp.arange(min(count, len(self)), device=self.backend.device)
        return self.batch(rows, context, dtype)[0]


def _require_labels(y: np.ndarray, outputs: int) -> None:
    if y.dtype.kind not in "iu":
        raise DTypeError(f"labels of shape {y.shape} must be integers (class indices), not {y.dtype}")
    bad = (y < 0) | (y >= outputs)
    if bad.any():
        row = int(bad.argmax())
        raise OutOfRangeError(
            f"label {y[row]} at row {row} has no output: the model has {outputs}, for the labels 0 to {outputs - 1}"
        )
