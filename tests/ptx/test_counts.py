"""What is counted, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx import Counts


def strided(bytes_apart, kind="f32", register="%f0"):
    return f"mul.wide.u32 %d0, %t, {bytes_apart}; add.s64 %d1, %p0, %d0; ld.global.{kind} {register}, [%d1];"


@pytest.mark.parametrize(
    ("body", "sectors", "size"),
    [
        (strided(4), 4, 4), (strided(8), 8, 4), (strided(32), 32, 4), (strided(64), 32, 4), (strided(0), 1, 4),
        (strided(8, "f64", "%g0"), 8, 8), (strided(16, "v4.f32", "{%f0, %f1, %f2, %f3}"), 16, 16),
        (strided(1, "u8", "%h0"), 1, 1),
    ],
)  # fmt: skip
def test_sectors_of_a_warp(launch, aligned, body, sectors, size):
    counts = launch(body, aligned, block=64)
    distinct = {0: 1, 1: 2}.get(sectors if "u8" in body else -1, 2 * sectors) if sectors > 1 or "u8" in body else 1
    assert (counts.loads.requests, counts.loads.bytes) == (2, 64 * size)
    assert (counts.loads.sectors, counts.loads.distinct_sectors) == (2 * sectors, distinct)
    assert counts.stores.requests == 0


def test_sectors_that_a_boundary_cuts_and_threads_in_any_order(launch, aligned):
    counts = launch("mul.wide.u32 %d0, %t, 4; add.s64 %d1, %p0, %d0; ld.global.f32 %f0, [%d1+16];", aligned)
    assert counts.loads.sectors == 5
    counts = launch(
        "xor.b32 %r0, %t, 21; mul.wide.u32 %d0, %r0, 4; add.s64 %d1, %p0, %d0; st.global.u32 [%d1], %t;", aligned
    )
    assert (counts.stores.requests, counts.stores.sectors, counts.stores.bytes) == (1, 4, 128)


SHARED = ".shared .align 16 .b8 room[8192];"


@pytest.mark.parametrize(
    ("body", "requests", "conflicts"),
    [
        ("mul.lo.u32 %r0, %t, 4; {at} st.shared.u32 [%d1], %t;", 1, 0),
        ("mul.lo.u32 %r0, %t, 8; {at} st.shared.u32 [%d1], %t;", 1, 1),
        ("mul.lo.u32 %r0, %t, 128; {at} st.shared.u32 [%d1], %t;", 1, 31),
        ("mul.lo.u32 %r0, %t, 132; {at} st.shared.u32 [%d1], %t;", 1, 0),
        ("mul.lo.u32 %r0, %t, 8; {at} st.shared.u64 [%d1], %p0;", 2, 0),
        ("mul.lo.u32 %r0, %t, 16; {at} st.shared.v2.u64 [%d1], {{%p0, %p0}};", 4, 0),
        ("mul.lo.u32 %r0, %t, 16; {at} st.shared.u64 [%d1], %p0;", 2, 2),
        ("mul.lo.u32 %r0, %t, 4; {at} st.shared.u32 [%d1], %t; bar.sync 0; ld.shared.u32 %r1, [room];", 2, 0),
    ],
)
def test_bank_conflicts(launch, aligned, body, requests, conflicts):
    at = "mov.u64 %d0, room; cvt.u64.u32 %d1, %r0; add.s64 %d1, %d0, %d1;"
    counts = launch(body.format(at=at), aligned, declarations=SHARED)
    assert (counts.shared_requests, counts.bank_conflicts) == (requests, conflicts)


def test_instructions_barriers_and_atomics(launch, aligned):
    counts = launch(
        "setp.lt.u32 %b0, %t, 40; @%b0 red.add.u32 [%p0], 1; bar.sync 0; bar.sync 0;", aligned, grid=3, block=64
    )
    # mov, ld.param, setp, the guarded red, two barriers, ret
    assert (counts.warp_instructions, counts.thread_instructions) == (3 * 2 * 7, 3 * 64 * 7)
    assert (counts.barriers, counts.atomics, counts.divergent_branches) == (3 * 2, 3 * 40, 3)


def test_counts_add_up(launch, aligned):
    one = launch(strided(4), aligned)
    both = one + launch(strided(8), aligned)
    assert (both.loads.requests, both.loads.sectors, both.warp_instructions) == (2, 12, 2 * one.warp_instructions)


def test_without_counting(launch, aligned):
    assert launch(strided(4), aligned, counting=False) == Counts()


@pytest.fixture
def aligned():
    """4 kB on a boundary of 512 bytes, zeros."""
    room = np.zeros(4096 + 512, np.uint8)
    return room[-room.ctypes.data % 512 :][:4096]
