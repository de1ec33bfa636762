import contextlib
import io
import os
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import errors
from xpnet.data.npz import read_npz

ARRAYS = {
    "x_train": np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3),
    "y_train": np.array([0, 2, 1, 2]),
    "x_test": np.arange(2 * 6, dtype=np.uint8).reshape(2, 2, 3),
    "y_test": np.array([1, 0], np.uint8),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("npz") / "mine.npz"


@pytest.fixture
def read(path):
    def save_and_read(save=np.savez, **changes):
        arrays = {name: array for name, array in (ARRAYS | changes).items() if array is not None}
        save(path, **arrays)
        return read_npz(path)

    return save_and_read


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_saves(read, save):
    data = read(save)
    assert (data.name, data.classes, data.sample_shape) == ("mine.npz", 3, (2, 3))
    for name, array in ARRAYS.items():
        assert getattr(data, name).tolist() == array.tolist()


def test_floating_point_images_are_kept_as_float32(read):
    data = read(x_train=np.full((4, 5), 0.25), x_test=np.full((2, 5), 0.5, np.float16))
    assert (data.x_train.dtype, data.x_test.dtype) == (np.float32, np.float32)
    assert (data.x_train.sum(), data.x_test.sum()) == (5.0, 5.0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_one_hot_labels_become_indices(read, dtype):
    data = read(y_train=np.eye(4, dtype=dtype)[ARRAYS["y_train"]], y_test=np.eye(4, dtype=dtype)[[3, 0]])
    assert data.classes == 4
    assert data.y_train.tolist() == [0, 2, 1, 2]
    assert data.y_test.tolist() == [3, 0]
    assert data.y_train.dtype == np.int64


def test_one_hot_width_is_the_number_of_classes_for_indices_too(read):
    assert read(y_train=np.eye(5)[ARRAYS["y_train"]]).classes == 5
    with pytest.raises(errors.OutOfRangeError, match="y_test row 0 is 3; 3 classes"):
        read(y_train=np.eye(3)[ARRAYS["y_train"]], y_test=np.array([3, 0]))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"x_test": None},
            errors.FileFormatError,
            "holds x_train, y_test, y_train; expected exactly the arrays",
        ),
        (
            {"weights": np.zeros(3)},
            errors.FileFormatError,
            "holds weights, x_test.*expected exactly the arrays",
        ),
        ({"x_train": np.array([{}, {}, {}, {}])}, errors.FileFormatError, "plain arrays: x_train holds Python objects"),
        ({"y_train": np.array([0, 1, 2])}, errors.ShapeError, "mine.npz: x_train has 4 rows and y_train 3"),
        ({"y_train": np.zeros((4, 1), int)}, errors.ShapeError, r"y_train has shape \(4, 1\); expected"),
        (
            {"y_train": np.array([[1, 0], [0, 1], [1, 1], [0, 1]])},
            errors.ShapeError,
            r"y_train row 2 is \[1, 1\]",
        ),
        (
            {"y_train": np.array([[1, 0], [0, 0], [1, 0], [0, 1]])},
            errors.ShapeError,
            r"y_train row 1 is \[0, 0\]",
        ),
        ({"y_test": np.array([[0.5, 1], [0, 1]])}, errors.ShapeError, r"y_test row 0 is \[0.5, 1.0\]"),
        ({"y_test": np.array([[1, 0], [np.nan, 1]])}, errors.ShapeError, r"y_test row 1 is \[nan, 1.0\]"),
        ({"y_train": np.eye(4), "y_test": np.eye(2)}, errors.ShapeError, "one-hot for 2 and for 4 classes"),
        ({"y_train": np.zeros((4, 2, 2), int)}, errors.ShapeError, r"y_train has shape \(4, 2, 2\)"),
        ({"y_train": np.array([0.0, 1.0, 2.0, 1.0])}, errors.DTypeError, "y_train is float64"),
        ({"y_test": np.array([["a", "b"]] * 2)}, errors.DTypeError, "y_test is <U1"),
        ({"y_test": np.array([0, -1])}, errors.OutOfRangeError, "y_test row 1 is -1"),
        (
            {"y_test": np.array([0, 2**40])},
            errors.ConfigurationError,
            f"at most 1048576 classes, not {2**40 + 1}",
        ),
        (
            {"y_train": np.zeros(0, int), "x_train": np.zeros((0, 2, 3))},
            errors.ShapeError,
            "x_train has shape",
        ),
        (
            {"x_train": np.full((4, 2, 3), np.nan)},
            errors.ConfigurationError,
            "mine.npz: x_train row 0 holds NaN",
        ),
        ({"x_train": np.zeros((4, 2, 3), np.int32)}, errors.DTypeError, "x_train is int32"),
    ],
)
def test_errors_say_what_is_needed(read, changes, error, message):
    with pytest.raises(error, match=message):
        read(**changes)


