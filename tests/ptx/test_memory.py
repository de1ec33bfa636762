"""Accesses to memory: what they read and write, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx import Memory, Program, PtxError, Region, run

from .conftest import kernel

SHARED = ".shared .align 16 .b8 one[128]; .shared .align 8 .b8 other[8];"


def test_vectors_of_each_kind(launch):
    data, out = np.arange(64, dtype=np.uint32), np.zeros(64, np.uint32)
    launch(
        """mul.wide.u32 %d0, %t, 16; add.s64 %d1, %p0, %d0; add.s64 %d2, %p1, %d0;
        ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%d1]; st.global.v4.f32 [%d2], {%f3, %f2, %f1, %f0};""",
        data, out, block=16,
    )  # fmt: skip
    assert (out.reshape(16, 4) == data.reshape(16, 4)[:, ::-1]).all()
    launch(
        """mul.wide.u32 %d0, %t, 16; add.s64 %d1, %p0, %d0; add.s64 %d2, %p1, %d0;
        ld.global.v2.u64 {%d3, %d4}, [%d1]; st.global.v2.u64 [%d2], {%d4, %d3};""",
        data, out, block=16,
    )  # fmt: skip
    assert (out.reshape(16, 2, 2) == data.reshape(16, 2, 2)[:, ::-1]).all()


def test_narrow_elements_are_extended_by_their_type(launch):
    data, out = np.array([200, 100], np.uint8), np.zeros(4, np.int32)
    launch(
        """ld.global.u8 %h0, [%p0]; cvt.s32.s16 %r0, %h0; st.global.u32 [%p1], %r0;
        ld.global.s8 %h1, [%p0]; cvt.s32.s16 %r1, %h1; st.global.u32 [%p1+4], %r1;
        ld.global.u8 %h2, [%p0+1]; st.global.u8 [%p1+8], %h2; add.s16 %h0, %h0, %h2; st.global.u8 [%p1+12], %h0;""",
        data, out, block=1,
    )  # fmt: skip
    assert out.tolist() == [200, -56, 100, 300 - 256]


def test_addresses_that_threads_share_or_not(launch):
    data, out = np.arange(32.0) ** 2, np.zeros(64)
    launch(
        """mul.wide.u32 %d0, %t, 8; add.s64 %d1, %p1, %d0; ld.global.f64 %g0, [%p0+40]; st.global.f64 [%d1], %g0;
        sub.u32 %r0, 31, %t; mul.wide.u32 %d2, %r0, 8; add.s64 %d3, %p0, %d2;
        ld.global.f64 %g1, [%d3]; st.global.f64 [%d1+256], %g1;""",
        data, out,
    )  # fmt: skip
    assert out.tolist() == [25.0] * 32 + data[::-1].tolist()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.global.u32 %r0, [%p0+2];", "misaligned access of 4 bytes"),
        ("ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%p0+8];", "misaligned access of 16 bytes"),
        ("ld.global.u32 %r0, [%p0+128];", "4 bytes at .* read outside every array, by 1 threads"),
        ("ld.global.u32 %r0, [%p0+-4];", "read outside every array"),
        ("st.global.u32 [%p1+128], %t;", "written outside every array"),
        ("st.global.u32 [%p0], %t;", "written outside every array, by 32 threads"),
        ("mul.wide.u32 %d0, %t, 4; add.s64 %d1, %p1, %d0; st.global.u32 [%d1+64], %t;", "by 16 threads"),
        ("mov.u64 %d0, 0; ld.global.u32 %r0, [%d0];", "4 bytes at 0x0 read outside every array"),
        ("red.global.add.u32 [%p0], %t;", "written outside every array"),
        ("ld.global.u32 %r1, [%p0]; add.s32 %r2, %r1, %r3;", "register %r3 is read before it is written"),
        ("setp.lt.u32 %b0, %t, 9; @%b0 mov.u32 %r1, 0; add.s32 %r2, %r1, 1;", "register %r1 is read before"),
    ],
)
def test_what_is_refused(launch, body, message):
    read_only, out = np.zeros(32, np.uint32), np.zeros(32, np.uint32)
    aligned = read_only.ctypes.data % 16 == 0 or "v4" not in body
    read_only.flags.writeable = False
    if aligned:
        with pytest.raises(PtxError, match=message):
            launch(body, read_only, out)


def test_what_some_threads_have_written_these_may_read(launch):
    out = np.zeros(32, np.uint32)
    launch(
        """setp.lt.u32 %b0, %t, 9; @%b0 mov.u32 %r1, 5; mul.wide.u32 %d0, %t, 4; add.s64 %d0, %p0, %d0;
        @%b0 st.global.u32 [%d0], %r1;""",
        out,
    )  # fmt: skip
    assert out.tolist() == [5] * 9 + [0] * 23


def test_declared_arrays_bound_a_launch():
    """Three columns of a matrix of five may be written, and the first row read."""
    matrix = np.zeros((4, 5), np.uint32)
    address = matrix.ctypes.data
    arrays = [Region(address + 4, 12, rows=4, stride=20), Region(address, 20, writable=False)]
    memory = Memory([(address, matrix.nbytes, True)])

    def attempt(body):
        run(Program(kernel(body, 1)), [address], (1, 1, 1), (4, 1, 1), memory, arrays=arrays)

    attempt("mul.wide.u32 %d0, %t, 20; add.s64 %d0, %p0, %d0; st.global.u32 [%d0+12], %t;")
    assert matrix[:, 3].tolist() == [0, 1, 2, 3]
    attempt("ld.global.u32 %r0, [%p0+16];")
    for body, threads in (
        ("mul.wide.u32 %d0, %t, 20; add.s64 %d0, %p0, %d0; st.global.u32 [%d0], %t;", 4),
        ("mul.wide.u32 %d0, %t, 20; add.s64 %d0, %p0, %d0; st.global.u32 [%d0+16], %t;", 4),
        ("mul.wide.u32 %d0, %t, 20; add.s64 %d0, %p0, %d0; ld.global.u32 %r0, [%d0+16];", 3),
    ):
        with pytest.raises(PtxError, match=f"outside every array, by {threads} threads"):
            attempt(body)


def test_arrays_that_are_not_allocated_do_not_count():
    array = np.zeros(4, np.uint32)
    program = Program(kernel("st.global.u32 [%p0], %t;", 1))
    with pytest.raises(PtxError, match="written outside every array"):
        run(program, [array.ctypes.data], (1, 1, 1), (1, 1, 1), Memory(), arrays=[Region(array.ctypes.data, 16)])


def test_memory_is_forgotten_when_it_is_freed():
    memory = Memory([(4096, 64, True), (8192, 64, True)])
    assert memory.at(4100) == Region(4096, 64)
    assert memory.at(4160) is None
    memory.remove(4096)
    assert memory.at(4100) is None
    assert memory.at(8192) == Region(8192, 64)


def test_atomic_additions(launch):
    sums = np.zeros(4)
    launch(
        """and.b32 %r0, %t, 3; mul.wide.u32 %d0, %r0, 8; add.s64 %d1, %p0, %d0; cvt.rn.f64.u32 %g0, %t;
        red.add.f64 [%d1], %g0;""",
        sums, block=64,
    )  # fmt: skip
    assert sums.tolist() == [sum(range(k, 64, 4)) for k in range(4)]


def test_local_memory_is_each_threads_own(launch):
    out = np.zeros(32, np.uint32)
    launch(
        """mov.u64 %d0, mine; and.b32 %r0, %t, 1; mul.wide.u32 %d1, %r0, 4; add.s64 %d1, %d0, %d1;
        st.local.u32 [%d0], 100; st.local.u32 [%d0+4], 200; st.local.u32 [%d1], %t; ld.local.u32 %r1, [%d0+4];
        mul.wide.u32 %d2, %t, 4; add.s64 %d2, %p0, %d2; st.global.u32 [%d2], %r1;""",
        out, declarations=".local .align 8 .b8 mine[8];",
    )  # fmt: skip
    assert out.tolist() == [t if t % 2 else 200 for t in range(32)]
    with pytest.raises(PtxError, match="local memory is read before it is written"):
        launch("mov.u64 %d0, mine; ld.local.u32 %r1, [%d0];", declarations=".local .align 8 .b8 mine[8];")


REVERSED = """mul.wide.u32 %d0, %t, 4; mov.u64 %d1, one; add.s64 %d2, %d1, %d0; st.shared.u32 [%d2], %t;
    {barrier} sub.u32 %r0, 31, %t; mul.wide.u32 %d3, %r0, 4; add.s64 %d3, %d1, %d3; ld.shared.u32 %r1, [%d3]; {again}
    mul.wide.u32 %d5, %ctaid.x, 128; add.s64 %d4, %p0, %d5; add.s64 %d4, %d4, %d0; st.global.u32 [%d4], %r1;"""


def test_shared_memory_is_each_blocks_own(launch):
    out = np.zeros((3, 32), np.uint32)
    launch(REVERSED.format(barrier="bar.sync 0;", again=""), out, grid=3, declarations=SHARED)
    assert (out == np.arange(32)[::-1]).all()


@pytest.mark.parametrize(
    ("barrier", "again", "message"),
    [
        ("", "", "shared memory read with no barrier after another thread's access"),
        ("bar.sync 0;", "st.shared.u32 [%d2], %r1;", "shared memory written with no barrier"),
        ("bar.sync 0;", "mov.u32 %r5, 7; st.shared.u32 [one], %r5;", "shared memory written with no barrier"),
    ],
)
def test_hazards_in_shared_memory(launch, barrier, again, message):
    with pytest.raises(PtxError, match=message):
        launch(REVERSED.format(barrier=barrier, again=again), np.zeros(32, np.uint32), declarations=SHARED)


def test_a_barrier_between_makes_it_safe(launch):
    out = np.zeros(32, np.uint32)
    again = "bar.sync 0; st.shared.u32 [%d2], %r1; bar.sync 0; ld.shared.u32 %r1, [%d3];"
    launch(REVERSED.format(barrier="bar.sync 0;", again=again), out, declarations=SHARED)
    assert out.tolist() == list(range(32))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.shared.u32 %r0, [other];", "shared memory is read before it is written"),
        ("st.shared.u32 [other+2], %t;", "misaligned access of 4 bytes in shared memory"),
        ("st.shared.u32 [one+128], %t;", "outside every variable in shared memory"),
        ("st.shared.u32 [other+-4], %t;", "outside every variable in shared memory"),
        ("st.shared.u64 [other+8], %p0;", "outside every variable in shared memory"),
        ("st.shared.u32 [other], %t;", "shared memory written with no barrier"),
    ],
)
def test_what_is_refused_in_shared_memory(launch, body, message):
    with pytest.raises(PtxError, match=message):
        launch(body, np.zeros(1), declarations=SHARED)


def test_a_kernel_may_declare_48_kilobytes_of_shared_memory(launch):
    launch("st.shared.u32 [room+49148], %t;", np.zeros(1), block=1, declarations=".shared .align 4 .b8 room[49152];")
    with pytest.raises(PtxError, match="49156 bytes of shared memory"):
        launch("", np.zeros(1), declarations=".shared .align 4 .b8 room[49156];")


RACES = {
    "one word": ("st.global.u32 [%p0], %t;", True),
    "the same value": ("mov.u32 %r0, 7; st.global.u32 [%p0], %r0;", False),
    "words of their own": ("mul.wide.u32 %d0, %t, 4; add.s64 %d0, %p0, %d0; st.global.u32 [%d0], %t;", False),
    "blocks": ("mul.wide.u32 %d0, %t, 4; add.s64 %d0, %p0, %d0; st.global.u32 [%d0], %ctaid.x;", True),
    "reads of what others write": (
        """mul.wide.u32 %d0, %t, 4; add.s64 %d0, %p0, %d0; st.global.u32 [%d0], %t; xor.b32 %r0, %t, 1;
        mul.wide.u32 %d1, %r0, 4; add.s64 %d1, %p0, %d1; ld.global.u32 %r1, [%d1];""", True,
    ),
    "writes of what others read": (
        "ld.global.u32 %r1, [%p0]; setp.eq.u32 %b0, %t, 0; @%b0 st.global.u32 [%p0], 7;", True,
    ),
    "a barrier between": (
        "ld.global.u32 %r1, [%p0]; bar.sync 0; setp.eq.u32 %b0, %t, 0; @%b0 st.global.u32 [%p0], 7;", False,
    ),
    "atomic additions": ("red.global.add.u32 [%p0], 1;", False),
    "additions to what another thread writes": (
        "setp.eq.u32 %b0, %t, 0; @%b0 st.global.u32 [%p0], 7; red.add.u32 [%p0], 1;", True,
    ),
    "a barrier before the additions": (
        "setp.eq.u32 %b0, %t, 0; @%b0 st.global.u32 [%p0], 7; bar.sync 0; red.add.u32 [%p0], 1;", False,
    ),
    "reads of what others add to": ("red.global.add.u32 [%p0], 1; ld.global.u32 %r0, [%p0];", True),
    "writes of what others add to": (
        "red.add.u32 [%p0], 1; setp.eq.u32 %b0, %t, 0; @%b0 st.global.u32 [%p0], 7;", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RACES)
def test_races_for_global_memory(launch, name):
    body, races = RACES[name]
    grid = 2 if name == "blocks" else 1
    launch(body, np.zeros(32, np.uint32), grid=grid)  # by default they are not looked for
    if races:
        with pytest.raises(PtxError, match="threads race for global memory"):
            launch(body, np.zeros(32, np.uint32), grid=grid, races=True)
    else:
        launch(body, np.zeros(32, np.uint32), grid=grid, races=True)


def test_races_between_blocks_that_do_not_run_together(launch):
    with pytest.raises(PtxError, match="threads race for global memory"):
        launch("st.global.u32 [%p0], %ctaid.x;", np.zeros(1, np.uint32), grid=9000, block=1, races=True)
