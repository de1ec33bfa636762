"""Arrays on their way from Python into a kernel: compiled code looks at them, and refuses what is not as declared.

Numba's own way in takes any array whose elements are of the right size, and notes who owns it; to look at five arrays
in Python before each call took longer than a small layer. Here it is a few loads from the array's own record, whose
layout is part of NumPy's binary interface (``PyArrayObject_fields``, alike in NumPy 1 and 2).
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
_POINTER_SIZE = 8
_HEADER = ir.ArrayType(ir.IntType(8), object.__basicsize__ - _POINTER_SIZE)  # of every object, up to its type
_RECORD = ir.LiteralStructType([_HEADER, _BYTES, _BYTES, _INT, _WORDS, _WORDS, _BYTES, _BYTES, _INT])
_TYPE, _DATA, _DIMENSIONS, _SHAPE, _STRIDES, _, _DTYPE, _FLAGS = range(1, 9)
_CONTIGUOUS, _WRITEABLE = 0x1, 0x400  # flags

# What an array's type and element type usually are, for machine code that comes from a cache to compare with.
_DTYPES = {item: np.dtype(item.name) for item in (types.float32, types.float64, types.int64, types.int32, types.uint8)}
_NDARRAY = "xpnet_kernels.ndarray"
llvm.add_symbol(_NDARRAY, id(np.ndarray))
for _dtype in _DTYPES.values():
    llvm.add_symbol(f"xpnet_kernels.{_dtype}", id(_dtype))

# What Python raises on the way into a kernel that was given other things than it takes: no arrays, or of another kind.
UNFIT = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Argument(types.Array):
    """An array with elements of this type, so many dimensions (contiguous if it is one), to be written or not."""

    def __init__(self, item: types.Type, dimensions: int, written: bool) -> None:
        layout = "C" if dimensions == 1 else "A"
        super().__init__(item, dimensions, layout, readonly=not written, aligned=False)
        self.name = f"argument {self.name}"

    @property
    def description(self) -> str:
        """In words."""
        adjectives = "contiguous " * (self.ndim == 1) + "writable " * self.mutable
        return f"a {adjectives}{self.dtype} array of {self.ndim} dimension(s)"


register_model(Argument)(models.ArrayModel)


def is_array(dtype: np.dtype, thing: Any) -> bool:
    """Whether a thing is an array of this element type, of NumPy's or a class of its own that means the same."""
    means_more = isinstance(thing, (np.matrix, np.ma.MaskedArray))
    return isinstance(thing, np.ndarray) and not means_more and bool(thing.dtype == dtype)


@unbox(Argument)
def _take(kind: Argument, thing: Any, c: Any) -> NativeValue:
    """The array, which the caller of the kernel keeps; TypeError for anything else than its kind."""
    array = cgutils.alloca_once_value(c.builder, make_array(kind)(c.context, c.builder)._getvalue())
    refused = c.builder.not_(c.builder.call(_reader(kind, c), [thing, array]))
    with c.builder.if_then(refused, likely=False):
        unexplained = cgutils.is_null(c.builder, c.pyapi.err_occurred())
        with c.builder.if_then(unexplained):
            c.pyapi.err_set_string("PyExc_TypeError", f"expected {kind.description}")
    return NativeValue(c.builder.load(array), is_error=refused)


def _reader(kind: Argument, c: Any) -> ir.Function:
    """Compiled code that fills in the array from an object and returns true, or returns false."""
    module, dtype = c.builder.module, _DTYPES[kind.dtype]
    name = f"read_{dtype}_{kind.ndim}_{kind.mutable}"
    if name in module.globals:
        return module.globals[name]
    target = make_array(kind)(c.context, c.builder)._getvalue().type.as_pointer()
    function = ir.Function(module, ir.FunctionType(_BIT, [c.pyapi.pyobj, target]), name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    python = c.context.get_python_api(builder)
    thing, array = function.args
    record = builder.bitcast(thing, _RECORD.as_pointer())

    def field(place: int) -> Any:
        return builder.load(builder.gep(record, [_INT(0), _INT(place)]))

    def is_known(place: int, symbol: str) -> Any:
        known = module.globals.get(symbol) or cgutils.add_global_variable(module, ir.IntType(8), symbol)
        return builder.icmp_unsigned("==", field(place), known)

    def refuse_unless(good: Any) -> None:
        with builder.if_then(builder.not_(good), likely=False):
            builder.ret(_BIT(0))

    usual = cgutils.alloca_once_value(builder, _BIT(0))
    with builder.if_then(is_known(_TYPE, _NDARRAY)):  # else there may be no such record
        builder.store(is_known(_DTYPE, f"xpnet_kernels.{dtype}"), usual)
    with builder.if_then(builder.not_(builder.load(usual)), likely=False):
        question = python.unserialize(python.serialize_object(partial(is_array, dtype)))
        answer = python.call_function_objargs(question, [thing])
        python.decref(question)
        refuse_unless(cgutils.is_not_null(builder, answer))
        true = builder.icmp_signed("==", python.object_istrue(answer), _INT(1))
        python.decref(answer)
        refuse_unless(true)
    needed = (_CONTIGUOUS if kind.ndim == 1 else 0) | (_WRITEABLE if kind.mutable else 0)
    refuse_unless(builder.icmp_signed("==", field(_DIMENSIONS), _INT(kind.ndim)))
    refuse_unless(builder.icmp_signed("==", builder.and_(field(_FLAGS), _INT(needed)), _INT(needed)))
    result = make_array(kind)(c.context, builder)
    shape, strides = (
        [builder.load(builder.gep(field(words), [_INT(axis)])) for axis in range(kind.ndim)]
        for words in (_SHAPE, _STRIDES)
    )
    start = builder.bitcast(field(_DATA), result.data.type)
    populate_array(result, start, shape, strides, c.context.get_constant(types.intp, dtype.itemsize), None)
    builder.store(result._getvalue(), array)
    builder.ret(_BIT(1))
    return function
