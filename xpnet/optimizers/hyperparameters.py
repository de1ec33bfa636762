"""The hyperparameters of a step, where updates read them, and those of the steps to come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnet import ops
from xpnet.backends import Array, Backend

AHEAD = 1024  # steps whose hyperparameters are copied to a device at once


class Hyperparameters:
    """A float64 vector that is written only when the numbers change, and a table of future numbers.

    Args:
        backend: where they live.
        count: numbers in a step.

    Attributes:
        vector: (count,) float64.

    >>> from xpnet.backends import backend
    >>> hyperparameters = Hyperparameters(backend("cpu"), 2)
    >>> hyperparameters.write([0.1, 0.9])
    >>> hyperparameters.vector
    array([0.1, 0.9])
    """

    def __init__(self, backend: Backend, count: int) -> None:
        self._backend = backend
        self.vector: Array = backend.aligned_zeros(count, "float64")
        self._current: list[float] = []  # the numbers in the vector
        self._rows = [[0.0] * count] * AHEAD  # the numbers in the table
        self._table: ops.HyperparameterTable | None = None

    def write(self, numbers: list[float]) -> None:
        """Vector ← numbers."""
        if numbers != self._current:
            self.vector[...] = self._backend.asarray(numbers, "float64")
            self._current = numbers

    def table(self, step: int, at: Callable[[int], list[float]], stop: int) -> ops.HyperparameterTable:
        """A table with the numbers of ``step``, which :func:`xpnet.ops.end_step` is about to take into the vector.

        Where it has others, those of the next steps are copied to the device.

        Args:
            step: the number of the step.
            at: the numbers at a step.
            stop: the first step whose numbers are not known, and later than ``step``.
        """
        if self._table is None:
            rows = self._backend.aligned_zeros(AHEAD * self.vector.shape[0], "float64")
            table = self._backend.reshape(rows, (AHEAD, self.vector.shape[0]))
            self._table = ops.HyperparameterTable(table, self.vector)
        self._current = at(step)
        if self._rows[step % AHEAD] != self._current:
            for later in range(step, min(step + AHEAD, stop)):
                self._rows[later % AHEAD] = at(later)
            self._table.table[...] = self._backend.asarray(np.array(self._rows))
        return self._table
