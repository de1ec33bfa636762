"""Embedding: the rows of a table at given indices, and the table's gradient."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.ops.gather import gather
from xpnet.ops.outputs import store


def embedding(backend: Backend, W: Array, indices: Array, out: Array | None = None) -> Array:
    """y[i] = W[indices[i]], for indices of any shape.

    Args:
        backend: where the arrays live.
        W: (V, F) float32 or float64.
        indices: any shape, integers in [0, V).
        out: (*indices' shape, F), receives y when given.

    Raises:
        OutOfRangeError: an index outside [0, V); the message names its position in C order. On an asynchronous backend
            its row of y is NaN instead.
        DTypeError: indices that are not integers.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> embedding(cpu, cpu.asarray([[1.0, 2.0], [3.0, 4.0]]), cpu.asarray([[1], [0]]))
    array([[[3., 4.]],
           [[1., 2.]]])
    """
    xp = backend.xp
    dtype = "float32" if W.dtype == xp.float32 else "float64"
    rows = gather(backend, W, xp.reshape(indices, (-1,)), dtype=dtype)
    return store(xp.reshape(rows, (*indices.shape, W.shape[1])), out)


def embedding_backward(backend: Backend, dy: Array, indices: Array, dW: Array) -> None:
    """dW[v] = Σ dy[i] over the i with indices[i] = v.

    The rows of dy are sorted by index and summed cumulatively, in float64; dW[v] is the difference of two cumulative
    sums. The order of additions is fixed, so the result is reproducible to the bit.

    Args:
        backend: where the arrays live.
        dy: (*indices' shape, F).
        indices: as in the forward pass.
        dW: (V, F), overwritten.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> dW = cpu.asarray([[9.0], [9.0], [9.0]])
    >>> embedding_backward(cpu, cpu.asarray([[1.0], [2.0], [4.0]]), cpu.asarray([2, 0, 2]), dW)
    >>> dW
    array([[2.],
           [0.],
           [5.]])
    """
    xp = backend.xp
    indices = xp.astype(xp.reshape(indices, (-1,)), xp.int64, copy=False)
    order = xp.argsort(indices, stable=True)
    rows = xp.take(xp.reshape(dy, (indices.shape[0], dW.shape[1])), order, axis=0)
    sums = xp.cumulative_sum(rows, axis=0, dtype=xp.float64, include_initial=True)
    bounds = xp.searchsorted(xp.take(indices, order), xp.arange(dW.shape[0] + 1, dtype=xp.int64, device=backend.device))
    sums_at_bounds = xp.take(sums, bounds, axis=0)
    dW[...] = xp.astype(sums_at_bounds[1:, ...] - sums_at_bounds[:-1, ...], dW.dtype)
