"""Prediction in batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.context import Context
from xpnet.data.batches import Batches
from xpnet.errors import positive_integer
from xpnet.layers.scaled_inputs import leading_rescale, require_fitted

Layer = Any  # xpnet.Layer, whose module imports this one


def predict(model: Layer, x: Any, batch_size: int) -> np.ndarray:
    """See :meth:`Layer.predict`."""
    backend = model.require_backend()
    positive_integer("batch_size", batch_size)
    require_fitted(model)
    x = np.asarray(x) if isinstance(x, (list, tuple)) else x
    if x.shape[0] == 0:
        return backend.to_numpy(model(backend.asarray(x, model.input_dtype)))
    on_device = backend.owns(x)
    batches = Batches(
        backend,
        x if on_device else np.asarray(x),
        batch_size=batch_size,
        dtype=model.input_dtype,
        rescale=leading_rescale(model),
        resident=on_device,
    )
    outputs = []
    with backend.on_device():
        for batch in batches.epoch():
            context = Context(backend)
            inputs, _ = batches.gather(batch, context)
            outputs.append(backend.to_numpy(backend.widened(model.forward(inputs, context))))
    return np.concatenate(outputs)
