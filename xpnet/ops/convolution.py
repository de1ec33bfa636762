"""The convolution of images with small kernels, as one matrix product. Channels come last here, as in the product."""

from __future__ import annotations

import math
from collections.abc import Iterator

from xpnet.backends import Array, Backend
from xpnet.ops.linear import linear, linear_backward
from xpnet.ops.unfolding import fold, positions, unfold

_MOST_COLUMNS = 2**23  # numbers, 32 MiB in float32: a batch that unfolds to more is taken in parts


def columns_shape(images: tuple[int, ...], size: int, stride: int = 1) -> tuple[int, ...]:
    """The shape of the memory for patches: those of all N images, or of as many as shall be unfolded at a time.

    >>> columns_shape((100, 28, 28, 1), 5), columns_shape((1000, 28, 28, 1), 5)
    ((100, 24, 24, 5, 5), (582, 24, 24, 5, 5))
    """
    N, H, W, C = images
    patches = positions(H, size, stride), positions(W, size, stride), size, size * C
    return min(N, max(1, _MOST_COLUMNS // math.prod(patches))), *patches


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
        x: (N, H, W, C), at least as high and wide as a kernel; padded where that is wanted.
        W: (size, size, C, outputs), a kernel for each output.
        b: (outputs,).
        stride: rows, and columns, from one patch to the next.
        activation: as for ``linear``.
        columns: of ``columns_shape``, memory for the unfolded images when given.
        out: (N, R, S, outputs), contiguous, receives y when given.

    Returns:
        y, (N, R, S, outputs), and the columns, for ``convolve_backward``.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998. What the
    field calls convolution: the kernel is not flipped.

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
    for images in _parts(x.shape[0], shape[0]):
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
    """With dz = dy · a'(z), of each patch p: dW = Σ p dzᵀ, db = Σ dz, and dx the fold of W dz.

    Args:
        backend: where the arrays live.
        dy: (N, R, S, outputs), the gradient of the loss with respect to y.
        x: (N, H, W, C), what the forward pass took.
        y: (N, R, S, outputs), what it gave.
        columns: what it gave beside; where they are not those of all images, x is unfolded into them again.
        W: (size, size, C, outputs).
        stride: as in the forward pass.
        activation: as in the forward pass.
        dW: (size, size, C, outputs), contiguous, overwritten.
        db: (outputs,), overwritten.
        input_gradient: whether dx is wanted; if not, its matrix product is saved.
        out: (N, H, W, C), contiguous, receives dx when given.
        dz: (N, R, S, outputs), memory for dz when given; its content afterwards is undefined.
        dcolumns: memory of the columns' shape, likewise.

    Returns:
        dx, (N, H, W, C), or None when it was not wanted.

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
        dx = xp.empty(x.shape, dtype=x.dtype, device=backend.device) if out is None else out
        dcolumns = xp.empty_like(columns) if dcolumns is None else dcolumns
    for images in _parts(N, columns.shape[0]):
        some = slice(images.stop - images.start)
        if some.stop < N:
            unfold(backend, x[images, ...], size, stride, columns[some, ...])
        gradients = (dkernels, db) if images.start == 0 else (xp.empty_like(dkernels), xp.empty_like(db))
        linear_backward(
            backend,
            xp.reshape(dy[images, ...], (-1, outputs)),
            xp.reshape(columns[some, ...], (-1, kernels.shape[0])),
            xp.reshape(y[images, ...], (-1, outputs)),
            kernels,
            activation,
            *gradients,
            input_gradient=input_gradient,
            out=None if dcolumns is None else xp.reshape(dcolumns[some, ...], (-1, kernels.shape[0])),
            dz=None if dz is None else xp.reshape(dz[images, ...], (-1, outputs)),
        )
        if images.start > 0:
            dkernels += gradients[0]
            db += gradients[1]
        if dx is not None and dcolumns is not None:
            fold(backend, dcolumns[some, ...], H, width, stride, dx[images, ...])
    return dx


def _parts(images: int, at_a_time: int) -> Iterator[slice]:
    """Consecutive slices of that many images, the last of what is left; an empty one when there are none."""
    for start in range(0, max(images, 1), max(at_a_time, 1)):
        yield slice(start, min(start + at_a_time, images))
