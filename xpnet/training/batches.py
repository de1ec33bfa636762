"""Samples as batches for a model, once it is known that they fit it and its loss."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from xpnet.data import Batches, Sampler, Samples
from xpnet.errors import ConfigurationError, DTypeError, ShapeError, finite_number
from xpnet.layers import Layer
from xpnet.losses import Loss


class _Divisor(NamedTuple):
    divisor: float


def batches_for(
    model: Layer,
    samples: Samples | tuple[Any, ...],
    loss: Loss,
    *,
    batch_size: int = 1000,
    sampler: Sampler | None = None,
    seed: int = 0,
    drop_last: bool = False,
) -> Batches:
    """The batches of samples that a model is trained or evaluated on, resident on the model's device.

    Args:
        model: initialised.
        samples: :class:`~xpnet.data.Samples`, or a tuple (x, y).
        loss: says which y fit the outputs.
        batch_size, sampler, seed, drop_last: as for :class:`~xpnet.data.Batches`.

    Raises:
        ShapeError: no samples, x and y of different lengths, or samples that the model or the loss does not take.
        DTypeError: labels, or the inputs of a model that takes integers, that are not integers.
        OutOfRangeError: a label that none of the outputs stands for.
        ConfigurationError: a pixel range that divides nothing, or would divide indices.

    >>> import xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> samples = np.array([[0, 255], [255, 0]], np.uint8), [0, 2], 255.0
    >>> batches = batches_for(model, samples, xpnet.SoftmaxCrossEntropy(), batch_size=1)
    >>> batches.gather(batches.at(1), xpnet.Context(model.backend))
    (array([[1., 0.]], dtype=float32), array([2]))
    """
    x, y, pixel_range = Samples(*samples)
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or len(x) == 0 or len(x) != len(y):
        raise ShapeError(
            f"expected samples x of shape (N, ...) and as many labels y, N at least 1, got {x.shape} and {y.shape}"
        )
    loss.require_targets(y, model.output_shape(x.shape[1:]))
    divisor = finite_number("pixel_range", pixel_range, low=sys.float_info.min)
    if model.takes_integers and x.dtype.kind not in "iu":
        raise DTypeError(f"this model takes indices, which must be integers, not {x.dtype}")
    if model.takes_integers and divisor != 1.0:
        raise ConfigurationError(
            f"this model takes indices, and a pixel range of {divisor:g} would divide them: give 1 (scale = false in "
            "the recipe)"
        )
    return Batches(
        model.require_backend(),
        x,
        y,
        batch_size=batch_size,
        sampler=sampler,
        seed=seed,
        dtype=model.input_dtype,
        rescale=_Divisor(divisor),
        drop_last=drop_last,
    )
