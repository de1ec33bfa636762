"""Trouble, named: the ways in which training commonly fails, and what each looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from xpnet.backends import Array
from xpnet.layers import Context, Layer, Linear, Sequential
from xpnet.training.batches import DeviceSamples

FAR_OUTSIDE = 10.0  # standardised data stay well below; raw bytes reach 255
PROBE_ROWS = 256
STEPS_TO_LEARN = 20  # before so many nothing can be said of the loss: a full-batch run has one step an epoch


def inputs_out_of_range(data: DeviceSamples) -> str | None:
    """Inputs far outside [0, 1]: the first layer's sums, and with them its updates, are out of proportion."""
    if data.indices:
        return None
    first = data.x[: min(PROBE_ROWS, len(data)), ...]
    largest = float(np.abs(data.backend.to_numpy(first).astype(np.float64)).max()) / data.pixel_range
    if largest <= FAR_OUTSIDE:
        return None
    return (
        f"inputs reach {largest:g}, far outside [0, 1]: divide them by their range (scale = true in the recipe, "
        "pixel_range in Samples)"
    )


def dead_units(model: Layer, data: DeviceSamples) -> str | None:
    """A hidden layer whose ReLUs are 0 for every sample: no gradient passes it, so nothing before it can learn."""
    x = data.head(PROBE_ROWS, Context(data.backend), model.dtype)
    for name, layer, y in _trace(model, x, Context(data.backend)):
        if getattr(layer, "activation", None) == "relu" and float(data.backend.xp.max(y)) <= 0.0:
            units = y.shape[-1 if isinstance(layer, Linear) else 1]
            return (
                f"all {units} hidden units of layer {name} are dead (a ReLU that is 0 for every sample passes no "
                "gradient): scale the inputs to [0, 1], lower the learning rate, or start from other weights"
            )
    return None


def loss_at_chance(loss: float, accuracy: float, classes: int) -> str | None:
    """A loss of ln C after an epoch: the network tells all C classes apart no better than by guessing."""
    chance = math.log(classes)
    if not (abs(loss - chance) <= 0.01 * chance and accuracy < 2.0 / classes):
        return None
    return (
        f"the loss stays at ln {classes} = {chance:.3f}, the value for guessing: nothing is being learned; check the "
        "scale of the inputs, the learning rate and the initial weights"
    )


def _trace(layer: Layer, x: Array, context: Context, name: str = "") -> Iterator[tuple[str, Layer, Array]]:
    """Name, layer and output in inference of each layer in (nested) Sequentials."""
    if type(layer).forward is not Sequential.forward:
        yield name, layer, layer.forward(x, context)
        return
    for place, child in layer.children().items():
        for inner in _trace(child, x, context, f"{name}.{place}" if name else place):
            yield inner
            x = inner[2]
