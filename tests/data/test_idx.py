import contextlib
import gzip
import math
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xpnet import errors
from xpnet.data.idx import MOST_BYTES, read_images, read_labels

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
IMAGES = bytes.fromhex("00000803 00000002 00000003 00000004") + PIXELS.tobytes()
LABELS = bytes.fromhex("00000801 00000003 050009")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_images_and_labels(path, pack):
    path.write_bytes(pack(IMAGES))
    images = read_images(path)
    assert images.dtype == np.uint8
    assert images.tolist() == PIXELS.tolist()
    path.write_bytes(pack(LABELS))
    assert read_labels(str(path)).tolist() == [5, 0, 9]


def test_what_a_file_is_shows_in_its_bytes_and_not_in_its_name(tmp_path):
    (tmp_path / "plain.gz").write_bytes(LABELS)
    (tmp_path / "zipped").write_bytes(gzip.compress(LABELS))
    assert read_labels(tmp_path / "plain.gz").tolist() == read_labels(tmp_path / "zipped").tolist() == [5, 0, 9]


def test_reads_more_than_one_chunk(path):
    pixels = np.arange(3 * 1000 * 1000, dtype=np.uint32).astype(np.uint8).reshape(3, 1000, 1000)
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, *pixels.shape) + pixels.tobytes(), 1))
    np.testing.assert_array_equal(read_images(path), pixels)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its header has 0 bytes of 16"),
        (IMAGES[:15], "its header has 15 bytes of 16"),
        (LABELS + bytes(16), "its magic number is 0x801, not 0x803"),
        (IMAGES[3::-1] + IMAGES[4:], "its magic number is 0x3080000, not 0x803"),
        (IMAGES[:-1], "it ends after 23 of 24 bytes of data"),
        (IMAGES[:16], "it ends after 0 of 24 bytes"),
        (IMAGES + b"\0", "it has more than the 24 bytes"),
        (
            IMAGES[:4] + b"\xff" * 12,
            f"its header declares {' x '.join(['4294967295'] * 3)} bytes, more than {MOST_BYTES}",
        ),
    ],
)
def test_damaged_files_are_refused_with_what_is_wrong(path, pack, content, message):
    path.write_bytes(pack(content))
    with pytest.raises(errors.FileFormatError, match=message) as caught:
        read_images(path)
    assert str(path) in str(caught.value)


def test_damaged_gzip(path):
    zipped = gzip.compress(IMAGES)
    crc_flipped = zipped[:-8] + bytes([zipped[-8] ^ 1]) + zipped[-7:]
    for content, message in [
        (crc_flipped, "CRC check failed"),
        (zipped[:-4], "ended before the end-of-stream marker"),
        (zipped[:12], "ended before the end-of-stream marker"),
        (zipped[:10] + b"\xff" + zipped[11:], "Error -3 while decompressing"),
        (zipped + b"garbage", "Not a gzipped file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(errors.FileFormatError, match=message):
            read_images(path)


def test_a_header_that_lies_allocates_nothing(path):
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, MOST_BYTES // 784, 28, 28)))
    tracemalloc.start()
    with pytest.raises(errors.FileFormatError, match="it ends after 0 of"):
        read_images(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_bomb_is_read_no_further_than_its_header(path):
    path.write_bytes(gzip.compress(IMAGES + bytes(64 * 2**20), 1))
    tracemalloc.start()
    with pytest.raises(errors.FileFormatError, match="it has more than"):
        read_images(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(errors.MissingFileError, match="none cannot be read: No such file"):
        read_images(tmp_path / "none")
    with pytest.raises(errors.MissingFileError, match="cannot be read: it is not a file"):
        read_images(tmp_path)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=64) | st.binary(max_size=64).map(gzip.compress))
def test_any_bytes_give_an_array_or_an_error(path, content):
    path.write_bytes(content)
    for read in (read_images, read_labels):
        try:
            array = read(path)
        except errors.FileFormatError:
            continue
        assert array.dtype == np.uint8


@settings(max_examples=300, deadline=None)
@given(
    shape=st.tuples(*[st.integers(0, 2**32 - 1) | st.integers(0, 5)] * 3),
    data=st.binary(max_size=130),
    zipped=st.booleans(),
)
@example(shape=(0, 2**32 - 1, 2**32 - 1), data=b"", zipped=False)
@example(shape=(0, 28, 28), data=b"", zipped=True)
def test_only_an_exact_header_is_believed(path, shape, data, zipped):
    content = struct.pack(">4I", 0x803, *shape) + data
    path.write_bytes(gzip.compress(content) if zipped else content)
    sizes = [max(1, length) for length in shape]  # none or not, no length may be absurd
    if math.prod(shape) == len(data) and math.prod(sizes) <= MOST_BYTES:
        assert read_images(path).shape == shape
    else:
        with pytest.raises(errors.FileFormatError):
            read_images(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_or_cut_gzip_file_never_gives_other_pixels(path, data):
    zipped = bytearray(gzip.compress(IMAGES))
    place = data.draw(st.integers(2, len(zipped) - 1))
    if data.draw(st.booleans()):
        zipped[place] ^= data.draw(st.integers(1, 255))
    else:
        del zipped[place:]
    path.write_bytes(zipped)
    with contextlib.suppress(errors.FileFormatError):
        assert read_images(path).tolist() == PIXELS.tolist()
