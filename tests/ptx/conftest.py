"""Small kernels of PTX text, and exact numbers to compare them with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.ptx import Counts, Memory, Program, run
from tests.ptx.registers import DTYPES

HEADER = ".version 8.0\n.target sm_90\n.address_size 64\n"


def kernel(body: str, parameters: int = 0, declarations: str = "") -> str:
    """The PTX of a kernel with some 64-bit parameters, which it has in %p0, %p1, …, and its thread's index in %t."""
    names = ", ".join(f".param .u64 q{k}" for k in range(parameters))
    loads = "\n".join(f"ld.param.u64 %p{k}, [q{k}];" for k in range(parameters))
    return f"""{HEADER}.visible .entry kernel({names}) {{
        .reg .pred %b<9>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .b64 %d<20>; .reg .f32 %f<20>; .reg .f64 %g<20>;
        .reg .b64 %p<9>; .reg .b32 %t; {declarations}
        mov.u32 %t, %tid.x;
        {loads}
        {body}
        ret;
    }}"""


@pytest.fixture
def launch() -> Callable[..., Counts]:
    """A function that runs a kernel's body on NumPy arrays."""

    def launch(
        body: str, *arrays: np.ndarray, grid: int = 1, block: int = 32, declarations: str = "", **options: Any
    ) -> Counts:
        memory = Memory((array.ctypes.data, array.nbytes, array.flags.writeable) for array in arrays)
        program = Program(kernel(body, len(arrays), declarations))
        values = [array.ctypes.data for array in arrays]
        return run(program, values, (grid, 1, 1), (block, 1, 1), memory, **options)

    return launch


@pytest.fixture
def evaluate(launch: Callable[..., Counts]) -> Callable[..., list[Any]]:
    """A function that gives the results of one instruction for each row of operands, as Python's numbers."""

    def evaluate(instruction: str, kinds: str, rows: list[tuple[Any, ...]]) -> list[Any]:
        *sources, result = kinds.split()
        arrays = [_bits(column, kind) for column, kind in zip(zip(*rows, strict=True), sources, strict=True)]
        out = np.zeros(len(rows), DTYPES["u8" if result == "pred" else result])
        lines, names = [], []
        declared = [f".reg .{_register(kind)} %x{k};" for k, kind in enumerate([*sources, result])]
        for k, kind in enumerate(sources):
            stored = "u8" if kind == "pred" else kind.replace("bf16", "b16").replace("f16", "b16")
            lines.append(f"mul.wide.u32 %d0, %t, {arrays[k].itemsize}; add.s64 %d0, %p{k}, %d0;")
            if kind == "pred":
                lines.append(f"ld.global.u8 %h0, [%d0]; setp.ne.s16 %x{k}, %h0, 0;")
            else:
                lines.append(f"ld.global.{stored} %x{k}, [%d0];")
            names.append(f"%x{k}")
        target = f"%x{len(sources)}"
        lines.append(f"{instruction} {target}, {', '.join(names)};")
        lines.append(f"mul.wide.u32 %d0, %t, {out.itemsize}; add.s64 %d0, %p{len(sources)}, %d0;")
        if result == "pred":
            lines.append(f"selp.u32 %r0, 1, 0, {target}; cvt.u16.u32 %h0, %r0; st.global.u8 [%d0], %h0;")
        else:
            lines.append(f"st.global.{result.replace('bf16', 'b16').replace('f16', 'b16')} [%d0], {target};")
        launch("\n".join(lines), *arrays, out, block=len(rows), declarations=" ".join(declared))
        return out.tolist()

    return evaluate


def _register(kind: str) -> str:
    if kind in ("f32", "f64", "pred"):
        return kind
    return f"b{max(DTYPES[kind].itemsize * 8, 16)}"


def _bits(column: tuple[Any, ...], kind: str) -> np.ndarray:
    """The operands in memory; whole numbers are taken by their lowest bits."""
    if kind == "pred":
        return np.array(column, np.uint8)
    dtype = DTYPES[kind]
    if dtype.kind == "f":
        return np.array(column, dtype)
    size = dtype.itemsize
    return np.frombuffer(b"".join((n & (256**size - 1)).to_bytes(size, "little") for n in column), dtype).copy()
