"""xpnet: neural networks written from scratch, on interchangeable array backends.

Public names are imported lazily, on first use. Editors and type checkers read the imports below, Python reads the table
after them; ``tests/test_imports.py`` checks that the two agree.
"""

import typing as _typing

from xpnet._version import __version__

if _typing.TYPE_CHECKING:
    from xpnet import backends as backends
    from xpnet import book_pickle as book_pickle
    from xpnet import checkpoint as checkpoint
    from xpnet import configuration as configuration
    from xpnet import data as data
    from xpnet import errors as errors
    from xpnet import gradient_check as gradient_check
    from xpnet import initializers as initializers
    from xpnet import interoperation as interoperation
    from xpnet import layers as layers
    from xpnet import losses as losses
    from xpnet import metrics as metrics
    from xpnet import ops as ops
    from xpnet import optimizers as optimizers
    from xpnet import parameters as parameters
    from xpnet import parity as parity
    from xpnet import random as random
    from xpnet import registry as registry
    from xpnet import schedules as schedules
    from xpnet import training as training
    from xpnet.backends import Backend as Backend
    from xpnet.backends import backend as backend
    from xpnet.backends import cuda_problem as cuda_problem
    from xpnet.checkpoint import Checkpoint as Checkpoint
    from xpnet.configuration import Recipe as Recipe
    from xpnet.configuration import load_recipe as load_recipe
    from xpnet.configuration import recipe_names as recipe_names
    from xpnet.data import Dataset as Dataset
    from xpnet.data import Samples as Samples
    from xpnet.errors import BackendError as BackendError
    from xpnet.errors import CallOrderError as CallOrderError
    from xpnet.errors import ConfigurationError as ConfigurationError
    from xpnet.errors import DTypeError as DTypeError
    from xpnet.errors import Error as Error
    from xpnet.errors import FileFormatError as FileFormatError
    from xpnet.errors import LayerError as LayerError
    from xpnet.errors import MissingFileError as MissingFileError
    from xpnet.errors import NonFiniteError as NonFiniteError
    from xpnet.errors import OutOfMemoryError as OutOfMemoryError
    from xpnet.errors import OutOfRangeError as OutOfRangeError
    from xpnet.errors import RunFolderError as RunFolderError
    from xpnet.errors import ShapeError as ShapeError
    from xpnet.gradient_check import check_gradients as check_gradients
    from xpnet.initializers import Constant as Constant
    from xpnet.initializers import FanInUniform as FanInUniform
    from xpnet.initializers import GlorotNormal as GlorotNormal
    from xpnet.initializers import GlorotUniform as GlorotUniform
    from xpnet.initializers import HeNormal as HeNormal
    from xpnet.initializers import HeUniform as HeUniform
    from xpnet.initializers import Normal as Normal
    from xpnet.initializers import Uniform as Uniform
    from xpnet.interoperation import export_onnx as export_onnx
    from xpnet.interoperation import export_pytorch as export_pytorch
    from xpnet.interoperation import import_weights as import_weights
    from xpnet.layers import GELU as GELU
    from xpnet.layers import AvgPool2d as AvgPool2d
    from xpnet.layers import BatchNorm as BatchNorm
    from xpnet.layers import Context as Context
    from xpnet.layers import Conv2d as Conv2d
    from xpnet.layers import Dropout as Dropout
    from xpnet.layers import Embedding as Embedding
    from xpnet.layers import Flatten as Flatten
    from xpnet.layers import Layer as Layer
    from xpnet.layers import LayerNorm as LayerNorm
    from xpnet.layers import LeakyReLU as LeakyReLU
    from xpnet.layers import Linear as Linear
    from xpnet.layers import MaxPool2d as MaxPool2d
    from xpnet.layers import ParameterSpec as ParameterSpec
    from xpnet.layers import ReLU as ReLU
    from xpnet.layers import Rescale as Rescale
    from xpnet.layers import Reshape as Reshape
    from xpnet.layers import Residual as Residual
    from xpnet.layers import Sequential as Sequential
    from xpnet.layers import Sigmoid as Sigmoid
    from xpnet.layers import Softmax as Softmax
    from xpnet.layers import Softplus as Softplus
    from xpnet.layers import Standardize as Standardize
    from xpnet.layers import Tanh as Tanh
    from xpnet.losses import BinaryCrossEntropy as BinaryCrossEntropy
    from xpnet.losses import FunctionLoss as FunctionLoss
    from xpnet.losses import Loss as Loss
    from xpnet.losses import MeanSquaredError as MeanSquaredError
    from xpnet.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
    from xpnet.metrics import accuracy as accuracy
    from xpnet.metrics import confusion_matrix as confusion_matrix
    from xpnet.metrics import top_k_accuracy as top_k_accuracy
    from xpnet.optimizers import SGD as SGD
    from xpnet.optimizers import AdaGrad as AdaGrad
    from xpnet.optimizers import Adam as Adam
    from xpnet.optimizers import AdamW as AdamW
    from xpnet.optimizers import Lion as Lion
    from xpnet.optimizers import Momentum as Momentum
    from xpnet.optimizers import Nesterov as Nesterov
    from xpnet.optimizers import Optimizer as Optimizer
    from xpnet.optimizers import RMSProp as RMSProp
    from xpnet.registry import register as register
    from xpnet.schedules import ConstantRate as ConstantRate
    from xpnet.schedules import CosineDecay as CosineDecay
    from xpnet.schedules import ExponentialDecay as ExponentialDecay
    from xpnet.schedules import LinearDecay as LinearDecay
    from xpnet.schedules import OneCycle as OneCycle
    from xpnet.schedules import ReduceOnPlateau as ReduceOnPlateau
    from xpnet.schedules import Schedule as Schedule
    from xpnet.schedules import StepDecay as StepDecay
    from xpnet.schedules import Warmup as Warmup
    from xpnet.training import Callback as Callback
    from xpnet.training import CSVLog as CSVLog
    from xpnet.training import EarlyStopping as EarlyStopping
    from xpnet.training import Progress as Progress
    from xpnet.training import TensorBoardLog as TensorBoardLog
    from xpnet.training import Trainer as Trainer
    from xpnet.training import evaluate as evaluate
    from xpnet.training import load_model as load_model
    from xpnet.training import resume as resume
    from xpnet.training import save_model as save_model
    from xpnet.training import train as train


