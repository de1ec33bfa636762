"""Hostile .npz files."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from xpnet.data.npz import ARRAYS, read_npz

PLAIN = {
    "x_train": np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3),
    "y_train": np.array([0, 2, 1, 2]),
    "x_test": np.arange(2 * 6, dtype=np.uint8).reshape(2, 2, 3),
    "y_test": np.array([1, 0]),
}
ONE_HOT = {
    **PLAIN,
    "x_train": np.ones((4, 5)),
    "x_test": np.ones((2, 5)),
    "y_train": np.eye(4),
    "y_test": np.eye(4)[:2],
}
LENGTHS = st.integers(-1, 6) | st.sampled_from([10**6, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30, True, 2.0, "4", None])
TYPES = [
    "|u1",
    "<f4",
    ">f4",
    "<f2",
    "<f8",
    "<i8",
    ">i4",
    "|i1",
    "<u8",
    "|b1",
    "<c8",
    "|O",
    "<U9",
    "|V9",
    "<M8[s]",
    "f99",
]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def saved(save: Any = np.savez, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


SOURCES = [saved(**PLAIN), saved(np.savez_compressed, **PLAIN), saved(**ONE_HOT)]


def unpacked(content: bytes) -> int:
    """What the four members hold, where they can be read."""
    total = len(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in ARRAYS:
                with archive.open(f"{name}.npy") as member:
                    while piece := member.read(2**16):
                        total += len(piece)
    except Exception:  # damage has many names
        pass
    return total


@st.composite
def members(draw: st.DrawFn, name: str) -> bytes:
    """An array file: a good one, or any header and any data behind it."""
    if draw(st.booleans()):
        buffer = io.BytesIO()
        np.save(buffer, draw(st.sampled_from([PLAIN[name], ONE_HOT[name], PLAIN[name].T, PLAIN[name].astype("f2")])))
        return buffer.getvalue()
    header = {
        "descr": draw(st.sampled_from([*TYPES, [("a", "<f4")], ("<f4", (10**5, 10**5)), 7])),
        "fortran_order": draw(st.sampled_from([True, False, 0, "no"])),
        "shape": tuple(draw(st.lists(LENGTHS, max_size=4))),
    }
    if draw(st.integers(0, 4)) == 0:
        header[draw(st.sampled_from(["descr", "shape", "more"]))] = draw(st.sampled_from([None, 3, (), "(", [1]]))
    text = draw(st.sampled_from([repr(header), repr(header) * 2, "(" * 5000, "{" * 90, repr(header)[:-1], "9" * 9000]))
    version = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\xff\xff"]))
    length = draw(st.sampled_from([len(text) + 1, 0, 60000]))
    size = (
        length.to_bytes(2, "little")
        if version == b"\1\0"
        else struct.pack("<I", draw(st.sampled_from([length, 2**31])))
    )
    data = draw(st.binary(max_size=100)) * draw(st.sampled_from([1, 1, 1, 40_000]))
    return b"\x93NUMPY" + version + size + text.encode() + b"\n" + data


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Archives with members missing, added, duplicated, packed in every way, and lies in the directory."""
    buffer = io.BytesIO()
    names = list(ARRAYS)
    if draw(st.integers(0, 3)) == 0:
        names = draw(
            st.lists(st.sampled_from([*ARRAYS, "x_train.npy", "", "../x", "z" * 300]), max_size=6, unique=True)
        )
    with zipfile.ZipFile(buffer, "w", draw(st.sampled_from(METHODS))) as archive:
        for name in names:
            archive.writestr(f"{name}.npy", draw(members(name if name in ARRAYS else "x_train")))
        if draw(st.integers(0, 9)) == 0:
            for number in range(draw(st.sampled_from([1, 5000]))):
                archive.writestr(f"{number}", b"")
    content = buffer.getvalue()
    for _ in range(draw(st.integers(0, 2))):
        place = content.find(
            draw(st.sampled_from([b"PK\1\2", b"PK\3\4", b"PK\5\6"])), draw(st.integers(0, len(content)))
        )
        place += draw(st.integers(4, 45))
        number = draw(st.sampled_from([0, 1, 2**16 - 1, 2**31, 2**32 - 1])).to_bytes(4, "little")
        content = content[:place] + number + content[place + 4 :]
    return content + draw(st.sampled_from([b"", b"", b"", b"\0", content]))


def read(path: Path) -> None:
    read_npz(path)


def test_changed_bytes(fuzz: Any, mutated: Any) -> None:
    fuzz(mutated(*SOURCES), read, SOURCES[1], unpacked, "mine.npz")


def test_hostile_archives(fuzz: Any) -> None:
    fuzz(archives(), read, SOURCES[2], unpacked, "mine.npz")
