"""Gradient clipping, by norm and by value. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Sequence

from xpnet.backends import Array, Backend


def clip_norm(backend: Backend, gradients: Sequence[Array], limit: float) -> None:
    """g ← g min(1, c / (‖g‖ + 1e-6)), in place, with ‖g‖ = sqrt(Σ gᵢ²) over all the vectors together.

    The squares are summed in float64; the 1e-6 is PyTorch's. If the norm is infinite, every finite gradient becomes 0;
    if it is NaN, all stay as they are.

    Args:
        backend: where the arrays live.
        gradients: vectors, updated.
        limit: c.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> weights, biases = cpu.asarray([3.0, 0.0]), cpu.asarray([4.0])
    >>> clip_norm(cpu, [weights, biases], 1.0)
    >>> weights.round(3), biases.round(3)
    (array([0.6, 0. ]), array([0.8]))
    """
    xp = backend.xp
    norm = xp.sqrt(sum(xp.sum(vector * vector, dtype=xp.float64) for vector in gradients))
    factor = limit / (norm + 1e-6)
    # Never NaN, which would stay in the padding between the gradients: no layer overwrites it.
    factor = xp.where(factor < 1, factor, xp.ones_like(factor))
    for vector in gradients:
        vector[...] = vector * xp.astype(factor, vector.dtype)


def clip_value(backend: Backend, gradients: Sequence[Array], limit: float) -> None:
    """gᵢ ← max(-c, min(c, gᵢ)), in place; NaN stays NaN.

    Args:
        backend: where the arrays live.
        gradients: vectors, updated.
        limit: c.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> gradients = cpu.asarray([-2.0, 0.5, 7.0])
    >>> clip_value(cpu, [gradients], 1.0)
    >>> gradients
    array([-1. ,  0.5,  1. ])
    """
    xp = backend.xp
    for vector in gradients:
        bound = xp.full((), limit, dtype=vector.dtype, device=backend.device)
        vector[...] = xp.maximum(-bound, xp.minimum(bound, vector))
