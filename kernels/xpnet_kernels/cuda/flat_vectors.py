"""Checks and launches of kernels on flat vectors, such as optimizer updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from .arrays import REALS, DeviceArray, accumulator, array, optional, output
from .launch import Launch, typed
from .primitives import BLOCK

_THREADS = min(256, BLOCK)  # in a block
_MAX_BLOCKS = 2048  # enough to fill any GPU; beyond that a thread takes more than one vector
SMALL = 16 * _THREADS  # vectors that one block processes sooner than a second kernel starts


def prepare_update(
    kernel_of: Callable, moment_names: tuple[str, ...], length: int, hyperparameters: Any, found_inf: Any, values: Any,
    gradients: Any, *moments: Any,
) -> list[Launch]:  # fmt: skip
    """Check the arrays of an optimizer's update, which has ``length`` hyperparameters, and plan its launch."""
    parameters = output("values", values, REALS, dimensions=1)
    element, shape = parameters.element, parameters.shape
    arguments = [
        parameters,
        array("gradients", gradients, (element,), shape=shape),
        *(output(name, moment, (element,), shape=shape) for name, moment in zip(moment_names, moments, strict=True)),
        array("hyperparameters", hyperparameters, (types.float64,), shape=(length,)),
        optional("found_inf", found_inf, types.int32, (1,)),
        shape[0],
    ]
    vectors = [element] * (2 + len(moments))
    kernel = typed(kernel_of(accumulator(element)), *vectors, types.float64, types.int32)
    return [Launch(kernel, arguments, *grid_of(parameters))]


def vectors(flat: DeviceArray) -> int:
    """The number of 16-byte pieces that a flat vector touches, at most."""
    return flat.shape[0] * flat.element.bitwidth // 128 + 2


def grid_of(flat: DeviceArray) -> tuple[int, tuple[int, int]]:
    """The grid and the block for a flat vector."""
    return min(-(-vectors(flat) // _THREADS), _MAX_BLOCKS), (_THREADS, 1)
