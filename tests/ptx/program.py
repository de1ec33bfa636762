"""PTX text, parsed: parameters, memory of a block and a thread, and basic blocks of instructions.

The language: https://docs.nvidia.com/cuda/parallel-thread-execution/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from .errors import PtxError
from .registers import DTYPES

Operand = str | tuple[str, ...]  # a register, a number, a symbol or an address; or several registers in braces

GAP = 128  # bytes between variables in shared and local memory: an access past the end of one is not in the next
_STATEMENT = re.compile(r"\s*(?:(?P<brace>[{}])|(?P<label>[$\w]+):(?!:)|(?P<text>[^;{}]*(?:\{[^}]*\}[^;{}]*)*);)")
_INSTRUCTION = re.compile(r"(?:@(!?)(%[\w$]+)\s+)?([a-z]\w*)((?:[.:]+\w+)*)\s*(.*)", re.DOTALL)
_OPERAND = re.compile(r"\{[^}]*\}|[^,{}]+")
_REGISTER = re.compile(r"%[\w$@]+")
_VARIABLE = re.compile(r"\.(shared|local)\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]")


@dataclass(frozen=True)
class Instruction:
    """``opcode.modifiers operands;``, run by the threads in which ``guard`` is true (or false, if ``negated``)."""

    text: str
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: str | None = None
    negated: bool = False

    @property
    def type(self) -> str:
        """The last modifier, which is the type of most instructions' operands."""
        return self.modifiers[-1] if self.modifiers else ""

    @property
    def written(self) -> list[str]:
        """The registers that it writes."""
        return _registers(self.operands[:1]) if self.opcode not in ("st", "red", "bra") else []

    @property
    def registers(self) -> set[str]:
        """The registers that it names."""
        return {self.guard, *_registers(self.operands)} if self.guard else set(_registers(self.operands))


def _registers(operands: tuple[Operand, ...]) -> list[str]:
    parts = [part for operand in operands for part in ((operand,) if isinstance(operand, str) else operand)]
    return [name for part in parts for name in _REGISTER.findall(part)]


@dataclass
class BasicBlock:
    """Instructions that are run one after the other, and the one that decides what comes next."""

    body: list[Instruction] = field(default_factory=list)
    end: Instruction | None = None  # bra, ret, a barrier or a shuffle; None: the next block comes next
    exports: tuple[str, ...] = ()  # the registers written in the body that other blocks name too
    cost: int = 0  # instructions that are issued


