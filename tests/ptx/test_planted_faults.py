"""Faults planted in the kernels, their launches and their PTX: each is caught, and what it was planted in is not.

Caught by the interpreter's checks where the message says which, else by the numbers.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import xpnet_kernels

from tests.ptx import InterpretedDevice, PtxError, interpreted
from xpnet import random as philox

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda: pip install 'numba-cuda[cu13]'"
)


class Arrays:
    """Host arrays that say they are on a GPU, where the device's kernels may use them."""

    def __init__(self, device: InterpretedDevice) -> None:
        self._device = device

    def __call__(self, values: np.ndarray, typestr: str | None = None) -> Array:
        room = np.zeros(values.nbytes + 512, np.uint8)
        start = -room.ctypes.data % 512
        host = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
        host[...] = values
        self._device.memory.add(host.ctypes.data, host.nbytes)
        return Array(host, typestr)


class Array:
    """A host array that says it is on a GPU."""

    def __init__(self, host: np.ndarray, typestr: str | None = None) -> None:
        self.host = host
        interface = dict(host.__array_interface__, version=3)
        self.__cuda_array_interface__ = interface | ({"typestr": typestr} if typestr else {})


Case = Callable[[ModuleType, Arrays], None]


def widened(bits: np.ndarray) -> np.ndarray:
    """Bits of bfloat16 as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def cross_entropy(rows: int, columns: int, bfloat16: bool = False) -> Case:
    def case(kernels: ModuleType, array: Arrays) -> None:
        random = np.random.default_rng(0)
        z, y = random.normal(size=(rows, columns)).astype(np.float32), random.integers(0, columns, rows)
        if bfloat16:
            z = widened((z.view(np.uint32) >> 16).astype(np.uint16))
        logits = array((z.view(np.uint32) >> 16).astype(np.uint16), "<V2") if bfloat16 else array(z)
        gradient = array(np.full(z.shape, 7, np.uint16), "<V2") if bfloat16 else array(np.full(z.shape, np.float32(7)))
        summary, losses = array(np.zeros(4)), array(np.zeros(rows, np.float32))
        predictions = array(np.zeros(rows, np.int64))
        kernels.softmax_cross_entropy(
            logits, array(y), summary=summary, losses=losses, gradient=gradient, predictions=predictions
        )
        z = z.astype(np.float64)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        expected = p / p.sum(axis=1, keepdims=True)
        loss = -np.log(expected[np.arange(rows), y])
        expected[np.arange(rows), y] -= 1
        assert losses.host == pytest.approx(loss, abs=1e-6)
        assert summary.host[0] == pytest.approx(loss.mean(), abs=1e-6)
        assert (predictions.host == z.argmax(axis=1)).all()
        actual = widened(gradient.host) if bfloat16 else gradient.host
        relative = 2.0**-8 if bfloat16 else 0
        assert (np.abs(actual * rows - expected) <= relative * np.abs(expected) + 1e-6).all()

    return case


def bias_backward(rows: int, columns: int, apart: int = 0) -> Case:
    def case(kernels: ModuleType, array: Arrays) -> None:
        random = np.random.default_rng(0)
        dy, y = (random.normal(size=(rows, columns + apart)).astype(np.float32) for _ in range(2))
        arrays = [array(values) for values in (dy, y, np.zeros_like(dy))]
        upstream, activated, dz = (Array(one.host[:, apart:]) for one in arrays)
        db = array(np.zeros(columns, np.float32))
        kernels.bias_activation_backward(upstream, activated, "relu", dz, db)
        expected = (dy * (y > 0))[:, apart:].astype(np.float64)
        assert (dz.host == expected).all()
        assert db.host == pytest.approx(expected.sum(axis=0), abs=1e-4)

    return case


def gather(kernels: ModuleType, array: Arrays) -> None:
    random = np.random.default_rng(0)
    rows, indices = random.integers(0, 256, (40, 50), np.uint8), random.permutation(40)
    out, error = array(np.zeros((40, 50), np.float32)), array(np.zeros(1, np.int64))
    kernels.gather(array(rows), array(indices), 255, out, error=error)
    assert (out.host == rows[indices].astype(np.float32) / np.float32(255)).all()
    assert error.host[0] == -1


def sgd(size: int, apart: int = 0) -> Case:
    def case(kernels: ModuleType, array: Arrays) -> None:
        x, g = (np.random.default_rng(seed).normal(size=size).astype(np.float32) for seed in (0, 1))
        values = array(x)
        gradients = Array(array(np.concatenate([np.zeros(apart, np.float32), g])).host[apart:])
        kernels.sgd_update(values, gradients, array(np.array([0.125])))
        assert values.host == pytest.approx(x - 0.125 * g, abs=1e-6)

    return case


def dropout(kernels: ModuleType, array: Arrays) -> None:
    x = array(np.ones(5000, np.float32))
    kernels.dropout(x, 0.5, (1, 2), array(np.array([3])), x)
    kept = philox.words((1, 2), 3, 5000) * 2.0**-32 >= 0.5
    assert (x.host == np.where(kept, 2, 0)).all()


def gather_beyond(kernels: ModuleType, array: Arrays) -> None:
    out = array(np.zeros((3, 16), np.float32))
    kernels.gather(array(np.zeros((4, 16), np.uint8)), array(np.array([3, 4, 0])), 255, out)
    assert np.isnan(out.host).all(axis=1).tolist() == [False, True, False]


@contextmanager
def edited_kernels(folder: Path, file: str, old: str, new: str) -> Iterator[ModuleType]:
    """The kernels' package with a text in one of its files replaced, in place of the real one."""
    shutil.copytree(
        Path(xpnet_kernels.__file__).parent, folder / "xpnet_kernels", ignore=shutil.ignore_patterns("__py*")
    )
    path = folder / "xpnet_kernels" / "cuda" / file
    source = path.read_text()
    assert source.count(old) >= 1, f"{file} has no {old!r} any more: plant the fault elsewhere"
    path.write_text(source.replace(old, new, 1))
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "xpnet_kernels"}
    sys.path.insert(0, str(folder))
    try:
        yield import_module("xpnet_kernels.cuda")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "xpnet_kernels"]:
            del sys.modules[name]
        sys.modules.update(real)


