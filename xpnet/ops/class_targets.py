"""The targets of classification, class indices or rows of probabilities, with ignored rows and class weights."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.errors import ConfigurationError, ShapeError


def check_labels(
    backend: Backend, logits: Array, labels: Array, class_weights: Array | None, ignore_index: int | None
) -> Array:
    """The labels, probabilities cast to the logits' type; raises where a shape does not match the logits."""
    if logits.ndim < 2 or logits.shape[-1] == 0:
        raise ShapeError(f"expected logits of shape (…, classes), with at least 1 class, got {tuple(logits.shape)}")
    classes = logits.shape[-1]
    if class_weights is not None and tuple(class_weights.shape) != (classes,):
        raise ShapeError(f"expected {classes} class weights, one per class, got shape {tuple(class_weights.shape)}")
    if labels.shape == logits.shape[:-1]:
        return labels
    if labels.shape == logits.shape:
        if ignore_index is not None:
            raise ConfigurationError(
                f"ignore_index={ignore_index} needs class indices, but these labels are rows of probabilities: "
                "leave it out"
            )
        return labels if labels.dtype == logits.dtype else backend.xp.astype(labels, logits.dtype)
    raise ShapeError(
        f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}: expected "
        f"{tuple(logits.shape[:-1])} class indices or {tuple(logits.shape)} probabilities"
    )


def require_labels(backend: Backend, labels: Array, classes: int, ignore_index: int | None) -> Array | None:
    """Raise for labels that are not integers, or are outside [0, C) and not ignored.

    An asynchronous backend does not check the range at once: it returns the first such row, or -1, as a 0-d float64
    array.
    """
    backend.require_integers(labels, "class indices")
    counts = row_mask(backend, labels, ignore_index)
    checked = labels if counts is None else backend.xp.where(counts, labels, backend.xp.zeros_like(labels))
    return backend.require_in_range(checked, classes, "label")


def row_mask(backend: Backend, labels: Array, ignore_index: int | None) -> Array | None:
    """(N,) bool, False for ignored rows; None: no row is ignored."""
    xp = backend.xp
    if ignore_index is None or (ignore_index < 0 and xp.isdtype(labels.dtype, "unsigned integer")):
        return None
    return xp.astype(labels, xp.int64, copy=False) != ignore_index


def mask_rows(backend: Backend, counts: Array | None, rows: Array) -> Array:
    """The rows, with zeros in ignored ones."""
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
    """w[c] q[i, c] with zeros in ignored rows; the divisor of the mean; the number of rows that are not ignored."""
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
    """(N, C) one-hot rows; NaN where the label is not a class."""
    xp = backend.xp
    columns = xp.arange(classes, dtype=labels.dtype, device=backend.device)
    hot = xp.astype(xp.expand_dims(labels, axis=1) == columns, dtype)
    valid = xp.expand_dims((labels >= 0) & (labels < classes), axis=1)
    return xp.where(valid, hot, xp.full_like(hot, float("nan")))
