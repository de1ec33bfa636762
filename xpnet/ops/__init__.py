"""The mathematics: a function per operation, forward beside backward, the backend first.

Each body is the textbook equation in array-API-standard code. Its first lines hand over to a fused kernel where the
backend has one; that is the only place where a device can matter.
"""

from xpnet.ops.activations import (
    ACTIVATIONS,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from xpnet.ops.affine import linear, linear_backward
from xpnet.ops.averages import average_update
from xpnet.ops.clipping import clip_norm, clip_value
from xpnet.ops.cross_entropy import CrossEntropy, softmax, softmax_backward, softmax_cross_entropy
from xpnet.ops.plain_updates import adagrad_update, lion_update, rmsprop_update
from xpnet.ops.reports import accumulate, new_report
from xpnet.ops.rows import take_rows
from xpnet.ops.updates import adam_update, all_finite, momentum_update, sgd_update, take_back

__all__ = [
    "ACTIVATIONS",
    "CrossEntropy",
    "accumulate",
    "adagrad_update",
    "adam_update",
    "all_finite",
    "average_update",
    "clip_norm",
    "clip_value",
    "linear",
    "linear_backward",
    "lion_update",
    "momentum_update",
    "new_report",
    "relu",
    "relu_backward",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "take_back",
    "take_rows",
    "tanh",
    "tanh_backward",
]
