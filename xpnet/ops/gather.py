"""Gathering the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from xpnet.backends import Array, Backend
from xpnet.ops.outputs import store


class BatchOfStep(NamedTuple):
    """The place of a batch in the order of its epoch, by a step that the device knows.

    Attributes:
        step: (1,) int64, of which the lower 32 bits are the step.
        steps_per_epoch: batches in an epoch.
        batch_size: from the start of one batch to that of the next.
        rows: in this batch.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> order, rows = cpu.asarray([2, 0, 1, 3]), cpu.asarray([[0], [10], [20], [30]])
    >>> gather(cpu, rows, order, of_step=BatchOfStep(cpu.asarray([5]), 2, 2, rows=2))
    array([[10.],
           [30.]], dtype=float32)
    """

    step: Array
    steps_per_epoch: int
    batch_size: int
    rows: int


def gather(
    backend: Backend,
    rows: Array,
    indices: Array,
    divisor: float = 1.0,
    dtype: str = "float32",
    out: Array | None = None,
    *,
    labels: Array | None = None,
    labels_out: Array | None = None,
    of_step: BatchOfStep | None = None,
) -> Array:
    """out[i] = rows[indices[i]] / divisor: gathers a batch and rescales it, such as bytes to [0, 1], in one pass.

    It divides, because multiplying by the float32 reciprocal of 255 gives other bits for 126 of 256 byte values.

    Args:
        backend: where the arrays live.
        rows: (M, ...), any real type; uint8 images stay uint8 on the device.
        indices: (N,) integers in [0, M), repeats allowed.
        divisor: what to divide by.
        dtype: floating-point type of the result.
        out: (N, ...), receives the batch when given.
        labels: (M,) integers, gathered with the rows when given.
        labels_out: (N,) of the labels' type, receives those of the batch.
        of_step: ``indices`` are then the order of an epoch, and this is the place of the batch in it.

    Raises:
        OutOfRangeError: an index outside [0, M); the message names its position. On an asynchronous backend its row
            of the batch is NaN instead.
        DTypeError: indices that are not integers.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> gather(cpu, cpu.asarray([[0, 255], [51, 102]], "uint8"), cpu.asarray([1, 0]), 255.0)
    array([[0.2, 0.4],
           [0. , 1. ]], dtype=float32)
    """
    fused = backend.kernel("gather", *(() if out is None else (out,)))
    if fused is not None and rows.dtype == backend.xp.uint8:
        return _fused(backend, fused, rows, indices, divisor, dtype, out, labels, labels_out, of_step)
    if of_step is not None:
        start = of_step.step % 2**32 % of_step.steps_per_epoch * of_step.batch_size
        places = backend.xp.arange(of_step.rows, dtype=start.dtype, device=backend.device)
        indices = backend.xp.take(indices, start + places, axis=0)
    batch = store(backend.take(rows, indices, dtype) / divisor, out)
    if labels is not None:
        store(labels[indices], labels_out)
    return batch


def _fused(
    backend: Backend,
    fused: Callable[..., None],
    rows: Array,
    indices: Array,
    divisor: float,
    dtype: str,
    out: Array | None,
    labels: Array | None,
    labels_out: Array | None,
    of_step: BatchOfStep | None,
) -> Array:
    xp, count = backend.xp, indices.shape[0]
    options: dict[str, Any] = {}
    if labels is not None:
        options = {"labels": labels, "labels_out": labels_out}
    if of_step is not None:
        step, steps_per_epoch, batch_size, count = of_step
        options |= {"step": step, "steps_per_epoch": steps_per_epoch, "batch_size": batch_size}
    if out is None:
        out = xp.empty((count, *rows.shape[1:]), dtype=getattr(xp, dtype), device=backend.device)
    flat, flat_out = rows, out
    if rows.ndim != 2:
        features = math.prod(rows.shape[1:])
        flat, flat_out = rows.reshape(rows.shape[0], features), out.reshape(count, features)
    try:
        fused(flat, indices, float(divisor), flat_out, **options)
    except (IndexError, TypeError):
        backend.require_integers(indices, "row indices")
        backend.require_in_range(indices, rows.shape[0], "row index")
        raise
    return out
