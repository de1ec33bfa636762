"""How many axes a sample has on its way through a model."""

from __future__ import annotations

from xpnet.layers import AvgPool2d, Conv2d, Embedding, Flatten, Layer, Linear, MaxPool2d, Reshape
from xpnet.layers.tree import walk

_TAKES: dict[type[Layer], int] = {Conv2d: 3, MaxPool2d: 3, AvgPool2d: 3}


def sample_axes(model: Layer, first: int | None) -> dict[Layer, int | None]:
    """The axes of the samples that each layer takes, 3 for (C, H, W); None where neither it nor its neighbours tell.

    Args:
        model: initialised or not.
        first: the axes of the model's input; None: not known.

    >>> from xpnet import BatchNorm, Sequential
    >>> model = Sequential(BatchNorm(2), Conv2d(2, 4, 3), Flatten(), BatchNorm(8))
    >>> list(sample_axes(model, None).values())
    [3, 3, 3, 1]
    """
    found: dict[Layer, int | None] = {}
    untold: list[Layer] = []  # since the last change of axes
    axes = first
    for _, layer in walk(model):
        if layer.children():
            continue
        if axes is None and isinstance(layer, Linear):  # which takes any number of axes, and most often one
            axes = 1
        axes = found[layer] = _TAKES.get(type(layer), axes)
        if axes is None:
            untold.append(layer)
        else:
            found.update(dict.fromkeys(untold, axes))
            untold.clear()
        if isinstance(layer, (Embedding, Flatten, Reshape)):
            axes = _given(layer, axes)
            untold.clear()
    return found


def _given(layer: Embedding | Flatten | Reshape, axes: int | None) -> int | None:
    if isinstance(layer, Reshape):
        return len(layer.shape)
    if isinstance(layer, Flatten):
        return 1
    return None if axes is None else axes + 1
