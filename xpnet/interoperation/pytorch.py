"""PyTorch: a ``state_dict`` in a safetensors file, in and out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnet import layers
from xpnet.atomic import write_atomically
from xpnet.errors import ConfigurationError, FileFormatError, MissingFileError
from xpnet.interoperation.layouts import Tensor, counterpart
from xpnet.interoperation.matching import ForeignWeights, Stored, group_by_layer
from xpnet.layers import Layer, Sequential

_ACTIVATIONS = {"relu": "torch.nn.ReLU()", "sigmoid": "torch.nn.Sigmoid()", "tanh": "torch.nn.Tanh()"}


class Module(NamedTuple):
    """The counterpart of a layer.

    Attributes:
        sources: the modules that compute the same, as Python expressions; the first has the tensors.
        tensors: those.
    """

    sources: Callable[[Any], list[str]]
    tensors: tuple[Tensor, ...] = ()


def _linear(layer: layers.Linear) -> list[str]:
    return [f"torch.nn.Linear({layer.inputs}, {layer.outputs})", *_activation(layer)]


def _convolution(layer: layers.Conv2d) -> list[str]:
    sizes = f"{layer.in_channels}, {layer.out_channels}, {layer.kernel_size}"
    return [f"torch.nn.Conv2d({sizes}, stride={layer.stride}, padding={layer.padding!r})", *_activation(layer)]


def _activation(layer: Any) -> list[str]:
    return [] if layer.activation is None else [_ACTIVATIONS[layer.activation]]


def _pooling(layer: Any) -> list[str]:
    return [f"torch.nn.{type(layer).__name__}({layer.kernel_size}, stride={layer.stride})"]


def _reshape(layer: layers.Reshape) -> list[str]:
    return ["torch.nn.Flatten()", f"torch.nn.Unflatten(1, {tuple(layer.shape)})"]


_BIAS = Tensor("b", "bias")
MODULES: dict[type[Layer], Module] = {
    layers.AvgPool2d: Module(_pooling),
    layers.Conv2d: Module(_convolution, (Tensor("W", "weight", (3, 2, 0, 1)), _BIAS)),
    layers.Flatten: Module(lambda layer: ["torch.nn.Flatten()"]),
    layers.Linear: Module(_linear, (Tensor("W", "weight", (1, 0)), _BIAS)),
    layers.MaxPool2d: Module(_pooling),
    layers.ReLU: Module(lambda layer: ["torch.nn.ReLU()"]),
    layers.Reshape: Module(_reshape),
    layers.Sigmoid: Module(lambda layer: ["torch.nn.Sigmoid()"]),
    layers.Softmax: Module(lambda layer: ["torch.nn.Softmax(dim=-1)"]),
    layers.Tanh: Module(lambda layer: ["torch.nn.Tanh()"]),
}
LAYOUT = {layer: module.tensors for layer, module in MODULES.items() if module.tensors}

_FLOATING = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_NOT_WEIGHTS = ("num_batches_tracked",)  # BatchNorm's counter, which nothing is computed from


def read_state_dict(path: Path) -> ForeignWeights:
    """A safetensors file's tensors, layer by layer."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = [_stored(name, **entry) for name, entry in deserialize(path.read_bytes())]
    except OSError as error:
        raise MissingFileError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise FileFormatError(f"{path} is damaged or no safetensors file ({error})") from error
    if any(tensor.name.startswith("parameters/") for tensor in tensors):
        raise FileFormatError(f"{path} was written by xpnet: it is read as it is, by load_model and xpnet evaluate")
    weights = [tensor for tensor in tensors if tensor.name.rpartition(".")[2] not in _NOT_WEIGHTS]
    return ForeignWeights("PyTorch", LAYOUT, group_by_layer(weights, "."))


def _stored(name: str, dtype: str, shape: list[int], data: bytes) -> Stored:
    if dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        return Stored(name, values.reshape(shape), "bfloat16")
    if dtype in _FLOATING:
        values = np.frombuffer(data, _FLOATING[dtype])
        return Stored(name, values.reshape(shape), values.dtype.name)
    return Stored(name, np.broadcast_to(np.uint8(0), shape), dtype)  # told by its type, should a layer need it


def export_pytorch(model: Layer, path: str | Path) -> str:
    """Write a model's parameters and buffers as the ``state_dict`` of a PyTorch module.

    PyTorch's Linear keeps its matrix as (outputs, inputs), its Conv2d as (outputs, inputs, height, width). An
    activation is a module of its own there, so the second layer's parameters may be called "2.weight".

    Args:
        model: initialised.
        path: of the file, which ends in .safetensors.

    Returns:
        the module, as a Python expression; in it the file is loaded by
        ``module.load_state_dict(safetensors.torch.load_file(path))``.

    Raises:
        ConfigurationError: a layer that PyTorch has no counterpart for, or another ending.
        RunFolderError: the disk refused; an old file is whole.

    >>> import tempfile, xpnet
    >>> model = Sequential(layers.Linear(4, 8, "tanh"), layers.Linear(8, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(export_pytorch(model.initialize(xpnet.backend("cpu-reference")), f"{folder}/model.safetensors"))
    torch.nn.Sequential(
        torch.nn.Linear(4, 8),
        torch.nn.Tanh(),
        torch.nn.Linear(8, 3),
    )
    """
    from safetensors.numpy import save

    if Path(path).suffix != ".safetensors":
        raise ConfigurationError(f"{path} would be a safetensors file: end the name in .safetensors")
    model.require_backend()
    state: dict[str, np.ndarray] = {}
    source = _translate(model.layers if type(model) is Sequential else [model], "", state)
    write_atomically(path, save(state, {"format": "pt"}))
    return source


def _translate(children: Sequence[Layer], prefix: str, state: dict[str, np.ndarray]) -> str:
    """The expression for layers one after the other; their tensors go to ``state``."""
    sources: list[str] = []
    for layer in children:
        name = f"{prefix}{len(sources)}."
        if type(layer) is Sequential:
            sources.append(_translate(layer.layers, name, state))
            continue
        module = counterpart(layer, MODULES, "PyTorch")
        views, to_numpy = {**layer.parameters, **layer.buffers}, layer.require_backend().to_numpy
        state.update(
            {name + tensor.theirs: tensor.to_theirs(to_numpy(views[tensor.ours])) for tensor in module.tensors}
        )
        sources += module.sources(layer)
    body = "".join(textwrap.indent(f"{source},\n", "    ") for source in sources)
    return f"torch.nn.Sequential(\n{body})"
