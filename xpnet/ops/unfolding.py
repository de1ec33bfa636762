"""Unfolding of images into rows of patches (im2col), and its transpose (col2im)."""

from __future__ import annotations

from xpnet.backends import Array, Backend


def positions(length: int, size: int, stride: int) -> int:
    """The number of windows of ``size``, ``stride`` apart, that fit into ``length``.

    >>> positions(28, 5, 1), positions(7, 2, 2)
    (24, 3)
    """
    return (length - size) // stride + 1


def pad(backend: Backend, x: Array, before: int, after: int, out: Array | None = None) -> Array:
    """Zero padding around each image.

    Args:
        backend: where the arrays live.
        x: (N, H, W, C).
        before: rows above and columns to the left.
        after: rows below and columns to the right.
        out: (N, before + H + after, before + W + after, C), receives the result when given.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> pad(cpu, cpu.asarray([[[[7.0]]]]), 0, 1)[0, :, :, 0]
    array([[7., 0.],
           [0., 0.]])
    """
    xp, (N, H, W, C) = backend.xp, x.shape
    if out is None:
        shape = N, before + H + after, before + W + after, C
        out = xp.empty(shape, dtype=x.dtype, device=backend.device)
    out[...] = 0.0
    out[:, before : before + H, before : before + W, :] = x
    return out


def unfold(backend: Backend, x: Array, size: int, stride: int = 1, out: Array | None = None) -> Array:
    """columns[n, r, s, i, j·C + c] = x[n, r·stride + i, s·stride + j, c]: all patches, each as a row of a matrix.

    Each row of a patch is contiguous in memory, so whole columns of patches are copied at once.

    Args:
        backend: where the arrays live.
        x: (N, H, W, C), at least as high and wide as a patch.
        size: height and width of a patch.
        stride: step between patches, in rows and columns.
        out: (N, R, S, size, size·C), receives the result when given; R and S are the ``positions`` in H and W.

    Source: "im2col" of Chellapilla, Puri, Simard, "High performance convolutional neural networks for document
    processing", 2006; Saito, "Deep Learning from Scratch", 2016, section 7.4.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> unfold(cpu, cpu.asarray([[[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]]]), 2).reshape(2, 4)
    array([[1., 2., 4., 5.],
           [2., 3., 5., 6.]])
    """
    xp, (N, H, W, C) = backend.xp, x.shape
    R, S = positions(H, size, stride), positions(W, size, stride)
    if out is None:
        out = xp.empty((N, R, S, size, size * C), dtype=x.dtype, device=backend.device)
    lines = xp.reshape(x, (N, H, W * C))
    for s in range(S):
        for i in range(size):
            out[:, :, s, i, :] = lines[_column(i, s, R, size, stride, C)]
    return out


def fold(backend: Backend, columns: Array, height: int, width: int, stride: int = 1, out: Array | None = None) -> Array:
    """x[n, h, w, c] = Σ of the entries that ``unfold`` copies from there: its transpose, and so its gradient.

    Args:
        backend: where the arrays live.
        columns: (N, R, S, size, size·C).
        height: H of the images.
        width: W.
        stride: as given to ``unfold``.
        out: (N, H, W, C), contiguous, receives the result when given.

    Returns:
        (N, H, W, C).

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> fold(cpu, cpu.xp.ones((1, 1, 2, 2, 2)), 2, 3)[0, :, :, 0]
    array([[1., 2., 1.],
           [1., 2., 1.]])
    """
    xp, (N, R, S, size, line) = backend.xp, columns.shape
    C = line // size
    if out is None:
        out = xp.empty((N, height, width, C), dtype=columns.dtype, device=backend.device)
    out[...] = 0.0
    lines = xp.reshape(out, (N, height, width * C))
    for s in range(S):
        for i in range(size):
            lines[_column(i, s, R, size, stride, C)] += columns[:, :, s, i, :]
    return out


def _column(i: int, s: int, R: int, size: int, stride: int, C: int) -> tuple[slice, slice, slice]:
    """The slices of (N, H, W·C) with row i of the R patches at horizontal position s."""
    left = s * stride * C
    return slice(None), slice(i, i + (R - 1) * stride + 1, stride), slice(left, left + size * C)
