"""Softmax cross-entropy and its gradient in one pass over memory."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from numba import types

from .arrays import (
    INTEGERS,
    REALS,
    DeviceArray,
    Memory,
    accumulator,
    array,
    optional,
    optional_output,
    output,
)
from .cross_entropy_kernels import PREPARE, ROWS, TOTAL, WEIGHTS, cross_entropy_kernel, held_vectors
from .launch import Dimensions, Launch, typed
from .prepared import run
from .primitives import BLOCK, WARP

REDUCTIONS = ("mean", "sum", "none")
MAX_COLUMNS = 2**30  # which the kernel counts in 32 bits


def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    summary: Any,
    losses: Any,
    gradient: Any = None,
    log_sum_exp: Any = None,
    predictions: Any = None,
    reduction: str = "mean",
    upstream: Any = None,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    row_weights: Any = None,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    in_place: bool = False,
    stream: int = 0,
) -> None:
    """The loss of each row and of the batch, and its gradient with respect to the logits; queued on the stream.

    With p = softmax(z) and L = log Σ exp z, the loss of a row is L - z_y, its gradient p - onehot(y); the mean is over
    the rows. ``kernels/README.md`` has the definitions with every option, which are those of PyTorch's
    ``cross_entropy``.

    Args:
        logits: (N, C) float32, float64, bfloat16 (or its bits, uint16) or float16, z.
        labels: (N,) integers in [0, C), or (N, C) probabilities of the logits' type. A row whose label is outside
            [0, C) has a NaN loss and gradient.
        summary: (4,) float64, output: the reduced loss; the sum of the rows' weights, by which the mean divides; the
            number of rows whose arg-max is the label; and the first row with a bad label, or -1.
        losses: (N,), output; this and the following arrays are float64 for float64 logits and else float32, unless
            stated otherwise.
        gradient: (N, C) of the logits' type, output; ``None``: it is not computed. It may be ``logits`` if ``in_place``
            is true.
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
        stream: the CUDA stream's handle, such as ``cupy.cuda.get_current_stream().ptr``; 0 is the default stream.

    Raises:
        TypeError, ValueError: an array of a wrong type, shape or layout, or an invalid option.
    """
    run(
        prepare, stream, logits, labels, summary, losses, gradient, log_sum_exp, predictions, reduction, upstream,
        label_smoothing, class_weights, row_weights, z_loss, ignore_index, in_place,
    )  # fmt: skip


def prepare(
    logits: Any, labels: Any, summary: Any, losses: Any, gradient: Any, log_sum_exp: Any, predictions: Any,
    reduction: str, upstream: Any, label_smoothing: float, class_weights: Any, row_weights: Any, z_loss: float,
    ignore_index: int | None, in_place: bool,
) -> list[Launch]:  # fmt: skip
    """Check the arguments and plan the launches."""
    z = array("logits", logits, REALS, dimensions=2)
    g = optional_output("gradient", gradient, z.element, z.shape)
    if g is not None and g.address == z.address and not in_place and 0 not in z.shape:
        raise ValueError("gradient is the array of the logits; in_place=True allows it to overwrite them")
    loss = CrossEntropy.checked(
        z.shape, z.element, labels, summary=summary, losses=losses, log_sum_exp=log_sum_exp, predictions=predictions,
        reduction=reduction, upstream=upstream, label_smoothing=label_smoothing, class_weights=class_weights,
        row_weights=row_weights, z_loss=z_loss, ignore_index=ignore_index,
    )  # fmt: skip
    rows = z.shape[0]
    extent, held = row_extent(z), loss.held_columns(z.element)
    threads = threads_per_row(extent, held)
    while rows * threads > BLOCK and threads // 2 * held >= extent:  # one launch is worth more than adjacent loads
        threads //= 2
    if rows == 1 or (threads <= WARP and 0 < rows * threads <= BLOCK):  # a single block suffices
        whole_warps = -(-rows * threads // WARP) * WARP
        phases = (WEIGHTS if loss.weighted else 0) | PREPARE | ROWS | TOTAL
        return [loss.launch(phases, z, g, 1, (threads, whole_warps // threads))]
    return [*loss.before_rows(z), *loss.over_rows(z, g), loss.launch(TOTAL, z, g, 1, (BLOCK, 1))]


@dataclass(frozen=True)
class CrossEntropy:
    """The checked arguments of a loss, without the logits and their gradient."""

    labels: DeviceArray
    summary: DeviceArray
    losses: DeviceArray
    log_sum_exp: DeviceArray | None
    predictions: DeviceArray | None
    upstream: DeviceArray | None
    class_weights: DeviceArray | None
    row_weights: DeviceArray | None
    factor: float
    mean: bool
    label_smoothing: float
    z_loss: float
    ignore_index: int | None

    @classmethod
    def checked(
        cls, shape: tuple[int, ...], element: types.Type, labels: Any, *, summary: Any, losses: Any, log_sum_exp: Any,
        predictions: Any, reduction: str, upstream: Any, label_smoothing: float, class_weights: Any, row_weights: Any,
        z_loss: float, ignore_index: int | None,
    ) -> CrossEntropy:  # fmt: skip
        """Check the arguments against the shape and element type of the logits."""
        rows, columns = shape
        total = accumulator(element)
        if reduction not in REDUCTIONS:
            raise ValueError(f"unknown reduction {reduction!r}; the choices are {', '.join(REDUCTIONS)}")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be a number from 0 to 1, not {label_smoothing!r}")
        if columns > MAX_COLUMNS:
            raise ValueError(f"logits have {columns} columns; the kernel takes at most {MAX_COLUMNS}")
        y = array("labels", labels, (*INTEGERS, element))
        probabilities = len(y.shape) == 2
        y = array("labels", labels, (element,) if probabilities else INTEGERS, shape=shape[: 1 + probabilities])
        if probabilities and ignore_index is not None:
            raise ValueError("ignore_index goes with integer labels; mask rows of probabilities with row_weights of 0")
        if ignore_index is not None and not -(2**63) <= operator.index(ignore_index) < 2**63:
            raise ValueError(f"ignore_index must be a number of 64 bits, not {ignore_index}")
        if ignore_index is not None and ignore_index < 0 and not y.element.signed:
            ignore_index = None  # no label is negative; the kernel, which compares int64, would take 2**64 - 1 for -1
        if probabilities and rows > 0 and columns == 0:
            raise ValueError(f"logits of shape {shape} have no class to take a softmax over")
        per_row = reduction == "none"
        if upstream is not None and not per_row and not isinstance(upstream, Real):
            raise TypeError(
                'upstream must be a number where the reduction is not "none", not '
                + ("an array" if isinstance(upstream, Memory) else type(upstream).__name__)
            )
        return cls(
            labels=y,
            summary=output("summary", summary, (types.float64,), shape=(4,)),
            losses=output("losses", losses, (total,), shape=(rows,)),
            log_sum_exp=optional_output("log_sum_exp", log_sum_exp, total, (rows,)),
            predictions=optional_output("predictions", predictions, types.int64, (rows,)),
            upstream=optional("upstream", upstream if per_row else None, total, (rows,)),
            class_weights=optional("class_weights", class_weights, total, (columns,)),
            row_weights=optional("row_weights", row_weights, total, (rows,)),
            factor=1.0 if per_row or upstream is None else float(upstream),
            mean=reduction == "mean",
            label_smoothing=float(label_smoothing),
            z_loss=float(z_loss),
            ignore_index=ignore_index,
        )

    @property
    def probabilities(self) -> bool:
        """Whether the labels are rows of probabilities, not class indices."""
        return len(self.labels.shape) == 2

    @property
    def smoothed(self) -> bool:
        """Whether the target of every class may be non-zero."""
        return self.probabilities or self.label_smoothing > 0

    @property
    def weighted(self) -> bool:
        """Whether a row's weight in the mean may differ from 1."""
        weights = self.row_weights if self.probabilities else self.class_weights or self.row_weights
        return weights is not None or self.ignore_index is not None

    def held_columns(self, element: types.Type) -> int:
        """How many columns of a row a thread keeps in registers."""
        return held_vectors(self.smoothed) * 128 // element.bitwidth

    def rows(self, first: int, count: int) -> CrossEntropy:
        """The loss of ``count`` rows from ``first`` on; the summary is that of all rows."""
        per_row = ("labels", "losses", "log_sum_exp", "predictions", "upstream", "row_weights")
        some = {name: value.rows(first, count) for name in per_row if (value := getattr(self, name)) is not None}
        return replace(self, **some)

    def before_rows(self, z: DeviceArray) -> list[Launch]:
        """The launches of the phases before the rows."""
        launches = [self.launch(PREPARE, z, None, 1, (BLOCK, 1))]
        if self.weighted:
            grid = max(-(-self.losses.shape[0] // BLOCK), 1)
            launches.insert(0, self.launch(WEIGHTS, z, None, grid, (BLOCK, 1)))
        return launches

    def over_rows(self, z: DeviceArray, g: DeviceArray | None) -> list[Launch]:
        """The launch of the phase over rows; none if there are no rows."""
        rows = z.shape[0]
        if rows == 0:
            return []
        threads = threads_per_row(row_extent(z), self.held_columns(z.element))
        block_rows = 1
        if threads <= WARP:  # small blocks if there are few, so that every multiprocessor gets one
            warps = min(max(rows * threads // (WARP * 128), 1), 4)
            block_rows = warps * WARP // threads
        return [self.launch(ROWS, z, g, -(-rows // block_rows), (threads, block_rows))]

    def launch(self, phases: int, z: DeviceArray, g: DeviceArray | None, grid: int, block: Dimensions) -> Launch:
        """A launch of the kernel for some phases."""
        total = accumulator(z.element)
        steps = max(1, -(-row_extent(z) * z.element.bitwidth // (block[0] * 128)))  # of a vector for each thread
        classes = None if self.probabilities else self.labels
        probabilities = self.labels if self.probabilities else z  # which is not read
        kernel = typed(
            cross_entropy_kernel(total, self.smoothed, self.probabilities), z.element,
            types.int64 if classes is None else classes.element, z.element, z.element, types.float64, total, total,
            types.int64, total, total, total,
        )  # fmt: skip
        ignoring = self.ignore_index is not None
        arguments = [
            phases, z, classes, probabilities, g, self.summary, self.losses, self.log_sum_exp, self.predictions,
            self.upstream, self.class_weights, self.row_weights, self.losses.shape[0], z.shape[1], steps, z.row_stride,
            probabilities.row_stride, 0 if g is None else g.row_stride, self.factor, self.mean, self.label_smoothing,
            self.z_loss, self.weighted, ignoring, self.ignore_index if ignoring else -1,
        ]  # fmt: skip
        return Launch(kernel, arguments, grid, block)


def row_extent(z: DeviceArray) -> int:
    """The columns of a row, plus the most columns between a 16-byte boundary and its start."""
    item = z.element.bitwidth // 8
    aligned = z.address % 16 == 0 and (z.row_stride * item % 16 == 0 or z.shape[0] == 1)
    return z.shape[1] + (0 if aligned else 16 // item - 1)


def threads_per_row(extent: int, held_columns: int) -> int:
    """The number of threads for a row: the fewest whose registers hold it, but up to eight if their loads are adjacent.

    A row with more columns than a block can hold gets a whole block, which processes it in the fewest tiles, as full as
    whole warps allow.
    """
    threads = 1
    while threads < WARP and (threads * held_columns < extent or (threads < 8 and threads * 8 < extent)):
        threads *= 2
    if threads * held_columns < extent:
        tiles = -(-extent // (BLOCK * held_columns))
        threads = -(-extent // (tiles * WARP * held_columns)) * WARP
    return threads
