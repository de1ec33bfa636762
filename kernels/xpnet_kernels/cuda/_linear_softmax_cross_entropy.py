"""The last layer and its loss together, with the logits computed in chunks."""

from __future__ import annotations

from typing import Any

from ._softmax_cross_entropy import CrossEntropy
from .arrays import REALS, array, memory, optional, optional_output
from .cross_entropy_kernels import TOTAL
from .matrix_products import filled, on_stream, product
from .prepared import queue
from .primitives import BLOCK

_CHUNK_BYTES = 2**25  # of logits


def linear_softmax_cross_entropy(
    x: Any,
    W: Any,
    b: Any,
    labels: Any,
    *,
    summary: Any,
    losses: Any,
    dx: Any = None,
    dW: Any = None,
    db: Any = None,
    chunk_rows: int | None = None,
    log_sum_exp: Any = None,
    predictions: Any = None,
    reduction: str = "mean",
    upstream: Any = None,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    row_weights: Any = None,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    stream: int = 0,
) -> None:
    """The softmax cross-entropy of the logits x W + b, and its gradients; queued on the stream.

    The logits of ``chunk_rows`` rows at a time are computed, replaced by their gradient, and multiplied into ``dx`` and
    ``dW``, after Wijmans et al., "Cut your losses in large-vocabulary language models", ICLR 2025 (with chunks of rows
    instead of tiles). Needs CuPy, whose memory pool provides the chunk; cannot be captured in a graph, as CuPy's matrix
    products cannot.

    Args:
        x: (N, D) of any element type.
        W: (D, C).
        b: (C,), or ``None``.
        labels: (N,) integers in [0, C), or (N, C) probabilities.
        summary: (4,) float64, output.
        losses: (N,), output.
        dx: (N, D), output.
        dW: (D, C), output; the parts of the chunks are added in its element type.
        db: (C,), output; as ``dW``.
        chunk_rows: rows of logits to hold; ``None`` chooses chunks of at most 32 MiB.

    The other arguments, and the errors, are those of :func:`softmax_cross_entropy`.
    """
    given = (  # kept to the end, since the memory of an array that nobody holds is handed out again at once
        x, W, b, labels, summary, losses, dx, dW, db, log_sum_exp, predictions, upstream, class_weights, row_weights,
    )  # fmt: skip
    x, W, b, labels, summary, losses, dx, dW, db, log_sum_exp, predictions, upstream, class_weights, row_weights = map(
        memory, given
    )
    inputs = array("x", x, REALS, dimensions=2)
    element, (rows, depth) = inputs.element, inputs.shape
    weights = array("W", W, (element,), dimensions=2)
    columns = weights.shape[1]
    weights = array("W", W, (element,), shape=(depth, columns))
    bias = optional("b", b, element, (columns,))
    d_inputs = optional_output("dx", dx, element, (rows, depth))
    d_weights = optional_output("dW", dW, element, (depth, columns))
    d_bias = optional_output("db", db, element, (columns,))
    if chunk_rows is None:
        chunks = max(1, -(-rows * columns * element.bitwidth // (8 * _CHUNK_BYTES)))
        chunk_rows = max(1, -(-rows // chunks))
    elif chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, not {chunk_rows}")
    loss = CrossEntropy.checked(
        (rows, columns), element, labels, summary=summary, losses=losses, log_sum_exp=log_sum_exp,
        predictions=predictions, reduction=reduction, upstream=upstream, label_smoothing=label_smoothing,
        class_weights=class_weights, row_weights=row_weights, z_loss=z_loss, ignore_index=ignore_index,
    )  # fmt: skip
    wanted = not (dx is None and dW is None and db is None)
    with on_stream(stream):
        held = filled("logits", (min(chunk_rows, max(rows, 1)), columns), element)
        ones = filled("ones", (held.shape[0], 1), element, 1.0)
        queue(loss.before_rows(held), stream)
        for first in range(0, max(rows, 1), chunk_rows):
            count = min(chunk_rows, rows - first)
            chunk, logits, one = inputs.rows(first, count), held.rows(0, count), ones.rows(0, count)
            if bias is not None:
                queue(product(one, bias.as_row(), logits), stream)
            queue(product(chunk, weights, logits, add=bias is not None), stream)
            queue(loss.rows(first, count).over_rows(logits, logits if wanted else None), stream)
            if d_inputs is not None:
                queue(product(logits, weights, d_inputs.rows(first, count), flip_b=True), stream)
            if d_weights is not None:
                queue(product(chunk, logits, d_weights, flip_a=True, add=first > 0), stream)
            if d_bias is not None:
                queue(product(one, logits, d_bias.as_row(), flip_a=True, add=first > 0), stream)
        queue([loss.launch(TOTAL, held, None, 1, (BLOCK, 1))], stream)
