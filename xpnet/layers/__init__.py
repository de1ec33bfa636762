"""Layers: what a model is made of."""

from xpnet.layers.activations import ReLU, Sigmoid, Softmax, Tanh
from xpnet.layers.context import Context
from xpnet.layers.flatten import Flatten
from xpnet.layers.layer import Declaration, Layer
from xpnet.layers.linear import Linear
from xpnet.layers.sequential import Sequential

__all__ = [
    "Context",
    "Declaration",
    "Flatten",
    "Layer",
    "Linear",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
