"""Losses: what training makes small."""

from __future__ import annotations

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.errors import CallOrderError
from xpnet.layers.context import Context


class SoftmaxCrossEntropy:
    """L = 1/N Σᵢ -log softmax(z)[i, yᵢ], over logits z (N, C).

    Labels y are (N,) class indices of any integer type, or (N, C) rows of probabilities, one-hot included. The loss
    stays on the device until somebody reads it (``float(loss)``).

    Source: the "SoftmaxWithLoss" layer of Saito, "Deep Learning from Scratch", 2016, section 5.6.

    >>> import xpnet
    >>> backend = xpnet.backend("cpu-reference")
    >>> loss = SoftmaxCrossEntropy()(backend, backend.asarray([[0.0, 0.0]]), backend.asarray([1]))
    >>> round(float(loss), 6)
    0.693147
    """

    _gradient: Array | None = None

    def __call__(self, backend: Backend, logits: Array, labels: Array) -> Array:
        """The mean loss, a 0-d float64 array."""
        return self.forward(logits, labels, Context(backend)).loss

    def forward(self, logits: Array, labels: Array, context: Context) -> ops.CrossEntropy:
        """The loss, and under ``context.training`` its gradient too, from the same pass."""
        for array in (logits, labels):
            context.backend.require(array)
        out = context.empty(self, "gradient", logits.shape, logits.dtype) if context.training else None
        result = ops.softmax_cross_entropy(context.backend, logits, labels, gradient=context.training, out=out)
        self._gradient = result.gradient
        return result

    def backward(self, context: Context) -> Array:
        """(N, C): d loss / d logits."""
        gradient, self._gradient = self._gradient, None
        if gradient is None:
            raise CallOrderError("SoftmaxCrossEntropy.backward needs a forward pass under Context(training=True)")
        return gradient
