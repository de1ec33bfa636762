"""The gradients of bias and activation in one pass."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.checks.arguments import check_apart, check_input, check_kind, check_output, is_in_place
from xpnet_kernels.cpu.elementwise.activations import LINEAR, activation_code, differentiate
from xpnet_kernels.cpu.elementwise.matrices import SUM_BLOCKS, add_row
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import row
from xpnet_kernels.cpu.numba_extensions.compilation import InMatrix, OutDoubles, OutMatrix, kernel
from xpnet_kernels.cpu.threads.pool import over_rows


def bias_activation_backward(
    dy: np.ndarray, y: np.ndarray | None, activation: str | None, dz: np.ndarray, db: np.ndarray
) -> None:
    """``dz = dy · act′`` and ``db``, the sums of its columns.

    Args:
        dy: (N, C) float32 or float64.
        y: (N, C), the output of the activation; may be ``None`` for the activation ``None``.
        activation: ``None``, "relu", "sigmoid" or "tanh".
        dz: (N, C), output; may be ``dy``.
        db: (C,), output, summed in float64.

    Raises:
        TypeError, ValueError: an array of a wrong type, shape or layout, or an unknown activation.

    >>> import numpy as np
    >>> dz, db = np.empty((2, 2)), np.empty(2)
    >>> bias_activation_backward(np.ones((2, 2)), np.array([[0.0, 3.0], [1.0, 2.0]]), "relu", dz, db)
    >>> dz.tolist(), db.tolist()
    ([[0.0, 1.0], [1.0, 1.0]], [1.0, 2.0])
    """
    code = activation_code(activation)
    check_kind("dy", dy, 2)
    check_input("dy", dy, dy.dtype, dy.shape)
    if code == LINEAR:
        y = dy  # not read
    else:
        check_input("y", y, dy.dtype, dy.shape)
        check_apart("dz", dz, "y", y)
    check_output("dz", dz, dy.dtype, dy.shape)
    check_output("db", db, dy.dtype, dy.shape[1:])
    in_place = is_in_place("dz", dz, "dy", dy)
    compiled = _bias_activation_backward[dy.dtype]

    def block(first: int, last: int) -> np.ndarray:
        sums = np.zeros(dy.shape[1])
        compiled(dy, y, code, dz, in_place, sums, first, last)
        return sums

    db[:] = sum(over_rows(block, *dy.shape, max_blocks=SUM_BLOCKS))


@kernel
def _bias_activation_backward(
    dy: InMatrix, y: InMatrix, code: int, dz: OutMatrix, in_place: bool, sums: OutDoubles, first: int, last: int
) -> None:
    for i in range(first, last):
        g, a = row(dz, i), row(y, i)
        if not in_place:
            g_y = row(dy, i)
            for c in range(g.size):
                g[c] = g_y[c]
        differentiate(g, a, code)
        add_row(sums, g)
