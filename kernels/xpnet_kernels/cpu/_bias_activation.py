"""Bias and activation in one pass."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.checks.arguments import check_input, check_kind, check_output, is_in_place
from xpnet_kernels.cpu.elementwise.activations import activate, activation_code
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import row
from xpnet_kernels.cpu.numba_extensions.compilation import InMatrix, InVector, OutMatrix, kernel
from xpnet_kernels.cpu.threads.pool import over_rows


def bias_activation(z: np.ndarray, bias: np.ndarray, activation: str | None, out: np.ndarray) -> None:
    """``out = act(z + bias)``.

    Args:
        z: (N, C) float32 or float64.
        bias: (C,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, C), output; may be ``z``.

    Raises:
        TypeError, ValueError: an array of a wrong type, shape or layout, or an unknown activation.

    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> bias_activation(np.array([[-2.0, 0.0, 2.0]]), np.array([1.0, 0.0, 1.0]), "relu", out)
    >>> out
    array([[0., 0., 3.]])
    """
    code = activation_code(activation)
    check_kind("z", z, 2)
    check_input("z", z, z.dtype, z.shape)
    check_input("bias", bias, z.dtype, z.shape[1:])
    check_output("out", out, z.dtype, z.shape)
    in_place = is_in_place("out", out, "z", z)
    compiled = _bias_activation[z.dtype]
    over_rows(lambda first, last: compiled(z, bias, code, out, in_place, first, last), *z.shape)


@kernel
def _bias_activation(
    z: InMatrix, bias: InVector, code: int, out: OutMatrix, in_place: bool, first: int, last: int
) -> None:
    for i in range(first, last):
        y = row(out, i)
        if in_place:
            for c in range(y.size):
                y[c] += bias[c]
        else:
            x = row(z, i)
            for c in range(y.size):
                y[c] = x[c] + bias[c]
        activate(y, code)
