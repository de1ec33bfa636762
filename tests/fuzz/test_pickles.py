"""Hostile pickles of a book's weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import xpnet

WEIGHTS = {
    "W1": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "b1": np.zeros(3, ">f8"),
    "W2": np.ones((3, 2), np.float16),
    "b2": np.zeros(2, np.float32),
}
SOURCES = [pickle.dumps(WEIGHTS, protocol) for protocol in (2, 3, 4, 5)]
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00<NNNK\x00K\x00K\x00tb"
PIECES = [
    b"}", b")", b"(", b"N", b"0", b"1", b"2", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"o", b"Q",
    b"\x93", b"q\x00", b"h\x00", b"q\xff", b"r\xff\xff\xff\x7f", b"\x94", b"K\x00", b"J\xff\xff\xff\x7f", b"\x8a\xff",
    b"U\x01a", b"X\x02\x00\x00\x00W1", b"X\xff\xff\xff\x7f", b"B\xff\xff\xff\xff", b"C\x04abcd",
    b"I" + b"9" * 5000 + b"\n", b"S'a'\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\nndarray\n",
    b"c__builtin__\ngetattr\n", b"ios\nsystem\n", b"\x82\x01", b"\x80\x04", b"\x80\x05", b"\x95" + b"\xff" * 8,
    b"\x96\x04" + bytes(7) + b"abcd", b"\x97", b"Pid\n", ARRAY, DTYPE,
    ARRAY + b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x04abcdtb", b"K\x01\x85",
    b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x04abcdt",
]  # fmt: skip


def read(path: Path) -> None:
    xpnet.load_model(path, xpnet.backend("cpu-reference"))


def test_changed_bytes(fuzz: Any, mutated: Any) -> None:
    fuzz(mutated(*SOURCES), read, SOURCES[1], name="weights.pkl")


def test_any_instructions(fuzz: Any) -> None:
    piece = st.sampled_from(PIECES)
    program = st.lists(piece | st.builds(bytes.__mul__, piece, st.sampled_from([2, 60])), max_size=20).map(b"".join)
    begun = st.sampled_from([b"\x80\x03}X\x02\x00\x00\x00W1", b"\x80\x03", b"}", b""])
    ended = st.sampled_from([b"s.", b".", b""])
    fuzz(st.tuples(begun, program, ended).map(b"".join), read, SOURCES[2], name="weights.pkl")