def run(kernels: ModuleType, case: Case, edit: Callable[[str], str] | None = None) -> None:
    device = InterpretedDevice(races=True, edit=edit)
    with interpreted(device):
        case(kernels, Arrays(device))
    assert device.launches


def caught(message: str | None) -> AbstractContextManager:
    """By a check with that message, or by the numbers."""
    return pytest.raises(AssertionError) if message is None else pytest.raises(PtxError, match=message)


SOURCE = {  # file, text, what replaces it, what is run, the message

    "a row too far": (
        "_bias_activation_backward.py", "rows if column < columns else 0", "rows + 1 if column < columns else 0",
        bias_backward(40, 50), "4 bytes at .* read outside every array",
    ),
    "a row too few": (
        "_bias_activation_backward.py", "rows if column < columns else 0", "rows - 1 if column < columns else 0",
        bias_backward(40, 50), None,
    ),
    "the column before a row": (
        "tiles.py", "if uint32(column) < starts:", "if column < int32(starts):", cross_entropy(5, 2001), None,
    ),
    "vectors where an array is not aligned": (
        "tiles.py", "if aligned and first >= 0", "if first >= 0", sgd(900, apart=1), "misaligned access of 16 bytes",
    ),
    "a vector past the end of the row": (
        "tiles.py", "if aligned and uint32(column) < vector_starts(row, columns):",
        "if aligned and column >= 0 and column < columns:", cross_entropy(5, 2002),
        "16 bytes at .* written outside every array",
    ),
    "no barrier after the writes": (
        "reductions.py", "= value\n    barrier()", "= value", cross_entropy(3, 9000), "shared memory .* no barrier",
    ),
    "a barrier that some threads do not come to": (
        "reductions.py", "= value\n    barrier()", "= value\n        barrier()", cross_entropy(3, 9000),
        "wait for ever|no barrier",
    ),
    "one warp writes for all": (
        "reductions.py", "if lane == 0:", "if thread_index() == 0:", cross_entropy(3, 9000),
        "shared memory is read before it is written",
    ),
    "the wrong lane": (
        "reductions.py", "value + shuffle_xor(value, offset)", "value + shuffle_xor(value, offset ^ 1)",
        cross_entropy(64, 100), None,
    ),
    "the wrong maximum": (
        "reductions.py", "return a > b or", "return a < b or", cross_entropy(64, 100), None,
    ),
    "rounding towards zero": (
        "device_memory.py", '"cvt.rn.bf16.f32 $0, $1;"', '"{.reg .b16 %low; mov.b32 {%low, $0}, $1;}"',
        cross_entropy(64, 100, bfloat16=True), None,
    ),
    "a shift of a row's start": (
        "device_memory.py", "past = builder.and_(address, ir.Constant(address.type, 15))",
        "past = builder.and_(address, ir.Constant(address.type, 7))", cross_entropy(5, 1001), "misaligned access",
    ),
    "an index that is not checked": (
        "_gather.py", "index < row_count", "index <= row_count + 1",
        gather_beyond,
        "read outside every array",
    ),
    "threads of all blocks update the first elements": (
        "optimizer_kernels.py", "(int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x)",
        "int64(cuda.threadIdx.x)", sgd(9000), "threads race for global memory",
    ),
    "every thread stores what one should": (
        "_gather.py", "if thread_index() == 0:\n                error[0] = bad", "error[0] = thread_index()", gather,
        "threads race for global memory",
    ),
    "input and output exchanged in a launch": (
        "_gather.py", "source, positions, divisor, target,", "target, positions, divisor, source,",
        gather, "outside every array",
    ),
    "a block too few in a launch": (
        "_dropout.py", "-(-size // (_THREAD_ELEMENTS * BLOCK))", "size // (_THREAD_ELEMENTS * BLOCK)", dropout, None,
    ),
    "a block of too many threads in a launch": (
        "flat_vectors.py", "_MAX_BLOCKS), (_THREADS, 1)", "_MAX_BLOCKS), (1024, 1)", sgd(9000),
        "a block of 1024 threads, of a kernel for at most 384",
    ),
    "the distance of another array's rows in a launch": (
        "_bias_activation_backward.py", "dy.row_stride, y.row_stride,", "dy.shape[1], y.row_stride,",
        bias_backward(20, 48, apart=16), "16 bytes at .* read outside every array",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCE)
def test_faults_in_sources(tmp_path, name):
    file, old, new, case, message = SOURCE[name]
    run(import_module("xpnet_kernels.cuda"), case)
    with edited_kernels(tmp_path, file, old, new) as kernels, caught(message):
        run(kernels, case)


def replaced(pattern: str, replacement: str) -> Callable[[str], str]:
    """An edit of PTX, wherever the pattern occurs."""

    def edit(text: str) -> str:
        changed, times = re.subn(pattern, replacement, text)
        assert times, f"no {pattern!r} in the PTX any more"
        return changed

    return edit


PTX = {  # edit, what is run, the message

    "a load shifted by 4 bytes": (
        replaced(r"(ld\.global\.v4\.[uf]32[^;]*\[%rd\d+)(\+\d+)?\]", r"\1+4]"), cross_entropy(8, 2048),
        "misaligned access of 16 bytes",
    ),
    "an element's load shifted by 4 bytes": (
        replaced(r"(ld\.global\.[uf]32[^;]*\[%rd\d+)\]", r"\1+4]"), cross_entropy(33, 11), "outside every array",
    ),
    "a store shifted by 4 bytes": (
        replaced(r"(st\.global\.f32\s+\[%rd\d+)\]", r"\1+4]"), cross_entropy(33, 11),
        "written outside every array|race for global memory",
    ),
    "a shuffle that half of the warp names": (
        replaced(r"(shfl\.sync\.bfly\.b32 [^;]*), [^,;]+;", r"\1, 0x0000FFFF;"), cross_entropy(64, 100),
        "its mask does not name",
    ),
    "a shuffle clamped to the lower lanes": (
        replaced(r"(shfl\.sync\.bfly\.b32 [^,]*, [^,]*, [^,]*), %r\d+, ", r"\1, 3, "), cross_entropy(64, 100), None,
    ),
    "no barriers": (replaced(r"bar\.sync\s+0;", ""), cross_entropy(3, 9000), "no barrier"),
    "a register that is not set": (
        replaced(r"mov\.u32\s+(%r\d+), %tid\.x;", r"setp.lt.u32 %p1, %tid.x, 7; @%p1 mov.u32 \1, %tid.x;"), gather,
        "is read before it is written",
    ),
    "an instruction that the interpreter lacks": (
        replaced(r"mov\.u32\s+(%r\d+), %tid\.x;", r"mov.u32 \1, %smid;"), gather, "%smid",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PTX)
def test_faults_in_ptx(name):
    edit, case, message = PTX[name]
    kernels = import_module("xpnet_kernels.cuda")
    run(kernels, case)
    with caught(message):
        run(kernels, case, edit)


def test_a_read_only_array_is_not_written():
    device = InterpretedDevice()
    with interpreted(device):
        kernels, array = import_module("xpnet_kernels.cuda"), Arrays(device)
        values = array(np.ones(100, np.float32))
        device.memory.remove(values.host.ctypes.data)
        device.memory.add(values.host.ctypes.data, values.host.nbytes, writable=False)
        with pytest.raises(PtxError, match="outside every array"):
            kernels.sgd_update(values, array(np.ones(100, np.float32)), array(np.array([0.1])))
