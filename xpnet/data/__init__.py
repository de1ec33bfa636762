"""Data sets, samplers and batches."""

from __future__ import annotations

from xpnet.data.batches import Batch, Batches
from xpnet.data.book import load_mnist
from xpnet.data.dataset import Dataset
from xpnet.data.loading import load
from xpnet.data.samplers import SAMPLERS, InOrder, Sampler, Shuffled, WithReplacement, epoch_order, steps_per_epoch
from xpnet.data.samples import Samples
from xpnet.data.splits import split_validation

__all__ = [
    "SAMPLERS",
    "Batch",
    "Batches",
    "Dataset",
    "InOrder",
    "Sampler",
    "Samples",
    "Shuffled",
    "WithReplacement",
    "epoch_order",
    "load",
    "load_mnist",
    "split_validation",
    "steps_per_epoch",
]
