"""Batches for a model, of samples that are checked against it and its loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.data import Batches, Sampler, Samples
from xpnet.errors import ConfigurationError, DTypeError, ShapeError
from xpnet.layers import Layer
from xpnet.layers.scaled_inputs import leading_rescale, require_fitted
from xpnet.losses import Loss


def samples_for(model: Layer, samples: Samples | tuple[Any, ...], loss: Loss) -> Samples:
    """The samples as arrays, checked: model and loss take them.

    Args:
        model: initialised or not.
        samples: :class:`~xpnet.data.Samples`, or a tuple (x, y).
        loss: checks y against the model's outputs.

    Raises:
        ConfigurationError: not a pair of x and y.
        ShapeError: no samples, x and y of different lengths, or samples that the model or the loss does not take.
        DTypeError: labels, or the inputs of a model that takes integers, that are not integers.
        OutOfRangeError: a label outside the classes of the outputs.

    >>> import xpnet
    >>> samples_for(xpnet.Linear(2, 3), ([[0.5, 1.0]], [2]), xpnet.SoftmaxCrossEntropy()).y
    array([2])
    """
    if len(samples) != 2:
        raise ConfigurationError(
            f"expected samples (x, y), got {len(samples)} values; to scale x, begin the model with a layer such as "
            "Rescale(255.0)"
        )
    x, y = (np.asarray(array) for array in samples)
    if x.ndim < 2 or len(x) == 0 or len(x) != len(y):
        raise ShapeError(
            f"expected samples x of shape (N, ...) and as many labels y, N at least 1, got {x.shape} and {y.shape}"
        )
    loss.require_targets(y, model.output_shape(x.shape[1:]))
    if model.takes_integers and x.dtype.kind not in "iu":
        raise DTypeError(f"this model takes indices, which must be integers, not {x.dtype}")
    return Samples(x, y)


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
    """Batches to train or evaluate a model on, resident on the model's device.

    Args:
        model: initialised, with its preprocessing layers fitted.
        samples, loss: as for ``samples_for``, with the same errors.
        batch_size, sampler, seed, drop_last: as for :class:`~xpnet.data.Batches`.

    Raises:
        CallOrderError: a preprocessing layer is not fitted.

    >>> import xpnet
    >>> model = xpnet.Sequential(xpnet.Rescale(255.0), xpnet.Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> samples = np.array([[0, 255], [255, 0]], np.uint8), [0, 2]
    >>> batches = batches_for(model, samples, xpnet.SoftmaxCrossEntropy(), batch_size=1)
    >>> batches.gather(batches.at(1), xpnet.Context(model.backend))
    (array([[1., 0.]], dtype=float32), array([2]))
    """
    x, y = samples_for(model, samples, loss)
    require_fitted(model)
    return Batches(
        model.require_backend(),
        x,
        y,
        batch_size=batch_size,
        sampler=sampler,
        seed=seed,
        dtype=model.input_dtype,
        rescale=leading_rescale(model),
        drop_last=drop_last,
    )
