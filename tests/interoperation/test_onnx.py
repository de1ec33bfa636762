"""ONNX files, computed by ONNX's own reference evaluator."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Rescale,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
    export_onnx,
)
from xpnet.backends import Backend
from xpnet.errors import CallOrderError, ConfigurationError, RunFolderError, ShapeError
from xpnet.interoperation.onnx_nodes import NODES
from xpnet.layers import Layer

try:
    import onnx
    from onnx.reference import ReferenceEvaluator
except ImportError:
    onnx = None

needs_onnx = pytest.mark.skipif(onnx is None, reason="onnx is not installed; the extra dev has it")

NETWORKS = {
    "dense": lambda: Sequential(Flatten(), Linear(36, 20, "relu"), Linear(20, 8, "sigmoid"), Linear(8, 5, "tanh")),
    "activations": lambda: Sequential(
        Flatten(), ReLU(), Linear(36, 9), Tanh(), Linear(9, 7), Sigmoid(), Linear(7, 4), Softmax()
    ),
    "convolutions": lambda: Sequential(
        Reshape([1, 6, 6]),
        Conv2d(1, 3, 3, padding="same", activation="relu"),
        MaxPool2d(3, 2),
        Conv2d(3, 4, 2, padding=1),
        AvgPool2d(2, 1),
        Flatten(),
        Linear(16, 5),
    ),
    "even kernel": lambda: Sequential(Reshape([1, 6, 6]), Conv2d(1, 2, 4, padding="same"), Conv2d(2, 3, 3, 2, 2)),
    "nested": lambda: Sequential(
        Reshape([4, 3, 3]), Sequential(Conv2d(4, 2, 2), Sequential(AvgPool2d(2), Flatten())), Linear(2, 3)
    ),
    "normalized": lambda: Sequential(
        Reshape([2, 6, 3]),
        BatchNorm(2, epsilon=0.1),
        Conv2d(2, 3, 3, padding="same"),
        LeakyReLU(0.2),
        BatchNorm(3),
        Flatten(),
        Linear(54, 7),
        BatchNorm(7),
        GELU(),
        LayerNorm(7, epsilon=0.3),
        Dropout(0.5),
    ),
    "residual": lambda: Sequential(
        Linear(36, 6), Residual(Linear(6, 8), LayerNorm(8), Dropout(0.5), Softplus(), Linear(8, 6)), Residual(Tanh())
    ),
    "a residual alone": lambda: Residual(LayerNorm(36), Linear(36, 36)),
    "a layer alone": lambda: Linear(36, 4, "tanh"),
    "no bias": lambda: Sequential(Linear(36, 8, "relu", bias=False), Linear(8, 4)),
    "sequences": lambda: Sequential(
        Reshape([9, 4]), Linear(4, 5, "tanh"), LayerNorm(5), Linear(5, 3, bias=False), Softmax()
    ),
}


def test_every_layer_is_in_one_of_the_networks() -> None:
    def kinds(layer: Layer) -> set[type[Layer]]:
        return {type(layer)}.union(*map(kinds, layer.children().values()))

    elsewhere = {Embedding, Rescale, Standardize}  # the last two: tests/training/test_raw_pixels.py
    assert set().union(*(kinds(build()) for build in NETWORKS.values())) | elsewhere == set(NODES)


def with_other_statistics(model: Layer) -> Layer:
    """Scales and running variances are 1 at first, means and shifts 0: other ones, that each is seen."""
    draws = np.random.default_rng(5)
    for views in (model.parameters, model.buffers):
        for name, view in views.items():
            if name.rpartition(".")[2] not in "Wb":
                view[...] = view + model.require_backend().asarray(draws.uniform(0.2, 2.0, view.shape), model.dtype)
    return model


def computed(path: str, x: np.ndarray) -> np.ndarray:
    (y,) = ReferenceEvaluator(path).run(None, {"input": x})
    return y


@needs_onnx
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_outputs_for_any_number_of_samples(backend: Backend, name: str, seed: int) -> None:
    model = with_other_statistics(NETWORKS[name]().initialize(backend, seed=seed))
    shape = export_onnx(model, "model.onnx", None if name != "a residual alone" else (36,))
    onnx.checker.check_model("model.onnx", full_check=True)
    for rows in (1, 7):
        x = np.random.default_rng(seed).random((rows, *shape), np.float32)
        ours = np.array(backend.to_numpy(model(backend.asarray(x))))
        theirs = computed("model.onnx", x)
        assert theirs.dtype == np.float32
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize("shape", [(), (5,)])
def test_an_embedding_takes_int64_indices(backend: Backend, shape: tuple[int, ...]) -> None:
    model = Sequential(Embedding(11, 4), LayerNorm(4), Flatten(), Linear(4 * math.prod(shape), 3)).initialize(backend)
    assert export_onnx(model, "model.onnx", shape) == shape
    onnx.checker.check_model("model.onnx", full_check=True)
    assert onnx.load("model.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    x = np.random.default_rng(0).integers(11, size=(7, *shape))
    np.testing.assert_allclose(computed("model.onnx", x), model.predict(x), rtol=1e-5, atol=1e-5)


@needs_onnx
def test_a_model_of_dropout_alone_is_the_identity(cpu: Backend) -> None:
    export_onnx(Sequential(Dropout(0.5), Dropout(0.2)).initialize(cpu), "model.onnx", (3,))
    onnx.checker.check_model("model.onnx", full_check=True)
    x = np.random.default_rng(0).random((4, 3), np.float32)
    np.testing.assert_array_equal(computed("model.onnx", x), x)


@needs_onnx
def test_dropout_leaves_no_node(cpu: Backend) -> None:
    export_onnx(Sequential(Linear(3, 4), Dropout(0.5), Linear(4, 2), Dropout(0.5)).initialize(cpu), "model.onnx")
    assert [node.op_type for node in onnx.load("model.onnx").graph.node] == ["Gemm", "Gemm"]


@needs_onnx
@pytest.mark.parametrize("shape", [(36,), (6, 6), (1, 6, 6)])
def test_samples_of_another_shape(cpu: Backend, shape: tuple[int, ...]) -> None:
    model = NETWORKS["convolutions"]().initialize(cpu)
    assert export_onnx(model, "model.onnx", shape) == shape
    x = np.random.default_rng(0).random((3, *shape), np.float32)
    np.testing.assert_allclose(computed("model.onnx", x), model.predict(x), rtol=1e-5, atol=1e-5)


@needs_onnx
def test_versions_producer_shapes_and_types_in_the_file(cpu: Backend) -> None:
    model = NETWORKS["dense"]().initialize(cpu, dtype="float64")
    export_onnx(model, "model.onnx")
    proto = onnx.load("model.onnx")
    assert (proto.ir_version, proto.opset_import[0].version, proto.producer_name) == (8, 17, "xpnet")
    ends = {end.name: end.type.tensor_type for end in (*proto.graph.input, *proto.graph.output)}
    shapes = {name: [axis.dim_param or axis.dim_value for axis in kind.shape.dim] for name, kind in ends.items()}
    assert shapes == {"input": ["N", 36], "output": ["N", 5]}
    kinds = {kind.elem_type for kind in ends.values()} | {item.data_type for item in proto.graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT}
    assert [item.name for item in proto.graph.initializer] == ["1.W", "1.b", "2.W", "2.b", "3.W", "3.b"]
    first = Path("model.onnx").read_bytes()
    export_onnx(model, "again.onnx")
    assert Path("again.onnx").read_bytes() == first


@needs_onnx
def test_errors_of_export(cpu: Backend) -> None:
    class Mine(Linear):
        """A layer of the user's."""

    dense, untold = NETWORKS["dense"]().initialize(cpu), Sequential(Conv2d(1, 1, 3), Flatten(), Linear(16, 2))
    untold.initialize(cpu)
    cases = [
        (dense, "model.pb", None, ConfigurationError, "model.pb would be an ONNX file: end the name in .onnx"),
        (dense, "model.onnx", (7, 7), ShapeError, r"layer 1: Linear\(36, 20\) takes samples of shape \(36,\)"),
        (untold, "model.onnx", None, ShapeError, r"the model does not tell the shape of its samples: give it, such as"),
        (dense, "none/model.onnx", None, RunFolderError, "cannot write none/model.onnx: No such file"),
        (
            Sequential(Mine(3, 2)).initialize(cpu),
            "model.onnx",
            None,
            ConfigurationError,
            r"layer 0 \(Mine\) has no known counterpart",
        ),
        (NETWORKS["dense"](), "model.onnx", None, CallOrderError, "has no parameters yet"),
    ]
    for model, path, shape, error, message in cases:
        with pytest.raises(error, match=message):
            export_onnx(model, path, shape)
    assert not list(Path().iterdir())
    assert export_onnx(untold, "model.onnx", (1, 6, 6)) == (1, 6, 6)


def test_without_onnx(cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigurationError, match=r"writing ONNX needs the package onnx: pip install 'xpnet\[onnx\]'"):
        export_onnx(Linear(2, 2).initialize(cpu), "model.onnx")
