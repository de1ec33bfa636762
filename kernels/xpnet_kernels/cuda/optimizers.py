"""Optimizer steps on flat vectors: every value is read and written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from .arrays import REALS, DeviceArray, accumulator, array, optional, output, pointer
from .launch import launch, number
from .optimizer_kernels import CHECK, RESET, adam_kernel, check_finite_kernel, momentum_kernel, sgd_kernel
from .primitives import BLOCK

_THREADS = min(256, BLOCK)  # in a block
_MOST_BLOCKS = 2048  # enough to fill any GPU; beyond that a thread takes more than one vector
_SMALL = 16 * _THREADS  # vectors that one block goes over sooner than a second kernel starts


def check_finite(gradients: Any, found_inf: Any, *, stream: int = 0) -> None:
    """Write into ``found_inf``, (1,) int32, 1 where an element of a flat vector is NaN or infinite, else 0."""
    g = array("gradients", gradients, REALS, dimensions=1)
    flag = output("found_inf", found_inf, (types.int32,), shape=(1,))
    kernel = check_finite_kernel(accumulator(g.element))
    arguments = [pointer(g, g.element), pointer(flag, types.int32), number(g.shape[0])]
    grid, block = _grid(g)
    if _vectors(g) <= _SMALL:
        launch(kernel, [number(RESET | CHECK), *arguments], 1, block, stream)
    else:
        launch(kernel, [number(RESET), *arguments], 1, block, stream)
        launch(kernel, [number(CHECK), *arguments], grid, block, stream)


def sgd_update(values: Any, gradients: Any, hyperparameters: Any, *, found_inf: Any = None, stream: int = 0) -> None:
    """θ ← θ - η g on flat vectors, in place; ``hyperparameters`` is (η,), on the device.

    Where ``found_inf``, (1,) int32, is given and does not hold 0, nothing is touched; so with all updates.
    """
    _update(sgd_kernel, values, gradients, [], hyperparameters, 1, found_inf, stream)


def momentum_update(
    values: Any, gradients: Any, velocity: Any, hyperparameters: Any, *, found_inf: Any = None, stream: int = 0
) -> None:
    """v ← μ v + g; θ ← θ - η v, or with Nesterov's rule θ - η (g + μ v), in place.

    ``hyperparameters`` is (η, μ, 1 for Nesterov's rule or 0). The definition is PyTorch's, after Sutskever et al., "On
    the importance of initialization and momentum in deep learning", ICML 2013.
    """
    _update(momentum_kernel, values, gradients, [("velocity", velocity)], hyperparameters, 3, found_inf, stream)


def adam_update(
    values: Any, gradients: Any, m: Any, v: Any, hyperparameters: Any, *, found_inf: Any = None, stream: int = 0
) -> None:
    """Adam, or AdamW where the decay λ is not 0, in place.

    θ ← (1 - η λ) θ;  m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  θ ← θ - η m̂ / (√v̂ + ε), with
    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). ``hyperparameters`` is (η, β₁, β₂, ε, 1 - β₁ᵗ, 1 - β₂ᵗ, λ).

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; Loshchilov and Hutter, "Decoupled weight
    decay regularization", ICLR 2019.
    """
    _update(adam_kernel, values, gradients, [("m", m), ("v", v)], hyperparameters, 7, found_inf, stream)


def _update(
    kernel: Callable,
    values: Any,
    gradients: Any,
    moments: list[tuple[str, Any]],
    hyperparameters: Any,
    length: int,
    found_inf: Any,
    stream: int,
) -> None:
    """Check the arrays of an update and queue it."""
    element = array("values", values, REALS, dimensions=1).element
    shape = array("values", values, REALS).shape
    vectors = [
        output("values", values, (element,), shape=shape),
        array("gradients", gradients, (element,), shape=shape),
        *(output(name, moment, (element,), shape=shape) for name, moment in moments),
    ]
    arguments = [
        *(pointer(vector, element) for vector in vectors),
        pointer(array("hyperparameters", hyperparameters, (types.float64,), shape=(length,)), types.float64),
        pointer(optional("found_inf", found_inf, types.int32, (1,)), types.int32),
        number(shape[0]),
    ]
    launch(kernel(accumulator(element)), arguments, *_grid(vectors[0]), stream)


def _vectors(flat: DeviceArray) -> int:
    """How many pieces of 16 bytes a flat vector touches, at most."""
    return flat.shape[0] * flat.element.bitwidth // 128 + 2


def _grid(flat: DeviceArray) -> tuple[int, tuple[int, int]]:
    """The blocks that go over a flat vector, and their threads."""
    return min(-(-_vectors(flat) // _THREADS), _MOST_BLOCKS), (_THREADS, 1)
