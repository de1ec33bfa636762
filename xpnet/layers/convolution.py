"""The convolutional layer."""

from __future__ import annotations

import math
from typing import Literal

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ConfigurationError, ShapeError, one_of, positive_integer
from xpnet.initializers import FanInUniform, Initializer
from xpnet.layers.images import channels_first, channels_last, require_image
from xpnet.layers.layer import Layer, ParameterSpec
from xpnet.parameters import Shape


class Conv2d(Layer):
    """y[n, o, r, s] = a(Σ x̂[n, c, r·stride + i, s·stride + j] W[i, j, c, o] + b[o]), the sum over c, i and j.

    x is (N, in_channels, H, W), and x̂ is x with ``padding`` zeros on every side; y is (N, out_channels, R, S), with
    R = ⌊(H + 2·padding - kernel_size) / stride⌋ + 1 and S alike. W is (kernel_size, kernel_size, in_channels,
    out_channels), as in Keras, which is the layout of the matrix product; PyTorch's weight is W with its axes in the
    order (3, 2, 0, 1). b is (out_channels,).

    Args:
        in_channels: channels of an image.
        out_channels: number of kernels.
        kernel_size: height and width of a kernel.
        stride: step of the kernel, in rows and columns.
        padding: zeros on each side; "same" gives y the height and width of x (if the number of zeros is odd, the extra
            one comes last).
        activation: as for :class:`Linear`.
        weights: initialiser of W.
        biases: initialiser of b.

    Raises:
        ConfigurationError: an argument out of range, or padding "same" with a stride above 1.
        ShapeError: samples that are not images with in_channels, or are smaller than a kernel.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998; PyTorch's
    definition and default initial values. As usual in deep learning, the kernel is not flipped.

    >>> import xpnet
    >>> layer = Conv2d(1, 8, 5, activation="relu").initialize(xpnet.backend("cpu-reference"), seed=0)
    >>> layer(layer.backend.xp.zeros((2, 1, 28, 28))).shape
    (2, 8, 24, 24)
    """

    takes_bfloat16 = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | Literal["same"] = 0,
        activation: str | None = None,
        weights: Initializer = FanInUniform(),  # noqa: B008 - initialisers hold no state
        biases: Initializer = FanInUniform(),  # noqa: B008
    ) -> None:
        self.in_channels = positive_integer("in_channels", in_channels)
        self.out_channels = positive_integer("out_channels", out_channels)
        self.kernel_size = positive_integer("kernel_size", kernel_size)
        self.stride = positive_integer("stride", stride)
        self.padding = _padding(padding, self.stride)
        self.activation = None if activation is None else one_of("activation", activation, ops.ACTIVATIONS)
        self.weights = weights
        self.biases = biases

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """W and b."""
        area = self.kernel_size**2
        fans = self.in_channels * area, self.out_channels * area
        shape = self.kernel_size, self.kernel_size, self.in_channels, self.out_channels
        return {
            "W": ParameterSpec(shape, self.weights, *fans),
            "b": ParameterSpec((self.out_channels,), self.biases, *fans),
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        """(out_channels, R, S)."""
        name = f"Conv2d({self.in_channels}, {self.out_channels}, {self.kernel_size})"
        _, *lengths = require_image(name, input_shape, self.in_channels)
        padded = [length + sum(self.margins) for length in lengths]
        if min(padded) < self.kernel_size:
            raise ShapeError(
                f"{name} needs images of at least {self.kernel_size} x {self.kernel_size} including padding, not "
                f"{padded[0]} x {padded[1]}: use a smaller kernel, more padding, or less pooling before it"
            )
        return self.out_channels, *(ops.positions(length, self.kernel_size, self.stride) for length in padded)

    def flops(self, input_shape: Shape) -> int:
        """2 · kernel_size² · in_channels · out_channels · R · S."""
        return 2 * self.kernel_size**2 * self.in_channels * math.prod(self.output_shape(input_shape))

    def forward(self, x: Array, context: Context) -> Array:
        """y."""
        backend, (_, R, S) = context.backend, self.output_shape(x.shape[1:])
        x, W, b = channels_last(backend, x), self.parameters["W"], self.parameters["b"]
        if backend.activation_dtype is not None:
            x, W, b = backend.narrowed(x), backend.narrowed(W), backend.narrowed(b)
        x = self._padded(x, context)
        columns = context.empty(self, "columns", ops.columns_shape(x.shape, self.kernel_size, self.stride), x.dtype)
        out = context.empty(self, "y", (x.shape[0], R, S, self.out_channels), x.dtype)
        y, columns = ops.convolve(backend, x, W, b, self.stride, self.activation, columns, out)
        if context.training:
            self.saved = x, y, columns, W
        return channels_first(backend, y)

    def backward(self, dy: Array, context: Context) -> Array:
        """dx; writes dW and db into ``gradients``."""
        dx = context.backend.narrowed(self._backward(dy, context, input_gradient=True))
        before, after = self.margins
        _, height, width, _ = dx.shape
        return channels_first(context.backend, dx[:, before : height - after, before : width - after, :])

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """dW and db only, without the matrix product for dx."""
        self._backward(dy, context, input_gradient=False)

    def _backward(self, dy: Array, context: Context, input_gradient: bool) -> Array:
        x, y, columns, W = self.pop_saved()
        dW, db = self.gradients["W"], self.gradients["b"]
        dy = channels_last(context.backend, context.backend.narrowed(dy))
        dz = context.empty(self, "dz", y.shape, y.dtype)
        out = dcolumns = None
        if input_gradient:
            out = context.empty(self, "dx", x.shape, dW.dtype)
            dcolumns = context.empty(self, "dcolumns", columns.shape, columns.dtype)
        return ops.convolve_backward(
            context.backend, dy, x, y, columns, W, self.stride, self.activation, dW, db,
            input_gradient=input_gradient, out=out, dz=dz, dcolumns=dcolumns,
        )  # fmt: skip

    @property
    def margins(self) -> tuple[int, int]:
        """Zeros before and after each axis of an image."""
        if self.padding == "same":
            missing = self.kernel_size - 1
            return missing // 2, missing - missing // 2
        return self.padding, self.padding

    def _padded(self, x: Array, context: Context) -> Array:
        before, after = self.margins
        if before == after == 0:
            return x
        N, H, W, C = x.shape
        out = context.empty(self, "x", (N, before + H + after, before + W + after, C), x.dtype)
        return ops.pad(context.backend, x, before, after, out)


def _padding(value: object, stride: int) -> int | Literal["same"]:
    if value == "same":
        if stride > 1:
            raise ConfigurationError(f'padding "same" needs stride 1, not {stride}: give the padding as a number')
        return "same"
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 0:
        raise ConfigurationError(f'padding must be a whole number of at least 0 or "same", not {value!r}')
    return value.__index__()
