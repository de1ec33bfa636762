"""xpnet: neural networks written from scratch, over a swappable array module.

The public names, each loaded when it is first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "backends": ["Backend", "backend", "cuda_problem"],
    "checkpoint": ["Checkpoint"],
    "configuration": ["Recipe", "load_recipe", "recipe_names"],
    "data": ["Dataset", "Samples"],
    "errors": [
        "BackendError",
        "CallOrderError",
        "ConfigurationError",
        "DTypeError",
        "Error",
        "FileFormatError",
        "MissingFileError",
        "NonFiniteError",
        "OutOfMemoryError",
        "OutOfRangeError",
        "RunFolderError",
        "ShapeError",
    ],
    "gradient_check": ["check_gradients"],
    "initializers": [
        "Constant",
        "FanInUniform",
        "GlorotNormal",
        "GlorotUniform",
        "HeNormal",
        "HeUniform",
        "Normal",
        "Uniform",
    ],
    "interoperation": ["export_onnx", "export_pytorch", "import_weights"],
    "layers": [
        "AvgPool2d",
        "BatchNorm",
        "Context",
        "Conv2d",
        "ParameterSpec",
        "Dropout",
        "Embedding",
        "Flatten",
        "GELU",
        "Layer",
        "LayerNorm",
        "LeakyReLU",
        "Linear",
        "MaxPool2d",
        "ReLU",
        "Reshape",
        "Residual",
        "Sequential",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Tanh",
    ],
    "losses": ["BinaryCrossEntropy", "FunctionLoss", "Loss", "MeanSquaredError", "SoftmaxCrossEntropy"],
    "metrics": ["accuracy", "confusion_matrix", "top_k_accuracy"],
    "optimizers": ["SGD", "AdaGrad", "Adam", "AdamW", "Lion", "Momentum", "Nesterov", "Optimizer", "RMSProp"],
    "schedules": [
        "ConstantRate",
        "CosineDecay",
        "ExponentialDecay",
        "LinearDecay",
        "OneCycle",
        "ReduceOnPlateau",
        "Schedule",
        "StepDecay",
        "Warmup",
    ],
    "training": [
        "CSVLog",
        "Callback",
        "EarlyStopping",
        "Progress",
        "TensorBoardLog",
        "Trainer",
        "evaluate",
        "load_model",
        "resume",
        "save_model",
        "train",
    ],
}
_SUBMODULES = {*_HOMES, "book_pickle", "ops", "parameters", "parity", "random"}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF, *_SUBMODULES]  # noqa: PLE0604 - the table above is the list


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"xpnet.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"xpnet.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
