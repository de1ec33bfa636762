"""What the instructions compute: a function of arrays for each opcode and its modifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from . import floating
from .errors import PtxError
from .registers import DTYPES

_COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert}
_INTEGER = {"add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum, "neg": np.negative, "abs": np.abs}
_REAL = _INTEGER | {
    "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt, "min": floating.smaller, "max": floating.larger,
    "rcp": lambda a: 1 / a, "copysign": lambda a, b: np.copysign(b, a),
}  # fmt: skip
_APPROXIMATE = {  # rounded correctly here; a GPU errs by 1 or 2 units in the last place
    "rcp": lambda a: 1 / a, "sqrt": np.sqrt, "div": np.divide, "ex2": floating.exponential2,
}  # fmt: skip
_HARMLESS = {"rn", "to", "global", "shared", "local", "uni"}  # modifiers that change nothing here


@dataclass(frozen=True)
class Operation:
    """A function, the types of its arguments and the type of its result."""

    function: Callable[..., Any]
    sources: tuple[str, ...]
    result: str


@cache
def operation(name: str, modifiers: tuple[str, ...]) -> Operation | None:
    """What an instruction without side effects computes; None where it is unknown."""
    if modifiers and modifiers[-1] in DTYPES:
        for find in (_conversion, _comparison, _pairs, _integer_only, _logic, _real, _integer):
            if found := find(name, modifiers, modifiers[-1]):
                return found
    return None


def _options(modifiers: tuple[str, ...]) -> set[str]:
    return set(modifiers[:-1]) - _HARMLESS


def _logic(name: str, modifiers: tuple[str, ...], kind: str) -> Operation | None:
    if name in ("mov", "cvta") and not _options(modifiers):
        return Operation(lambda a: a, (kind,), kind)
    if name == "selp" and not _options(modifiers):
        return Operation(lambda a, b, p: np.where(p, a, b), (kind, kind, "pred"), kind)
    if name in _LOGIC and len(modifiers) == 1 and (kind == "pred" or kind[0] == "b"):
        return Operation(_LOGIC[name], (kind,) * (1 if name == "not" else 2), kind)
    return None


def _real(name: str, modifiers: tuple[str, ...], kind: str) -> Operation | None:
    options = _options(modifiers)
    if kind not in ("f32", "f64"):
        return None
    if (name, kind, options) == ("rcp", "f64", {"approx", "ftz"}):
        return Operation(floating.reciprocal64, (kind,), kind)
    if name == "fma" and "rn" in modifiers:
        function = floating.fma32 if kind == "f32" else floating.fma64
    elif "approx" in options and kind == "f32":
        function = _APPROXIMATE.get(name)
        options -= {"approx"}
    else:
        function = _REAL.get(name)
    if "NaN" in options and name in ("min", "max"):
        number, options = function, options - {"NaN"}
        function = lambda a, b: np.where(np.isnan(a) | np.isnan(b), a + b, number(a, b))  # noqa: E731
    if function is None or options - {"ftz"} or (options and kind == "f64"):
        return None
    if options:
        plain = function
        function = lambda *arguments: floating.flush(plain(*map(floating.flush, arguments)))  # noqa: E731
    count = {"fma": 3, "neg": 1, "abs": 1, "sqrt": 1, "rcp": 1, "ex2": 1}.get(name, 2)
    return Operation(function, (kind,) * count, kind)


def _integer(name: str, modifiers: tuple[str, ...], kind: str) -> Operation | None:
    function = _INTEGER.get(name)
    if function is None or kind[0] not in "su" or len(modifiers) > 1:
        return None
    return Operation(function, (kind,) * (1 if name in ("neg", "abs") else 2), kind)


def _pairs(name: str, modifiers: tuple[str, ...], kind: str) -> Operation | None:
    if (name, modifiers[:-1]) == ("max", ("NaN",)) and kind in ("f16x2", "bf16x2"):
        return Operation(floating.larger_of_pairs(kind), (kind, kind), kind)
    return None


def _integer_only(name: str, modifiers: tuple[str, ...], kind: str) -> Operation | None:
    if kind[0] not in "sub" or (name != "shr" and (kind[0] == "b") != (name in ("shl", "bfi", "prmt"))):
        return None
    bits = DTYPES[kind].itemsize * 8
    match name, *modifiers[:-1]:
        case ["prmt"] if kind == "b32":
            return Operation(_permute, (kind, kind, "u32"), kind)
        case ["shl"] | ["shr"]:
            return Operation(_shift(name, kind), (kind, "u32"), kind)
        case ["bfi"]:
            return Operation(_insert(kind), (kind, kind, "u32", "u32"), kind)
        case ["div"] | ["rem"]:
            return Operation(_quotient if name == "div" else _remainder, (kind, kind), kind)
        case ["mul" | "mad", "lo"]:
            return Operation(_multiply_add, (kind,) * (2 if name == "mul" else 3), kind)
        case ["mul" | "mad", "wide"] if bits <= 32:
            wide = f"{kind[0]}{bits * 2}"

            def widening(a: Any, b: Any, c: Any = 0) -> Any:
                return np.multiply(a, b, dtype=DTYPES[wide]) + DTYPES[wide].type(c)

            return Operation(widening, (kind, kind, wide)[: 2 if name == "mul" else 3], wide)
        case ["mul", "hi"] if bits <= 32:
            wide = DTYPES[f"{kind[0]}{bits * 2}"]
            return Operation(
                lambda a, b: (np.multiply(a, b, dtype=wide) >> bits).astype(DTYPES[kind]), (kind, kind), kind
            )
    return None


def _multiply_add(a: Any, b: Any, c: Any = None) -> Any:
    return np.multiply(a, b) if c is None else np.multiply(a, b) + c


def _divisor(b: Any) -> Any:
    if np.any(np.equal(b, 0)):
        raise PtxError("a whole number is divided by zero")
    return b


def _quotient(a: Any, b: Any) -> Any:
    """Rounded towards zero."""
    quotient = np.floor_divide(a, _divisor(b))
    return quotient + ((quotient < 0) & (np.multiply(quotient, b) != a))


def _remainder(a: Any, b: Any) -> Any:
    """Of the sign of a."""
    return np.fmod(a, _divisor(b))


def _shift(name: str, kind: str) -> Callable[..., Any]:
    """Amounts beyond the width shift everything out."""
    dtype = DTYPES[kind]
    bits = dtype.itemsize * 8

    def shift(a: Any, amount: Any) -> Any:
        within = np.minimum(amount, np.uint32(bits - 1)).astype(dtype)
        shifted = np.left_shift(a, within) if name == "shl" else np.right_shift(a, within)
        if kind[0] == "s" or (amount.ndim == 0 and amount < bits):
            return shifted
        return np.where(amount < bits, shifted, dtype.type(0))

    return shift


def _insert(kind: str) -> Callable[..., Any]:
    """The lowest bits of a, so many, inserted into b at a position."""
    dtype = DTYPES[kind]
    bits = dtype.itemsize * 8

    def insert(a: Any, b: Any, position: Any, length: Any) -> Any:
        if position.ndim or length.ndim:
            raise PtxError("bfi takes a position and a length that all threads share")
        mask = ((1 << int(length) % 256) - 1) << int(position) % 256 & ((1 << bits) - 1)
        mask = dtype.type(mask)
        moved = _shift("shl", kind)(a, position)
        return (b & ~mask) | (moved & mask)

    return insert


def _permute(a: Any, b: Any, selector: Any) -> Any:
    """Each byte of the result is one of the eight of a and b, or eight times its highest bit."""
    both = np.asarray(b, np.uint64) << np.uint64(32) | np.asarray(a, np.uint64)
    result = np.zeros(np.broadcast_shapes(np.shape(both), np.shape(selector)), np.uint64)
    for place in range(4):
        choice = np.asarray(selector, np.uint64) >> np.uint64(4 * place) & np.uint64(15)
        byte = both >> (choice & np.uint64(7)) * np.uint64(8) & np.uint64(255)
        spread = np.where(byte >= 128, np.uint64(255), np.uint64(0))
        result |= np.where(choice >= 8, spread, byte) << np.uint64(8 * place)
    return result.astype(np.uint32)


def _comparison(name: str, modifiers: tuple[str, ...], kind: str) -> Operation | None:
    if name != "setp" or len(modifiers) != 2:
        return None
    comparison, sources = modifiers[0], (kind, kind)
    if kind[0] != "f":
        return Operation(_COMPARE[comparison], sources, "pred") if comparison in _COMPARE else None
    if comparison in ("num", "nan"):
        return Operation(lambda a, b: (np.isnan(a) | np.isnan(b)) == (comparison == "nan"), sources, "pred")
    if comparison == "ne":  # false where an operand is NaN, unlike NumPy's
        return Operation(lambda a, b: np.less(a, b) | np.greater(a, b), sources, "pred")
    if comparison in ("lt", "le", "gt", "ge", "eq"):
        return Operation(_COMPARE[comparison], sources, "pred")
    opposite = {"equ": None, "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}
    if comparison == "equ":
        return Operation(lambda a, b: ~(np.less(a, b) | np.greater(a, b)), sources, "pred")
    if comparison in opposite:
        return Operation(lambda a, b: np.logical_not(_COMPARE[opposite[comparison]](a, b)), sources, "pred")
    return None


def _conversion(name: str, modifiers: tuple[str, ...], kind: str) -> Operation | None:
    if name != "cvt" or modifiers[-2] not in DTYPES:
        return None
    *how, to, source = modifiers
    flushing = "ftz" in how
    how = [part for part in how if part != "ftz"]
    real_to, real_source = to in ("f16", "f32", "f64", "bf16"), source in ("f16", "f32", "f64")
    if (real_to, real_source, how) in ((True, True, ["rni"]), (True, True, ["rzi"])) and to == source:
        function: Callable[..., Any] = np.rint if how == ["rni"] else np.trunc
    elif real_source and not real_to and how in (["rzi"], ["rni"]):
        function = _to_integer(to, source, np.trunc if how == ["rzi"] else np.rint)
    elif to == "bf16" and source == "f32" and how == ["rn"]:
        function = floating.bfloat16
    elif to == "f16" and source in ("f32", "f64") and how == ["rn"]:
        function = floating.float16
    elif how == (["rn"] if real_to and _rounds(to, source) else []) and to != "bf16":
        function = lambda a: np.asarray(a).astype(DTYPES[to])  # noqa: E731
    else:
        return None
    if flushing:
        plain = function
        function = lambda a: floating.flush(plain(a)) if to == "f32" else plain(floating.flush(a))  # noqa: E731
    return Operation(function, (source,), to)


def _rounds(to: str, source: str) -> bool:
    return source[0] != "f" or DTYPES[to].itemsize < DTYPES[source].itemsize


def _to_integer(to: str, source: str, rounding: Callable) -> Callable[..., Any]:
    """Beyond the range the nearest number in it; of NaN 0 or, where one of the types has 64 bits, the highest bit."""
    limits = np.iinfo(DTYPES[to])
    of_nan = np.array(1 << (limits.bits - 1) if 64 in (limits.bits, DTYPES[source].itemsize * 8) else 0, np.uint64)

    def convert(a: Any) -> Any:
        whole = rounding(np.asarray(a, np.float64))
        inside = (whole >= float(limits.min)) & (whole < float(limits.max) + (limits.bits <= 32))
        beyond = np.where(whole < 0, DTYPES[to].type(limits.min), DTYPES[to].type(limits.max))
        converted = np.where(inside, whole, 0).astype(DTYPES[to])
        return np.where(np.isnan(whole), of_nan.astype(DTYPES[to]), np.where(inside, converted, beyond))

    return convert
