"""The order of features flattened from images: Keras has the channels last, xpnet first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from xpnet.errors import ConfigurationError
from xpnet.interoperation.axes import sample_axes
from xpnet.layers import BatchNorm, Flatten, Layer, LayerNorm, Linear, Reshape, Residual
from xpnet.layers.summary import known_input_shape
from xpnet.layers.tree import described, full_name
from xpnet.parameters import Shape

# The numbers of axes of a sample for which Keras's layer, which works on the last axis, works on the same one.
_SAME_AXIS: dict[type[Layer], tuple[int, ...]] = {BatchNorm: (1, 3), LayerNorm: (1, 2), Linear: (1, 2)}


class _Samples(NamedTuple):
    """The shape of a sample, None if unknown; the position in Keras of each feature, None if the order is the same."""

    shape: Shape | None
    order: np.ndarray | None = None


def feature_orders(model: Layer, input_shape: Shape | None) -> dict[str, np.ndarray]:
    """The position in Keras of each input feature, by name of the layer, for the layers after a Flatten of images.

    Keras flattens (H, W, C), xpnet (C, H, W).

    Args:
        model: initialised or not.
        input_shape: of one sample in xpnet; None: the shape that the first layer takes.

    Raises:
        ConfigurationError: the shape of samples to be flattened or normalised is unknown; a layer normalises another
            axis in Keras; a vector becomes an image of several channels; or a Residual adds features in different
            orders.
        ShapeError: the layers do not take samples of this shape.

    >>> from xpnet import Sequential
    >>> model = Sequential(Flatten(), Linear(4, 2))
    >>> feature_orders(model, (2, 1, 2))
    {'1': array([0, 2, 1, 3])}
    """
    shape = known_input_shape(model) or None if input_shape is None else input_shape
    orders: dict[str, np.ndarray] = {}
    _propagate(model, "", _Samples(shape), sample_axes(model, None if shape is None else len(shape)), orders)
    return orders


def _propagate(
    layer: Layer, name: str, x: _Samples, axes: Mapping[Layer, int | None], orders: dict[str, np.ndarray]
) -> _Samples:
    """A layer's output samples; the order of its inputs is added to ``orders`` if it has parameters."""
    if not layer.children():
        return _propagate_leaf(layer, name, x, axes[layer], orders)
    y = x
    for child_name, child in layer.children().items():
        y = _propagate(child, full_name(name, child_name), y, axes, orders)
    if isinstance(layer, Residual) and not _same_order(x.order, y.order):
        raise ConfigurationError(
            f"{described(name, layer)} adds features in the order of Keras's Flatten to features in another order, "
            "which xpnet cannot import"
        )
    return y


def _propagate_leaf(layer: Layer, name: str, x: _Samples, axes: int | None, orders: dict[str, np.ndarray]) -> _Samples:
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
            "Keras flattens images in another order than xpnet, and their shape cannot be inferred: give "
            "input_shape, the shape of the network's input (--input-shape 3,32,32)"
        )
    if not _is_reordered(x.shape):
        return x.order
    channels, height, width = x.shape
    indices = np.arange(channels * height * width).reshape(height, width, channels)
    return np.transpose(indices, (2, 0, 1)).reshape(-1)


def _is_reordered(shape: Shape) -> bool:
    """Whether Keras flattens samples of this shape in another order: images of several channels and pixels."""
    return len(shape) == 3 and shape[0] > 1 and shape[1] * shape[2] > 1


def _require_same_images(layer: Reshape, x: _Samples) -> None:
    if tuple(layer.shape) == x.shape:
        return
    if x.order is not None or _is_reordered(tuple(layer.shape)) or (x.shape is not None and _is_reordered(x.shape)):
        raise ConfigurationError(
            f"Reshape({layer.shape}) arranges the numbers of a sample in another order than Keras's"
        )


def _require_same_axis(layer: Layer, name: str, axes: int | None) -> None:
    if axes is None:
        raise ConfigurationError(
            f"{described(name, layer)} may normalise another axis in Keras, and the shape of its samples cannot be "
            "inferred: give input_shape, the shape of the network's input (--input-shape 3,32,32)"
        )
    if axes not in _SAME_AXIS[type(layer)]:
        raise ConfigurationError(
            f"{described(name, layer)} takes samples of {axes} axes, of which Keras's layer works on another one"
        )


def _same_order(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
