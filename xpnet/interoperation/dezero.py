"""DeZero: weights that ``model.save_weights`` wrote, an ``.npz`` file of arrays named ``l0/W``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xpnet import layers
from xpnet.interoperation.layouts import Layout, Tensor
from xpnet.interoperation.matching import ForeignWeights, Stored, group_by_layer

_BIAS = Tensor("b", "b")
LAYOUT: Layout = {
    layers.BatchNorm: (
        Tensor("gamma", "gamma"),
        Tensor("beta", "beta"),
        Tensor("running_mean", "avg_mean"),
        Tensor("running_variance", "avg_var"),
    ),
    layers.Conv2d: (Tensor("W", "W", (3, 2, 0, 1)), _BIAS),
    layers.Embedding: (Tensor("W", "W"),),
    layers.Linear: (Tensor("W", "W"), _BIAS),
}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> ForeignWeights:
    """The arrays, grouped by layer; DeZero writes them in no fixed order."""
    tensors = [Stored(name, values, values.dtype.name) for name, values in arrays.items()]
    return ForeignWeights("DeZero", LAYOUT, group_by_layer(tensors, "/"))
