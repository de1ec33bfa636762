"""Diagnoses: checks for common failures of training, each with advice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.data import Batches
from xpnet.layers import Layer, Linear, Sequential
from xpnet.layers.scaled_inputs import leading_preprocessing
from xpnet.layers.tree import walk

FAR_OUTSIDE = 10.0  # standardised data stay well below; raw bytes reach 255
PROBE_ROWS = 256
STEPS_TO_LEARN = 20  # after fewer the loss says nothing: a full-batch run takes one step per epoch


def inputs_out_of_range(model: Layer, batches: Batches) -> str | None:
    """Inputs far outside [0, 1] make the first layer's outputs and updates too large."""
    if batches.dtype is None:
        return None
    context = Context(batches.backend.in_float32)
    x = batches.head(PROBE_ROWS, context)
    for layer in leading_preprocessing(model):
        x = layer.forward(x, context)
    largest = float(np.abs(batches.backend.to_numpy(x)).max())
    if largest <= FAR_OUTSIDE:
        return None
    return (
        f"inputs reach {largest:g}, far outside [0, 1]: begin the model with a layer that scales them, Rescale or "
        "Standardize"
    )


def dead_units(model: Layer, batches: Batches) -> str | None:
    """A hidden layer whose ReLUs are 0 for every sample passes no gradient: the layers before it cannot learn."""
    context = Context(batches.backend.in_float32)
    x = batches.head(PROBE_ROWS, context)
    for name, layer, y in _trace(model, x, context):
        if getattr(layer, "activation", None) == "relu" and float(batches.backend.xp.max(y)) <= 0.0:
            units = y.shape[-1 if isinstance(layer, Linear) else 1]
            return (
                f"all {units} hidden units of layer {name} are dead (a ReLU that is 0 for every sample passes no "
                "gradient): scale the inputs to [0, 1], lower the learning rate, or start from other weights"
            )
    return None


def loss_at_chance(loss: float, accuracy: float, classes: int) -> str | None:
    """A loss of ln C after an epoch: the model distinguishes C classes no better than guessing does."""
    chance = math.log(classes)
    if not (abs(loss - chance) <= 0.01 * chance and accuracy < 2.0 / classes):
        return None
    return (
        f"the loss stays at ln {classes} = {chance:.3f}, the value for guessing: nothing is being learned; check the "
        "scale of the inputs, the learning rate and the initial weights"
    )


def _trace(model: Layer, x: Array, context: Context) -> Iterator[tuple[str, Layer, Array]]:
    """Name, layer and output (in inference) of each layer in (nested) Sequentials."""

    def is_plain(layer: Layer) -> bool:
        return type(layer).forward is Sequential.forward

    for name, layer in walk(model, into=is_plain):
        if not is_plain(layer):
            x = layer.forward(x, context)
            yield name, layer, x
