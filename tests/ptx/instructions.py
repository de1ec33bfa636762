"""Instructions of a basic block, each translated to a function of the threads that run it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .arithmetic import operation
from .errors import PtxError
from .program import Instruction, Program
from .registers import DTYPES, Active, Registers

if TYPE_CHECKING:
    from .wave import Wave

Step = Callable[[Any, "Wave"], None]  # (registers of the active threads, the blocks that run)
Reader = Callable[[Any], Any]

_CACHING = {"nc", "ca", "cg", "cs", "volatile", "L1::no_allocate", "L1", "no_allocate", "relaxed", "gpu", "sys"}


@cache
def translated(program: Program, place: int) -> list[tuple[Step, Instruction]]:
    """The instructions of a basic block, and what runs them."""
    return [(_translate(one, program), one) for one in program.blocks[place].body]


def _translate(instruction: Instruction, program: Program) -> Step:
    """The function that runs an instruction."""
    match instruction.opcode, *instruction.modifiers[:1]:
        case ["ld", "param"]:
            return _load_parameter(instruction, program)
        case ["ld", *_]:
            return _load(instruction, program)
        case ["st", *_]:
            return _store(instruction, program)
        case ["red", *_]:
            return _reduction(instruction, program)
        case ["mov", *_] if isinstance(instruction.operands[0], tuple):
            return _unpack(instruction, program)
        case ["mov", *_] if isinstance(instruction.operands[1], tuple):
            return _pack(instruction, program)
    return _compute(instruction, program)


def reader(operand: str, kind: str, program: Program) -> Reader:
    """A function of the active registers that gives an operand in a type."""
    dtype = DTYPES[kind]
    if operand in program.types or operand[0] == "%":

        def read(registers: Registers | Active) -> Any:
            value = registers[operand]
            if value.dtype is dtype:
                return value
            return value.view(dtype) if value.dtype.itemsize == dtype.itemsize else value.astype(dtype)

        return read
    constant = _constant(operand, dtype, program)
    return lambda registers: constant


def _constant(operand: str, dtype: np.dtype, program: Program) -> Any:
    for variables in (program.shared, program.local):
        if operand in variables.places:
            return dtype.type(variables.places[operand].start)
    if operand[:2] in ("0f", "0F"):
        return dtype.type(np.uint32(int(operand[2:], 16)).view(np.float32))
    if operand[:2] in ("0d", "0D"):
        return dtype.type(np.uint64(int(operand[2:], 16)).view(np.float64))
    try:
        number = int(operand.rstrip("U"), 0)
    except ValueError:
        raise PtxError(f"unknown operand {operand!r}") from None
    if dtype.kind == "b":
        return np.bool_(number)
    return np.frombuffer((number & (256**dtype.itemsize - 1)).to_bytes(dtype.itemsize, "little"), dtype)[0]


def _writer(operand: str, kind: str, program: Program) -> Callable[[Any, Any], None]:
    """A function that writes a result of a type to a register, which may be wider."""
    if operand == "_":
        return lambda registers, value: None
    if operand not in program.types:
        raise PtxError(f"{operand} is not a register")
    result, register = DTYPES[kind], DTYPES[program.types[operand]]
    if register.itemsize == result.itemsize:
        return lambda registers, value: registers.__setitem__(operand, value)
    if register.itemsize < result.itemsize or result.kind == "f":
        raise PtxError(f"a register of type {program.types[operand]} takes no {kind}")
    wide = np.dtype(f"{'i' if result.kind == 'i' else 'u'}{register.itemsize}")
    return lambda registers, value: registers.__setitem__(operand, value.astype(wide))


def _compute(instruction: Instruction, program: Program) -> Step:
    what = operation(instruction.opcode, instruction.modifiers)
    target, *operands = instruction.operands
    if what is None or len(operands) != len(what.sources) or "|" in target:
        raise PtxError(f"unknown instruction {instruction.text!r}")
    sources = [reader(operand, kind, program) for operand, kind in zip(operands, what.sources, strict=True)]
    write, function = _writer(target, what.result, program), what.function
    if len(sources) == 1:
        (only,) = sources
        return lambda registers, wave: write(registers, function(only(registers)))
    if len(sources) == 2:
        one, other = sources
        return lambda registers, wave: write(registers, function(one(registers), other(registers)))
    return lambda registers, wave: write(registers, function(*(source(registers) for source in sources)))


def _unpack(instruction: Instruction, program: Program) -> Step:
    targets, source = instruction.operands
    item = DTYPES[instruction.type].itemsize // len(targets)
    read, part = reader(source, instruction.type, program), np.dtype(f"u{item}")
    writers = [_writer(target, f"b{item * 8}", program) for target in targets]

    def unpack(registers: Any, wave: Wave) -> None:
        values = read(registers)
        pieces = np.ascontiguousarray(values).reshape(*values.shape, 1).view(part)
        for k, write in enumerate(writers):
            write(registers, pieces[..., k])

    return unpack


def _pack(instruction: Instruction, program: Program) -> Step:
    target, sources = instruction.operands
    dtype = DTYPES[instruction.type]
    readers = [reader(source, f"b{dtype.itemsize // len(sources) * 8}", program) for source in sources]
    write = _writer(target, instruction.type, program)

    def pack(registers: Any, wave: Wave) -> None:
        pieces = np.stack(np.broadcast_arrays(*(read(registers) for read in readers)), axis=-1)
        write(registers, pieces.view(dtype)[..., 0])

    return pack


def _load_parameter(instruction: Instruction, program: Program) -> Step:
    target, place = instruction.operands
    names = [name for name, _ in program.parameters]
    if place[1:-1] not in names:
        raise PtxError(f"unknown parameter in {instruction.text!r}")
    number, dtype = names.index(place[1:-1]), DTYPES[instruction.type]
    write = _writer(target, instruction.type, program)
    return lambda registers, wave: write(registers, wave.parameters[number].astype(dtype))


def _access(instruction: Instruction, program: Program) -> tuple[str, str, int]:
    """The space, the element type and the number of elements of a load or store."""
    space, *others, kind = instruction.modifiers
    many = {"v2": 2, "v4": 4}.get(others[-1], 1) if others else 1
    if space not in ("global", "shared", "local") or set(others[: len(others) - (many > 1)]) - _CACHING:
        raise PtxError(f"unknown instruction {instruction.text!r}")
    return space, kind, many


def _address(operand: str, program: Program) -> Reader:
    match = re.fullmatch(r"\[([^\]+]+)(?:\+(-?\d+))?\]", operand)
    if match is None:
        raise PtxError(f"unknown address {operand!r}")
    base = reader(match[1].strip(), "u64", program)
    offset = np.uint64(int(match[2] or 0) & (2**64 - 1))
    return base if not offset else lambda registers: base(registers) + offset


def _load(instruction: Instruction, program: Program) -> Step:
    space, kind, many = _access(instruction, program)
    data, place = instruction.operands
    address, dtype = _address(place, program), DTYPES[kind]
    targets = [_writer(target, kind, program) for target in (data if many > 1 else (data,))]

    def load(registers: Any, wave: Wave) -> None:
        loaded = wave.load(space, address(registers), dtype.itemsize * many, registers.lanes)
        elements = loaded.view(dtype).reshape(-1, many)
        for k, write in enumerate(targets):
            write(registers, elements[:, k] if len(elements) > 1 or len(registers.lanes) == 1 else elements[0, k])

    return load


def _store(instruction: Instruction, program: Program) -> Step:
    space, kind, many = _access(instruction, program)
    place, data = instruction.operands
    address, dtype = _address(place, program), DTYPES[kind]
    sources = [reader(source, kind, program) for source in (data if many > 1 else (data,))]

    def store(registers: Any, wave: Wave) -> None:
        values = np.empty((len(registers.lanes), many), dtype)
        for k, read in enumerate(sources):
            values[:, k] = read(registers)
        wave.store(space, address(registers), values, registers.lanes)

    return store


def _reduction(instruction: Instruction, program: Program) -> Step:
    *how, kind = instruction.modifiers
    place, data = instruction.operands
    if how not in (["add"], ["global", "add"]):
        raise PtxError(f"unknown instruction {instruction.text!r}")
    address, value = _address(place, program), reader(data, kind, program)

    def reduce(registers: Any, wave: Wave) -> None:
        wave.add(address(registers), value(registers), DTYPES[kind], registers.lanes)

    return reduce
