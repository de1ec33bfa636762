"""Layers: what a model is made of."""

from xpnet.layers.activations import GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from xpnet.layers.context import Context
from xpnet.layers.dropout import Dropout
from xpnet.layers.embedding import Embedding
from xpnet.layers.flatten import Flatten
from xpnet.layers.layer import Declaration, Layer
from xpnet.layers.linear import Linear
from xpnet.layers.normalization import BatchNorm, LayerNorm
from xpnet.layers.residual import Residual
from xpnet.layers.sequential import Sequential

__all__ = [
    "GELU",
    "BatchNorm",
    "Context",
    "Declaration",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
