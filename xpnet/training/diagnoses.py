"""Trouble, named: the ways in which training commonly fails, and what each looks like."""

from __future__ import annotations

import math

import numpy as np

from xpnet.layers import Context, Layer, Sequential
from xpnet.training.batches import DeviceSamples

FAR_OUTSIDE = 10.0  # standardised data stay well below; raw bytes reach 255
PROBE_ROWS = 256


def inputs_out_of_range(data: DeviceSamples) -> str | None:
    """Inputs far outside [0, 1]: the first layer's sums, and with them its updates, are out of proportion."""
    first = data.x[: min(PROBE_ROWS, len(data)), ...]
    largest = float(np.abs(data.backend.to_numpy(first).astype(np.float64)).max()) / data.pixel_range
    if largest <= FAR_OUTSIDE:
        return None
    return (
        f"inputs reach {largest:g}, far outside [0, 1]: divide them by their range (scale = true in the recipe, "
        "pixel_range in Samples)"
    )


def dead_units(model: Sequential, data: DeviceSamples) -> str | None:
    """A hidden layer whose ReLUs are 0 for every sample: no gradient passes it, so nothing before it can learn."""
    x = data.head(PROBE_ROWS, Context(data.backend), model.dtype)
    for name, layer, y in model.trace(x):
        if _is_relu(layer) and float(data.backend.xp.max(y)) <= 0.0:
            return (
                f"all {y.shape[-1]} hidden units of layer {name} are dead (a ReLU that is 0 for every sample passes no "
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


def _is_relu(layer: Layer) -> bool:
    return getattr(layer, "activation", None) == "relu"
