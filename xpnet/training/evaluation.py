"""Loss and accuracy over a whole set."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet import ops
from xpnet.context import Context
from xpnet.data import Batches, Samples
from xpnet.errors import positive_integer
from xpnet.layers import Layer
from xpnet.losses import Loss, RowLoss, as_loss
from xpnet.training import reports
from xpnet.training.batches import batches_for


class Evaluation(NamedTuple):
    """Loss and accuracy of a model on a set.

    Attributes:
        loss: the mean.
        accuracy: the fraction of correct rows; NaN for a loss that defines none.
        samples: the number of rows that count, masked ones left out.

    >>> Evaluation(loss=0.25, accuracy=0.9, samples=1000).accuracy
    0.9
    """

    loss: float
    accuracy: float
    samples: int


def evaluate(
    model: Layer,
    samples: Samples | tuple[Any, ...],
    loss: Loss | RowLoss | None = None,
    batch_size: int = 1000,
) -> Evaluation:
    """Loss and accuracy in inference; waits for the device once, at the end.

    Args:
        model: initialised.
        samples: :class:`~xpnet.data.Samples` or a tuple (x, y) on the host.
        loss: softmax cross-entropy when None.
        batch_size: rows computed at a time.

    Raises:
        ConfigurationError: ``batch_size`` is not a whole number of at least 1.
        OutOfMemoryError: a batch, or the set, is too large for the device.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> evaluate(model, (np.zeros((5, 2)), np.array([0, 1, 2, 0, 1]))).samples
    5
    """
    positive_integer("batch_size", batch_size)
    loss = as_loss(loss)
    return evaluate_batches(model, batches_for(model, samples, loss, batch_size=batch_size), loss)


def evaluate_batches(model: Layer, batches: Batches, loss: Loss) -> Evaluation:
    """As ``evaluate``, over one epoch of batches.

    Raises:
        OutOfMemoryError: a batch is too large for the device.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> batches = Batches(model.backend, np.zeros((5, 2)), np.array([0, 1, 2, 0, 1]), batch_size=2)
    >>> evaluate_batches(model, batches, xpnet.SoftmaxCrossEntropy()).samples
    5
    """
    backend = batches.backend
    purpose = f"an evaluation with batches of {batches.batch_size:,} rows: make them smaller, or use the CPU"
    with backend.on_device(), backend.memory_for(purpose):
        context, report = Context(backend, reuse=True), reports.new_report(backend)
        for number, batch in enumerate(batches.epoch()):
            x, y = batches.gather(batch, context)
            ops.end_step(backend, report, loss.forward(model.forward(x, context), y, context), step=number)
    totals = reports.read(backend, report)
    return Evaluation(*reports.means(totals), int(totals[reports.COUNT]))
