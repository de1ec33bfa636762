"""Arithmetic with simulated rounding errors: float64 arrays whose operations are perturbed.

An operation is perturbed by one to two times its largest rounding error in the narrower type. With u the unit roundoff,
this error is

- u |v|, for a result v of +, -, ×, ÷ or a square root, and 8 u |v| for exp, tanh and other functions (4 ulps);
- min(K, λ sqrt(K)) u Σ|tₖ|, for a sum of K terms tₖ ≠ 0 in any order, as in a matrix product. K u Σ|tₖ| is the largest
  possible error (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, equation 3.5, to first
  order); λ sqrt(K) u Σ|tₖ| is exceeded with a probability of 2 exp(-λ²/2) for each rounding (Higham and Mary, "A new
  approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019).

Rounding inside functions that are neither in the array-API standard nor NumPy ufuncs is not simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from xpnet import random
from xpnet.backends import Array, NumPyBackend, backend

ROUNDOFF = 2.0**-24  # float32's; bounds for other types are proportional
CONFIDENCE = 2.0  # λ
GROUPS = 8  # of operations; a run perturbs one of them

_EXACT = {np.negative, np.positive, np.absolute, np.sign, np.maximum, np.minimum, np.fmax, np.fmin, np.copysign}
_EXACT |= {np.floor, np.ceil, np.trunc, np.rint}
_CORRECTLY_ROUNDED = {np.add, np.subtract, np.multiply, np.divide, np.sqrt, np.square, np.reciprocal}
_ROUNDOFFS_OF_A_FUNCTION = 8
_PRODUCTS = {np.dot, np.inner, np.tensordot}
# To first order, these map the error -e to minus what they map e to, so one direction is enough to measure.
_SMOOTH: set[Any] = {np.add, np.subtract, np.multiply, np.divide, np.square, np.negative, np.positive, np.matmul}
_SMOOTH |= {np.exp, np.tanh, np.where, np.reshape, np.transpose, np.swapaxes, np.concatenate, np.sum, np.mean, np.take}
_SMOOTH |= {np.empty_like, np.zeros_like, np.ones_like, np.copyto}

_UNIFORM = 2.0 * random.uniform(random.stream_key(0, "rounding errors"), 65_521) - 1.0
# Magnitudes from 1 to 2: if all were equal, the errors of two operations might cancel everywhere.
_DRAWS = ROUNDOFF * (_UNIFORM + np.copysign(1.0, _UNIFORM))


@dataclass
class Perturbations:
    """Which operations of a run are perturbed, and by how much.

    Operations are numbered from 1, and those whose numbers are equal modulo ``GROUPS`` form a group. In-place additions
    all have the number 0 and are perturbed in one direction, so that the errors of an unrolled sum do not cancel.

    Attributes:
        sign: the direction of the errors; 0: nothing is perturbed.
        group: the group to perturb.
        groups: the groups of all operations so far.
        perturbed: the numbers of the operations perturbed in this run.
        nonsmooth: whether a function that may not be smooth was applied after the first of them.
    """

    sign: float = 0.0
    group: int = 0
    groups: set[int] = field(default_factory=set)
    perturbed: list[int] = field(default_factory=list)
    nonsmooth: bool = False
    _operations: int = 0
    _drawn: dict[Any, np.ndarray] = field(default_factory=dict)

    def begin(self, group: int, sign: float) -> None:
        """Begin a run; one downwards has the errors of the run upwards before it, with their signs changed."""
        self.group, self.sign, self.perturbed, self.nonsmooth, self._operations = group, sign, [], False, 0
        if sign >= 0.0:
            self._drawn = {}

    def apply(
        self, result: Any, magnitude: Callable[[], Any], out: np.ndarray | None = None, in_place: bool = False
    ) -> Any:
        """The result of an operation, perturbed by one to two times ``magnitude()`` roundoffs if it is in the group."""
        self._operations += not in_place
        number = 0 if in_place else self._operations
        self.groups.add(number % GROUPS)
        if self.sign == 0.0 or number % GROUPS != self.group:
            return result
        self.perturbed.append(number)
        key = len(self.perturbed), np.shape(result)
        if key not in self._drawn:
            draws = np.resize(np.roll(_DRAWS, 31 * number), np.shape(result))
            self._drawn[key] = magnitude() * (np.abs(draws) if in_place else draws)
        return (np.add if self.sign > 0.0 else np.subtract)(result, self._drawn[key], out=out)

    def note(self, function: Any) -> None:
        """Note that a function is applied to results."""
        self.nonsmooth |= bool(self.perturbed) and function not in _SMOOTH


class PerturbedArray(np.ndarray):
    """A float64 array whose operations are perturbed."""

    perturbations: Perturbations | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.perturbations = getattr(source, "perturbations", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        """The operation, perturbed unless it is exact."""
        perturbations = _perturbations_of(*inputs, *out)
        in_place = ufunc is np.add and bool(out) and inputs[0] is out[0]
        inputs, into = tuple(map(_plain, inputs)), {"out": tuple(map(_plain, out))} if out else {}
        result = getattr(ufunc, method)(*inputs, **into, **options)
        if perturbations is not None and any(map(_is_floating, inputs)):
            perturbations.note(ufunc)
        if perturbations is None or not _is_floating(result) or ufunc in _EXACT:
            return out[0] if len(out) == 1 else result
        if in_place:
            magnitude = partial(_of_addition_in_place, result, inputs[1])
        else:
            magnitude = partial(_magnitude, ufunc, method, inputs, options, result)
        result = perturbations.apply(result, magnitude, into["out"][0] if into else None, in_place)
        return out[0] if out else perturbed(result, perturbations)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """NumPy's own result; products that are not ufuncs are perturbed."""
        perturbations = _perturbations_of(*arguments)
        if function not in _PRODUCTS:
            if perturbations is not None:
                perturbations.note(function)
            return super().__array_function__(function, types, arguments, options)
        a, b, *more = map(_plain, arguments)
        result = function(a, b, *more, **options)
        if perturbations is not None:
            result = perturbations.apply(
                result, lambda: _of_sum(lambda *terms: function(*terms, *more, **options), (a, b))
            )
        return perturbed(result, perturbations)


