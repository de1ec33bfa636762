"""Optimizers, which update all parameters at once, as flat vectors. Definitions and defaults are PyTorch's.

One default differs: only parameters with two or more axes decay, unless ``weight_decay_mask`` names others.
"""

from xpnet.optimizers.adaptive import AdaGrad, Adam, AdamW, RMSProp
from xpnet.optimizers.gradient_descent import SGD, Momentum, Nesterov
from xpnet.optimizers.lion import Lion
from xpnet.optimizers.optimizer import Optimizer

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Lion", "Momentum", "Nesterov", "Optimizer", "RMSProp"]
