"""The operations: one function each, forward next to backward, with the backend as first argument.

Each body is the textbook equation in array-API code. Where the backend has a fused kernel, the function calls it
instead; nothing else depends on the device.
"""

from xpnet.ops.activations import (
    ACTIVATIONS,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from xpnet.ops.batch_loss import REDUCTIONS, BatchLoss, batch_loss
from xpnet.ops.clipping import clip_norm, clip_value
from xpnet.ops.convolution import columns_shape, convolve, convolve_backward
from xpnet.ops.cross_entropy import softmax, softmax_backward, softmax_cross_entropy
from xpnet.ops.dropout import dropout
from xpnet.ops.elementwise_losses import binary_cross_entropy, mean_squared_error
from xpnet.ops.embedding import embedding, embedding_backward
from xpnet.ops.end_step import Guard, HyperparameterTable, end_step
from xpnet.ops.gather import BatchOfStep, gather
from xpnet.ops.linear import linear, linear_backward
from xpnet.ops.moving_average import moving_average_update
from xpnet.ops.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    layer_norm,
    layer_norm_backward,
)
from xpnet.ops.pooling import average_pool, average_pool_backward, max_pool, max_pool_backward
from xpnet.ops.scaling import rescale, standardize
from xpnet.ops.unfolding import fold, pad, positions, unfold
from xpnet.ops.unfused_updates import adagrad_update, lion_update, rmsprop_update
from xpnet.ops.updates import adam_update, check_finite, momentum_update, restore_if_found_inf, sgd_update

__all__ = [
    "ACTIVATIONS",
    "REDUCTIONS",
    "BatchLoss",
    "BatchOfStep",
    "Guard",
    "HyperparameterTable",
    "adagrad_update",
    "adam_update",
    "average_pool",
    "average_pool_backward",
    "batch_loss",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "binary_cross_entropy",
    "check_finite",
    "clip_norm",
    "clip_value",
    "columns_shape",
    "convolve",
    "convolve_backward",
    "dropout",
    "embedding",
    "embedding_backward",
    "end_step",
    "fold",
    "gather",
    "gelu",
    "gelu_backward",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "lion_update",
    "max_pool",
    "max_pool_backward",
    "mean_squared_error",
    "momentum_update",
    "moving_average_update",
    "pad",
    "positions",
    "relu",
    "relu_backward",
    "rescale",
    "restore_if_found_inf",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "standardize",
    "tanh",
    "tanh_backward",
    "unfold",
]
