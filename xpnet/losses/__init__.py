"""Losses: what training makes small."""

from xpnet.losses.elementwise import BinaryCrossEntropy, MeanSquaredError
from xpnet.losses.loss import Loss
from xpnet.losses.softmax_cross_entropy import SoftmaxCrossEntropy

__all__ = ["BinaryCrossEntropy", "Loss", "MeanSquaredError", "SoftmaxCrossEntropy"]