def perturbed(array: Any, perturbations: Perturbations | None) -> PerturbedArray:
    """A view of the array whose operations are perturbed."""
    view = np.asarray(array).view(PerturbedArray)
    view.perturbations = perturbations
    return view


class PerturbedNamespace:
    """An array namespace whose functions, creation functions included, return perturbed arrays."""

    def __init__(self, namespace: Any, perturbations: Perturbations) -> None:
        self._namespace, self._perturbations = namespace, perturbations

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._namespace, name)
        if isinstance(attribute, type) or not callable(attribute):
            return attribute

        def function(*arguments: Any, **options: Any) -> Any:
            result = attribute(*arguments, **options)
            if type(result) in (tuple, list):
                return type(result)(perturbed(item, self._perturbations) for item in result)
            return perturbed(result, self._perturbations) if isinstance(result, (np.ndarray, np.generic)) else result

        return function


@dataclass(frozen=True)
class PerturbedBackend(NumPyBackend):
    """A backend of perturbed arrays."""

    perturbations: Perturbations = field(default_factory=Perturbations)

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        """See :meth:`Backend.asarray`."""
        return perturbed(np.asarray(value, dtype), self.perturbations)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """See :meth:`Backend.reshape`."""
        return self.xp.reshape(x, shape)

    def aligned_zeros(self, count: int, dtype: str) -> Array:
        """See :meth:`Backend.aligned_zeros`."""
        return perturbed(super().aligned_zeros(count, dtype), self.perturbations)


def perturbed_backend() -> PerturbedBackend:
    """The backend "float64" with perturbed operations.

    >>> cpu = perturbed_backend()
    >>> x = cpu.asarray([4.0])
    >>> cpu.perturbations.begin(group=1, sign=1.0)
    >>> 1.0 <= abs(cpu.to_numpy(x * x) - 16.0).item() / (16.0 * ROUNDOFF) <= 2.0
    True
    """
    perturbations, double = Perturbations(), backend("float64")
    namespace = PerturbedNamespace(double.xp, perturbations)
    return PerturbedBackend(**{**vars(double), "xp": namespace}, perturbations=perturbations)


def _magnitude(ufunc: np.ufunc, method: str, inputs: Any, options: Any, result: Any) -> Any:
    """The largest rounding error of an operation, in roundoffs."""
    if method == "__call__" and ufunc.signature is None:
        return (1 if ufunc in _CORRECTLY_ROUNDED else _ROUNDOFFS_OF_A_FUNCTION) * np.abs(result)
    if ufunc is np.add or ufunc.signature is not None:  # a sum, running sums, a product of matrices or vectors
        return _of_sum(lambda *terms: getattr(ufunc, method)(*terms, **options), inputs)
    return inputs[0].shape[options.get("axis", 0)] * np.abs(result)


def _of_addition_in_place(result: np.ndarray, addend: Any) -> np.ndarray:
    """|a| + |b| for a + b, so that a sum of terms that cancel does not seem exact."""
    return np.abs(result - addend) + np.abs(addend)


def _of_sum(function: Callable[..., np.ndarray], inputs: Sequence[np.ndarray]) -> np.ndarray:
    """min(K, λ sqrt(K)) Σ|tₖ|; adding 0 rounds nothing, so K counts the terms that are not 0."""
    sizes = [np.abs(value) for value in inputs]
    count = function(*map(np.sign, sizes))
    return np.minimum(count, CONFIDENCE * np.sqrt(count)) * function(*sizes)


def _perturbations_of(*arrays: Any) -> Perturbations | None:
    given = (array.perturbations for array in arrays if isinstance(array, PerturbedArray))
    return next(filter(None, given), None)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, PerturbedArray) else value


def _is_floating(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.floating)) and value.dtype.kind == "f"
