"""PyTorch: reading and writing a ``state_dict`` in a safetensors file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xpnet.atomic import write_atomically
from xpnet.errors import ConfigurationError, FileFormatError, MissingFileError
from xpnet.interoperation.axes import sample_axes
from xpnet.interoperation.layouts import counterpart
from xpnet.interoperation.matching import ForeignWeights, Stored, group_by_layer
from xpnet.interoperation.pytorch_modules import CONTAINERS, COUNTERS, DEFINITIONS, LAYOUT, MODULES
from xpnet.layers import Layer, Sequential
from xpnet.layers.summary import known_input_shape
from xpnet.layers.tree import walk

_FLOATING = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def read_state_dict(path: Path) -> ForeignWeights:
    """The tensors of a safetensors file, grouped by layer."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = [_stored(name, **entry) for name, entry in deserialize(path.read_bytes())]
    except OSError as error:
        raise MissingFileError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise FileFormatError(f"{path} is damaged or not a safetensors file ({error})") from error
    if any(tensor.name.startswith("parameters/") for tensor in tensors):
        raise FileFormatError(f"{path} was written by xpnet: it is read as it is, by load_model and xpnet evaluate")
    weights = [tensor for tensor in tensors if tensor.name.rpartition(".")[2] not in COUNTERS]
    return ForeignWeights("PyTorch", LAYOUT, group_by_layer(weights, "."))


def _stored(name: str, dtype: str, shape: list[int], data: bytes) -> Stored:
    if dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        return Stored(name, values.reshape(shape), "bfloat16")
    if dtype in _FLOATING:
        values = np.frombuffer(data, _FLOATING[dtype])
        return Stored(name, values.reshape(shape), values.dtype.name)
    return Stored(name, np.broadcast_to(np.uint8(0), shape), dtype)  # rejected by its type if a layer needs it


def export_pytorch(model: Layer, path: str | Path, input_shape: Sequence[int] | None = None) -> str:
    """Write a model's parameters and buffers as the ``state_dict`` of a PyTorch module.

    PyTorch stores the matrix of a Linear as (outputs, inputs), that of a Conv2d as (outputs, inputs, height, width). An
    activation is a module of its own in PyTorch, so the second layer's parameters may be called "2.weight".
    Rescale, Standardize and Residual are classes in the returned source. BatchNorm's ``num_batches_tracked``, which
    xpnet does not count, is 0.

    Args:
        model: initialised.
        path: of the file, which ends in .safetensors.
        input_shape: of one sample, (C, H, W); needed if the layers do not imply whether a BatchNorm takes vectors or
            images.

    Returns:
        Python source that defines the module ``model``; to load the file into it, call
        ``model.load_state_dict(safetensors.torch.load_file(path))``. Call ``model.eval()`` before inference.

    Raises:
        ConfigurationError: PyTorch has no counterpart of a layer, the path does not end in .safetensors, or a
            BatchNorm's samples have an unknown shape.
        ShapeError: the model does not take samples of that shape.
        RunFolderError: the file cannot be written; an existing one is unchanged.

    >>> import tempfile, xpnet
    >>> model = Sequential(xpnet.Linear(4, 8, "tanh"), xpnet.Linear(8, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(export_pytorch(model.initialize(xpnet.backend("cpu-reference")), f"{folder}/model.safetensors"))
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8),
        torch.nn.Tanh(),
        torch.nn.Linear(8, 3),
    )
    """
    from safetensors.numpy import save

    if Path(path).suffix != ".safetensors":
        raise ConfigurationError(f"{path} would be a safetensors file: end the name in .safetensors")
    model.require_backend()
    if input_shape is not None:
        model.output_shape(tuple(input_shape))
    axes = sample_axes(model, len(known_input_shape(model) if input_shape is None else input_shape) or None)
    state: dict[str, np.ndarray] = {}
    children = model.layers if type(model) is Sequential else [model]
    source = f"model = torch.nn.Sequential(\n{_translate(children, '', axes, state)})"
    write_atomically(path, save(state, {"format": "pt"}))
    kinds = {type(layer) for _, layer in walk(model)}
    return "".join(source for kind, source in DEFINITIONS.items() if kind in kinds) + source


def _translate(
    children: Sequence[Layer], prefix: str, axes: Mapping[Layer, int | None], state: dict[str, np.ndarray]
) -> str:
    """One line of source for each module of the layers; their tensors are added to ``state``."""
    sources: list[str] = []
    for layer in children:
        name = f"{prefix}{len(sources)}."
        if isinstance(layer, Sequential) and type(layer) in CONTAINERS:
            sources.append(f"{CONTAINERS[type(layer)]}(\n{_translate(layer.layers, name, axes, state)})")
            continue
        module = counterpart(layer, MODULES, "PyTorch")
        views, to_numpy = {**layer.parameters, **layer.buffers}, layer.require_backend().to_numpy
        for tensor in (tensor for tensor in module.tensors if tensor.ours in views):
            state[name + tensor.theirs] = tensor.to_theirs(to_numpy(views[tensor.ours]))
        state.update({name + counter: np.array(0) for counter in module.counters})
        sources += module.sources(layer, axes[layer])
    return "".join(textwrap.indent(f"{source},\n", "    ") for source in sources)
