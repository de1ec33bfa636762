"""Softmax cross-entropy and its gradient in one pass over memory."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.checks.arguments import check_apart, check_input, check_kind, check_output, is_in_place
from xpnet_kernels.cpu.cross_entropy.few_classes import MAX_CLASSES, few_classes_in_blocks, fused_small_batch
from xpnet_kernels.cpu.cross_entropy.targets import check_targets

_FLOAT64, _INT64 = np.dtype(np.float64), np.dtype(np.int64)


def softmax_cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    summary: np.ndarray,
    losses: np.ndarray,
    gradient: np.ndarray | None = None,
    log_sum_exp: np.ndarray | None = None,
    predictions: np.ndarray | None = None,
    reduction: str = "mean",
    upstream: float | np.ndarray | None = None,
    label_smoothing: float = 0.0,
    class_weights: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    in_place: bool = False,
) -> None:
    """The loss of each row and of the batch, and its gradient with respect to the logits.

    With p = softmax(z) and L = log Σ exp z, the loss of a row is L - z_y, its gradient p - onehot(y); the mean is over
    the rows. ``kernels/README.md`` has the definitions with every option, which are those of PyTorch's
    ``cross_entropy``.

    Args:
        logits: (N, C) float32 or float64, z.
        labels: (N,) integers in [0, C), or (N, C) probabilities of the logits' type.
        summary: (4,) float64, output: the reduced loss; the sum of the rows' weights, by which the mean divides; the
            number of rows whose arg-max is the label; and -1.
        losses: (N,), output; this and the following arrays have the logits' type unless stated otherwise.
        gradient: (N, C), output; ``None``: it is not computed. It may be ``logits`` if ``in_place`` is true.
        log_sum_exp: (N,), output.
        predictions: (N,) int64, output: the arg-max of every row.
        reduction: "mean", "sum" or "none".
        upstream: a factor of the gradient; with the reduction "none" a vector (N,).
        label_smoothing: the weight of the uniform distribution in the target.
        class_weights: (C,).
        row_weights: (N,).
        z_loss: ζ, where ζ L² is added to a row's loss.
        ignore_index: rows with this label have loss 0, gradient 0 and weight 0, and are never correct.
        in_place: allow ``gradient`` to overwrite ``logits``.

    Raises:
        IndexError: a label is outside [0, C); nothing is written.
        TypeError, ValueError: an array of a wrong type, shape or layout, or an invalid option.

    >>> import numpy as np
    >>> logits = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
    >>> summary, losses, gradient = np.empty(4), np.empty(2), np.empty((2, 3))
    >>> softmax_cross_entropy(logits, np.array([0, 2]), summary=summary, losses=losses, gradient=gradient)
    >>> np.exp(-losses).round(6)
    array([0.5, 0.6])
    >>> (2 * gradient).round(6)
    array([[-0.5 ,  0.25,  0.25],
           [ 0.2 ,  0.2 , -0.4 ]])
    """
    no_options = (
        log_sum_exp is None and predictions is None and upstream is None and class_weights is None
        and row_weights is None and ignore_index is None and not label_smoothing and not z_loss
        and reduction in ("mean", "sum")
    )  # fmt: skip
    if no_options and fused_small_batch(logits, labels, summary, losses, gradient, reduction == "mean", in_place):
        return

    check_kind("logits", logits, 2)
    dtype, shape = logits.dtype, logits.shape
    check_input("logits", logits, dtype, shape)
    check_output("summary", summary, _FLOAT64, (4,))
    check_output("losses", losses, dtype, shape[:1])
    overwrites = False
    if gradient is not None:
        check_output("gradient", gradient, dtype, shape)
        overwrites = is_in_place("gradient", gradient, "logits", logits)
        if overwrites and not in_place:
            raise ValueError("gradient is the array of the logits; in_place=True allows it to overwrite them")
    if log_sum_exp is not None:
        check_output("log_sum_exp", log_sum_exp, dtype, shape[:1])
    if predictions is not None:
        check_output("predictions", predictions, _INT64, shape[:1])
    targets = check_targets(
        dtype, shape, labels, reduction, upstream, label_smoothing, class_weights, row_weights, z_loss, ignore_index
    )
    for name, output in (
        ("summary", summary), ("losses", losses), ("gradient", gradient), ("log_sum_exp", log_sum_exp),
        ("predictions", predictions),
    ):  # fmt: skip
        if output is not None:
            check_apart(name, output, "labels", labels)
    few = no_options and shape[1] <= MAX_CLASSES
    if not (few and few_classes_in_blocks(logits, targets.labels, summary, losses, gradient, reduction == "mean")):
        correct = targets.compute(logits, losses, gradient, log_sum_exp, predictions, overwrites)
        targets.summarize(losses, correct, summary)
