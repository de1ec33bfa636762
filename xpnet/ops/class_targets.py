"""What logits are compared with: class indices or rows of probabilities, and how much each row and class counts."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.errors import ConfigurationError, ShapeError


def check_labels(
    backend: Backend, logits: Array, labels: Array, class_weights: Array | None, ignore_index: int | None
) -> Array:
    """The labels, probabilities in the logits' type; an error when something does not fit the logits."""
    if logits.ndim < 2 or logits.shape[-1] == 0:
        raise ShapeError(f"expected logits of shape (rows, at least 1 class), got {tuple(logits.shape)}")
    classes = logits.shape[-1]
    if class_weights is not None and tuple(class_weights.shape) != (classes,):
        raise ShapeError(f"expected {classes} class weights, one a class, got shape {tuple(class_weights.shape)}")
    if labels.shape == logits.shape[:-1]:
        return labels
    if labels.shape == logits.shape:
        if ignore_index is not None:
            raise ConfigurationError(
                f"ignore_index={ignore_index} goes with class indices, and these labels are rows of probabilities: "
                "leave it out"
            )
        return labels if labels.dtype == logits.dtype else backend.xp.astype(labels, logits.dtype)
    raise ShapeError(
        f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}: expected "
        f"{tuple(logits.shape[:-1])} class indices or {tuple(logits.shape)} probabilities"
    )


def require_labels(backend: Backend, labels: Array, classes: int, ignore_index: int | None) -> Array | None:
    """Raise for labels that are no integers, or outside [0, C) where they are not to be ignored.

    Where a look at them would wait for the device, the first such row, or -1, comes back as a 0-d float64 array.
    """
    backend.require_integers(labels, "class indices")
    counts = row_mask(backend, labels, ignore_index)
    checked = labels if counts is None else backend.xp.where(counts, labels, backend.xp.zeros_like(labels))
    return backend.require_in_range(checked, classes, "label")


def row_mask(backend: Backend, labels: Array, ignore_index: int | None) -> Array | None:
    """(N,) whether a row counts; None: all do."""
    xp = backend.xp
    if ignore_index is None or (ignore_index < 0 and xp.isdtype(labels.dtype, "unsigned integer")):
        return None
    return xp.astype(labels, xp.int64, copy=False) != ignore_index


def mask_rows(backend: Backend, counts: Array | None, rows: Array) -> Array:
    """The rows, those that do not count filled with zeros."""
    if counts is None:
        return rows
    return backend.xp.where(backend.xp.expand_dims(counts, axis=1), rows, backend.xp.zeros_like(rows))


def weighted_targets(
    backend: Backend,
    labels: Array,
    logits: Array,
    counts: Array | None,
    label_smoothing: float,
    class_weights: Array | None,
) -> tuple[Array, Array | int, Array | int]:
    """w[c] q[i, c], with zeros in rows that do not count; what the mean divides by; how many rows count."""
    xp, (rows, classes) = backend.xp, logits.shape
    targets = labels if labels.ndim == 2 else _one_hot(backend, labels, classes, logits.dtype)
    weight = count = rows if counts is None else xp.sum(xp.astype(counts, xp.float64))
    if class_weights is not None and labels.ndim == 1:
        weight = xp.sum(mask_rows(backend, counts, targets * class_weights), dtype=xp.float64)
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + label_smoothing / classes
    if class_weights is not None:
        targets = targets * class_weights
    return mask_rows(backend, counts, targets), weight, count


def _one_hot(backend: Backend, labels: Array, classes: int, dtype: object) -> Array:
    """(N, C) with a one in each label's column; a row of NaN where the label is no class."""
    xp = backend.xp
    columns = xp.arange(classes, dtype=labels.dtype, device=backend.device)
    hot = xp.astype(xp.expand_dims(labels, axis=1) == columns, dtype)
    valid = xp.expand_dims((labels >= 0) & (labels < classes), axis=1)
    return xp.where(valid, hot, xp.full_like(hot, float("nan")))
