"""The batches of a set of samples: the order of an epoch, its slices, the parts of a batch, and gathering."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.data.samplers import InOrder, Sampler, epoch_order, steps_per_epoch
from xpnet.errors import ShapeError


class Batch(NamedTuple):
    """The rows of a step, or of a part of it.

    Attributes:
        indices: (N,) row indices into the set, on the device; valid until a batch of another epoch is asked for.
        number: of the part within the batch, from 0.
        start: position of the part's first row in the batch.
        step: the step whose batch it is, see :meth:`Batches.at`; None: rows of the caller's own choice.

    >>> [(part.indices.tolist(), part.number, part.start) for part in Batch(np.array([7, 1, 4])).parts(2)]
    [([7, 1], 0, 0), ([4], 1, 2)]
    """

    indices: Array
    number: int = 0
    start: int = 0
    step: int | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.indices.shape[0])

    def parts(self, rows: int | None) -> list[Batch]:
        """Consecutive parts of ``rows`` rows, the last one may have fewer; the batch itself for None."""
        if rows is None or self.rows <= rows:
            return [self]
        return [
            Batch(self.indices[start : min(start + rows, self.rows)], number, start, self.step)
            for number, start in enumerate(range(0, self.rows, rows))
        ]


@runtime_checkable
class Divides(Protocol):
    """A layer that divides its input by a number, which ``gather`` does in the same pass over the bytes."""

    def divisor_for(self, dtype: str) -> float:
        """The number, for samples of that type."""


class Batches:
    """The batches of samples, by step: a pure function of seed and step.

    Step s belongs to epoch s // steps_per_epoch, whose order the sampler gives; batches are consecutive slices of it,
    and the last one of an epoch may be partial.

    Args:
        backend: of the model.
        x: (N, *sample shape), on the host or on the backend; N at least 1.
        y: (N, …) targets, or None.
        batch_size: rows in a batch.
        sampler: the order; :class:`InOrder` when None.
        seed: of the order.
        dtype: floating-point type that x is converted to; None: x is left as it is (indices).
        rescale: the layer whose division is done while gathering, see :class:`~xpnet.layers.Rescale`, or None.
        drop_last: leave partial batches out.
        resident: keep the samples on the device. Otherwise each batch is copied there when it is needed; x may then be
            a ``numpy.memmap``.

    Attributes:
        steps_per_epoch: batches in an epoch.

    Raises:
        ConfigurationError: ``batch_size`` is not a whole number of at least 1.
        ShapeError: another number of targets than of samples.
        OutOfMemoryError: the samples are too large for the device.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> batches = Batches(cpu, np.array([[0, 51], [102, 153], [204, 255]], np.uint8), np.array([2, 0, 1]), batch_size=2)
    >>> x, y = batches.gather(batches.at(1), Context(cpu))
    >>> batches.steps_per_epoch, x, y
    (2, array([[204., 255.]], dtype=float32), array([1]))
    """

    def __init__(
        self,
        backend: Backend,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 1000,
        sampler: Sampler | None = None,
        seed: int = 0,
        dtype: str | None = "float32",
        rescale: Divides | None = None,
        drop_last: bool = False,
        resident: bool = True,
    ) -> None:
        self.backend = backend
        self.samples = int(x.shape[0])
        if y is not None and np.shape(y)[:1] != (self.samples,):
            raise ShapeError(f"expected as many targets as the {self.samples:,} samples, got shape {np.shape(y)}")
        self.batch_size = batch_size if not drop_last else min(batch_size, self.samples)
        self.steps_per_epoch = steps_per_epoch(self.samples, batch_size)
        if drop_last:
            self.steps_per_epoch = self.samples // self.batch_size
        self.seed = seed
        self.rescale: Any = rescale
        self._divisor = 1.0 if rescale is None else rescale.divisor_for(str(x.dtype).rpartition(".")[2])
        self._sampler = sampler or InOrder()
        self.dtype = dtype
        self._resident = resident
        self._has_labels = False
        self._epoch = -1
        self._order: Any = None
        if not resident:
            self.x, self.y = x, y
            return
        purpose = f"{self.samples:,} samples, which stay on the device: take fewer, or use the CPU"
        with backend.memory_for(purpose):
            self.x, self.y = self._placed(x), None if y is None else self._placed(y)
        self._has_labels = y is not None and self.y.ndim == 1 and backend.xp.isdtype(self.y.dtype, "integral")
        if self._has_labels and not backend.synchronous and backend.owns(y):
            self.y = backend.xp.asarray(self.y, copy=True)  # contiguous, as the kernels for a device need labels

    def order(self, epoch: int) -> Array:
        """The row indices of an epoch, in order, on the device, valid until those of another epoch are asked for.

        Raises:
            DTypeError, ShapeError, OutOfRangeError: the sampler's order is invalid, see :func:`epoch_order`.
        """
        if epoch != self._epoch:
            order = epoch_order(self._sampler, self.samples, self.batch_size, self.seed, epoch)
            self._epoch, placed = epoch, self.backend.asarray(order)
            if self._order is None or (self._order.shape, self._order.dtype) != (placed.shape, placed.dtype):
                self._order = self.backend.xp.empty_like(placed)
            self._order[...] = placed  # always in the same memory, which captured steps read
        return self._order

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order, start = self.order(epoch), place * self.batch_size
        stop = min(start + self.batch_size, order.shape[0])  # the array API leaves slices past the end undefined
        return Batch(order[start:stop], 0, 0, step)

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of an epoch."""
        first = number * self.steps_per_epoch
        return map(self.at, range(first, first + self.steps_per_epoch))

    def in_order(self, batch_size: int = 1000) -> Batches:
        """Batches of the same arrays in the order of the set, as evaluations take them."""
        copied = copy.copy(self)
        copied.batch_size, copied.steps_per_epoch = batch_size, steps_per_epoch(self.samples, batch_size)
        copied._sampler, copied._epoch, copied._order = InOrder(), -1, None
        return copied

    def gather(self, batch: Batch, context: Context) -> tuple[Array, Array]:
        """x and y of a batch: x in ``dtype``, divided for ``rescale``; y unchanged, or None."""
        context.prescaled = self.rescale
        xp, x, y, indices = self.backend.xp, self.x, self.y, batch.indices
        if not self._resident:
            rows = self.backend.to_numpy(indices)
            x, y = (None if array is None else self.backend.asarray(array[rows]) for array in (x, y))
            indices = xp.arange(batch.rows, device=self.backend.device)
        if self.dtype is None:
            return xp.take(x, indices, axis=0), None if y is None else self._targets(y, indices)
        out = context.empty(self, "x", (indices.shape[0], *x.shape[1:]), getattr(xp, self.dtype))
        on_device = context.device_step is not None and self._resident
        if on_device and batch.step == context.step % 2**32:  # the number of the part is above these bits
            return self._gather_step(batch, self.dtype, out, context)
        x = ops.gather(self.backend, x, indices, self._divisor, self.dtype, out)
        return x, None if y is None else self._targets(y, indices)

    def _gather_step(self, batch: Batch, dtype: str, out: Array | None, context: Context) -> tuple[Array, Array]:
        """x and y of the batch of the context's step, by what the device knows."""
        y, labels = self.y, None
        if self._has_labels:
            labels = context.empty(self, "y", (batch.rows,), y.dtype)
            if labels is None:
                labels = self.backend.xp.empty((batch.rows,), dtype=y.dtype, device=self.backend.device)
        batch_size = min(self.batch_size, self.samples)  # a number that a kernel takes
        of_step = ops.BatchOfStep(context.device_step, self.steps_per_epoch, batch_size, batch.rows)
        x = ops.gather(
            self.backend,
            self.x,
            self._order[batch.start :],
            self._divisor,
            dtype,
            out,
            labels=None if labels is None else y,
            labels_out=labels,
            of_step=of_step,
        )
        if labels is None and y is not None:
            labels = self._targets(y, batch.indices)
        return x, labels

    def _targets(self, y: Array, indices: Array) -> Array:
        return y[indices] if y.ndim == 1 else self.backend.xp.take(y, indices, axis=0)  # which takes a microsecond more

    def head(self, rows: int, context: Context) -> Array:
        """x of the first ``rows`` rows of the set, or of all if there are fewer, as ``gather`` gives it."""
        indices = self.backend.xp.arange(min(rows, self.samples), device=self.backend.device)
        return self.gather(Batch(indices), context)[0]

    def _placed(self, array: Any) -> Array:
        return self.backend.asarray(np.ascontiguousarray(array) if not self.backend.owns(array) else array)
