"""xpnet.data.streams: as much as there is, and no more memory than twice that."""

from __future__ import annotations

import io
import tracemalloc

import pytest

from xpnet.data.streams import CHUNK, read_at_most


@pytest.mark.parametrize("held", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3])
@pytest.mark.parametrize("wanted", [0, 1, CHUNK, 3 * CHUNK - 1, 5 * CHUNK + 3, 2**60])
def test_a_read_gives_at_most_what_was_asked_for(held: int, wanted: int) -> None:
    content = bytes(range(251)) * (held // 251 + 1)
    data = read_at_most(io.BytesIO(content[:held]), wanted)
    assert data.tobytes() == content[: min(held, wanted)]


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as what unpacks a file may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1000))


def test_pieces_of_any_size_are_put_together() -> None:
    content = bytes(range(256)) * 1000
    assert read_at_most(Trickle(content), 10**9).tobytes() == content


def test_memory_grows_with_what_is_there() -> None:
    content = io.BytesIO(bytes(2**22 + 1))
    tracemalloc.start()
    try:
        read_at_most(content, 2**40)
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**22 + 2**20
    finally:
        tracemalloc.stop()
