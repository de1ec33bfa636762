"""Layers: what a model is made of."""

from xpnet.context import Context
from xpnet.layers.activations import GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from xpnet.layers.convolution import Conv2d
from xpnet.layers.dropout import Dropout
from xpnet.layers.embedding import Embedding
from xpnet.layers.layer import Layer, ParameterSpec
from xpnet.layers.linear import Linear
from xpnet.layers.normalization import BatchNorm, LayerNorm
from xpnet.layers.pooling import AvgPool2d, MaxPool2d
from xpnet.layers.preprocessing import Rescale, Standardize
from xpnet.layers.reshape import Flatten, Reshape
from xpnet.layers.residual import Residual
from xpnet.layers.sequential import Sequential

__all__ = [
    "GELU",
    "AvgPool2d",
    "BatchNorm",
    "Context",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
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
]
