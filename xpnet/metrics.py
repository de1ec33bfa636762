"""What a user wants to know of a model beside its loss."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.errors import ShapeError


def accuracy(backend: Backend, outputs: Array, labels: Array) -> Array:
    """The share of rows whose largest output is their label's: a 0-d float64 array on the device.

    Args:
        backend: where the arrays live.
        outputs: (N, C) logits or probabilities, N at least 1.
        labels: (N,) class indices, or (N, C) rows whose largest entry is the label (one-hot).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> float(accuracy(cpu, cpu.asarray([[0.1, 0.9], [0.8, 0.2]]), cpu.asarray([1, 1])))
    0.5
    """
    xp = backend.xp
    backend.require(outputs)
    backend.require(labels)
    if outputs.ndim != 2 or outputs.shape[0] == 0 or tuple(labels.shape) not in (outputs.shape[:1], outputs.shape):
        raise ShapeError(
            f"expected outputs of shape (rows, classes) and a label for each row, got {tuple(outputs.shape)} and "
            f"{tuple(labels.shape)}"
        )
    expected = xp.argmax(labels, axis=1) if labels.ndim == 2 else xp.astype(labels, xp.int64)
    return xp.mean(xp.astype(xp.argmax(outputs, axis=1) == expected, xp.float64))
