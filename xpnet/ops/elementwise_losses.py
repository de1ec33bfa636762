"""Losses that compare each output with its own target."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.errors import ShapeError
from xpnet.ops.activations import sigmoid
from xpnet.ops.batch_loss import BatchLoss, denominator, reduce_losses
from xpnet.ops.outputs import store


def mean_squared_error(
    backend: Backend,
    outputs: Array,
    targets: Array,
    gradient: bool = True,
    out: Array | None = None,
    *,
    reduction: str = "mean",
) -> BatchLoss:
    """L = 1/n Σ (y - t)², over all n outputs of the batch; its gradient is 2 (y - t) / n.

    Args:
        backend: where the arrays live.
        outputs: (N, …) floating point, y.
        targets: of the outputs' shape, t; or (N,) for outputs (N, 1). Any real type.
        gradient: whether to compute the gradient.
        out: of the outputs' shape, receives the gradient when given.
        reduction: "mean", "sum" or "none".

    Returns:
        A result with ``losses`` of the outputs' shape and ``correct`` NaN.

    Raises:
        ShapeError: the targets do not fit the outputs.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, equation 1.2, without its factor 1/2.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> result = mean_squared_error(cpu, cpu.asarray([[1.0, 5.0]]), cpu.asarray([[1.0, 3.0]]))
    >>> float(result.loss), result.gradient
    (2.0, array([[0., 2.]]))
    """
    error = outputs - _check_targets(backend, outputs, targets)
    losses = error * error
    loss = reduce_losses(backend, losses, losses.size, reduction)
    dy = None
    if gradient:
        dy = store(2 * error / denominator(backend, losses.size, reduction, outputs.dtype), out)
    return BatchLoss(loss, losses, float("nan"), dy, losses.size, outputs.shape[0], reduction)


def binary_cross_entropy(
    backend: Backend,
    logits: Array,
    targets: Array,
    gradient: bool = True,
    out: Array | None = None,
    *,
    reduction: str = "mean",
) -> BatchLoss:
    """L = -1/n Σ (t log σ(z) + (1 - t) log(1 - σ(z))), over all n logits of the batch; its gradient is (σ(z) - t) / n.

    Computed as m |z| + log(1 + exp(-|z|)), with m = 1 - t where z > 0, else t: accurate for logits of any size, also
    infinite ones.

    Args:
        backend: where the arrays live.
        logits: (N, …) floating point, z.
        targets: of the logits' shape, t, each from 0 to 1; or (N,) for logits (N, 1). Any real type.
        gradient: whether to compute the gradient.
        out: of the logits' shape, receives the gradient when given.
        reduction: "mean", "sum" or "none".

    Returns:
        A result with ``losses`` of the logits' shape. A logit is correct if z > 0 and t > 1/2, or neither; each row
        adds its fraction of correct logits to ``correct``.

    Raises:
        ShapeError: the targets do not fit the logits.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, equations 4.90 and 4.91.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> result = binary_cross_entropy(cpu, cpu.asarray([[0.0], [1000.0]]), cpu.asarray([1, 1]), reduction="none")
    >>> result.losses.round(6).tolist(), result.gradient.tolist()
    ([[0.693147], [0.0]], [[-0.5], [0.0]])
    """
    xp = backend.xp
    targets = _check_targets(backend, logits, targets)
    positive, size = logits > 0, xp.abs(logits)
    m = xp.where(positive, 1 - targets, targets)
    # Where m is 0, m |z| is 0 even for an infinite logit.
    losses = m * xp.where(m == 0, xp.zeros_like(size), size) + xp.log1p(xp.exp(-size))
    loss = reduce_losses(backend, losses, losses.size, reduction)
    hits = xp.sum(xp.astype(positive == (targets > 0.5), xp.float64))
    correct = hits * logits.shape[0] / max(losses.size, 1)
    dz = None
    if gradient:
        dz = sigmoid(backend, logits) - targets
        dz = store(dz / denominator(backend, losses.size, reduction, logits.dtype), out)
    return BatchLoss(loss, losses, correct, dz, losses.size, logits.shape[0], reduction)


def _check_targets(backend: Backend, outputs: Array, targets: Array) -> Array:
    """The targets in the outputs' shape and type. Broadcasting would compare every row with every target."""
    if tuple(targets.shape) == outputs.shape[:1] and tuple(outputs.shape[1:]) == (1,):
        targets = backend.xp.reshape(targets, outputs.shape)
    if targets.shape != outputs.shape:
        raise ShapeError(
            f"targets of shape {tuple(targets.shape)} do not fit outputs of shape {tuple(outputs.shape)}: expected a "
            "target for each output"
        )
    return backend.xp.astype(targets, outputs.dtype, copy=False)
