"""Checking and launching kernels on flat vectors, such as optimizer updates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import types

from .arrays import REALS, DeviceArray, accumulator, array, optional, output
from .launch import LaunchPlan
from .primitives import BLOCK

_THREADS = min(256, BLOCK)  # in a block
_MAX_BLOCKS = 2048  # enough to fill any GPU; beyond that a thread takes more than one vector
SMALL = 16 * _THREADS  # vectors that one block processes sooner than a second kernel starts


def update(
    kernel: Callable,
    values: Any,
    gradients: Any,
    moments: list[tuple[str, Any]],
    hyperparameters: Any,
    length: int,
    found_inf: Any,
    stream: int,
) -> None:
    """Check the arrays of an optimizer's update and queue it."""
    parameters = output("values", values, REALS, dimensions=1)
    element, shape = parameters.element, parameters.shape
    same = (element,)
    arguments = [
        parameters,
        array("gradients", gradients, same, shape=shape),
        *[output(name, moment, same, shape=shape) for name, moment in moments],
        array("hyperparameters", hyperparameters, (types.float64,), shape=(length,)),
        optional("found_inf", found_inf, types.int32, (1,)),
        shape[0],
    ]
    plan(kernel, element, 2 + len(moments)).launch(arguments, *grid_of(parameters), stream)


@cache
def plan(kernel: Callable, element: types.Type, vectors: int) -> LaunchPlan:
    """The launch of an update of this many vectors."""
    return LaunchPlan(kernel(accumulator(element)), *[element] * vectors, types.float64, types.int32)


def vectors(flat: DeviceArray) -> int:
    """The number of 16-byte pieces that a flat vector touches, at most."""
    return flat.shape[0] * flat.element.bitwidth // 128 + 2


def grid_of(flat: DeviceArray) -> tuple[int, tuple[int, int]]:
    """The grid and the block for a flat vector."""
    return min(-(-vectors(flat) // _THREADS), _MAX_BLOCKS), (_THREADS, 1)
