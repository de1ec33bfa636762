"""Optimizer steps on flat vectors: every value is read and written once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.arguments import UnfitError
from xpnet_kernels.cpu.checks import check_input, check_kind, check_output
from xpnet_kernels.cpu.compilation import (
    INNER,
    REALS,
    REDUCTION,
    InDoubles,
    InFlags,
    InVector,
    OutFlags,
    OutIntegers,
    OutVector,
    kernel,
)
from xpnet_kernels.cpu.outlining import outlined
from xpnet_kernels.cpu.sharing import DECLINED, DONE, block_of, share, stripe
from xpnet_kernels.cpu.team import TEAM

TINY = 1e-36  # smaller moments become 0, before they decay into denormal numbers, which are many times slower

_WORK = 16  # of a parameter, in multiplications of a product
_UNIT = 2**12  # parameters: a multiple of what the loops take at a time, so that an element is the same in any block
_LONGEST = 2**17  # parameters in a block

_HYPERPARAMETERS = np.dtype(np.float64)
_FLAG = np.dtype(np.int32)
_NOT_FOUND = np.zeros(1, np.int32)
_NOT_FOUND.flags.writeable = False


def check_finite(gradients: np.ndarray, found_inf: np.ndarray) -> None:
    """Write into ``found_inf``, (1,) int32, 1 where an element of a flat vector is NaN or infinite, else 0.

    >>> import numpy as np
    >>> found_inf = np.empty(1, np.int32)
    >>> check_finite(np.array([1.0, np.nan]), found_inf)
    >>> found_inf
    array([1], dtype=int32)
    """
    refusal = _refusal(_check_finite, gradients, found_inf)
    if refusal is None:
        return
    check_kind("gradients", gradients, 1)
    check_input("gradients", gradients, gradients.dtype, gradients.shape)
    check_output("found_inf", found_inf, _FLAG, (1,))
    raise refusal


def sgd_update(
    values: np.ndarray, gradients: np.ndarray, hyperparameters: np.ndarray, *, found_inf: np.ndarray | None = None
) -> None:
    """θ ← θ - η g on flat vectors, in place; ``hyperparameters`` is (η,).

    >>> import numpy as np
    >>> values = np.array([1.0, 2.0])
    >>> sgd_update(values, np.array([1.0, -1.0]), np.array([0.5]))
    >>> values
    array([0.5, 2.5])
    """
    _update(_sgd, (), 1, found_inf, hyperparameters, values, gradients)


def momentum_update(
    values: np.ndarray,
    gradients: np.ndarray,
    velocity: np.ndarray,
    hyperparameters: np.ndarray,
    *,
    found_inf: np.ndarray | None = None,
) -> None:
    """v ← μ v + g; θ ← θ - η v, or with Nesterov's rule θ - η (g + μ v), in place.

    ``hyperparameters`` is (η, μ, 1 for Nesterov's rule or 0). The definition is PyTorch's, after Sutskever et al., "On
    the importance of initialization and momentum in deep learning", ICML 2013.

    >>> import numpy as np
    >>> values, velocity = np.array([1.0]), np.array([1.0])
    >>> momentum_update(values, np.array([2.0]), velocity, np.array([0.1, 0.5, 0.0]))
    >>> values, velocity
    (array([0.75]), array([2.5]))
    """
    _update(_momentum, ("velocity",), 3, found_inf, hyperparameters, values, gradients, velocity)


def adam_update(
    values: np.ndarray,
    gradients: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    hyperparameters: np.ndarray,
    *,
    found_inf: np.ndarray | None = None,
) -> None:
    """Adam, or AdamW where the decay λ is not 0, in place.

    θ ← (1 - η λ) θ;  m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  θ ← θ - η m̂ / (√v̂ + ε), with
    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). ``hyperparameters`` is (η, β₁, β₂, ε, 1 - β₁ᵗ, 1 - β₂ᵗ, λ).

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; Loshchilov and Hutter, "Decoupled weight
    decay regularization", ICLR 2019.

    >>> import numpy as np
    >>> values, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adam_update(values, np.array([3.0]), m, v, np.array([0.1, 0.9, 0.999, 0.0, 0.1, 0.001, 0.0]))
    >>> values.round(12)  # the first step has the length of the learning rate
    array([0.9])
    """
    _update(_adam, ("m", "v"), 7, found_inf, hyperparameters, values, gradients, m, v)


def _update(
    update: kernel,
    state_names: tuple[str, ...],
    length: int,
    found_inf: np.ndarray | None,
    hyperparameters: np.ndarray,
    *vectors: np.ndarray,
) -> None:
    """Make an update of vectors (values, gradients, state …), in a compiled call that looks at what it is given."""
    if found_inf is None:
        found_inf = _NOT_FOUND
    refusal = _refusal(update, *vectors, hyperparameters, found_inf)
    if refusal is None:
        return
    values, gradients, *state = vectors
    check_kind("values", values, 1)
    check_input("gradients", gradients, values.dtype, values.shape)
    for name, vector in zip(("values", *state_names), (values, *state), strict=True):
        check_output(name, vector, values.dtype, values.shape)
    check_input("hyperparameters", hyperparameters, _HYPERPARAMETERS, (length,))
    check_input("found_inf", found_inf, _FLAG, (1,))
    raise refusal


def _refusal(update: kernel, first: np.ndarray, *others: np.ndarray) -> UnfitError | None:
    """Make the call, for vectors of the first one's type: None, or an error, which names none of them."""
    if not isinstance(first, np.ndarray) or first.dtype not in REALS:
        return UnfitError("expected vectors of float32 or float64")
    compiled = update[first.dtype]
    try:
        served = TEAM.run(_WORK * first.size, compiled, first, *others)
    except UnfitError as error:
        return error
    return None if served else UnfitError("expected other lengths")


