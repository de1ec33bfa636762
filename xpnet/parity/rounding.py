"""Bounds on rounding errors: repeat a computation with perturbed operations, and measure how its results change.

This is a running error analysis (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, section
3.3) of unmodified code. The computation runs once in float64, and then once or twice for each group of operations,
with that group perturbed (see :mod:`xpnet.parity.perturbation`). Sums have the lengths that occur, so layers declare
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet.parity.perturbation import PerturbedBackend

_SAMPLE = 20_000  # elements of which the median is taken

Arrays = Mapping[Any, np.ndarray]


def rounding_bounds(backend: PerturbedBackend, compute: Callable[[], Arrays]) -> dict[Any, np.ndarray]:
    """Bound the rounding error of each result of ``compute`` in float32, element by element.

    Each operation is perturbed upwards once and, where what follows may not be smooth, downwards once: a value that
    rounding may carry across a kink or a comparison is carried across. Errors have random signs, so that later sums
    accumulate them as they accumulate rounding errors. A result of no operation has the bound 0.

    Args:
        backend: the backend that ``compute`` uses.
        compute: returns new arrays by name, the same ones in each call.

    >>> from xpnet.parity.perturbation import ROUNDOFF, perturbed_backend
    >>> cpu = perturbed_backend()
    >>> x = cpu.asarray([3.0, 4.0])
    >>> bounds = rounding_bounds(cpu, lambda: {"norm": cpu.to_numpy(cpu.xp.sqrt(cpu.xp.sum(x * x)))})
    >>> 1.0 < float(bounds["norm"]) / (5.0 * ROUNDOFF) < 8.0
    True
    """
    perturbations = backend.perturbations
    perturbations.begin(0, 0.0)
    perturbations.groups.clear()
    exact = compute()
    bounds = {name: np.zeros(array.shape) for name, array in exact.items()}
    for group in sorted(perturbations.groups):
        widest: dict[Any, np.ndarray] = {}
        for sign in (1.0, -1.0):
            perturbations.begin(group, sign)
            for name, array in compute().items():
                with backend.ignoring_overflow():
                    width = np.abs(array - exact[name])
                widest[name] = np.maximum(widest[name], width) if name in widest else width
            if not perturbations.nonsmooth:
                break
        mixed = len(set(perturbations.perturbed)) > 1 or 0 in perturbations.groups
        for name, width in widest.items():
            bounds[name] += _at_least_usual(width) if mixed else width
    return bounds


def _at_least_usual(width: np.ndarray) -> np.ndarray:
    """Raise each width to a quarter of the median: errors of several operations may cancel by chance.

    Not needed where a single operation is perturbed and no sum is unrolled: later sums have larger errors of their own.
    """
    sample = width.ravel()[:: width.size // _SAMPLE + 1]
    drawn = sample[(sample > 0.0) & np.isfinite(sample)]
    usual = np.median(drawn) if drawn.size else 0.0
    return np.where(width > 0.0, np.maximum(width, usual / 4), width)
