"""Max and average pooling."""

from __future__ import annotations

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ShapeError, positive_integer
from xpnet.layers.images import channels_first, channels_last, require_image
from xpnet.layers.layer import Layer
from xpnet.parameters import Shape


class _Pooling(Layer):
    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        self.kernel_size = positive_integer("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else positive_integer("stride", stride)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, R, S)."""
        name = f"{type(self).__name__}({self.kernel_size})"
        channels, *lengths = require_image(name, input_shape)
        if min(lengths) < self.kernel_size:
            raise ShapeError(
                f"{name} needs images of at least {self.kernel_size} x {self.kernel_size}, not "
                f"{lengths[0]} x {lengths[1]}: use a smaller window, or less pooling before it"
            )
        return channels, *(ops.positions(length, self.kernel_size, self.stride) for length in lengths)

    def _output(self, x: Array, context: Context) -> Array | None:
        """Memory for y, given x with its channels first."""
        C, R, S = self.output_shape(x.shape[1:])
        return context.empty(self, "y", (x.shape[0], R, S, C), x.dtype)


class MaxPool2d(_Pooling):
    """y[n, c, r, s] = max x[n, c, r·stride + i, s·stride + j] over i and j below kernel_size.

    x is (N, C, H, W), and y (N, C, R, S) with R = ⌊(H - kernel_size) / stride⌋ + 1 and S alike: remaining rows
    and columns are ignored. Of equal maxima the first, in row order, receives the gradient, as in PyTorch.

    Args:
        kernel_size: height and width of a window.
        stride: step between windows, in rows and columns; None: ``kernel_size``.

    Raises:
        ConfigurationError: an argument that is not an integer of at least 1.
        ShapeError: samples that are not images, or are smaller than a window.

    >>> import xpnet
    >>> layer = MaxPool2d(2).initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[[[1.0, 4.0], [3.0, 2.0]]]]))
    array([[[[4.]]]], dtype=float32)
    """

    def forward(self, x: Array, context: Context) -> Array:
        """The largest values."""
        backend, out = context.backend, self._output(x, context)
        x = channels_last(backend, x)
        y = ops.max_pool(backend, x, self.kernel_size, self.stride, out)
        if context.training:
            self.saved = x, y
        return channels_first(backend, y)

    def backward(self, dy: Array, context: Context) -> Array:
        """dx: dy at the maxima, else 0."""
        x, y = self.pop_saved()
        backend, out = context.backend, context.empty(self, "dx", x.shape, x.dtype)
        dy = channels_last(backend, dy)
        dx = ops.max_pool_backward(backend, dy, x, y, self.kernel_size, self.stride, out)
        return channels_first(backend, dx)


class AvgPool2d(_Pooling):
    """y[n, c, r, s] = Σ x[n, c, r·stride + i, s·stride + j] / kernel_size² over i and j below kernel_size.

    Shapes and arguments are those of :class:`MaxPool2d`; without padding, PyTorch's definition and Keras's agree.

    Args:
        kernel_size: height and width of a window.
        stride: step between windows, in rows and columns; None: ``kernel_size``.

    Raises:
        ConfigurationError: an argument that is not an integer of at least 1.
        ShapeError: samples that are not images, or are smaller than a window.

    >>> import xpnet
    >>> layer = AvgPool2d(2).initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[[[1.0, 4.0], [3.0, 2.0]]]]))
    array([[[[2.5]]]], dtype=float32)
    """

    def forward(self, x: Array, context: Context) -> Array:
        """The means."""
        backend, out = context.backend, self._output(x, context)
        x = channels_last(backend, x)
        if context.training:
            self.saved = x.shape
        return channels_first(backend, ops.average_pool(backend, x, self.kernel_size, self.stride, out))

    def backward(self, dy: Array, context: Context) -> Array:
        """dx: an equal share of dy for each value of a window."""
        shape = self.pop_saved()
        backend, out = context.backend, context.empty(self, "dx", shape, dy.dtype)
        dx = ops.average_pool_backward(backend, channels_last(backend, dy), shape, self.kernel_size, self.stride, out)
        return channels_first(backend, dx)
