"""A custom Numba unboxer for the array arguments of kernels: it checks type, dimensions, layout and flags.

Numba's own unboxer accepts any array whose elements have the right size, and takes a reference to it. With checks in
Python before it, the arrays of a layer's backward pass took 1.4 µs, as long as the work of a small layer. This one
takes 0.1 µs: a few loads from the array's C struct, whose layout is part of NumPy's ABI (``PyArrayObject_fields``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, models, register_model, unbox
from numba.np.arrayobj import make_array, populate_array

_BIT, _INT, _BYTES, _WORDS = ir.IntType(1), ir.IntType(32), ir.IntType(8).as_pointer(), ir.IntType(64).as_pointer()
_NO, _YES = _BIT(0), _BIT(1)
_POINTER_SIZE = 8
_HEADER = ir.ArrayType(ir.IntType(8), object.__basicsize__ - _POINTER_SIZE)  # of every Python object, up to its type
_RECORD = ir.LiteralStructType([_HEADER, _BYTES, _BYTES, _INT, _WORDS, _WORDS, _BYTES, _BYTES, _INT])
_, _TYPE, _DATA, _DIMENSIONS, _SHAPE, _STRIDES, _, _DTYPE, _FLAGS = range(9)
_CONTIGUOUS, _WRITEABLE = 0x1, 0x400  # flags

# The usual array type and dtype objects, as symbols to which machine code from the cache is linked when it is loaded.
_DTYPES = {item: np.dtype(item.name) for item in (types.float32, types.float64, types.int64, types.int32, types.uint8)}
_NDARRAY = "xpnet_kernels.ndarray"
llvm.add_symbol(_NDARRAY, id(np.ndarray))
for _dtype in _DTYPES.values():
    llvm.add_symbol(f"xpnet_kernels.{_dtype}", id(_dtype))


class ArgumentMismatchError(TypeError):
    """An argument of a kernel does not match its declaration."""


class ArrayArgument(types.Array):
    """The Numba type of an array argument: element type, dimensions (one means contiguous), whether it is written."""

    def __init__(self, item: types.Type, dimensions: int, written: bool) -> None:
        layout = "C" if dimensions == 1 else "A"
        super().__init__(item, dimensions, layout, readonly=not written, aligned=False)
        self.name = f"argument {self.name}"


register_model(ArrayArgument)(models.ArrayModel)


def _check_array_object(dtype: np.dtype, dimensions: int, written: bool, thing: Any) -> None:
    """Raise ArgumentMismatchError unless ``thing`` is an array of this kind, or of a subclass such as ``memmap``.

    It reads NumPy's own descriptors, since a subclass may override the attributes with something else.
    """
    kind, array = type(thing), np.ndarray
    if issubclass(kind, array) and not issubclass(kind, (np.matrix, np.ma.MaskedArray)):
        flags = array.flags.__get__(thing)
        contiguous = flags.c_contiguous or dimensions > 1
        if (
            array.dtype.__get__(thing) == dtype and array.ndim.__get__(thing) == dimensions
            and contiguous and (flags.writeable or not written)
        ):  # fmt: skip
            return
    adjectives = "contiguous " * (dimensions == 1) + "writable " * written
    raise ArgumentMismatchError(
        f"expected a {adjectives}{dtype} array of {dimensions} dimension(s), not a {kind.__name__}"
    )


@unbox(ArrayArgument)
def _unbox(kind: ArrayArgument, thing: Any, c: Any) -> NativeValue:
    """The array as a borrowed reference: the kernel's caller keeps it alive."""
    array = cgutils.alloca_once_value(c.builder, make_array(kind)(c.context, c.builder)._getvalue())
    taken = c.builder.call(_reader(kind, c), [thing, array])
    return NativeValue(c.builder.load(array), is_error=c.builder.not_(taken))


def _reader(kind: ArrayArgument, c: Any) -> ir.Function:
    """A compiled function that fills in the array from a Python object; on a mismatch it sets an exception: false."""
    module, dtype = c.builder.module, _DTYPES[kind.dtype]
    name = f"read_{dtype}_{kind.ndim}_{kind.mutable}"
    if name in module.globals:
        return module.globals[name]
    target = make_array(kind)(c.context, c.builder)._getvalue().type.as_pointer()
    function = ir.Function(module, ir.FunctionType(_BIT, [c.pyapi.pyobj, target]), name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    thing, array = function.args
    with builder.if_then(builder.not_(_is_usual(kind, builder, thing)), likely=False):
        python = c.context.get_python_api(builder)
        check = python.unserialize(
            python.serialize_object(partial(_check_array_object, dtype, kind.ndim, bool(kind.mutable)))
        )
        answer = python.call_function_objargs(check, [thing])
        python.decref(check)
        with builder.if_then(cgutils.is_null(builder, answer)):
            builder.ret(_NO)
        python.decref(answer)
    result = make_array(kind)(c.context, builder)
    shape, strides = (
        [builder.load(builder.gep(_field(builder, thing, words), [_INT(axis)])) for axis in range(kind.ndim)]
        for words in (_SHAPE, _STRIDES)
    )
    start = builder.bitcast(_field(builder, thing, _DATA), result.data.type)
    populate_array(result, start, shape, strides, c.context.get_constant(types.intp, dtype.itemsize), None)
    builder.store(result._getvalue(), array)
    builder.ret(_YES)
    return function


def _is_usual(kind: ArrayArgument, builder: ir.IRBuilder, thing: Any) -> Any:
    """Whether the object is exactly a ``numpy.ndarray`` with the usual dtype object and matches its declaration."""

    def is_known(place: int, symbol: str) -> Any:
        known = builder.module.globals.get(symbol)
        known = known or cgutils.add_global_variable(builder.module, ir.IntType(8), symbol)
        return builder.icmp_unsigned("==", _field(builder, thing, place), known)

    usual = cgutils.alloca_once_value(builder, _NO)
    with builder.if_then(is_known(_TYPE, _NDARRAY)):  # otherwise there may be no such struct
        needed = (_CONTIGUOUS if kind.ndim == 1 else 0) | (_WRITEABLE if kind.mutable else 0)
        flags = builder.and_(_field(builder, thing, _FLAGS), _INT(needed))
        fits = builder.and_(
            builder.icmp_signed("==", _field(builder, thing, _DIMENSIONS), _INT(kind.ndim)),
            builder.icmp_signed("==", flags, _INT(needed)),
        )
        builder.store(builder.and_(is_known(_DTYPE, f"xpnet_kernels.{_DTYPES[kind.dtype]}"), fits), usual)
    return builder.load(usual)


def _field(builder: ir.IRBuilder, thing: Any, place: int) -> Any:
    record = builder.bitcast(thing, _RECORD.as_pointer())
    return builder.load(builder.gep(record, [_INT(0), _INT(place)]))