@dataclass
class Variables:
    """The layout of the variables in shared or local memory."""

    size: int = 0
    places: dict[str, range] = field(default_factory=dict)  # variable: its bytes

    def add(self, name: str, size: int, align: int) -> None:
        """Place a variable after the last one and a gap."""
        start = -(-(self.size + GAP) // align) * align
        self.places[name] = range(start, start + size)
        self.size = start + size


class Program:
    """The kernel in a PTX text; :func:`tests.ptx.run` runs it.

    Raises:
        PtxError: the text is not what a kernel without calls looks like.
    """

    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*", "", text)
        entries = re.findall(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)", text)
        if len(entries) != 1 or re.search(r"\.func\b", text):
            raise PtxError(f"expected one kernel and no other function, not {len(entries)} kernels")
        ((self.name, parameters, bounds),) = entries
        self.parameters = [(name, kind) for kind, name in re.findall(r"\.param\s+\.(\w+)\s+([\w$]+)", parameters)]
        limit = re.search(r"\.maxntid\s+(\d+)", bounds)
        self.max_threads = int(limit[1]) if limit else 1024
        self.shared, self.local = Variables(), Variables()
        for space, align, name, size in _VARIABLE.findall(text):
            getattr(self, space).add(name, int(size), int(align))
        self.types: dict[str, str] = {}  # register: its type
        body = text[text.index("{", text.index(self.name)) :]
        self.blocks, self.labels = _basic_blocks(self._statements(body))
        self.opcodes = Counter(
            ".".join((i.opcode, *i.modifiers)) for block in self.blocks for i in (*block.body, block.end) if i
        )

    @cached_property
    def smallest(self) -> dict[str, int]:
        """For each space the size in bytes of the smallest element that is loaded from it or stored there."""
        sizes = {"global": 8, "shared": 8, "local": 8}
        for one in (one for block in self.blocks for one in block.body):
            if one.modifiers and one.modifiers[0] in sizes and one.type in DTYPES:
                sizes[one.modifiers[0]] = min(sizes[one.modifiers[0]], DTYPES[one.type].itemsize)
        return sizes

    def _statements(self, body: str) -> Iterator[str | Instruction]:
        """Labels and instructions, registers that are declared in an inner scope being renamed."""
        scopes: list[dict[str, str]] = []
        position, count = 0, 0
        while position < len(body):
            match = _STATEMENT.match(body, position)
            if match is None:
                if body[position:].strip():
                    raise PtxError(f"not understood: {body[position : position + 80].strip()!r}")
                return
            position = match.end()
            if match["brace"] == "{":
                scopes.append({})
                count += 1
            elif match["brace"]:
                scopes.pop()
            elif match["label"]:
                yield match["label"]
            elif (text := " ".join(match["text"].split())).startswith(".reg"):
                scopes[-1] |= self._declare(text, f"@{count}" if len(scopes) > 1 else "")
            elif not text.startswith((".pragma", ".shared", ".local")):
                yield _instruction(text, scopes)

    def _declare(self, text: str, suffix: str) -> dict[str, str]:
        """The registers of a declaration, with their unique names."""
        kind, names = re.fullmatch(r"\.reg \.(\w+) (.*)", text).groups()
        own = {}
        for name in names.replace(" ", "").split(","):
            if several := re.fullmatch(r"([%\w$]+)<(\d+)>", name):
                own |= {f"{several[1]}{k}": f"{several[1]}{k}{suffix}" for k in range(int(several[2]))}
            else:
                own[name] = name + suffix
        self.types |= dict.fromkeys(own.values(), kind)
        return own


def _instruction(text: str, scopes: list[dict[str, str]]) -> Instruction:
    match = _INSTRUCTION.fullmatch(text)
    if match is None:
        raise PtxError(f"not understood: {text!r}")
    negated, guard, opcode, modifiers, rest = match.groups()

    inner = {name: own for scope in scopes[1:] for name, own in scope.items()}

    def resolved(part: str) -> str:
        return _REGISTER.sub(lambda name: inner.get(name[0], name[0]), part.strip()) if inner else part.strip()

    operands: list[Operand] = []
    for part in _OPERAND.findall(rest):
        if part[0] == "{":
            operands.append(tuple(resolved(one) for one in part[1:-1].split(",")))
        elif part.strip():
            operands.append(resolved(part))
    parts = tuple(modifiers.replace("::", ".").split(".")[1:])
    return Instruction(text, opcode, parts, tuple(operands), guard and resolved(guard), negated == "!")


def _basic_blocks(statements: Iterator[str | Instruction]) -> tuple[list[BasicBlock], dict[str, int]]:
    """The basic blocks, and the index of the block at each label. Barriers and shuffles are blocks of their own."""
    blocks, labels = [BasicBlock()], {}

    def start() -> BasicBlock:
        blocks.append(BasicBlock())
        return blocks[-1]

    for statement in statements:
        block = blocks[-1]
        if isinstance(statement, str):
            if block.body:
                start()
            labels[statement] = len(blocks) - 1
        elif statement.opcode == "bra":
            block.end, block.cost = statement, block.cost + 1
            start()
        else:
            if statement.guard:  # branch over it; the two are issued as one instruction
                skip = f"after {len(blocks)}"
                block.end = Instruction(statement.text, "bra", (), (skip,), statement.guard, not statement.negated)
                block.cost += 1
                block = start()
            if statement.opcode in ("ret", "exit", "bar", "barrier", "shfl"):
                if block.body:
                    block = start()
                block.end = statement
                start()
            else:
                block.body.append(statement)
            if statement.guard:
                if blocks[-1].body:
                    start()
                labels[skip] = len(blocks) - 1
            else:
                block.cost += 1
    blocks[-1].end = blocks[-1].end or Instruction("the end", "ret", (), ())
    _find_exports(blocks)
    return blocks, labels


def _find_exports(blocks: list[BasicBlock]) -> None:
    named = [set().union(*(instruction.registers for instruction in block.body)) for block in blocks]
    ends = [block.end.registers if block.end else set() for block in blocks]
    seen = Counter(name for names in (*named, *ends) for name in names)
    for block, end in zip(blocks, ends, strict=True):
        written = dict.fromkeys(name for instruction in block.body for name in instruction.written)
        block.exports = tuple(name for name in written if seen[name] > 1 + (name in end))