@njit(**REDUCTION)
def _sum_of_zeros(vector: Any) -> Any:
    """Σ 0 · x, which is NaN when an element is NaN or infinite, and else 0."""
    zero = vector.dtype.type(0)
    total = zero
    for i in range(vector.size):
        total += zero * vector[i]
    return total


@njit(**INNER)
def _check_finite_block(gradients: Any, found_inf: Any, step: int, block: int) -> None:
    first, last = block_of(gradients.size, step, block)
    if _sum_of_zeros(gradients[first:last]) != 0:
        found_inf[0] = 1


_CHECK = outlined(_check_finite_block)


@kernel
def _check_finite(words: OutIntegers, gradients: InVector, found_inf: OutFlags) -> int:
    if found_inf.size != 1:
        return DECLINED
    found_inf[0] = 0
    step = stripe(words, gradients.size, _UNIT, _LONGEST)
    return share(words, _CHECK((gradients, found_inf, step)), -(-gradients.size // step))


@njit(**INNER)
def _sgd_block(values: Any, gradients: Any, hyperparameters: Any, step: int, block: int) -> None:
    first, last = block_of(values.size, step, block)
    values, gradients = values[first:last], gradients[first:last]
    rate = values.dtype.type(hyperparameters[0])
    for i in range(values.size):
        values[i] -= rate * gradients[i]


_SGD = outlined(_sgd_block)


@kernel
def _sgd(
    words: OutIntegers, values: OutVector, gradients: InVector, hyperparameters: InDoubles, found_inf: InFlags
) -> int:
    if gradients.size != values.size or hyperparameters.size != 1 or found_inf.size != 1:
        return DECLINED
    if found_inf[0] != 0:
        return DONE
    step = stripe(words, values.size, _UNIT, _LONGEST)
    return share(words, _SGD((values, gradients, hyperparameters, step)), -(-values.size // step))


@njit(**INNER)
def _momentum_block(values: Any, gradients: Any, velocity: Any, hyperparameters: Any, step: int, block: int) -> None:
    first, last = block_of(values.size, step, block)
    values, gradients, velocity = values[first:last], gradients[first:last], velocity[first:last]
    real = values.dtype.type
    rate, momentum, tiny, zero = real(hyperparameters[0]), real(hyperparameters[1]), real(TINY), real(0)
    ahead, here = (momentum, real(1)) if hyperparameters[2] else (real(1), zero)  # the weights of v and g in the step
    for i in range(values.size):
        g = gradients[i]
        v = momentum * velocity[i] + g
        v = zero if abs(v) < tiny else v
        velocity[i] = v
        values[i] -= rate * (ahead * v + here * g)


_MOMENTUM = outlined(_momentum_block)


@kernel
def _momentum(
    words: OutIntegers, values: OutVector, gradients: InVector, velocity: OutVector, hyperparameters: InDoubles,
    found_inf: InFlags,
) -> int:  # fmt: skip
    if not (gradients.size == velocity.size == values.size and hyperparameters.size == 3 and found_inf.size == 1):
        return DECLINED
    if found_inf[0] != 0:
        return DONE
    step = stripe(words, values.size, _UNIT, _LONGEST)
    return share(words, _MOMENTUM((values, gradients, velocity, hyperparameters, step)), -(-values.size // step))


# Where infinities need not be kept, a quotient in single precision is an estimated reciprocal and a step of Newton's,
# within a unit or two in the last place. Dividing after the square root would be most of Adam's time.
@njit(**INNER | {"fastmath": {"contract", "nsz", "arcp", "ninf"}})
def _quotient(a: Any, b: Any) -> Any:
    return a / b


@njit(**INNER)
def _adam_block(values: Any, gradients: Any, m: Any, v: Any, hyperparameters: Any, step: int, block: int) -> None:
    first, last = block_of(values.size, step, block)
    values, gradients, m, v = values[first:last], gradients[first:last], m[first:last], v[first:last]
    real = values.dtype.type
    rate, beta1, beta2, epsilon = hyperparameters[0], hyperparameters[1], hyperparameters[2], hyperparameters[3]
    correction1, correction2, decay = hyperparameters[4], hyperparameters[5], hyperparameters[6]
    keep, length, root = real(1 - rate * decay), real(rate / correction1), real(1 / math.sqrt(correction2))
    b1, a1, b2, a2, eps = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2), real(epsilon)
    tiny, zero, largest = real(TINY), real(0), np.finfo(real).max
    for i in range(values.size):
        g = gradients[i]
        m_i = b1 * m[i] + a1 * g
        v_i = b2 * v[i] + (a2 * g) * g
        m_i = zero if abs(m_i) < tiny else m_i
        v_i = zero if v_i < tiny else v_i
        m[i] = m_i
        v[i] = v_i
        divisor = math.sqrt(v_i) * root + eps
        ratio = _quotient(m_i, divisor)
        values[i] = keep * values[i] - length * (zero if divisor > largest else ratio)


_ADAM = outlined(_adam_block)


@kernel
def _adam(
    words: OutIntegers, values: OutVector, gradients: InVector, m: OutVector, v: OutVector, hyperparameters: InDoubles,
    found_inf: InFlags,
) -> int:  # fmt: skip
    if not (gradients.size == m.size == v.size == values.size and hyperparameters.size == 7 and found_inf.size == 1):
        return DECLINED
    if found_inf[0] != 0:
        return DONE
    step = stripe(words, values.size, _UNIT, _LONGEST)
    return share(words, _ADAM((values, gradients, m, v, hyperparameters, step)), -(-values.size // step))
