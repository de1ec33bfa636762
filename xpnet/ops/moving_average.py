"""Exponential moving averages of vectors."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.ops.updates import assign


def moving_average_update(
    backend: Backend, average: Array, values: Array, decay: float, found_inf: Array | None = None
) -> None:
    """a ← β a + (1-β) θ, in place, as a + (1-β) (θ - a), which keeps small differences.

    Args:
        backend: where the arrays live.
        average: (P,), a, updated.
        values: (P,), θ.
        decay: β.
        found_inf: (1,) int32; unless it is 0, nothing is updated.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> average = cpu.asarray([2.0])
    >>> moving_average_update(cpu, average, cpu.asarray([4.0]), 0.75)
    >>> average
    array([2.5])
    """
    assign(backend, found_inf, average, average + (1 - decay) * (values - average))
