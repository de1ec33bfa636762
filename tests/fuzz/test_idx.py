"""Hostile idx files, plain and gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from xpnet.data.idx import read_images, read_labels

IMAGES = struct.pack(">4I", 0x803, 5, 4, 3) + bytes(range(60))
LABELS = struct.pack(">2I", 0x801, 40) + bytes(range(40))
LENGTHS = st.integers(0, 6) | st.sampled_from([255, 784, 2**16, 2**24, 2**30, 2**31, 2**32 - 1])


def read_either(path: Path) -> None:
    """As images, unless they are labels."""
    (read_labels if path.read_bytes()[:4] == LABELS[:4] else read_images)(path)


def unpacked(content: bytes) -> int:
    """The bytes that a plain or gzipped content holds, up to where it is damaged."""
    if content[:2] != b"\x1f\x8b":
        return len(content)
    engine = zlib.decompressobj(wbits=31)
    try:
        return max(len(content), len(engine.decompress(content, 64 * 2**20)))
    except zlib.error:
        return 64 * len(content)  # what came before the damage is not told


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Any magic number, lengths and data, gzipped or not; the data may be a bomb behind a small promise."""
    magic = draw(st.sampled_from([0x803, 0x803, 0x803, 0x801, 0x80D, 0x3080000, 0, 2**32 - 1]))
    lengths = draw(st.lists(LENGTHS, min_size=3, max_size=3))
    content = struct.pack(">4I", magic, *lengths) + draw(st.binary(max_size=200))
    kind = draw(st.sampled_from(["plain", "gzip", "bomb"]))
    if kind == "plain":
        return content
    return gzip.compress(content + bytes(4 * 2**20) if kind == "bomb" else content, 1)


def test_changed_bytes(fuzz: Any, mutated: Any) -> None:
    fuzz(mutated(IMAGES, LABELS), read_either, IMAGES)


def test_changed_bytes_of_gzipped_files(fuzz: Any, mutated: Any) -> None:
    fuzz(mutated(gzip.compress(IMAGES), gzip.compress(LABELS), IMAGES), read_images, gzip.compress(IMAGES), unpacked)


def test_hostile_headers(fuzz: Any) -> None:
    fuzz(headers(), read_images, IMAGES, unpacked)


def test_noise(fuzz: Any) -> None:
    noise = st.binary(max_size=400)
    begun = st.sampled_from([IMAGES[:4], LABELS[:4], b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\xff"])
    fuzz(noise | st.builds(bytes.__add__, begun, noise) | noise.map(gzip.compress), read_either, LABELS, unpacked)
