"""Shuffles between the threads of a warp, and barriers that count votes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .instructions import reader
from .program import Instruction
from .registers import Active

if TYPE_CHECKING:
    from .wave import Wave

WARP = 32


def shuffle(wave: Wave, instruction: Instruction, lanes: np.ndarray) -> np.ndarray:
    """Let warps shuffle of which all threads named in the mask have come; whether each thread is among them."""
    if instruction.modifiers[0] != "sync" or instruction.modifiers[2:] != ("b32",):
        raise PtxError(f"unknown instruction {instruction.text!r}")
    target, *operands = instruction.operands
    registers = Active(wave.registers, lanes)
    value, offset, clamp, mask = (
        np.broadcast_to(reader(operand, "u32", wave.program)(registers), len(lanes)) for operand in operands
    )
    place = wave.place_of[lanes]
    lane = place % WARP
    come = np.zeros(int(wave.place_of[-1] // WARP + 1), np.uint32)
    np.bitwise_or.at(come, place // WARP, np.uint32(1) << lane.astype(np.uint32))
    here = come[place // WARP]
    if not (mask >> lane.astype(np.uint32) & 1).all():
        raise PtxError(f"a thread shuffles that its mask does not name: {instruction.text}")
    complete = (here & mask) == mask
    if not complete.any():
        return complete
    source, inside = _source_lane(instruction.modifiers[1], lane, offset.view(np.int32), clamp)
    named = (mask >> source.astype(np.uint32) & 1).astype(bool)
    if not named[complete].all():
        raise PtxError(f"a shuffle reads from a thread that its mask does not name: {instruction.text}")
    values = np.zeros(len(come) * WARP, np.uint32)
    values[place] = value
    result = values[place - lane + source][complete]
    names = target.split("|")
    some = Active(wave.registers, lanes[complete])
    some[names[0]] = result
    if len(names) > 1:
        some[names[1]] = inside[complete]
    some.write_back(tuple(name for name in names if name != "_"))
    return complete


def _source_lane(mode: str, lane: np.ndarray, offset: np.ndarray, clamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lane that each thread reads, and whether it is within its segment; else that is its own."""
    offset, segment, limit = offset & 31, (clamp >> 8 & 31).astype(np.int64), (clamp & 31).astype(np.int64)
    highest, lowest = (lane & segment) | (limit & ~segment), lane & segment
    match mode:
        case "up":
            source = lane - offset
            inside = source >= highest
        case "down":
            source = lane + offset
            inside = source <= highest
        case "bfly":
            source = lane ^ offset
            inside = source <= highest
        case "idx":
            source = lowest | (offset & ~segment)
            inside = source <= highest
        case _:
            raise PtxError(f"unknown shuffle {mode!r}")
    return np.where(inside, source, lane), inside


def popcount(wave: Wave, instruction: Instruction, lanes: np.ndarray) -> None:
    """What a barrier of these whole blocks computes besides: bar.red.popc counts votes."""
    match instruction.modifiers:
        case ("sync",) if instruction.operands == ("0",):
            return
        case ("red", "popc", "u32") if instruction.operands[1] == "0":
            target, _, vote = instruction.operands
            registers = Active(wave.registers, lanes)
            votes = np.broadcast_to(reader(vote, "pred", wave.program)(registers), len(lanes))
            counts = np.bincount(wave.block_of[lanes], votes, minlength=wave.blocks)
            registers[target] = counts[wave.block_of[lanes]].astype(np.uint32)
            registers.write_back((target,))
        case _:
            raise PtxError(f"unknown instruction {instruction.text!r}")
