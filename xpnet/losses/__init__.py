"""Losses: what training minimises."""

from xpnet.losses.elementwise import BinaryCrossEntropy, MeanSquaredError
from xpnet.losses.function_loss import FunctionLoss, RowLoss, as_loss
from xpnet.losses.loss import Loss
from xpnet.losses.softmax_cross_entropy import SoftmaxCrossEntropy

__all__ = [
    "BinaryCrossEntropy",
    "FunctionLoss",
    "Loss",
    "MeanSquaredError",
    "RowLoss",
    "SoftmaxCrossEntropy",
    "as_loss",
]