def test_other_files(path, tmp_path):
    with pytest.raises(errors.MissingFileError, match=r"none\.npz cannot be read: No such file"):
        read_npz(tmp_path / "none.npz")
    for content in (b"", b"PK\x03\x04", b"\x80\x04}\x94.", ARRAYS["x_train"].tobytes()):
        path.write_bytes(content)
        with pytest.raises(errors.FileFormatError, match=r"is not a whole \.npz file"):
            read_npz(path)


def test_a_member_that_is_no_array_or_goes_on_after_it(path):
    def write(damaged):
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in ARRAYS.items():
                content = io.BytesIO()
                np.save(content, array)
                archive.writestr(f"{name}.npy", damaged(content.getvalue()) if name == "x_test" else content.getvalue())

    for damaged, message in [
        (lambda content: b"no array", "magic string is not correct"),
        (lambda content: content[:-1], "x_test has 11 bytes, not 12 as for the shape|EOF"),
        (lambda content: content + b"\0", "x_test has bytes after its last element"),
        (lambda content: content.replace(b"(2, 2, 3)", b"(2,99**9)"), "plain arrays: "),
        (lambda content: content.replace(b"(2, 2, 3), }", b"(2,9999999999999)}"), "plain arrays: "),
    ]:
        write(damaged)
        with pytest.raises(errors.FileFormatError, match=message):
            read_npz(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), save=st.sampled_from([np.savez, np.savez_compressed]))
def test_a_changed_or_cut_file_never_gives_other_arrays(path, data, save):
    buffer = io.BytesIO()
    save(buffer, **ARRAYS)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    del content[data.draw(st.none() | st.integers(0, len(content))) or len(content) :]
    path.write_bytes(content)
    try:
        read = read_npz(path)
    except errors.FileFormatError:
        return
    for name, array in ARRAYS.items():
        assert getattr(read, name).tolist() == array.tolist()


@settings(max_examples=200, deadline=None)
@given(
    header=st.dictionaries(
        st.sampled_from(["descr", "fortran_order", "shape", "more"]),
        st.sampled_from(["|u1", "<f4", "|O", "<U9", True, False, (), (4,), (4, 2), (-1, 2), (10**20,), "(", None, 7]),
    ).map(repr)
    | st.text(max_size=40),
    body=st.binary(max_size=40),
    name=st.sampled_from(list(ARRAYS)),
)
def test_any_array_header_gives_an_error_or_a_data_set(path, header, body, name):
    text = header.encode("latin1", "replace") + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body
    with zipfile.ZipFile(path, "w") as archive:
        for other, array in ARRAYS.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{other}.npy", member if other == name else content.getvalue())
    with contextlib.suppress(errors.Error):
        assert read_npz(path).classes >= 1


def archive_of(member: bytes, method: int = zipfile.ZIP_DEFLATED, others: int = 0) -> bytes:
    """ARRAYS, but for x_train, and empty members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, array in ARRAYS.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name}.npy", member if name == "x_train" else content.getvalue())
        for number in range(others):
            archive.writestr(str(number), b"")
    return buffer.getvalue()


def array_file(shape: str, data: bytes = b"") -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive_of(array_file("(10000, 10000)", b"abcd")), r"x_train has 4 bytes, not 100000000 as for the shape"),
        (archive_of(array_file("(-1, -4)", b"abcd")), "negative dimensions"),
        (archive_of(array_file("(-1, 4)", b"abcd")), "x_train has 0 bytes, not -4"),
        (archive_of(array_file(f"({'1,' * 2000})", b"a")), "large|header"),
        (archive_of(array_file("(4,)", b"abcd").replace(b"NUMPY\1", b"NUMPY\3")), r"an array file of version \(3, 0\)"),
        (
            archive_of(array_file("(4,)", b"abcd"), zipfile.ZIP_LZMA),
            "x_train is packed by method 14, not as NumPy does",
        ),
        (archive_of(array_file("(4,)", b"abcd"), others=2000), r"one read asks for \d+ bytes, more than 65536"),
    ],
    ids=["more than it holds", "negative", "one negative", "long header", "version", "packing", "long directory"],
)
def test_what_is_only_promised_takes_no_memory(path, content, message):
    path.write_bytes(content)
    with pytest.raises(errors.FileFormatError, match=message):
        read_npz(path)  # once for what is imported
    tracemalloc.start()
    with pytest.raises(errors.FileFormatError):
        read_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system are POSIX")
def test_neither_a_folder_nor_a_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    for place in (tmp_path, tmp_path / "pipe.npz"):
        with pytest.raises(errors.FileFormatError, match="is not a file; expected exactly the arrays"):
            read_npz(place)
