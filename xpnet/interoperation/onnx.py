"""ONNX: exporting a network for inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xpnet._version import __version__
from xpnet.atomic import write_atomically
from xpnet.errors import ConfigurationError, ShapeError
from xpnet.interoperation.axes import sample_axes
from xpnet.interoperation.onnx_nodes import Graph
from xpnet.layers import Layer
from xpnet.layers.summary import known_input_shape
from xpnet.parameters import Shape

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime in use reads them


def export_onnx(model: Layer, path: str | Path, input_shape: Sequence[int] | None = None) -> Shape:
    """Write a model for inference as an ONNX graph, from ``input`` (N, *input_shape) to ``output`` (N, …), any N.

    Input, output and weights are float32, but the indices for an Embedding are int64. The graph contains every layer in
    its form for inference: a Rescale at the beginning takes raw pixels, BatchNorm uses its running statistics, and
    Dropout is left out. The output of a classifier is its logits, unless the model ends in a Softmax.

    Args:
        model: initialised.
        path: of the file, which ends in .onnx.
        input_shape: of one sample; None: the shape that the first Linear or Reshape takes.

    Returns:
        the shape of one sample.

    Raises:
        ConfigurationError: the package onnx is missing, ONNX has no counterpart of a layer, or the path does not end in
            .onnx.
        ShapeError: the model does not take samples of that shape, or its layers do not imply a shape.
        RunFolderError: the file cannot be written; an existing one is unchanged.

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
    if graph.layer(model, "", "input") == "input":  # the model has only Dropout layers
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
    """The shapes of one input sample and of one output sample."""
    if input_shape is not None:
        return tuple(input_shape), model.output_shape(tuple(input_shape))
    known = known_input_shape(model)
    try:
        return known, model.output_shape(known)
    except ShapeError as error:
        raise ShapeError(
            f"the shape of a sample cannot be inferred from the model: give input_shape (--input-shape 1,28,28); "
            f"{error}"
        ) from None
