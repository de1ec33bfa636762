"""The last layer and its loss together, with the logits computed in chunks."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu._bias_activation import bias_activation
from xpnet_kernels.cpu.checks.arguments import check_apart, check_input, check_kind, check_output
from xpnet_kernels.cpu.cross_entropy.targets import check_targets
from xpnet_kernels.cpu.elementwise.matrices import add_to, column_sums
from xpnet_kernels.cpu.gemm.numpy_product import matmul

_CHUNK_BYTES = 50 * 2**20  # of logits; each chunk costs a packing of W and a pass over dW
_PRODUCT_BYTES = 8 * 2**20  # of a part of dW, which is added while it is in the cache


def linear_softmax_cross_entropy(
    x: np.ndarray,
    W: np.ndarray,
    b: np.ndarray | None,
    labels: np.ndarray,
    *,
    summary: np.ndarray,
    losses: np.ndarray,
    dx: np.ndarray | None = None,
    dW: np.ndarray | None = None,
    db: np.ndarray | None = None,
    chunk_rows: int | None = None,
    log_sum_exp: np.ndarray | None = None,
    predictions: np.ndarray | None = None,
    reduction: str = "mean",
    upstream: float | np.ndarray | None = None,
    label_smoothing: float = 0.0,
    class_weights: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
) -> None:
    """The softmax cross-entropy of the logits x W + b, and its gradients.

    The logits of ``chunk_rows`` rows at a time are computed, replaced by their gradient, and multiplied into ``dx`` and
    ``dW``, after Wijmans et al., "Cut your losses in large-vocabulary language models", ICLR 2025 (with chunks of rows
    instead of tiles). A chunk and a few megabytes are all that is allocated.

    Args:
        x: (N, D) float32 or float64.
        W: (D, C).
        b: (C,), or ``None``.
        labels: (N,) integers in [0, C), or (N, C) probabilities.
        summary: (4,) float64, output.
        losses: (N,), output.
        dx: (N, D), output.
        dW: (D, C), output.
        db: (C,), output.
        chunk_rows: rows of logits to hold; ``None`` chooses chunks of about 50 MiB.

    The other arguments, and the errors, are those of :func:`softmax_cross_entropy`.

    >>> import numpy as np
    >>> x, W, summary, losses = np.eye(2), np.log([[0.5, 0.5], [0.9, 0.1]]), np.empty(4), np.empty(2)
    >>> dW = np.empty((2, 2))
    >>> linear_softmax_cross_entropy(x, W, None, np.array([0, 0]), summary=summary, losses=losses, dW=dW)
    >>> np.exp(-losses).round(6), dW.round(6).tolist()
    (array([0.5, 0.9]), [[-0.25, 0.25], [-0.05, 0.05]])
    """
    check_kind("x", x, 2)
    check_kind("W", W, 2)
    dtype, (rows, inputs), classes = x.dtype, x.shape, W.shape[1]
    check_input("x", x, dtype, x.shape)
    check_input("W", W, dtype, (inputs, classes))
    if b is not None:
        check_input("b", b, dtype, (classes,))
    check_output("summary", summary, np.dtype(np.float64), (4,))
    vector = (rows,)
    for name, output, like, shape in (
        ("losses", losses, dtype, vector), ("dx", dx, dtype, x.shape), ("dW", dW, dtype, W.shape),
        ("db", db, dtype, (classes,)), ("log_sum_exp", log_sum_exp, dtype, vector),
        ("predictions", predictions, np.dtype(np.int64), vector),
    ):  # fmt: skip
        if output is not None:
            check_output(name, output, like, shape)
            check_apart(name, output, "x", x)
            check_apart(name, output, "W", W)
    if chunk_rows is None:
        chunks = max(1, -(-rows * classes * x.itemsize // _CHUNK_BYTES))
        chunk_rows = max(1, -(-rows // chunks))
    elif chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, not {chunk_rows}")
    targets = check_targets(
        dtype, (rows, classes), labels, reduction, upstream, label_smoothing, class_weights, row_weights, z_loss,
        ignore_index,
    )  # fmt: skip

    with_gradient = any(output is not None for output in (dx, dW, db))
    buffer = np.empty((min(chunk_rows, rows), classes), dtype)
    sums = np.zeros(classes)
    correct = 0
    for output in (dW, db):
        if output is not None and rows == 0:
            output[...] = 0
    for first in range(0, rows, chunk_rows):
        chunk = slice(first, min(first + chunk_rows, rows))
        x_chunk = x[chunk]
        logits = buffer[: len(x_chunk)]
        matmul(x_chunk, W, out=logits)
        if b is not None:
            bias_activation(logits, b, None, logits)
        correct += targets.block(chunk.start, chunk.stop).compute(
            logits,
            losses[chunk],
            logits if with_gradient else None,
            None if log_sum_exp is None else log_sum_exp[chunk],
            None if predictions is None else predictions[chunk],
            in_place=with_gradient,
        )
        if db is not None:
            sums += column_sums(logits)
        if dx is not None:
            matmul(logits, W.T, out=dx[chunk])
        if dW is not None:
            _accumulate(dW, x_chunk.T, logits, add=first > 0)
    if db is not None:
        db[:] = sums
    targets.summarize(losses, correct, summary)


def _accumulate(dW: np.ndarray, x_transposed: np.ndarray, gradient: np.ndarray, add: bool) -> None:
    """``dW = xᵀ g``, or ``dW += xᵀ g`` a part at a time, since NumPy's product cannot accumulate."""
    if not add:
        matmul(x_transposed, gradient, out=dW)
        return
    inputs, classes = dW.shape
    width = max(1, _PRODUCT_BYTES // (max(1, inputs) * dW.itemsize))
    product = np.empty((inputs, min(width, classes)), dW.dtype)
    for start in range(0, classes, width):
        columns = slice(start, min(start + width, classes))
        part = product[:, : columns.stop - columns.start]
        matmul(x_transposed, gradient[:, columns], out=part)
        add_to(dW[:, columns], part)
