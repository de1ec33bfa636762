"""The PyTorch modules that correspond to each layer, and their tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xpnet import layers
from xpnet.errors import ConfigurationError
from xpnet.interoperation.layouts import Tensor
from xpnet.layers import Layer

CONTAINERS = {layers.Sequential: "torch.nn.Sequential", layers.Residual: "Residual"}
# Source of modules that PyTorch lacks, which precedes the source of the model.
DEFINITIONS = {
    layers.Rescale: """class Rescale(torch.nn.Module):
    def __init__(self, divisor):
        super().__init__()
        self.divisor = divisor

    def forward(self, x):
        return x / self.divisor


""",
    layers.Standardize: """class Standardize(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def forward(self, x):
        shape = -1, *(1,) * (x.dim() - 2)
        return (x - self.mean.reshape(shape)) / self.deviation.reshape(shape)


""",
    layers.Residual: """class Residual(torch.nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


""",
}

_ACTIVATIONS = {"relu": "torch.nn.ReLU()", "sigmoid": "torch.nn.Sigmoid()", "tanh": "torch.nn.Tanh()"}
_BATCH_NORMS = {1: "BatchNorm1d", 2: "BatchNorm1d", 3: "BatchNorm2d", 4: "BatchNorm3d"}


class Module(NamedTuple):
    """The counterpart of a layer in PyTorch.

    Attributes:
        sources: from the layer and the number of axes of its samples (None: unknown), the modules that compute the same
            as Python expressions; the first one has the tensors.
        tensors: the tensors of that module.
        counters: integers in its ``state_dict`` that inference does not use.
    """

    sources: Callable[[Any, int | None], list[str]]
    tensors: tuple[Tensor, ...] = ()
    counters: tuple[str, ...] = ()


def _linear(layer: layers.Linear, axes: int | None) -> list[str]:
    bias = "" if layer.bias else ", bias=False"
    return [f"torch.nn.Linear({layer.inputs}, {layer.outputs}{bias})", *_activation(layer)]


def _convolution(layer: layers.Conv2d, axes: int | None) -> list[str]:
    sizes = f"{layer.in_channels}, {layer.out_channels}, {layer.kernel_size}"
    return [f"torch.nn.Conv2d({sizes}, stride={layer.stride}, padding={layer.padding!r})", *_activation(layer)]


def _activation(layer: Any) -> list[str]:
    return [] if layer.activation is None else [_ACTIVATIONS[layer.activation]]


def _pooling(layer: Any, axes: int | None) -> list[str]:
    return [f"torch.nn.{type(layer).__name__}({layer.kernel_size}, stride={layer.stride})"]


def _reshape(layer: layers.Reshape, axes: int | None) -> list[str]:
    return ["torch.nn.Flatten()", f"torch.nn.Unflatten(1, {tuple(layer.shape)})"]


def _batch_norm(layer: layers.BatchNorm, axes: int | None) -> list[str]:
    if axes not in _BATCH_NORMS:
        unknown = "which cannot be inferred: give input_shape, the shape of the network's input (--input-shape 3,32,32)"
        raise ConfigurationError(
            "BatchNorm is BatchNorm1d, BatchNorm2d or BatchNorm3d in PyTorch, by the number of axes of its samples, "
            + (unknown if axes is None else f"and there is none for {axes} axes")
        )
    return [f"torch.nn.{_BATCH_NORMS[axes]}({layer.features}, eps={layer.epsilon}, momentum={layer.momentum})"]


def _layer_norm(layer: layers.LayerNorm, axes: int | None) -> list[str]:
    return [f"torch.nn.LayerNorm({layer.features}, eps={layer.epsilon})"]


def _rescale(layer: layers.Rescale, axes: int | None) -> list[str]:
    return [f"Rescale({layer.divisor_for('float32')})"]


def _standardize(layer: layers.Standardize, axes: int | None) -> list[str]:
    return [f"Standardize({layer.features})"]


def _embedding(layer: layers.Embedding, axes: int | None) -> list[str]:
    return [f"torch.nn.Embedding({layer.vocabulary}, {layer.features})"]


_BIAS = Tensor("b", "bias")
_SCALE = Tensor("gamma", "weight"), Tensor("beta", "bias")
_RUNNING = Tensor("running_mean", "running_mean"), Tensor("running_variance", "running_var")
MODULES: dict[type[Layer], Module] = {
    layers.AvgPool2d: Module(_pooling),
    layers.BatchNorm: Module(_batch_norm, (*_SCALE, *_RUNNING), ("num_batches_tracked",)),
    layers.Conv2d: Module(_convolution, (Tensor("W", "weight", (3, 2, 0, 1)), _BIAS)),
    layers.Dropout: Module(lambda layer, axes: [f"torch.nn.Dropout({layer.rate})"]),
    layers.Embedding: Module(_embedding, (Tensor("W", "weight"),)),
    layers.Flatten: Module(lambda layer, axes: ["torch.nn.Flatten()"]),
    layers.GELU: Module(lambda layer, axes: ["torch.nn.GELU(approximate='tanh')"]),
    layers.LayerNorm: Module(_layer_norm, _SCALE),
    layers.LeakyReLU: Module(lambda layer, axes: [f"torch.nn.LeakyReLU({layer.negative_slope})"]),
    layers.Linear: Module(_linear, (Tensor("W", "weight", (1, 0)), _BIAS)),
    layers.MaxPool2d: Module(_pooling),
    layers.ReLU: Module(lambda layer, axes: ["torch.nn.ReLU()"]),
    layers.Rescale: Module(_rescale),
    layers.Reshape: Module(_reshape),
    layers.Sigmoid: Module(lambda layer, axes: ["torch.nn.Sigmoid()"]),
    layers.Softmax: Module(lambda layer, axes: ["torch.nn.Softmax(dim=-1)"]),
    layers.Softplus: Module(lambda layer, axes: ["torch.nn.Softplus()"]),
    layers.Standardize: Module(_standardize, (Tensor("mean", "mean"), Tensor("deviation", "deviation"))),
    layers.Tanh: Module(lambda layer, axes: ["torch.nn.Tanh()"]),
}
LAYOUT = {layer: module.tensors for layer, module in MODULES.items() if module.tensors}
COUNTERS = {name for module in MODULES.values() for name in module.counters}
