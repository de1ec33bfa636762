"""Batch and layer normalisation."""

from __future__ import annotations

import math

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ShapeError, finite_number, positive_integer
from xpnet.initializers import Constant
from xpnet.layers.layer import Layer, ParameterSpec
from xpnet.parameters import Shape


class _Normalization(Layer):
    """Parameters γ and β, one each per feature."""

    features: int

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """gamma and beta, initially 1 and 0."""
        return {
            "gamma": ParameterSpec((self.features,), Constant(1.0)),
            "beta": ParameterSpec((self.features,), Constant(0.0)),
        }


class BatchNorm(_Normalization):
    """y = γ (x - μ) / sqrt(σ² + ε) + β, channel by channel, with x (N, features) or (N, features, H, W).

    In training, μ and σ² are the batch's mean and variance over N (and H and W), and update the running statistics:
    r ← (1 - momentum) r + momentum · new, with the unbiased variance. In inference, μ and σ² are the running
    statistics. This is PyTorch's definition; Keras's momentum is 1 minus this one.

    Args:
        features: channels, the length of axis 1.
        momentum: the weight of a batch in the running statistics, from 0 to below 1.
        epsilon: ε, at least 0.

    Parameters are ``gamma`` and ``beta``, buffers ``running_mean`` and ``running_variance``, (features,) each.

    Raises:
        ConfigurationError: an argument out of range.
        ShapeError: samples with another number of features; in training, fewer than two values per channel.

    Source: Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", 2015, algorithms 1 and 2.

    >>> import xpnet
    >>> layer = BatchNorm(1).initialize(xpnet.backend("cpu-reference"), dtype="float64")
    >>> x = layer.backend.asarray([[1.0], [3.0]])
    >>> layer.forward(x, xpnet.Context(layer.backend, training=True)).round(3)
    array([[-1.],
           [ 1.]])
    >>> layer.buffers["running_mean"], layer.buffers["running_variance"]
    (array([0.2]), array([1.1]))
    """

    def __init__(self, features: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        self.features = positive_integer("features", features)
        self.momentum = finite_number("momentum", momentum, low=0.0, below=1.0)
        self.epsilon = finite_number("epsilon", epsilon, low=0.0)

    def buffer_specs(self) -> dict[str, ParameterSpec]:
        """running_mean and running_variance, initially 0 and 1."""
        return {
            "running_mean": ParameterSpec((self.features,), Constant(0.0)),
            "running_variance": ParameterSpec((self.features,), Constant(1.0)),
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        if not input_shape or input_shape[0] != self.features:
            raise ShapeError(
                f"BatchNorm({self.features}) takes samples of shape ({self.features},) or ({self.features}, height, "
                f"width), not {tuple(input_shape)}"
            )
        return input_shape

    def forward(self, x: Array, context: Context) -> Array:
        """y; in training also updates the running statistics.

        Raises:
            ShapeError: in training, fewer than two values per channel, which have no variance.
        """
        self.output_shape(x.shape[1:])
        gamma, beta = self.parameters["gamma"], self.parameters["beta"]
        mean, variance = self.buffers["running_mean"], self.buffers["running_variance"]
        out = context.empty(self, "y", x.shape, x.dtype)
        if not context.training:
            return ops.batch_norm_inference(context.backend, x, gamma, beta, mean, variance, self.epsilon, out)
        count = x.shape[0] * math.prod(x.shape[2:])
        if count < 2:
            raise ShapeError(
                f"BatchNorm({self.features}) needs at least 2 values per channel in training, but a batch of shape "
                f"{tuple(x.shape)} has {count}: choose a batch size with a larger last batch"
            )
        self.saved = batch = ops.batch_norm(context.backend, x, gamma, beta, self.epsilon, out)
        reshape, keep = context.backend.xp.reshape, 1 - self.momentum
        unbiased = self.momentum * count / (count - 1)
        mean[...] = keep * mean + self.momentum * reshape(batch.mean, mean.shape)
        variance[...] = keep * variance + unbiased * reshape(batch.variance, variance.shape)
        return batch.y

    def backward(self, dy: Array, context: Context) -> Array:
        """dx, including its terms through the batch's mean and variance; writes dγ and dβ into ``gradients``."""
        batch = self.pop_saved()
        out = context.empty(self, "dx", dy.shape, dy.dtype)
        gamma, dgamma, dbeta = self.parameters["gamma"], self.gradients["gamma"], self.gradients["beta"]
        return ops.batch_norm_backward(context.backend, dy, batch, gamma, dgamma, dbeta, out)


class LayerNorm(_Normalization):
    """y = γ (x - μ) / sqrt(σ² + ε) + β, with mean μ and variance σ² over the last axis of x (…, features).

    Args:
        features: the length of the last axis.
        epsilon: ε, at least 0.

    Parameters are ``gamma`` and ``beta``, (features,) each. Training and inference are the same.

    Raises:
        ConfigurationError: an argument out of range.
        ShapeError: samples with another number of features.

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016.

    >>> import xpnet
    >>> layer = LayerNorm(2).initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[1.0, 3.0], [10.0, 10.0]])).round(3)
    array([[-1.,  1.],
           [ 0.,  0.]], dtype=float32)
    """

    def __init__(self, features: int, epsilon: float = 1e-5) -> None:
        self.features = positive_integer("features", features)
        self.epsilon = finite_number("epsilon", epsilon, low=0.0)

    def output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        if not input_shape or input_shape[-1] != self.features:
            raise ShapeError(
                f"LayerNorm({self.features}) takes samples whose last axis has length {self.features}, not shape "
                f"{tuple(input_shape)}"
            )
        return input_shape

    def forward(self, x: Array, context: Context) -> Array:
        """y."""
        self.output_shape(x.shape[1:])
        out = context.empty(self, "y", x.shape, x.dtype)
        gamma, beta = self.parameters["gamma"], self.parameters["beta"]
        result = ops.layer_norm(context.backend, x, gamma, beta, self.epsilon, out)
        if context.training:
            self.saved = result
        return result.y

    def backward(self, dy: Array, context: Context) -> Array:
        """dx; writes dγ and dβ into ``gradients``."""
        result = self.pop_saved()
        out = context.empty(self, "dx", dy.shape, dy.dtype)
        gamma, dgamma, dbeta = self.parameters["gamma"], self.gradients["gamma"], self.gradients["beta"]
        return ops.layer_norm_backward(context.backend, dy, result, gamma, dgamma, dbeta, out)
