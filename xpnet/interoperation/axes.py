"""The number of axes of the samples that each layer of a model takes."""

from __future__ import annotations

from xpnet.layers import AvgPool2d, Conv2d, Embedding, Flatten, Layer, Linear, MaxPool2d, Reshape
from xpnet.layers.tree import walk

_INPUT_AXES: dict[type[Layer], int] = {Conv2d: 3, MaxPool2d: 3, AvgPool2d: 3}


def sample_axes(model: Layer, first: int | None) -> dict[Layer, int | None]:
    """The number of axes of each layer's input samples, such as 3 for (C, H, W); None if the layers do not imply it.

    Args:
        model: initialised or not.
        first: the number of axes of the model's input samples; None: unknown.

    >>> from xpnet import BatchNorm, Sequential
    >>> model = Sequential(BatchNorm(2), Conv2d(2, 4, 3), Flatten(), BatchNorm(8))
    >>> list(sample_axes(model, None).values())
    [3, 3, 3, 1]
    """
    found: dict[Layer, int | None] = {}
    undetermined: list[Layer] = []  # since the last layer that changes the number of axes
    axes = first
    for _, layer in walk(model):
        if layer.children():
            continue
        if axes is None and isinstance(layer, Linear):  # takes any number of axes; one is usual
            axes = 1
        axes = found[layer] = _INPUT_AXES.get(type(layer), axes)
        if axes is None:
            undetermined.append(layer)
        else:
            found.update(dict.fromkeys(undetermined, axes))
            undetermined.clear()
        if isinstance(layer, (Embedding, Flatten, Reshape)):
            axes = _output_axes(layer, axes)
            undetermined.clear()
    return found


def _output_axes(layer: Embedding | Flatten | Reshape, axes: int | None) -> int | None:
    if isinstance(layer, Reshape):
        return len(layer.shape)
    if isinstance(layer, Flatten):
        return 1
    return None if axes is None else axes + 1
