"""The linear layer and its activation, forward and backward."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.activations import activation_code, bias_activation, bias_activation_backward, column_sums
from xpnet_kernels.cpu.checks import check_apart, check_input, check_kind, check_output
from xpnet_kernels.cpu.linear_at_once import linear_at_once, linear_backward_at_once
from xpnet_kernels.cpu.matrix_products import multiply


def linear(x: np.ndarray, W: np.ndarray, b: np.ndarray, activation: str | None, out: np.ndarray) -> None:
    """``out = act(x W + b)``.

    Args:
        x: (N, inputs) float32 or float64.
        W: (inputs, outputs).
        b: (outputs,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, outputs), output.

    >>> import numpy as np
    >>> x, W, b, out = np.array([[1.0, 2.0]]), np.array([[3.0, -4.0], [5.0, 1.0]]), np.ones(2), np.empty((1, 2))
    >>> linear(x, W, b, "relu", out)
    >>> out
    array([[14.,  0.]])
    """
    code = activation_code(activation)
    if linear_at_once(x, W, b, code, out):
        return
    check_kind("x", x, 2)
    check_kind("W", W, 2)
    check_input("x", x, x.dtype, x.shape)
    check_input("W", W, x.dtype, (x.shape[1], W.shape[1]))
    check_input("b", b, x.dtype, W.shape[1:])
    check_output("out", out, x.dtype, (x.shape[0], W.shape[1]))
    check_apart("out", out, "x", x)
    check_apart("out", out, "W", W)
    check_apart("out", out, "b", b)
    multiply(x, W, out)
    bias_activation(out, b, activation, out)


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray | None,
    W: np.ndarray,
    activation: str | None,
    dW: np.ndarray,
    db: np.ndarray,
    dz: np.ndarray | None,
    dx: np.ndarray | None = None,
) -> None:
    """With dz = dy · act′: ``dW = xᵀ dz``, ``db = Σ_rows dz``, ``dx = dz Wᵀ``.

    Args:
        dy: (N, outputs) float32 or float64, the gradient with respect to the output.
        x: (N, inputs), what the forward pass took.
        y: (N, outputs), what it gave; act′ is taken from it.
        W: (inputs, outputs).
        activation: as in the forward pass.
        dW: (inputs, outputs), output.
        db: (outputs,), output, summed in float64.
        dz: (N, outputs), output. With the activation ``None`` dz is dy itself: then ``y`` and ``dz`` are not looked
            at, and may be ``None``.
        dx: (N, inputs), output; ``None``: no work is done for it.

    >>> import numpy as np
    >>> dy, x, W = np.array([[1.0, 10.0]]), np.array([[2.0, 3.0]]), np.array([[4.0, 5.0], [6.0, 7.0]])
    >>> dW, db, dx = np.empty((2, 2)), np.empty(2), np.empty((1, 2))
    >>> linear_backward(dy, x, None, W, None, dW, db, None, dx)
    >>> dW.tolist(), db.tolist(), dx.tolist()
    ([[2.0, 20.0], [3.0, 30.0]], [1.0, 10.0], [[54.0, 76.0]])
    """
    if linear_backward_at_once(dy, x, y, W, activation_code(activation), dW, db, dz, dx):
        return
    check_kind("dy", dy, 2)
    check_kind("W", W, 2)
    dtype, (rows, outputs), inputs = dy.dtype, dy.shape, W.shape[0]
    check_input("dy", dy, dtype, dy.shape)
    check_input("x", x, dtype, (rows, inputs))
    check_input("W", W, dtype, (inputs, outputs))
    check_output("dW", dW, dtype, W.shape)
    check_output("db", db, dtype, (outputs,))
    if dx is not None:
        check_output("dx", dx, dtype, x.shape)
    outputs_ = [(name, output) for name, output in (("dW", dW), ("db", db), ("dx", dx)) if output is not None]
    for place, (name, output) in enumerate(outputs_):
        for other_name, other in (("dy", dy), ("x", x), ("W", W), *outputs_[:place]):
            check_apart(name, output, other_name, other)
    if activation is None:
        dz = dy
        db[:] = column_sums(dz)
    else:
        if dz is not None:
            for other_name, other in (("dy", dy), ("x", x), ("W", W), *outputs_):
                check_apart("dz", dz, other_name, other)
        bias_activation_backward(dy, y, activation, dz, db)
    multiply(x.T, dz, dW)
    if dx is not None:
        multiply(dz, W, dx, transposed=True)
