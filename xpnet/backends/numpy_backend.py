"""NumPy: arrays in the host's memory, with synchronous execution."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from xpnet_kernels.cpu.gemm.numpy_product import matmul

from xpnet.backends.backend import ALIGNMENT, Array, Backend
from xpnet.backends.host import host_array, require_indices
from xpnet.backends.precision import bfloat16


@dataclass(frozen=True)
class NumPyBackend(Backend):
    """NumPy, with fused kernels or without.

    Scalars are Python numbers, whose arithmetic is ten times as fast as that of arrays with one element. Invalid labels
    and indices raise at once.

    Attributes:
        name, xp, device, dtype, kernels, precision: see :class:`Backend`.

    >>> cpu = NumPyBackend("cpu-reference")
    >>> cpu.asarray([1, 2, 3], "float32")
    array([1., 2., 3.], dtype=float32)
    """

    xp: Any = np
    device: Any = "cpu"
    synchronous: ClassVar[bool] = True

    matmul = staticmethod(matmul)  # without the warnings that NumPy's gives on arm64 when nothing is wrong

    # Not defined with def: a step calls if_true often, and calling a Python function costs more than they do.
    to_numpy = staticmethod(np.asarray)  # type: ignore[assignment]
    scalar = staticmethod(float)  # type: ignore[assignment]
    is_finite = staticmethod(math.isfinite)  # type: ignore[assignment]
    numbers = staticmethod(np.ndarray.tolist)  # type: ignore[assignment]

    def synchronize(self) -> None:
        """Do nothing: there is no queued work."""

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        """See :meth:`Backend.asarray`; shares the memory of an array of that type."""
        # Each step passes a list, and the second check alone would take as long as the rest of this method.
        if not isinstance(value, (np.ndarray, np.generic, list)) and array_api_compat.is_array_api_obj(value):
            raise self._foreign(value)
        host = host_array(value)
        return host if dtype in (None, host.dtype) else host.astype(dtype)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """See :meth:`Backend.reshape`; ``numpy.reshape`` takes five times as long."""
        return x.reshape(shape)

    def owns(self, value: Any) -> bool:
        """Whether ``value`` is a NumPy array."""
        return isinstance(value, np.ndarray)

    def aligned_zeros(self, count: int, dtype: str) -> Array:
        """See :meth:`Backend.aligned_zeros`; NumPy aligns to 16 bytes."""
        itemsize = np.dtype(dtype).itemsize
        room = np.zeros(count * itemsize + ALIGNMENT, np.uint8)
        start = -room.ctypes.data % ALIGNMENT
        return room[start : start + count * itemsize].view(dtype)

    def _require_precision(self, precision: str) -> None:
        if precision != "bf16" or self.kernels is not None or self.dtype != "float32":
            super()._require_precision(precision)
        bfloat16()

    def select(self, condition: Any, if_true: Any, if_false: Any) -> Any:
        """``if_true`` if the condition holds, else ``if_false``, as they are."""
        return if_true if condition else if_false

    def assign(self, vector: Array, numbers: Any) -> None:
        """Write numbers into the vector."""
        vector[...] = numbers

    def fill_unless(self, condition: Any, target: Array, value: float) -> None:
        """Fill the target with the value, unless the condition holds."""
        if not condition:
            target[...] = value

    def unless(self, condition: Array, written: Iterable[Array], action: Callable[[], None]) -> None:
        """Call ``action`` if the condition, (1,) int32, is 0, so that there is nothing to restore."""
        if not condition[0]:
            action()

    def take(self, rows: Array, indices: Array, dtype: str) -> Array:
        """See :meth:`Backend.take`."""
        self.require_integers(indices, "row indices")
        self.require_in_range(indices, rows.shape[0], "row index")
        return self.xp.take(rows, indices.astype(np.int64, copy=False), axis=0).astype(dtype)

    def require_in_range(self, indices: Array, below: int, what: str) -> None:
        """Raise OutOfRangeError for the first index that is not in [0, below)."""
        require_indices(np.asarray(indices), below, what)

    def ignoring_overflow(self) -> AbstractContextManager[Any]:
        """See :meth:`Backend.ignoring_overflow`."""
        return np.errstate(over="ignore", invalid="ignore")

    def peak_memory(self) -> int | None:
        """The process's largest resident set; None on Windows."""
        try:
            import resource
        except ImportError:
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
