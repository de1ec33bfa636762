"""Convolution of images as a matrix product of unfolded patches (im2col). Channels come last."""

from __future__ import annotations

import math
from collections.abc import Iterator

from xpnet.backends import Array, Backend
from xpnet.ops.linear import linear, linear_backward
from xpnet.ops.unfolding import fold, positions, unfold

_MAX_COLUMNS = 2**23  # elements, 32 MiB in float32: larger batches are unfolded in chunks


def columns_shape(images: tuple[int, ...], size: int, stride: int = 1) -> tuple[int, ...]:
    """The shape of the buffer for unfolded patches: of all N images, or of one chunk of them.

    >>> columns_shape((100, 28, 28, 1), 5), columns_shape((1000, 28, 28, 1), 5)
    ((100, 24, 24, 5, 5), (582, 24, 24, 5, 5))
    """
    N, H, W, C = images
    patches = positions(H, size, stride), positions(W, size, stride), size, size * C
    return min(N, max(1, _MAX_COLUMNS // math.prod(patches))), *patches


def convolve(
    backend: Backend,
    x: Array,
    W: Array,
    b: Array,
    stride: int = 1,
    activation: str | None = None,
    columns: Array | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """y[n, r, s, o] = a(Σ x[n, r·stride + i, s·stride + j, c] W[i, j, c, o] + b[o]), the sum over i, j and c.

    Args:
        backend: where the arrays live.
        x: (N, H, W, C), at least as high and wide as a kernel, already padded.
        W: (size, size, C, outputs), a kernel for each output.
        b: (outputs,).
        stride: step between patches, in rows and columns.
        activation: as for ``linear``.
        columns: of ``columns_shape``, receives the unfolded images when given.
        out: (N, R, S, outputs), contiguous, receives y when given.

    Returns:
        y, (N, R, S, outputs), and the columns, for ``convolve_backward``.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998. As
    usual in deep learning, the kernel is not flipped.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> y, _ = convolve(cpu, cpu.xp.ones((1, 3, 3, 1)), cpu.xp.ones((2, 2, 1, 1)), cpu.asarray([0.5]))
    >>> y[0, :, :, 0]
    array([[4.5, 4.5],
           [4.5, 4.5]])
    """
    xp, size, outputs = backend.xp, W.shape[0], W.shape[3]
    shape = columns_shape(x.shape, size, stride)
    if columns is None:
        columns = xp.empty(shape, dtype=x.dtype, device=backend.device)
    if out is None:
        out = xp.empty((x.shape[0], *shape[1:3], outputs), dtype=x.dtype, device=backend.device)
    kernels = xp.reshape(W, (-1, outputs))
    for images in _chunks(x.shape[0], shape[0]):
        rows = unfold(backend, x[images, ...], size, stride, columns[: images.stop - images.start, ...])
        y = xp.reshape(out[images, ...], (-1, outputs))
        linear(backend, xp.reshape(rows, (-1, kernels.shape[0])), kernels, b, activation, y)
    return out, columns


def convolve_backward(
    backend: Backend,
    dy: Array,
    x: Array,
    y: Array,
    columns: Array,
    W: Array,
    stride: int,
    activation: str | None,
    dW: Array,
    db: Array,
    input_gradient: bool = True,
    out: Array | None = None,
    dz: Array | None = None,
    dcolumns: Array | None = None,
) -> Array | None:
    """With dz = dy · a'(z) and patches p: dW = Σ p dzᵀ, db = Σ dz, dx = fold(W dz).

    Args:
        backend: where the arrays live.
        dy: (N, R, S, outputs), the gradient of the loss with respect to y.
        x: (N, H, W, C), the input of the forward pass.
        y: (N, R, S, outputs), its output.
        columns: its columns; if they are those of one chunk only, x is unfolded into them again.
        W: (size, size, C, outputs).
        stride: as in the forward pass.
        activation: as in the forward pass.
        dW: (size, size, C, outputs), contiguous, overwritten.
        db: (outputs,), overwritten.
        input_gradient: whether to compute dx, which takes a matrix product of its own.
        out: (N, H, W, C), contiguous, of dW's type, in which patches are summed; receives dx when given.
        dz: (N, R, S, outputs), scratch memory when given.
        dcolumns: scratch memory of the columns' shape when given.

    Returns:
        dx, (N, H, W, C), or None without ``input_gradient``.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> x, W, b = cpu.xp.ones((1, 3, 3, 1)), cpu.xp.ones((2, 2, 1, 1)), cpu.asarray([0.5])
    >>> y, columns = convolve(cpu, x, W, b)
    >>> dW, db = cpu.xp.empty_like(W), cpu.xp.empty_like(b)
    >>> dx = convolve_backward(cpu, cpu.xp.ones_like(y), x, y, columns, W, 1, None, dW, db)
    >>> dx[0, :, :, 0], float(dW[0, 0, 0, 0]), float(db[0])
    (array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]]), 4.0, 4.0)
    """
    xp, (N, H, width, _), size, outputs = backend.xp, x.shape, W.shape[0], W.shape[3]
    kernels, dkernels = xp.reshape(W, (-1, outputs)), xp.reshape(dW, (-1, outputs))
    if not input_gradient:
        dx = dcolumns = None
    else:
        dx = xp.empty(x.shape, dtype=dW.dtype, device=backend.device) if out is None else out
        dcolumns = xp.empty_like(columns) if dcolumns is None else dcolumns
    for images in _chunks(N, columns.shape[0]):
        chunk = slice(images.stop - images.start)
        if chunk.stop < N:
            unfold(backend, x[images, ...], size, stride, columns[chunk, ...])
        gradients = (dkernels, db) if images.start == 0 else (xp.empty_like(dkernels), xp.empty_like(db))
        linear_backward(
            backend,
            xp.reshape(dy[images, ...], (-1, outputs)),
            xp.reshape(columns[chunk, ...], (-1, kernels.shape[0])),
            xp.reshape(y[images, ...], (-1, outputs)),
            kernels,
            activation,
            *gradients,
            input_gradient=input_gradient,
            out=None if dcolumns is None else xp.reshape(dcolumns[chunk, ...], (-1, kernels.shape[0])),
            dz=None if dz is None else xp.reshape(dz[images, ...], (-1, outputs)),
        )
        if images.start > 0:
            dkernels += gradients[0]
            db += gradients[1]
        if dx is not None and dcolumns is not None:
            fold(backend, dcolumns[chunk, ...], H, width, stride, dx[images, ...])
    return dx


def _chunks(images: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` images; one empty slice for no images."""
    for start in range(0, max(images, 1), max(size, 1)):
        yield slice(start, min(start + size, images))
