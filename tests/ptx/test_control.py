"""The order of threads: branches, loops, barriers, shuffles; and how programs and launches are refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx import Memory, Program, PtxError, run

from .conftest import HEADER, kernel

STORE = "mul.wide.u32 %d0, %t, 4; add.s64 %d0, %p0, %d0; st.global.u32 [%d0], {value};"


def test_indices(launch):
    out = np.zeros((6, 5), np.uint32)
    memory = Memory([(out.ctypes.data, out.nbytes, True)])
    body = """mad.lo.u32 %r0, %ctaid.y, %nctaid.x, %ctaid.x; mad.lo.u32 %r1, %tid.y, %ntid.x, %tid.x;
        mul.lo.u32 %r2, %ntid.x, %ntid.y; mad.lo.u32 %r3, %r0, %r2, %r1; mul.wide.u32 %d0, %r3, 4;
        add.s64 %d0, %p0, %d0; mad.lo.u32 %r4, %r0, 100, %r1; st.global.u32 [%d0], %r4;"""
    run(Program(kernel(body, 1)), [out.ctypes.data], (2, 3, 1), (5, 1, 1), memory)
    assert (out == np.arange(6)[:, None] * 100 + np.arange(5)).all()


def test_loops_of_different_lengths(launch):
    out = np.zeros(70, np.uint32)
    launch(
        """mov.u32 %r0, 0; mov.u32 %r1, 0;
        again: setp.ge.u32 %b0, %r0, %t; @%b0 bra done; add.u32 %r1, %r1, %r0; add.u32 %r0, %r0, 1; bra.uni again;
        done:"""
        + STORE.format(value="%r1"),
        out, block=70,
    )  # fmt: skip
    assert out.tolist() == [sum(range(t)) for t in range(70)]


def test_nested_branches_meet_again(launch):
    out = np.zeros(64, np.uint32)
    counts = launch(
        """and.b32 %r0, %t, 1; setp.eq.u32 %b0, %r0, 0; and.b32 %r1, %t, 2; setp.eq.u32 %b1, %r1, 0;
        @%b0 bra even; @!%b1 bra odd2; mov.u32 %r2, 10; bra met; odd2: mov.u32 %r2, 20; bra met;
        even: mov.u32 %r2, 30; @%b1 bra met; add.u32 %r2, %r2, 5;
        met: add.u32 %r2, %r2, %t;"""
        + STORE.format(value="%r2"),
        out, block=64,
    )  # fmt: skip
    assert out.tolist() == [[30, 10, 35, 20][t % 4] + t for t in range(64)]
    assert counts.divergent_branches == 2 * 3
    assert counts.stores.requests == 2  # once for each warp: its threads have met again


def test_threads_that_return_early(launch):
    out = np.zeros(40, np.uint32)
    launch("setp.lt.u32 %b0, %t, 7; @%b0 ret; " + STORE.format(value="1"), out, block=40)
    assert out.tolist() == [0] * 7 + [1] * 33


@pytest.mark.parametrize(
    ("mode", "operand", "clamp", "source"),
    [
        ("bfly", 1, 31, lambda t: t ^ 1), ("bfly", 16, 31, lambda t: t ^ 16),
        ("bfly", 16, 7, lambda t: t - 16 if 16 <= t < 24 else t),
        ("idx", 5, 31, lambda t: 5), ("idx", 33, 31, lambda t: 1), ("idx", 2, 0x181F, lambda t: t // 8 * 8 + 2),
        ("up", 3, 0, lambda t: t - 3 if t >= 3 else t), ("up", 1, 0x1800, lambda t: t - 1 if t % 8 else t),
        ("down", 4, 31, lambda t: t + 4 if t < 28 else t), ("down", 1, 0x181F, lambda t: t + 1 if t % 8 < 7 else t),
    ],
)  # fmt: skip
def test_shuffles(launch, mode, operand, clamp, source):
    out, inside = np.zeros(64, np.uint32), np.zeros(64, np.uint32)
    body = f"""mul.lo.u32 %r0, %t, 3; shfl.sync.{mode}.b32 %r1|%b0, %r0, {operand}, {clamp}, -1;
        selp.u32 %r2, 1, 0, %b0; mul.wide.u32 %d0, %t, 4; add.s64 %d1, %p0, %d0; st.global.u32 [%d1], %r1;
        add.s64 %d1, %p1, %d0;
        st.global.u32 [%d1], %r2;"""
    counts = launch(body, out, inside, block=64)
    expected = [t // 32 * 32 + source(t % 32) for t in range(64)]
    assert out.tolist() == [3 * t for t in expected]
    within = [mode == "idx" or (source(t % 32) != t % 32) for t in range(64)]
    assert [bool(x) for x in inside] == within
    assert counts.shuffles == 2


def test_a_shuffle_waits_for_the_warps_threads(launch):
    """Odd threads come to it after a detour."""
    out = np.zeros(32, np.uint32)
    launch(
        """mov.u32 %r0, %t; and.b32 %r1, %t, 1; setp.eq.u32 %b0, %r1, 0; @%b0 bra here; bra far;
        here: shfl.sync.bfly.b32 %r2, %r0, 1, 31, -1;"""
        + STORE.format(value="%r2")
        + "bra end; far: add.u32 %r0, %r0, 100; bra here; end:",
        out,
    )
    assert out.tolist() == [t + 101 if t % 2 == 0 else t - 1 for t in range(32)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("setp.lt.u32 %b0, %t, 9; @%b0 bra skip; shfl.sync.bfly.b32 %r0, %t, 1, 31, -1; skip:", "wait for ever"),
        ("shfl.sync.bfly.b32 %r0, %t, 1, 31, 0xFFFF;", "a thread shuffles that its mask does not name"),
        (
            "setp.lt.u32 %b0, %t, 8; @!%b0 bra skip; shfl.sync.idx.b32 %r0, %t, 9, 31, 0xFF; skip:",
            "reads from a thread",
        ),
        (
            "setp.lt.u32 %b0, %t, 9; @%b0 bra skip; bar.sync 0; skip:",
            "others of their warp or block do not come to: bar.sync",
        ),
        ("setp.lt.u32 %b0, %t, 9; @%b0 bra other; bar.sync 0; bra end; other: bar.sync 0; end:", "wait for ever"),
        ("setp.lt.u32 %b0, %t, 9; @%b0 ret; bar.sync 0;", "wait for ever"),
        ("bar.sync 1;", "unknown instruction"),
        ("bar.arrive 0, 64;", "unknown instruction"),
    ],
)
def test_divergent_synchronisation_is_refused(launch, body, message):
    with pytest.raises(PtxError, match=message):
        launch(body, block=32)


def test_half_a_warp_may_shuffle_by_itself(launch):
    out = np.zeros(32, np.uint32)
    launch(
        """mov.u32 %r1, 99; setp.lt.u32 %b0, %t, 16; @!%b0 bra skip; shfl.sync.bfly.b32 %r1, %t, 8, 31, 0xFFFF; skip:"""
        + STORE.format(value="%r1"),
        out,
    )
    assert out.tolist() == [t ^ 8 for t in range(16)] + [99] * 16


def test_votes(launch):
    out = np.zeros(128, np.uint32)
    launch(
        """{ .reg .pred %v; setp.lt.u32 %v, %t, 9; bar.red.popc.u32 %r0, 0, %v; } mul.wide.u32 %d1, %ctaid.x, 256;
        mul.wide.u32 %d0, %t, 4; add.s64 %d0, %p0, %d0; add.s64 %d0, %d0, %d1; st.global.u32 [%d0], %r0;""",
        out, grid=2, block=64,
    )  # fmt: skip
    assert out.tolist() == [9] * 128


@pytest.mark.parametrize(
    ("grid", "block", "values", "message"),
    [
        ((0, 1, 1), (32, 1, 1), [0], "a grid of"), ((2**31, 1, 1), (32, 1, 1), [0], "a grid of"),
        ((1, 2**16, 1), (32, 1, 1), [0], "a grid of"), ((1, 1, 1), (64, 2, 1), [0], "a block of 128 threads"),
        ((1, 1, 1), (32, 1, 1), [], "0 arguments, of a kernel that takes 1"),
        ((1, 1, 1), (32, 1, 1), [2**64], "does not fit a parameter of type u64"),
    ],
)  # fmt: skip
def test_launches_that_are_refused(grid, block, values, message):
    text = (
        kernel("", 1)
        .replace(")\n", ")\n.maxntid 64, 1, 1\n")
        .replace("(.param .u64 q0) {", "(.param .u64 q0) .maxntid 64 {")
    )
    with pytest.raises(PtxError, match=message):
        run(Program(text), values, grid, block, Memory())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "expected one kernel"), (kernel("") + kernel(""), "not 2 kernels"),
        (".func f() { ret; }" + kernel(""), "no other function"), (kernel("?"), "not understood"),
    ],
)  # fmt: skip
def test_programs_that_are_refused(text, message):
    with pytest.raises(PtxError, match=message):
        Program(text)


@pytest.mark.parametrize("body", ["mov.u32 %r0, nobody;", "add.u32 nobody, %t, 1;", "ld.param.u64 %d0, [q7];"])
def test_operands_that_are_unknown(launch, body):
    with pytest.raises(PtxError, match=r"unknown (operand|parameter)|is not a register"):
        launch(body)
