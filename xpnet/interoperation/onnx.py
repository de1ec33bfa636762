"""ONNX: a network out, for any runtime that reads the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xpnet._version import __version__
from xpnet.atomic import write_atomically
from xpnet.errors import ConfigurationError, ShapeError
from xpnet.interoperation.axes import sample_axes
from xpnet.interoperation.onnx_nodes import Graph
from xpnet.layers import Layer
from xpnet.layers.sequential import known_input_shape
from xpnet.parameters import Shape

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime in use reads them


def export_onnx(model: Layer, path: str | Path, input_shape: Sequence[int] | None = None) -> Shape:
    """Write a model for inference as an ONNX graph, from ``input`` (N, *input_shape) to ``output`` (N, …), any N.

    Both are float32, and so are the weights; only the indices that an Embedding takes are int64. The input is what the
    network was trained on: raw pixels, where it begins with a Rescale, which the graph contains. The output is the last
    layer's: of a classifier the logits, without a softmax that the model does not have. BatchNorm computes with its
    running statistics, and Dropout, which does nothing in inference, is left out.

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

    >>> import tempfile, onnx, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 3, "relu")).initialize(xpnet.backend("cpu-reference"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shape = export_onnx(model, Path(folder, "model.onnx"))
    ...     graph = onnx.load(Path(folder, "model.onnx")).graph
    >>> shape, [node.op_type for node in graph.node]
    ((2,), ['Gemm', 'Relu'])
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise ConfigurationError(f"writing ONNX needs the package onnx: pip install 'xpnet[onnx]' ({error})") from None
    if Path(path).suffix != ".onnx":
        raise ConfigurationError(f"{path} would be an ONNX file: end the name in .onnx")
    model.require_backend()
    input_shape, output_shape = _shapes(model, input_shape)
    graph = Graph(sample_axes(model, len(input_shape)))
    if graph.layer(model, "", "input") == "input":  # nothing but Dropout
        graph.node("Identity", "input")
    graph.nodes[-1].output[0] = "output"
    kind = TensorProto.INT64 if model.takes_integers else TensorProto.FLOAT
    taken = helper.make_tensor_value_info("input", kind, ["N", *input_shape])
    given = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", *output_shape])
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "xpnet", [taken], [given], graph.constants),
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
