"""Where the order of an image's axes matters: Keras has the channels last, xpnet first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from xpnet.errors import ConfigurationError
from xpnet.interoperation.axes import sample_axes
from xpnet.layers import BatchNorm, Flatten, Layer, LayerNorm, Linear, Reshape, Residual
from xpnet.layers.sequential import known_input_shape
from xpnet.layers.tree import described, full_name
from xpnet.parameters import Shape

# How many axes a sample may have for Keras's layer to take the same one: its last.
_SAME_AXIS: dict[type[Layer], tuple[int, ...]] = {BatchNorm: (1, 3), LayerNorm: (1, 2), Linear: (1, 2)}


class _Samples(NamedTuple):
    """Their shape, as far as it is known, and for each of our features where Keras has it; None: there, too."""

    shape: Shape | None
    order: np.ndarray | None = None


def feature_orders(model: Layer, input_shape: Shape | None) -> dict[str, np.ndarray]:
    """For each layer behind a Flatten of images, by its name: where Keras has each of our features.

    Keras flattens (H, W, C), xpnet (C, H, W).

    Args:
        model: initialised or not.
        input_shape: of one sample, as xpnet takes it; None: what the first layer tells.

    Raises:
        ConfigurationError: the shape of what is flattened or normalised is not known; a layer that normalises another
            axis in Keras; a vector that becomes an image of several channels, or a Residual that adds features in
            one order to features in the other.
        ShapeError: the layers do not take such samples.

    >>> from xpnet import Sequential
    >>> model = Sequential(Flatten(), Linear(4, 2))
    >>> feature_orders(model, (2, 1, 2))
    {'1': array([0, 2, 1, 3])}
    """
    shape = known_input_shape(model) or None if input_shape is None else input_shape
    orders: dict[str, np.ndarray] = {}
    _through(model, "", _Samples(shape), sample_axes(model, None if shape is None else len(shape)), orders)
    return orders


def _through(
    layer: Layer, name: str, x: _Samples, axes: Mapping[Layer, int | None], orders: dict[str, np.ndarray]
) -> _Samples:
    """The samples that a layer gives; the order of those that it takes goes to ``orders``, if it learns."""
    if not layer.children():
        return _through_one(layer, name, x, axes[layer], orders)
    y = x
    for child_name, child in layer.children().items():
        y = _through(child, full_name(name, child_name), y, axes, orders)
    if isinstance(layer, Residual) and not _same_order(x.order, y.order):
        raise ConfigurationError(
            f"{described(name, layer)} adds features in the order of Keras's Flatten to others: xpnet cannot tell the "
            "order of both"
        )
    return y


def _through_one(layer: Layer, name: str, x: _Samples, axes: int | None, orders: dict[str, np.ndarray]) -> _Samples:
    if type(layer) in _SAME_AXIS:
        _require_same_axis(layer, name, axes)
    if x.order is not None and layer.parameter_specs():
        orders[name] = x.order
    if isinstance(layer, Linear):
        return _Samples(layer.output_shape(x.shape or (layer.inputs,)))
    shape = None if x.shape is None else layer.output_shape(x.shape)
    if isinstance(layer, Flatten) or (isinstance(layer, Reshape) and len(layer.shape) == 1):
        return _Samples(shape, _flattened(x))
    if isinstance(layer, Reshape):
        _require_same_images(layer, x)
        return _Samples(tuple(layer.shape))
    return _Samples(shape, x.order)


def _flattened(x: _Samples) -> np.ndarray | None:
    if x.shape is None:
        raise ConfigurationError(
            "Keras flattens images in another order than xpnet, and the network does not tell their shape: give that "
            "of its input, such as (3, 32, 32)"
        )
    if not _moved(x.shape):
        return x.order
    channels, height, width = x.shape
    indices = np.arange(channels * height * width).reshape(height, width, channels)
    return np.transpose(indices, (2, 0, 1)).reshape(-1)


def _moved(shape: Shape) -> bool:
    """Whether the numbers of such a sample stand in another order in Keras: images of several channels and pixels."""
    return len(shape) == 3 and shape[0] > 1 and shape[1] * shape[2] > 1


def _require_same_images(layer: Reshape, x: _Samples) -> None:
    if tuple(layer.shape) == x.shape:
        return
    if x.order is not None or _moved(tuple(layer.shape)) or (x.shape is not None and _moved(x.shape)):
        raise ConfigurationError(
            f"Reshape({layer.shape}) arranges the numbers of its samples otherwise than Keras's does"
        )


def _require_same_axis(layer: Layer, name: str, axes: int | None) -> None:
    if axes is None:
        raise ConfigurationError(
            f"{described(name, layer)} may normalise another axis in Keras, and the network does not tell the shape of "
            "its samples: give that of the network's input, such as (3, 32, 32)"
        )
    if axes not in _SAME_AXIS[type(layer)]:
        raise ConfigurationError(
            f"{described(name, layer)} takes samples of {axes} axes here, and Keras's works on another of them"
        )


def _same_order(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
