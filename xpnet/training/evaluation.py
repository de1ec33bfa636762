"""Loss and accuracy over a whole set."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet import ops
from xpnet.data import Samples
from xpnet.errors import positive_integer
from xpnet.layers import Context, Layer
from xpnet.losses import Loss, SoftmaxCrossEntropy
from xpnet.ops import reports
from xpnet.training.batches import DeviceSamples


class Evaluation(NamedTuple):
    """What a model does on a set.

    Attributes:
        loss: the mean.
        accuracy: the share of correct rows; NaN for a loss that calls none right or wrong.
        samples: how many rows counted.

    >>> Evaluation(loss=0.25, accuracy=0.9, samples=1000).accuracy
    0.9
    """

    loss: float
    accuracy: float
    samples: int


def evaluate(
    model: Layer,
    samples: Samples | tuple[Any, ...] | DeviceSamples,
    loss: Loss | None = None,
    batch_size: int = 1000,
) -> Evaluation:
    """Loss and accuracy in inference; the device is asked once, at the end.

    Args:
        model: initialised.
        samples: :class:`~xpnet.data.Samples` or a tuple (x, y) on the host.
        loss: softmax cross-entropy when None.
        batch_size: rows computed at a time.

    Raises:
        ConfigurationError: ``batch_size`` is no whole number of at least 1.
        OutOfMemoryError: a batch, or the set, is too large for the device.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> evaluate(model, (np.zeros((5, 2)), np.array([0, 1, 2, 0, 1]))).samples
    5
    """
    positive_integer("batch_size", batch_size)
    backend, loss = model.require_backend(), loss or SoftmaxCrossEntropy()
    if not isinstance(samples, DeviceSamples):
        samples = DeviceSamples(model, samples, loss)
    context = Context(backend, reuse=True)
    report, rows = ops.new_report(backend), backend.xp.arange(len(samples), device=backend.device)
    with backend.memory_for(f"an evaluation with batches of {batch_size:,} rows: make them smaller, or use the CPU"):
        for start in range(0, len(samples), batch_size):
            indices = rows[start : min(start + batch_size, len(samples))]
            x, y = samples.batch(indices, context, model.dtype)
            result = loss.forward(model.forward(x, context), y, context)
            ops.accumulate(backend, report, result, step=start // batch_size)
    figures = reports.read(backend, report)
    return Evaluation(*reports.means(figures), int(figures[reports.COUNT]))
