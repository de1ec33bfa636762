"""How far rounding can carry a result: a computation repeated in an arithmetic that errs on purpose.

A running error analysis (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, section 3.3) of
code as it stands. In float64 the computation is run once as it is, and then again and again: in each run one of its
operations errs by as much as it might in the narrower type, and how far that carries the result is measured. With u
the unit roundoff, an operation errs by

- u |v|, for a result v of +, -, ×, ÷ or a square root, and 8 u |v| for exp, tanh and their like (4 ulps);
- min(K, λ sqrt(K)) u Σ|tₖ|, for a sum of K terms tₖ ≠ 0, as in a matrix product, whatever their order. K u Σ|tₖ|
  holds always (Higham, equation 3.5, to first order); λ sqrt(K) u Σ|tₖ| but for a probability of 2 exp(-λ²/2) for each
  rounding (Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019).

So the lengths of the sums are those that occur, and no layer has to declare anything. What is not seen is rounding
inside functions that are neither in the array-API standard nor a NumPy ufunc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from xpnet import random
from xpnet.backends import Array, NumPyBackend, backend

ROUNDOFF = 2.0**-24  # float32's; a bound for another type is proportional
CONFIDENCE = 2.0  # λ
RUNS = 8  # the operations of a long computation take turns in so many groups

_EXACT = {np.negative, np.positive, np.absolute, np.sign, np.maximum, np.minimum, np.fmax, np.fmin, np.copysign}
_EXACT |= {np.floor, np.ceil, np.trunc, np.rint}
_ROUNDED_ONCE = {np.add, np.subtract, np.multiply, np.divide, np.sqrt, np.square, np.reciprocal}
_ROUNDINGS_OF_A_FUNCTION = 8
_SAMPLE = 20_000  # elements of which the median is taken
_PRODUCTS = {np.dot, np.inner, np.tensordot}
# Through these an error goes with its sign changed when it is given with its sign changed; of others it is not known.
_SMOOTH: set[Any] = {np.add, np.subtract, np.multiply, np.divide, np.square, np.negative, np.positive, np.matmul}
_SMOOTH |= {np.exp, np.tanh, np.where, np.reshape, np.transpose, np.swapaxes, np.concatenate, np.sum, np.mean, np.take}
_SMOOTH |= {np.empty_like, np.zeros_like, np.ones_like, np.copyto}

_UNIFORM = 2.0 * random.uniform(random.stream_key(0, "rounding errors"), 65_521) - 1.0
# Not all of one magnitude, but of 1 to 2: else two operations' errors might cancel everywhere.
_DRAWS = ROUNDOFF * (_UNIFORM + np.copysign(1.0, _UNIFORM))

Arrays = Mapping[Any, np.ndarray]


@dataclass
class Errors:
    """Which operations err in this run, and how.

    Operations are numbered from 1, and every ``RUNS``-th is of one group. All additions in place together are number 0:
    they err in one direction, lest the many that an unrolled sum has cancel each other.

    Attributes:
        sign: the direction in which each error is taken; 0: nobody errs.
        group: whose turn it is.
        groups: of all the operations so far.
        erred: the numbers of those that erred in this run.
        bent: whether a result went through what is not smooth after that.
    """

    sign: float = 0.0
    group: int = 0
    groups: set[int] = field(default_factory=set)
    erred: list[int] = field(default_factory=list)
    bent: bool = False
    _operations: int = 0
    _drawn: dict[Any, np.ndarray] = field(default_factory=dict)

    def begin(self, group: int, sign: float) -> None:
        """A new run. One downwards follows that upwards, and takes its errors with their signs changed."""
        self.group, self.sign, self.erred, self.bent, self._operations = group, sign, [], False, 0
        if sign >= 0.0:
            self._drawn = {}

    def after(
        self, result: Any, magnitude: Callable[[], Any], out: np.ndarray | None = None, in_place: bool = False
    ) -> Any:
        """The result of an operation, off by ``magnitude`` roundoffs, up or down, if its turn has come."""
        self._operations += not in_place
        number = 0 if in_place else self._operations
        self.groups.add(number % RUNS)
        if self.sign == 0.0 or number % RUNS != self.group:
            return result
        self.erred.append(number)
        key = len(self.erred), np.shape(result)
        if key not in self._drawn:
            draws = np.resize(np.roll(_DRAWS, 31 * number), np.shape(result))
            self._drawn[key] = magnitude() * (np.abs(draws) if in_place else draws)
        return (np.add if self.sign > 0.0 else np.subtract)(result, self._drawn[key], out=out)

    def passes(self, function: Any) -> None:
        """Note that results go through a function."""
        self.bent |= bool(self.erred) and function not in _SMOOTH


class ErringArray(np.ndarray):
    """A float64 array, each operation on which errs when its turn comes."""

    errors: Errors | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.errors = getattr(source, "errors", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        """The operation, and its error."""
        errors = _errors_of(*inputs, *out)
        in_place = ufunc is np.add and bool(out) and inputs[0] is out[0]
        inputs, into = tuple(map(_plain, inputs)), {"out": tuple(map(_plain, out))} if out else {}
        result = getattr(ufunc, method)(*inputs, **into, **options)
        if errors is not None and any(map(_is_floating, inputs)):
            errors.passes(ufunc)
        if errors is None or not _is_floating(result) or ufunc in _EXACT:
            return out[0] if len(out) == 1 else result
        if in_place:
            magnitude = partial(_of_addition_in_place, result, inputs[1])
        else:
            magnitude = partial(_magnitude, ufunc, method, inputs, options, result)
        result = errors.after(result, magnitude, into["out"][0] if into else None, in_place)
        return out[0] if out else erring(result, errors)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """What NumPy makes of it, with an error where it is a product that is no ufunc."""
        errors = _errors_of(*arguments)
        if function not in _PRODUCTS:
            if errors is not None:
                errors.passes(function)
            return super().__array_function__(function, types, arguments, options)
        a, b, *more = map(_plain, arguments)
        result = function(a, b, *more, **options)
        if errors is not None:
            result = errors.after(result, lambda: _of_sum(lambda *terms: function(*terms, *more, **options), (a, b)))
        return erring(result, errors)


def erring(array: Any, errors: Errors | None) -> ErringArray:
    """The array as one on which operations err; it shares its memory."""
    view = np.asarray(array).view(ErringArray)
    view.errors = errors
    return view


class ErringNamespace:
    """An array namespace, all of whose arrays err: those, too, that a function makes from nothing."""

    def __init__(self, namespace: Any, errors: Errors) -> None:
        self._namespace, self._errors = namespace, errors

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._namespace, name)
        if isinstance(attribute, type) or not callable(attribute):
            return attribute

        def function(*arguments: Any, **options: Any) -> Any:
            result = attribute(*arguments, **options)
            if type(result) in (tuple, list):
                return type(result)(erring(item, self._errors) for item in result)
            return erring(result, self._errors) if isinstance(result, (np.ndarray, np.generic)) else result

        return function


@dataclass(frozen=True)
class ErringBackend(NumPyBackend):
    """A backend of such arrays."""

    errors: Errors = field(default_factory=Errors)

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        """See :meth:`Backend.asarray`."""
        return erring(np.asarray(value, dtype), self.errors)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """See :meth:`Backend.reshape`."""
        return self.xp.reshape(x, shape)

    def aligned_zeros(self, count: int, dtype: str) -> Array:
        """See :meth:`Backend.aligned_zeros`."""
        return erring(super().aligned_zeros(count, dtype), self.errors)


def erring_backend() -> ErringBackend:
    """The backend "float64", in the arithmetic that errs.

    >>> cpu = erring_backend()
    >>> x = cpu.asarray([3.0, 4.0])
    >>> bounds = rounding_bounds(cpu, lambda: {"norm": cpu.to_numpy(cpu.xp.sqrt(cpu.xp.sum(x * x)))})
    >>> 1.0 < float(bounds["norm"]) / (5.0 * ROUNDOFF) < 8.0
    True
    """
    errors, double = Errors(), backend("float64")
    return ErringBackend(**{**vars(double), "xp": ErringNamespace(double.xp, errors)}, errors=errors)


def rounding_bounds(erring: ErringBackend, compute: Callable[[], Arrays]) -> dict[Any, np.ndarray]:
    """How far float32's rounding can carry each result of ``compute``, element by element: for each name an array.

    Each operation errs once upwards and, where what follows is not smooth, once downwards, so that a value which
    rounding may carry across a kink or a comparison is carried across. What an operation's result goes through
    afterwards adds up its error with random signs, as rounding errors do. A result that no operation touches has the
    bound 0.

    Args:
        erring: what ``compute`` computes on.
        compute: gives fresh arrays by name, and the same ones each time.
    """
    errors = erring.errors
    errors.begin(0, 0.0)
    errors.groups.clear()
    exact = compute()
    bounds = {name: np.zeros(array.shape) for name, array in exact.items()}
    for group in sorted(errors.groups):
        widest: dict[Any, np.ndarray] = {}
        for sign in (1.0, -1.0):
            errors.begin(group, sign)
            for name, array in compute().items():
                with erring.ignoring_overflow():
                    width = np.abs(array - exact[name])
                widest[name] = np.maximum(widest[name], width) if name in widest else width
            if not errors.bent:
                break
        mixed = len(set(errors.erred)) > 1 or 0 in errors.groups
        for name, width in widest.items():
            bounds[name] += _without_lucky_draws(width) if mixed else width
    return bounds


def _without_lucky_draws(width: np.ndarray) -> np.ndarray:
    """No less than a quarter of the usual width: errors that are added up can cancel each other by chance.

    Needless where only one operation errs and no sum is unrolled: the sums that follow err more by themselves.
    """
    sample = width.ravel()[:: width.size // _SAMPLE + 1]
    drawn = sample[(sample > 0.0) & np.isfinite(sample)]
    usual = np.median(drawn) if drawn.size else 0.0
    return np.where(width > 0.0, np.maximum(width, usual / 4), width)


def _magnitude(ufunc: np.ufunc, method: str, inputs: Any, options: Any, result: Any) -> Any:
    """What an operation may err by, in units of the roundoff."""
    if method == "__call__" and ufunc.signature is None:
        return (1 if ufunc in _ROUNDED_ONCE else _ROUNDINGS_OF_A_FUNCTION) * np.abs(result)
    if ufunc is np.add or ufunc.signature is not None:  # a sum, running sums, a product of matrices or vectors
        return _of_sum(lambda *terms: getattr(ufunc, method)(*terms, **options), inputs)
    return inputs[0].shape[options.get("axis", 0)] * np.abs(result)


def _of_addition_in_place(result: np.ndarray, addend: Any) -> np.ndarray:
    """|a| + |b| for a + b, as a sum that many additions make of numbers that cancel is not to seem exact."""
    return np.abs(result - addend) + np.abs(addend)


def _of_sum(function: Callable[..., np.ndarray], inputs: Sequence[np.ndarray]) -> np.ndarray:
    """min(K, λ sqrt(K)) Σ|tₖ|; to add a 0 rounds nothing, so K counts the other terms."""
    sizes = [np.abs(value) for value in inputs]
    count = function(*map(np.sign, sizes))
    return np.minimum(count, CONFIDENCE * np.sqrt(count)) * function(*sizes)


def _errors_of(*arrays: Any) -> Errors | None:
    return next((array.errors for array in arrays if isinstance(array, ErringArray) and array.errors), None)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, ErringArray) else value


def _is_floating(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.floating)) and value.dtype.kind == "f"
