"""ONNX: a network out, for any runtime that reads the format.

Source: the operators of https://onnx.ai/onnx/operators, as of opset 17.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import __version__, layers
from xpnet.atomic import write_atomically
from xpnet.errors import ConfigurationError, ShapeError
from xpnet.interoperation.layouts import Tensor, counterpart
from xpnet.layers import Layer, Sequential
from xpnet.layers.sequential import known_input_shape
from xpnet.parameters import Shape

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime in use reads them

_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
_KERNELS = Tensor("W", "W", (3, 2, 0, 1))


class Graph:
    """The nodes and constants of an ONNX graph, as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        from onnx import helper

        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add a constant; its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def layer(self, layer: Layer, name: str, x: str) -> str:
        """Add a layer of that name; the name of its output, given that of its input."""
        return counterpart(layer, NODES, "ONNX")(self, layer, name, x)


def _host(layer: Layer, own: str) -> np.ndarray:
    return layer.require_backend().to_numpy({**layer.parameters, **layer.buffers}[own]).astype(np.float32)


def _sequential(graph: Graph, layer: Sequential, name: str, x: str) -> str:
    for child_name, child in layer.children().items():
        x = graph.layer(child, f"{name}{child_name}.", x)
    return x


def _linear(graph: Graph, layer: layers.Linear, name: str, x: str) -> str:
    W, b = (graph.constant(f"{name}{own}", _host(layer, own)) for own in "Wb")
    return _activated(graph, layer, graph.node("Gemm", x, W, b))


def _convolution(graph: Graph, layer: layers.Conv2d, name: str, x: str) -> str:
    W = graph.constant(f"{name}W", _KERNELS.to_theirs(_host(layer, "W")))
    b = graph.constant(f"{name}b", _host(layer, "b"))
    before, after = layer.margins
    pads = [before, before, after, after]
    return _activated(graph, layer, graph.node("Conv", x, W, b, pads=pads, **_window(layer)))


def _activated(graph: Graph, layer: Any, x: str) -> str:
    return x if layer.activation is None else graph.node(_ACTIVATIONS[layer.activation], x)


def _window(layer: Any) -> dict[str, list[int]]:
    return {"kernel_shape": [layer.kernel_size] * 2, "strides": [layer.stride] * 2}


def _reshape(graph: Graph, layer: layers.Reshape, name: str, x: str) -> str:
    shape = graph.constant(f"{name}shape", np.array([0, *layer.shape]))  # 0: as many rows as there are
    return graph.node("Reshape", x, shape)


Translation = Callable[[Graph, Any, str, str], str]
NODES: dict[type[Layer], Translation] = {
    layers.AvgPool2d: lambda graph, layer, name, x: graph.node("AveragePool", x, **_window(layer)),
    layers.Conv2d: _convolution,
    layers.Flatten: lambda graph, layer, name, x: graph.node("Flatten", x),
    layers.Linear: _linear,
    layers.MaxPool2d: lambda graph, layer, name, x: graph.node("MaxPool", x, **_window(layer)),
    layers.ReLU: lambda graph, layer, name, x: graph.node("Relu", x),
    layers.Reshape: _reshape,
    layers.Sequential: _sequential,
    layers.Sigmoid: lambda graph, layer, name, x: graph.node("Sigmoid", x),
    layers.Softmax: lambda graph, layer, name, x: graph.node("Softmax", x, axis=-1),
    layers.Tanh: lambda graph, layer, name, x: graph.node("Tanh", x),
}


def export_onnx(model: Layer, path: str | Path, input_shape: Sequence[int] | None = None) -> Shape:
    """Write a model for inference as an ONNX graph, from ``input`` (N, *input_shape) to ``output`` (N, …), any N.

    Both are float32, and so are the weights. The input is what the network was trained on: for xpnet's data sets
    pixels divided by their range, in [0, 1]. The output is the last layer's: of a classifier the logits, without a
    softmax that the model does not have.

    Args:
        model: initialised.
        path: of the file, which ends in .onnx.
        input_shape: of one sample; None: what the first Linear or Reshape takes.

    Returns:
        the shape of one sample.

    Raises:
        ConfigurationError: the package onnx is missing, ONNX has no counterpart of a layer, or another ending.
        ShapeError: the model does not take samples of that shape, or does not tell which ones it takes.
        RunFolderError: the disk refused; an old file is whole.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise ConfigurationError(f"writing ONNX needs the package onnx: pip install 'xpnet[onnx]' ({error})") from None
    if Path(path).suffix != ".onnx":
        raise ConfigurationError(f"{path} would be an ONNX file: end the name in .onnx")
    model.require_backend()
    input_shape, output_shape = _shapes(model, input_shape)
    graph = Graph()
    graph.layer(model, "", "input")
    graph.nodes[-1].output[0] = "output"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in (("input", input_shape), ("output", output_shape))
    ]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "xpnet", ends[:1], ends[1:], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xpnet",
        producer_version=__version__,
    )
    write_atomically(path, proto.SerializeToString(deterministic=True))
    return input_shape


def _shapes(model: Layer, input_shape: Sequence[int] | None) -> tuple[Shape, Shape]:
    """Of one sample of the input and of the output."""
    if input_shape is not None:
        return tuple(input_shape), model.output_shape(tuple(input_shape))
    known = known_input_shape(model)
    try:
        return known, model.output_shape(known)
    except ShapeError as error:
        raise ShapeError(
            f"the model does not tell the shape of its samples: give it, such as (1, 28, 28) ({error})"
        ) from None
