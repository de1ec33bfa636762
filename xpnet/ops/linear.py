"""The linear layer: y = a(x W + b)."""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.ops.activations import ACTIVATIONS
from xpnet.ops.outputs import as_rows, store, view_as_rows


def linear(
    backend: Backend, x: Array, W: Array, b: Array | None, activation: str | None = None, out: Array | None = None
) -> Array:
    """y = a(x W + b), over the last axis.

    Args:
        backend: where the arrays live.
        x: (…, inputs).
        W: (inputs, outputs).
        b: (outputs,); None: no bias.
        activation: "relu", "sigmoid", "tanh", or None for the identity.
        out: (…, outputs), C-contiguous, receives y when given.

    Returns:
        (…, outputs).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, W, b = (cpu.asarray(a, "float32") for a in ([[1, 2]], [[3], [4]], [5]))
    >>> linear(cpu, x, W, b)
    array([[16.]], dtype=float32)
    """
    if x.ndim != 2:
        y = linear(backend, as_rows(backend, x), W, b, activation, view_as_rows(backend, out))
        return out if out is not None else backend.reshape(y, (*x.shape[:-1], W.shape[1]))
    xp = backend.xp
    if b is None:
        b = xp.zeros((W.shape[1],), dtype=W.dtype, device=backend.device)
    fused = backend.kernel("linear", x, W, b)
    if fused is not None:
        out = xp.empty((x.shape[0], W.shape[1]), dtype=x.dtype) if out is None else out
        fused(x, W, b, activation, out)
        return out
    if backend.is_bfloat16(x):  # computed in float32, and rounded once
        y = linear(backend, backend.widened(x), backend.widened(W), backend.widened(b), activation)
        return store(backend.narrowed(y), out)
    y = backend.matmul(x, W) + b
    return store(y, out) if activation is None else ACTIVATIONS[activation].forward(backend, y, out)


def linear_backward(
    backend: Backend,
    dy: Array,
    x: Array,
    y: Array,
    W: Array,
    activation: str | None,
    dW: Array,
    db: Array | None,
    input_gradient: bool = True,
    out: Array | None = None,
    dz: Array | None = None,
) -> Array | None:
    """With dz = dy · a'(z): dW = xᵀ dz, db = Σ dz, both over all leading axes, dx = dz Wᵀ.

    Args:
        backend: where the arrays live.
        dy: (…, outputs), the gradient of the loss with respect to y.
        x: (…, inputs), the input of the forward pass.
        y: (…, outputs), its output, from which the activation's derivative is computed.
        W: (inputs, outputs).
        activation: as in the forward pass.
        dW: (inputs, outputs), overwritten.
        db: (outputs,), overwritten; None: no bias.
        input_gradient: whether to compute dx, which takes a matrix product of its own.
        out: (…, inputs), C-contiguous, receives dx when given.
        dz: (…, outputs), C-contiguous scratch memory when given.

    Returns:
        dx, (…, inputs), or None without ``input_gradient``.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> dy, x, y, W = (cpu.asarray(a) for a in ([[10.0]], [[1.0, 2.0]], [[11.0]], [[3.0], [4.0]]))
    >>> dW, db = cpu.asarray([[0.0], [0.0]]), cpu.asarray([0.0])
    >>> linear_backward(cpu, dy, x, y, W, None, dW, db)
    array([[30., 40.]])
    >>> dW.tolist(), db.tolist()
    ([[10.0], [20.0]], [10.0])
    """
    if x.ndim != 2:
        dy, rows, y = (as_rows(backend, array) for array in (dy, x, y))
        buffers = view_as_rows(backend, out), view_as_rows(backend, dz)
        dx = linear_backward(backend, dy, rows, y, W, activation, dW, db, input_gradient, *buffers)
        return out if out is not None or dx is None else backend.reshape(dx, x.shape)
    xp = backend.xp
    if db is None:
        db = xp.empty((W.shape[1],), dtype=dW.dtype, device=backend.device)
    fused = backend.kernel("linear_backward", dy, x, y, W)
    if fused is not None:
        dx = None if not input_gradient else xp.empty_like(x) if out is None else out
        dz = None if activation is None else xp.empty_like(dy) if dz is None else dz
        fused(dy, x, y, W, activation, dW, db, dz, dx)
        return dx
    if backend.is_bfloat16(x):  # computed in float32; dz and dx are rounded, as where a kernel stores them
        dy, x, y, W = (backend.widened(array) for array in (dy, x, y, W))
        if activation is not None:
            dy = backend.widened(backend.narrowed(ACTIVATIONS[activation].backward(backend, dy, y)))
        dx = linear_backward(backend, dy, x, y, W, None, dW, db, input_gradient)
        return None if dx is None else store(backend.narrowed(dx), out)
    dz = dy if activation is None else ACTIVATIONS[activation].backward(backend, dy, y)
    dW[...] = backend.matmul(xp.matrix_transpose(x), dz)
    db[...] = xp.sum(dz, axis=0)
    return store(backend.matmul(dz, xp.matrix_transpose(W)), out) if input_gradient else None
