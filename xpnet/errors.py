"""The errors that xpnet raises on purpose.

Each derives from :class:`Error` and from the built-in that it specialises: ``except xpnet.Error`` and
``except ValueError`` both catch it. A message tells what arrived, what was expected and how to mend it.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable


class Error(Exception):
    """Base of all errors that xpnet raises on purpose.

    >>> import xpnet
    >>> try:
    ...     xpnet.Linear(0, 10)
    ... except xpnet.Error as error:
    ...     print(f"{type(error).__name__}: {error}")
    ConfigurationError: inputs must be a whole number of at least 1, not 0
    """


class ConfigurationError(Error, ValueError):
    """A recipe, an option or a constructor's argument has a value that cannot work.

    >>> import xpnet
    >>> xpnet.Linear(0, 10)
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: inputs must be a whole number of at least 1, not 0
    """


class ShapeError(Error, ValueError):
    """An array has a shape that the operation does not accept.

    >>> import xpnet
    >>> xpnet.Linear(4, 5).output_shape((3,))
    Traceback (most recent call last):
    xpnet.errors.ShapeError: Linear(4, 5) takes samples of shape (4,), not (3,)
    """


class DTypeError(Error, TypeError):
    """An array has an element type that the operation does not accept.

    >>> import xpnet
    >>> xpnet.backend("cpu").asarray(["a", "b"])
    Traceback (most recent call last):
    xpnet.errors.DTypeError: expected numbers, got an array of <U1 of shape (2,)
    """


class OutOfRangeError(Error, IndexError):
    """A class label or a row index is out of range.

    >>> import xpnet
    >>> cpu = xpnet.backend("cpu")
    >>> xpnet.SoftmaxCrossEntropy()(cpu, cpu.asarray([[0.0, 0.0]]), cpu.asarray([2]))
    Traceback (most recent call last):
    xpnet.errors.OutOfRangeError: label 2 at row 0 is outside 0 to 1
    """


class BackendError(Error, RuntimeError):
    """A device cannot be used, or an array is on another backend than the model.

    >>> import xpnet
    >>> xpnet.backend("cpu").require([1.0])
    Traceback (most recent call last):
    xpnet.errors.BackendError: got a builtins.list, but this model lives on backend 'cpu': call ...
    """


class CallOrderError(Error, RuntimeError):
    """A method was called before the one it depends on.

    >>> import xpnet
    >>> xpnet.Linear(4, 5).require_backend()
    Traceback (most recent call last):
    xpnet.errors.CallOrderError: this Linear has no parameters yet: call initialize(...) on the model
    """


class LayerError(Error, RuntimeError):
    """A user-defined layer violates the interface of :class:`xpnet.Layer`; the message names the layer.

    >>> import xpnet
    >>> raise LayerError("layer 1 (Scale): backward returned None: return the gradient with respect to the input")
    Traceback (most recent call last):
    xpnet.errors.LayerError: layer 1 (Scale): backward returned None: return the gradient with respect to the input
    """


class NonFiniteError(Error, ArithmeticError):
    """Training produced a loss, gradient, parameter or statistic that is infinite or NaN.

    >>> import xpnet
    >>> model = xpnet.Linear(1, 2).initialize(xpnet.backend("cpu-reference"))
    >>> trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(1e300))
    >>> trainer.fit(([[1.0]], [0]), epochs=1)
    Traceback (most recent call last):
    xpnet.errors.NonFiniteError: a parameter is not finite after step 1, with the learning rate 1e+300: lower it, ...
    """


class OutOfMemoryError(Error, MemoryError):
    """The device or the host has less free memory than requested.

    >>> import xpnet
    >>> xpnet.Linear(2**31, 2**31).initialize(xpnet.backend("cpu"))
    Traceback (most recent call last):
    xpnet.errors.OutOfMemoryError: not enough memory for 4,611,686,020,574,871,552 numbers of type float32: ...
    """


class MissingFileError(Error, FileNotFoundError):
    """A file or data set was not found, or cannot be read or downloaded.

    >>> import xpnet
    >>> xpnet.checkpoint.load("nowhere.safetensors")
    Traceback (most recent call last):
    xpnet.errors.MissingFileError: there is no checkpoint nowhere.safetensors
    """


class FileFormatError(Error, ValueError):
    """A file is damaged, or is not what its name says.

    >>> import xpnet
    >>> xpnet.checkpoint.load(".")
    Traceback (most recent call last):
    xpnet.errors.FileFormatError: . is not a file; name a checkpoint, such as best.safetensors
    """


class RunFolderError(Error, OSError):
    """A run folder or a file in it cannot be created, written or locked.

    >>> import xpnet
    >>> xpnet.checkpoint.save("nowhere/last", xpnet.Checkpoint({}, {}))
    Traceback (most recent call last):
    xpnet.errors.RunFolderError: cannot write nowhere/last: No such file or directory
    """


def positive_integer(name: str, value: object) -> int:
    """Return ``value`` when it is an integer of at least 1, else raise :class:`ConfigurationError`.

    >>> positive_integer("batch_size", 100)
    100
    >>> positive_integer("batch_size", 0)
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: batch_size must be a whole number of at least 1, not 0
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value.__index__()


def finite_number(name: str, value: object, low: float = -math.inf, below: float = math.inf) -> float:
    """Return ``value`` as a float when ``low <= value < below`` and it is finite, else raise ConfigurationError.

    >>> finite_number("beta1", 0.9, low=0.0, below=1.0)
    0.9
    >>> finite_number("beta1", 1.5, low=0.0, below=1.0)
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: beta1 must be a number of at least 0.0 and below 1.0, not 1.5
    """
    try:
        number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and low <= number < below):
        span = f" of at least {low}" if low > -math.inf else ""
        span += f"{' and' if span else ''} below {below}" if below < math.inf else ""
        raise ConfigurationError(f"{name} must be a number{span}, not {value!r}")
    return number


def boolean(name: str, value: object) -> bool:
    """Return ``value`` when it is true or false, else raise :class:`ConfigurationError`.

    >>> boolean("bias", 0)
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: bias must be true or false, not 0
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be true or false, not {value!r}")
    return value


MAX_NESTING = 100
MAX_INTEGER_BITS = 2048


def require_moderate(name: str, value: object) -> None:
    """Raise ConfigurationError for tables and lists nested more than 100 deep, or integers of more than 2,048 bits.

    Files may contain them, but recursion would exhaust Python's stack, and Python prints no integer of more than 4,300
    digits.

    >>> require_moderate("model", {"layers": [{"type": "ReLU"}]})
    """
    level = [value]
    for _ in range(MAX_NESTING + 1):
        if any(isinstance(item, int) and item.bit_length() > MAX_INTEGER_BITS for item in level):
            raise ConfigurationError(f"{name} has a whole number of more than {MAX_INTEGER_BITS} bits")
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise ConfigurationError(f"{name} has tables and lists nested more than {MAX_NESTING} deep: make it flatter")


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """Return ``value`` when it is one of ``choices``, else raise ConfigurationError that lists them and suggests one.

    >>> one_of("device", "cdua", ["auto", "cpu", "cuda"])
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: unknown device 'cdua' (did you mean 'cuda'?); the choices are auto, cpu, cuda
    """
    choices = list(choices)
    if value in choices:
        return str(value)
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ConfigurationError(f"unknown {name} {value!r}{hint}; the choices are {', '.join(choices)}")
