"""Hostile pickles are refused in bounded memory; mutated ones load or raise an error of xpnet."""

from __future__ import annotations

import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.book_pickle.conftest import ARRAY, DTYPE, PYTHON_2, QUICK, named, read, state
from xpnet import book_pickle
from xpnet.book_pickle import MOST_INSTRUCTIONS
from xpnet.errors import Error, FileFormatError


def doubled(depth: int) -> bytes:
    """A tuple of two of the same tuple of two …: 2**depth leaves in a few bytes each."""
    return b")q\x00" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))


def doubled_key(before_store: bytes) -> bytes:
    """A dict whose key takes 2**60 steps to hash; the instructions leave what is doubled on top of the stack."""
    steps = [b")", *(b"h" + bytes([depth]) + b"h" + bytes([depth]) + b"\x86" for depth in range(60))]
    stored = (step + before_store + b"q" + bytes([depth]) for depth, step in enumerate(steps))
    return b"".join(stored) + b"}h" + bytes([60]) + b"Ns."


DEEP = MOST_INSTRUCTIONS - 50  # as deep as the number of instructions lets it be
BIG = struct.pack("<Q", 2**62)
HOSTILE = {
    "an array of 4 GiB in the placeholder": named(ARRAY.replace(b"K\x00\x85", b"J\xff\xff\xff\x3f\x85")),
    "an array of 4 GiB in the state": named(ARRAY + state(shape=b"J\xff\xff\xff\x3f\x85")),
    "a shape with more bytes than data": named(ARRAY + state(shape=b"K\x02\x85")),
    "a shape with fewer bytes than data": named(ARRAY + state(shape=b"K\x00\x85")),
    "an empty array of absurd sides": named(ARRAY + state(b"(K\x00" + b"J\xff\xff\xff\x3f" * 3 + b"t", data=b"C\x00")),
    "an empty array of 2040-bit sides": named(ARRAY + state(b"K\x00\x8a\xff" + b"\x7f" * 255 + b"\x86", data=b"C\x00")),
    "a negative side": named(ARRAY + state(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86")),
    "a side to be inferred": named(ARRAY + state(b"J\xff\xff\xff\xff\x85")),
    "a number as a shape": named(ARRAY + state(b"K\x01")),
    "bytes as a shape": named(ARRAY + state(b"C\x01\x01")),
    "nothing as a shape": named(ARRAY + state(b"N")),
    "too many dimensions": named(ARRAY + state(b"(" + b"K\x01" * DEEP + b"t")),
    "a boolean as a side": named(ARRAY + state(b"\x88\x85")),
    "a string as a shape": named(ARRAY + state(b"X\x01\x00\x00\x00a")),
    "a string as a side": named(ARRAY + state(b"X\x01\x00\x00\x00a\x85")),
    "a tuple as a side": named(ARRAY + state(b")\x85")),
    "a name as a side": named(ARRAY + state(b"cnumpy\ndtype\n\x85")),
    "a name as an element type": named(ARRAY + state(dtype=b"cnumpy\ndtype\n")),
    "a string as an element type": named(ARRAY + state(dtype=b"X\x02\x00\x00\x00f4")),
    "a number as data": named(ARRAY + state(data=b"K\x04")),
    "nothing as data": named(ARRAY + state(data=b"N")),
    "nothing as data of 1 GiB": named(ARRAY + state(shape=b"J\x00\x00\x00\x10\x85", data=b"N")),
    "data that is no latin-1": named(ARRAY + state(data=b"X\x06\x00\x00\x00ab\xe2\x82\xacc")),
    "an array without a state": named(ARRAY),
    "an array of element type object": named(ARRAY + state(dtype=DTYPE.replace(b"f4", b"O8"))),
    "an element type with fields": named(ARRAY + state(dtype=DTYPE.replace(b"<NNN", b"<NN)"))),
    "an element type of odd byte order": named(ARRAY + state(dtype=DTYPE.replace(b"<", b"?"))),
    "an element type of two in its byte order": named(
        ARRAY + state(dtype=DTYPE.replace(b"\x01\x00\x00\x00<", b"\x03\x00\x00\x00i4,"))
    ),
    "an element type as a value": named(DTYPE),
    "a name as a value": named(b"cnumpy\ndtype\n"),
    "a name as a key": b"}cnumpy\ndtype\n" + ARRAY + state() + b"s.",
    "an array as a key": b"}" + ARRAY + state() + ARRAY + state() + b"s.",
    "an unfinished array as a key": b"}" + ARRAY + b"Ns.",
    "a tuple as a key": b"})Ns.",
    "a key without a value": b"}(X\x02\x00\x00\x00W1u.",
    "a very long key": b"}X\x00\x10\x00\x00" + b"W" * 4096 + ARRAY + state() + b"s.",
    "items for a tuple": b")X\x02\x00\x00\x00W1Ns.",
    "a dict in itself": b"}q\x00X\x02\x00\x00\x00W1h\x00s.",
    "a dict in its key": b"}q\x00h\x00h\x00s.",
    "a call of a string": named(b"X\x01\x00\x00\x00a)R"),
    "a call of a call": named(ARRAY + b")R"),
    "a call of NDARRAY": named(b"cnumpy\nndarray\nK\x00K\x00K\x00\x87R"),
    "a call without arguments": named(b"cnumpy\ndtype\n)R"),
    "a call with a string for arguments": named(b"cnumpy\ndtype\nX\x03\x00\x00\x00abcR"),
    "a call with a dict for arguments": named(b"cnumpy\ndtype\n}R"),
    "a reconstruction of something else": named(ARRAY.replace(b"ndarray", b"dtype") + state()),
    "a state for a dict": named(b"}}b"),
    "a state for a name": named(b"cnumpy\nndarray\n}b"),
    "a dict as a state": named(ARRAY + b"}b"),
    "a state of four": named(ARRAY + b"(K\x01K\x01\x85" + DTYPE + b"\x89tb"),
    "a persistent id": named(b"Pid\n"),
    "a persistent id from the stack": named(b"NQ"),
    "an extension code": named(b"\x82\x01"),
    "a longer extension code": named(b"\x84\x01\x00\x00\x00"),
    "an instance": named(b"(i__main__\nobject\n"),
    "a new object": named(b"cnumpy\nndarray\n)\x81"),
    "a buffer from outside": named(b"\x97"),
    "an unknown instruction": named(b"\xff"),
    "a frame longer than the file": b"\x80\x04\x95" + BIG + b"}.",
    "bytes longer than the file": named(b"B\xff\xff\xff\xffab"),
    "long bytes longer than the file": named(b"\x8e" + BIG + b"ab"),
    "a byte array longer than the file": named(b"\x96" + BIG + b"ab"),
    "a text longer than the file": named(b"X\xff\xff\xff\xffab"),
    "a string of negative length": named(b"T\xff\xff\xff\xffab"),
    "a number longer than the file": named(b"\x8b\xff\xff\xff\x7fab"),
    "a number of a million digits": named(b"I" + b"9" * 1_000_000 + b"\n"),
    "a line without an end": b"}S'" + b"a" * 1000,
    "a string without quotes": b"}Sa\nN.",
    "a very long string without its second quote": b"}S'" + b"a" * 100_000 + b"\nN.",
    "a string of one quote": b"}S'\nN.",
    "a string with an odd escape": b"}S'\\q'\nN.",
    "a string with half an escape": b"}S'\\x4'\nN.",
    "a string that ends in an escape": b"}S'\\'\nN.",
    "a text that is no UTF-8": b"}X\x02\x00\x00\x00\xff\xffN.",
    "nothing stored": b"h\x07.",
    "a very high place in the memo": b"}r\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "a very high place in the memo, as text": b"}p4294967295\n.",
    "a very high place in the memo, as text with an end": b"}p4294967295\x00\n.",
    "a very high place in the memo, as odd text": b"}p 4_294_967_295 \n.",
    "a place in the memo below zero": b"}p-1\n.",
    "a mark in the memo": b"}(q\x00.",
    "a number that is none as a place": b"}pzero\n.",
    "an empty stack": b".",
    "operands that are missing": b"}s.",
    "a mark that is missing": b"}u.",
    "a mark above the stack": b"NN(\x86tu.",
    "deep tuples": b"N" + b"\x85" * DEEP + b".",
    "deep tuples as a key": b"}" + b"N" + b"\x85" * DEEP + b"Ns.",
    "deep dicts": b"}X\x01\x00\x00\x00a" * (DEEP // 3) + b"N" + b"s" * (DEEP // 3) + b".",
    "a deep array": named(b"N" + (b"\x85" * DEEP) + b"q\x00" + ARRAY + b"h\x00b"),
    "many marks": b"(" * DEEP + b".",
    "a billion laughs": named(doubled(200)),
    "a billion laughs as a shape": named(ARRAY + state(doubled(200))),
    "a billion laughs as a key": doubled_key(b""),
    "a billion laughs as a key, stored twice": doubled_key(b"q\xff"),
    "a billion laughs as a key, behind a protocol": doubled_key(b"\x80\x03"),
    "a billion laughs as a key, behind a frame": doubled_key(b"\x95" + bytes(8)),
    "a billion laughs as a key, behind an idle state": doubled_key(b"Nb"),
    "a billion laughs as a key, behind no items": doubled_key(b"(u"),
    "a billion laughs as a key, behind a mark": doubled_key(b"("),
    "endless instructions": b"N" + b"h\x00" * 200_000 + b".",
    "endless instructions, all well": b"\x80\x03" * 200_000 + b"}.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_bounded_memory(path: Path, name: str) -> None:
    content = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="not a pickled dict of NumPy arrays") as caught:
            read(path, content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 600
    assert peak < 300_000 + 150 * len(content)


def test_the_number_of_instructions_is_limited(path: Path) -> None:
    padding = MOST_INSTRUCTIONS - sum(1 for _ in pickletools.genops(named(ARRAY + state())))
    assert read(path, b"\x80\x03" * padding + named(ARRAY + state())).keys() == {"W1"}
    with pytest.raises(FileFormatError, match=f"more than {MOST_INSTRUCTIONS} instructions"):
        read(path, b"\x80\x03" * (padding + 1) + named(ARRAY + state()))


def shared(copies: int) -> bytes:
    """Arrays of 64 KiB under many names, all over the same bytes in the file."""
    first = named(ARRAY + state(b"M\x00\x40\x85", data=b"B\x00\x00\x01\x00" + bytes(65536) + b"q\x00"))[:-1]
    again = b"".join(
        b"X\x02\x00\x00\x00%02d" % copy + ARRAY + state(b"M\x00\x40\x85", data=b"h\x00") + b"s"
        for copy in range(copies - 1)
    )
    return first + again + b"."


def test_bytes_may_be_shared_but_not_without_end(path: Path) -> None:
    assert len(read(path, shared(copies=2))) == 2
    with pytest.raises(FileFormatError, match="share bytes"):
        read(path, shared(copies=90))


@settings(QUICK, max_examples=500)
@given(st.data())
def test_mutated_pickles_load_or_raise_an_error_of_xpnet(path: Path, data: st.DataObject) -> None:
    saved = {
        "W1": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "b1": np.zeros(3, np.float32),
    }
    sources = [pickle.dumps(saved, 3), pickle.dumps(saved, 4), *PYTHON_2.values()]
    content = bytearray(data.draw(st.sampled_from(sources)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        replaced = data.draw(st.integers(0, 4))
        content[position : position + replaced] = data.draw(st.binary(max_size=4))
        content = content or bytearray(1)
    try:
        weights = read(path, bytes(content))
    except Error:
        return
    assert sum(array.nbytes for array in weights.values()) <= book_pickle.MOST_SHARING * len(content)