_NAMES_OF = {  # by module
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
        "LayerError",
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
        "Dropout",
        "Embedding",
        "Flatten",
        "GELU",
        "Layer",
        "LayerNorm",
        "LeakyReLU",
        "Linear",
        "MaxPool2d",
        "ParameterSpec",
        "ReLU",
        "Rescale",
        "Reshape",
        "Residual",
        "Sequential",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Standardize",
        "Tanh",
    ],
    "losses": ["BinaryCrossEntropy", "FunctionLoss", "Loss", "MeanSquaredError", "SoftmaxCrossEntropy"],
    "metrics": ["accuracy", "confusion_matrix", "top_k_accuracy"],
    "optimizers": ["SGD", "AdaGrad", "Adam", "AdamW", "Lion", "Momentum", "Nesterov", "Optimizer", "RMSProp"],
    "registry": ["register"],
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
_SUBMODULES = {*_NAMES_OF, "book_pickle", "ops", "parameters", "parity", "random"}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = ["__version__", *_MODULE_OF, *_SUBMODULES]  # noqa: PLE0604 - the table above is the list

if not _typing.TYPE_CHECKING:  # with __getattr__, type checkers would accept any name

    def __getattr__(name: str) -> object:
        import importlib

        if name in _SUBMODULES:
            return importlib.import_module(f"xpnet.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"xpnet.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
