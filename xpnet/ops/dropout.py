"""Dropout, with a mask that is a function of a key and a step."""

from __future__ import annotations

from xpnet import random
from xpnet.backends import Array, Backend
from xpnet.ops.outputs import store


def dropout(
    backend: Backend,
    x: Array,
    rate: float,
    key: tuple[int, int],
    step: int,
    out: Array | None = None,
    device_step: Array | None = None,
) -> Array:
    """y = x / (1 - rate) where an element is kept, else 0. The backward pass is the same call on dy.

    Element i, in C order, is kept where wᵢ · 2⁻³² >= rate, with wᵢ the words of :func:`xpnet.random.words` for key and
    step. The mask is the same on every backend, and is computed again for the backward pass instead of being stored.

    Args:
        backend: where ``x`` lives.
        x: any shape, floating point.
        rate: the probability of dropping, from 0 to below 1.
        key: two 32-bit words, see :func:`xpnet.random.stream_key`.
        step: the training step.
        out: receives y when given; may be ``x``.
        device_step: (1,) int64, the same step, which a fused kernel reads instead when given.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, with the
    scaling at training time.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> dropout(cpu, cpu.asarray([1.0] * 8), 0.5, (0, 0), step=0)
    array([0., 2., 2., 2., 2., 0., 2., 0.])
    """
    xp = backend.xp
    fused = backend.kernel("dropout", x, *(() if out is None else (out,)))
    if fused is not None:
        out = xp.empty_like(x) if out is None else out
        fused(x, rate, key, step if device_step is None else device_step, out)
        return out
    kept = random.words(key, step, x.size) * 2.0**-32 >= rate  # on the host: the same bits on every backend
    kept = xp.reshape(backend.asarray(kept), x.shape)
    x = backend.widened(x)
    return store(backend.narrowed(xp.where(kept, x, xp.zeros_like(x)) * (1 / (1 - rate))), out)
