"""The linear layer: y = a(x W + b)."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.ops.activations import ACTIVATIONS


def linear(
    backend: Backend, x: Array, W: Array, b: Array, activation: str | None = None, out: Array | None = None
) -> Array:
    """y = a(x W + b).

    Args:
        backend: where the arrays live.
        x: (N, inputs).
        W: (inputs, outputs).
        b: (outputs,).
        activation: "relu", "sigmoid", "tanh", or None for the identity.
        out: (N, outputs), receives y when given.

    Returns:
        (N, outputs).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, W, b = (cpu.asarray(a, "float32") for a in ([[1, 2]], [[3], [4]], [5]))
    >>> linear(cpu, x, W, b)
    array([[16.]], dtype=float32)
    """
    fused = backend.kernel("linear", x, W, b)
    if fused is not None:
        out = backend.xp.empty((x.shape[0], W.shape[1]), dtype=x.dtype) if out is None else out
        fused(x, W, b, activation, out)
        return out
    y = backend.xp.matmul(x, W) + b
    if activation is not None:
        return ACTIVATIONS[activation].forward(backend, y, out)
    if out is None:
        return y
    out[...] = y
    return out


def linear_backward(
    backend: Backend,
    dy: Array,
    x: Array,
    y: Array,
    W: Array,
    activation: str | None,
    dW: Array,
    db: Array,
    input_gradient: bool = True,
    out: Array | None = None,
    dz: Array | None = None,
) -> Array | None:
    """With dz = dy · a'(z): dW = xᵀ dz, db = Σ dz over the rows, dx = dz Wᵀ.

    Args:
        backend: where the arrays live.
        dy: (N, outputs), the gradient of the loss with respect to y.
        x: (N, inputs), what the forward pass took.
        y: (N, outputs), what it gave; the activation's derivative is computed from it.
        W: (inputs, outputs).
        activation: as in the forward pass.
        dW: (inputs, outputs), overwritten.
        db: (outputs,), overwritten.
        input_gradient: whether dx is wanted; if not, its matrix product is saved.
        out: (N, inputs), receives dx when given.
        dz: (N, outputs), memory for dz when given; its content afterwards is undefined.

    Returns:
        dx, (N, inputs), or None when it was not wanted.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> dy, x, y, W = (cpu.asarray(a) for a in ([[10.0]], [[1.0, 2.0]], [[11.0]], [[3.0], [4.0]]))
    >>> dW, db = cpu.asarray([[0.0], [0.0]]), cpu.asarray([0.0])
    >>> linear_backward(cpu, dy, x, y, W, None, dW, db)
    array([[30., 40.]])
    >>> dW.tolist(), db.tolist()
    ([[10.0], [20.0]], [10.0])
    """
    xp = backend.xp
    fused = backend.kernel("linear_backward", dy, x, y, W)
    if fused is not None:
        dx = None if not input_gradient else xp.empty_like(x) if out is None else out
        dz = None if activation is None else xp.empty_like(dy) if dz is None else dz
        fused(dy, x, y, W, activation, dW, db, dz, dx)
        return dx
    dz = dy if activation is None else ACTIVATIONS[activation].backward(backend, dy, y)
    dW[...] = xp.matmul(xp.matrix_transpose(x), dz)
    db[...] = xp.sum(dz, axis=0)
    if not input_gradient:
        return None
    dx = xp.matmul(dz, xp.matrix_transpose(W))
    if out is None:
        return dx
    out[...] = dx
    return out
