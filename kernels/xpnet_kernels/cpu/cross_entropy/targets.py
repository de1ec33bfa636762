"""The targets and options of the softmax cross-entropy: their checks, and the call of the compiled rows."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

import numpy as np

from xpnet_kernels.cpu.checks.arguments import check_input, check_integers
from xpnet_kernels.cpu.cross_entropy.rows import cross_entropy_rows, weight_sum
from xpnet_kernels.cpu.threads.pool import over_rows

REDUCTIONS = ("mean", "sum", "none")

# In place of arrays that are not given.
_NO_INTEGERS = np.empty(0, np.int64)
_NO_VECTOR = {np.dtype(real): np.empty(0, real) for real in (np.float32, np.float64)}
_NO_MATRIX = {np.dtype(real): np.empty((0, 0), real) for real in (np.float32, np.float64)}


@dataclass(frozen=True, slots=True)
class Targets:
    """The checked arguments of a loss, as the compiled code takes them."""

    labels: np.ndarray
    probabilities: np.ndarray
    class_weights: np.ndarray
    row_weights: np.ndarray
    upstream: np.ndarray
    scale: float  # of every row's gradient
    weight_sum: float
    mean: bool
    label_smoothing: float
    z_loss: float
    ignore_index: int | None

    def block(self, first: int, last: int) -> Targets:
        """The targets of the rows from ``first`` to before ``last``, with the scale of the whole batch."""
        per_row = ("labels", "probabilities", "row_weights", "upstream")
        return replace(self, **{name: getattr(self, name)[first:last] for name in per_row})

    def compute(
        self,
        logits: np.ndarray,
        losses: np.ndarray,
        gradient: np.ndarray | None,
        log_sum_exp: np.ndarray | None,
        predictions: np.ndarray | None,
        in_place: bool,
    ) -> int:
        """Write the outputs that are given; return the number of correct rows."""
        dtype = logits.dtype
        compiled = cross_entropy_rows[dtype]
        arguments = (
            logits, self.labels, self.probabilities, losses,
            _NO_MATRIX[dtype] if gradient is None else gradient,
            _NO_VECTOR[dtype] if log_sum_exp is None else log_sum_exp,
            _NO_INTEGERS if predictions is None else predictions,
            self.class_weights, self.row_weights, self.upstream,
            self.scale, self.label_smoothing, self.z_loss,
            self.ignore_index is not None, self.ignore_index or 0, in_place,
        )  # fmt: skip
        return sum(over_rows(lambda first, last: compiled(*arguments, first, last), *logits.shape))

    def summarize(self, losses: np.ndarray, correct: int, summary: np.ndarray) -> None:
        """Write the summary of the batch."""
        loss = losses.sum(dtype=np.float64)
        if self.mean:
            loss = loss / self.weight_sum if self.weight_sum else np.nan
        summary[:] = loss, self.weight_sum, correct, -1


def check_targets(
    dtype: np.dtype,
    shape: tuple[int, int],
    labels: np.ndarray,
    reduction: str,
    upstream: float | np.ndarray | None,
    label_smoothing: float,
    class_weights: np.ndarray | None,
    row_weights: np.ndarray | None,
    z_loss: float,
    ignore_index: int | None,
) -> Targets:
    """Check the targets and options for logits of this type and shape, including the labels' values."""
    rows, classes = shape
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; the choices are {', '.join(REDUCTIONS)}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be a number from 0 to 1, not {label_smoothing!r}")
    dense = getattr(labels, "ndim", 1) == 2
    if dense and ignore_index is not None:
        raise ValueError("ignore_index goes with integer labels; mask rows of probabilities with row_weights of 0")
    if ignore_index is not None and not -(2**63) <= operator.index(ignore_index) < 2**63:
        raise ValueError(f"ignore_index must be a number of 64 bits, not {ignore_index}")
    if dense and rows > 0 and classes == 0:
        raise ValueError(f"logits of shape {shape} have no class to take a softmax over")

    nothing = _NO_VECTOR[dtype]
    if row_weights is None:
        row_weights = nothing
    else:
        check_input("row_weights", row_weights, dtype, (rows,))
    if class_weights is not None:
        check_input("class_weights", class_weights, dtype, (classes,))
    else:
        class_weights = np.ones(classes, dtype) if dense or label_smoothing > 0 else nothing

    if dense:
        check_input("labels", labels, dtype, shape)
        weights = row_weights.sum(dtype=np.float64) if row_weights is not nothing else rows
        labels, probabilities = _NO_INTEGERS, labels
    else:
        check_integers("labels", labels, (rows,))
        given, probabilities = labels, _NO_MATRIX[dtype]
        if labels.dtype == np.uint64:  # so that the largest do not become negative
            labels = np.minimum(labels, np.uint64(2**63 - 1))
        labels = np.ascontiguousarray(labels, np.int64)
        bad, weights = weight_sum[dtype](
            labels, class_weights, row_weights, classes, ignore_index is not None, ignore_index or 0
        )
        if bad >= 0:
            raise IndexError(
                f"the label of row {bad} is {given[bad]}, but there are {classes} classes: labels are 0 to "
                f"{classes - 1}, or ignore_index, which is {ignore_index}"
            )

    scale, per_row = 1.0, nothing
    if reduction == "none":
        if upstream is not None:
            check_input("upstream", upstream, dtype, (rows,))
            per_row = upstream
    else:
        if np.ndim(upstream) > 0:
            raise TypeError("upstream must be a number; a vector needs the reduction 'none'")
        if upstream is not None:
            scale = float(upstream)
        if reduction == "mean":
            scale = scale / weights if weights else np.nan
    return Targets(
        labels, probabilities, class_weights, row_weights, per_row, scale, float(weights), reduction == "mean",
        float(label_smoothing), float(z_loss), ignore_index,
    )  # fmt: skip
