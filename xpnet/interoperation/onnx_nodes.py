"""The ONNX nodes of each layer.

Source: the operators of https://onnx.ai/onnx/operators, as of opset 17.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet import layers
from xpnet.interoperation.layouts import Tensor, counterpart
from xpnet.layers import Layer

_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
_KERNELS = Tensor("W", "W", (3, 2, 0, 1))


class Graph:
    """The nodes and constants of an ONNX graph, in the order in which they are added.

    Args:
        axes: the number of axes of each layer's input samples, from :func:`~xpnet.interoperation.axes.sample_axes`.
    """

    def __init__(self, axes: Mapping[Layer, int | None]) -> None:
        self.axes = axes
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def tensors(self, layer: Layer, name: str, *own: str) -> list[str]:
        """Add parameters and buffers of a layer as float32 constants; return their names."""
        return [self.constant(f"{name}{tensor}", _host(layer, tensor)) for tensor in own]

    def layer(self, layer: Layer, name: str, x: str) -> str:
        """Add a layer, given its name and that of its input; return the name of its output."""
        return counterpart(layer, NODES, "ONNX")(self, layer, name, x)


def _host(layer: Layer, own: str) -> np.ndarray:
    return layer.require_backend().to_numpy({**layer.parameters, **layer.buffers}[own]).astype(np.float32)


def _sequential(graph: Graph, layer: layers.Sequential, name: str, x: str) -> str:
    for child_name, child in layer.children().items():
        x = graph.layer(child, f"{name}{child_name}.", x)
    return x


def _residual(graph: Graph, layer: layers.Residual, name: str, x: str) -> str:
    return graph.node("Add", x, _sequential(graph, layer, name, x))


def _linear(graph: Graph, layer: layers.Linear, name: str, x: str) -> str:
    tensors = graph.tensors(layer, name, *layer.parameter_specs())
    if graph.axes[layer] == 1:
        return _activated(graph, layer, graph.node("Gemm", x, *tensors))
    y = graph.node("MatMul", x, tensors[0])  # Gemm takes only matrices
    return _activated(graph, layer, graph.node("Add", y, tensors[1]) if layer.bias else y)


def _convolution(graph: Graph, layer: layers.Conv2d, name: str, x: str) -> str:
    W = graph.constant(f"{name}W", _KERNELS.to_theirs(_host(layer, "W")))
    before, after = layer.margins
    pads = [before, before, after, after]
    y = graph.node("Conv", x, W, *graph.tensors(layer, name, "b"), pads=pads, **_window(layer))
    return _activated(graph, layer, y)


def _activated(graph: Graph, layer: Any, x: str) -> str:
    return x if layer.activation is None else graph.node(_ACTIVATIONS[layer.activation], x)


def _window(layer: Any) -> dict[str, list[int]]:
    return {"kernel_shape": [layer.kernel_size] * 2, "strides": [layer.stride] * 2}


def _batch_norm(graph: Graph, layer: layers.BatchNorm, name: str, x: str) -> str:
    vectors = graph.tensors(layer, name, "gamma", "beta", "running_mean", "running_variance")
    return graph.node("BatchNormalization", x, *vectors, epsilon=layer.epsilon)


def _layer_norm(graph: Graph, layer: layers.LayerNorm, name: str, x: str) -> str:
    vectors = graph.tensors(layer, name, "gamma", "beta")
    return graph.node("LayerNormalization", x, *vectors, epsilon=layer.epsilon, axis=-1)


def _gelu(graph: Graph, layer: layers.GELU, name: str, x: str) -> str:
    """By its equation: ONNX has Gelu only from opset 20 on."""

    def number(own: str, value: float) -> str:
        return graph.constant(f"{name}{own}", np.array(value, np.float32))

    cube = graph.node("Mul", x, graph.node("Mul", x, x))
    u = graph.node("Add", x, graph.node("Mul", number("cubic", 0.044715), cube))
    tanh = graph.node("Tanh", graph.node("Mul", number("factor", math.sqrt(2 / math.pi)), u))
    half_x = graph.node("Mul", number("half", 0.5), x)
    return graph.node("Mul", half_x, graph.node("Add", number("one", 1.0), tanh))


def _rescale(graph: Graph, layer: layers.Rescale, name: str, x: str) -> str:
    divisor = np.array(layer.divisor_for("float32"), np.float32)  # the graph's input is floating point
    return graph.node("Div", x, graph.constant(f"{name}divisor", divisor))


def _standardize(graph: Graph, layer: layers.Standardize, name: str, x: str) -> str:
    """Broadcast the features over all axes of a sample but the first."""
    axes = (-1,) + (1,) * ((graph.axes[layer] or 1) - 1)
    mean, deviation = (graph.constant(f"{name}{own}", _host(layer, own).reshape(axes)) for own in ("mean", "deviation"))
    return graph.node("Div", graph.node("Sub", x, mean), deviation)


def _embedding(graph: Graph, layer: layers.Embedding, name: str, x: str) -> str:
    return graph.node("Gather", *graph.tensors(layer, name, "W"), x)


def _reshape(graph: Graph, layer: layers.Reshape, name: str, x: str) -> str:
    shape = graph.constant(f"{name}shape", np.array([0, *layer.shape]))  # 0: unchanged, the rows
    return graph.node("Reshape", x, shape)


Translation = Callable[[Graph, Any, str, str], str]
NODES: dict[type[Layer], Translation] = {
    layers.AvgPool2d: lambda graph, layer, name, x: graph.node("AveragePool", x, **_window(layer)),
    layers.BatchNorm: _batch_norm,
    layers.Conv2d: _convolution,
    layers.Dropout: lambda graph, layer, name, x: x,
    layers.Embedding: _embedding,
    layers.Flatten: lambda graph, layer, name, x: graph.node("Flatten", x),
    layers.GELU: _gelu,
    layers.LayerNorm: _layer_norm,
    layers.LeakyReLU: lambda graph, layer, name, x: graph.node("LeakyRelu", x, alpha=layer.negative_slope),
    layers.Linear: _linear,
    layers.MaxPool2d: lambda graph, layer, name, x: graph.node("MaxPool", x, **_window(layer)),
    layers.ReLU: lambda graph, layer, name, x: graph.node("Relu", x),
    layers.Rescale: _rescale,
    layers.Reshape: _reshape,
    layers.Residual: _residual,
    layers.Sequential: _sequential,
    layers.Sigmoid: lambda graph, layer, name, x: graph.node("Sigmoid", x),
    layers.Softmax: lambda graph, layer, name, x: graph.node("Softmax", x, axis=-1),
    layers.Softplus: lambda graph, layer, name, x: graph.node("Softplus", x),
    layers.Standardize: _standardize,
    layers.Tanh: lambda graph, layer, name, x: graph.node("Tanh", x),
}
