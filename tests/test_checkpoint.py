"""xpnet.checkpoint: what is saved comes back bit for bit, and nothing else comes in."""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from xpnet import checkpoint
from xpnet.checkpoint import Checkpoint
from xpnet.errors import (
    ConfigurationError,
    DTypeError,
    Error,
    FileFormatError,
    MissingFileError,
    RunFolderError,
)

QUICK = settings(derandomize=True, deadline=None, max_examples=60, database=None)
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "reversed": lambda array: np.ascontiguousarray(array[::-1])[::-1],
    "every second": lambda array: np.repeat(array, 2, axis=0)[::2],
    "broadcast": lambda array: np.broadcast_to(array[:1], array.shape),
    "transposed": lambda array: array.T,
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = TEXT.filter(lambda name: name != "__metadata__")
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def whole_file(folder: Path) -> bytes:
    saved = Checkpoint({"W": np.arange(4.0), "b": np.zeros((0, 3), np.int8)}, {"step": 3, "loss": math.nan})
    checkpoint.save(folder / "whole", saved)
    return (folder / "whole").read_bytes()


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from("<>")) + draw(st.sampled_from(DTYPES)))
    array = draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    return LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](array) if array.ndim else array


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal in shape, kind and every bit, whatever the byte order and the strides (NaN payloads included)."""
    native = [np.array(x, x.dtype.newbyteorder("="), order="C") for x in (a, b)]
    return a.shape == b.shape and native[0].dtype == native[1].dtype and native[0].tobytes() == native[1].tobytes()


def same_value(a: Any, b: Any) -> bool:
    """Equality that tells 1 from 1.0 and True, 0.0 from -0.0, and takes NaN for NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_value(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same_value, a, b))
    return a == b


def header_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def write_raw(path: Path, header: dict[str, Any] | bytes, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_the_bytes_of_a_small_checkpoint(tmp_path: Path) -> None:
    """Laid out by hand after the specification of the format."""
    path = tmp_path / "last.safetensors"
    tensors = {"b": np.array([1, -2], np.int16), "W": np.asfortranarray([[1.0, 2.0], [3.0, 4.0]], np.float32)}
    checkpoint.save(path, Checkpoint(tensors, {"step": 7, "name": "é", "best": {"b": -math.inf, "a": [0.1]}}))
    header = (
        b'{"__metadata__": {"best": "{\\"a\\": [0.1], \\"b\\": {\\"$float\\": \\"-inf\\"}}", '
        b'"format": "xpnet", "format_version": "2", "name": "\\"\\\\u00e9\\"", "step": "7"}, '
        b'"W": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, '
        b'"b": {"dtype": "I16", "shape": [2], "data_offsets": [16, 20]}}'
    )
    header += b" " * (-len(header) % 8)
    data = struct.pack("<ffffhh", 1, 2, 3, 4, 1, -2)
    assert path.read_bytes() == struct.pack("<Q", len(header)) + header + data


@QUICK
@given(st.dictionaries(NAMES, tensors(), max_size=4))
def test_tensors_come_back_bit_for_bit_as_arrays_of_their_own(folder: Path, saved: dict[str, np.ndarray]) -> None:
    path = folder / "tensors"
    checkpoint.save(path, Checkpoint(saved, {}))
    loaded = checkpoint.load(path).tensors
    assert loaded.keys() == saved.keys()
    for name, array in loaded.items():
        assert same_bits(array, saved[name])
        assert array.dtype.isnative
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.owndata
    by_the_library = load_file(path)
    assert by_the_library.keys() == saved.keys()
    assert all(same_bits(by_the_library[name], saved[name]) for name in saved)


@QUICK
@given(st.dictionaries(TEXT.filter(lambda key: key not in ("format", "format_version")), JSON_VALUES, max_size=4))
def test_metadata_comes_back_exactly(folder: Path, saved: dict[str, Any]) -> None:
    path = folder / "metadata"
    checkpoint.save(path, Checkpoint({}, saved))
    assert same_value(checkpoint.load(path).metadata, saved)
    texts = header_of(path)["__metadata__"]
    assert texts.pop("format") == "xpnet"
    for text in texts.values():
        json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_that_are_not_finite_are_strict_json_and_come_back(tmp_path: Path, value: float) -> None:
    path = tmp_path / "last"
    checkpoint.save(path, Checkpoint({}, {"loss": value, "nested": {"losses": [value, 1.0, (value,)]}}))
    written = header_of(path)["__metadata__"]
    assert json.loads(written["loss"]) == {"$float": repr(value)}
    metadata = checkpoint.load(path).metadata
    assert same_value(metadata, {"loss": value, "nested": {"losses": [value, 1.0, [value]]}})


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = {name: np.arange(3.0) for name in "abcdefgh"}
    metadata = {name: {"x": 1, "y": 2} for name in "klmnopqr"}
    checkpoint.save(tmp_path / "one", Checkpoint(tensors, metadata))
    backwards = {name: {"y": 2, "x": 1} for name in reversed(metadata)}
    checkpoint.save(tmp_path / "two", Checkpoint(dict(reversed(tensors.items())), backwards))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_tensor_starts_at_a_multiple_of_its_elements_size(tmp_path: Path) -> None:
    tensors = {f"{size}{name}": np.ones(3, f"u{size}") for name in "ab" for size in (1, 2, 4, 8)}
    checkpoint.save(tmp_path / "last", Checkpoint(tensors, {"odd": "x"}))
    header = header_of(tmp_path / "last")
    (length,) = struct.unpack("<Q", (tmp_path / "last").read_bytes()[:8])
    assert all((8 + length + header[name]["data_offsets"][0]) % int(name[0]) == 0 for name in tensors)


def test_loaded_arrays_may_be_changed_without_touching_the_file(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last", Checkpoint({"W": np.zeros(3)}, {}))
    checkpoint.load(tmp_path / "last").tensors["W"][:] = 1.0
    assert checkpoint.load(tmp_path / "last").tensors["W"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (np.zeros(2, np.complex64), "complex64"),
        (np.array(["a"]), "<U1"),
        (np.array([None]), "object"),
        (np.zeros(2, [("x", "f4")]), r"\('x', '<f4'\)"),
        (np.zeros(2, "M8[s]"), "datetime64"),
        ([1.0, 2.0], "is a list"),
        (np.float32(1.0), "is a float32"),
    ],
)
def test_tensors_of_other_kinds_are_refused_by_name(tmp_path: Path, tensor: Any, what: str) -> None:
    with pytest.raises(DTypeError, match=f"'0.W' .*{what}"):
        checkpoint.save(tmp_path / "last", Checkpoint({"0.W": tensor}, {}))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("metadata", "where"),
    [
        ({"a": {1: 2}}, "'a' is {1: 2}"),
        ({"a": [0, {1, 2}]}, r"'a\[1\]' is {1, 2}"),
        ({"a": {"b": np.float32(1)}}, r"'a.b' is .*\.item\(\)"),
        ({"a": np.int64(1)}, "'a'"),
        ({"a": b"bytes"}, "'a' is b'bytes'"),
        ({"a": {"$float": "nan"}}, r"'a' .*\$float"),
        ({"format": "other"}, "'format'"),
        ({"format_version": 2}, "'format_version'"),
        ({1: 2}, "not 1"),
        ({"\ud800": 2}, "Unicode"),
    ],
)
def test_metadata_that_would_not_come_back_is_refused_and_the_old_file_kept(
    tmp_path: Path, metadata: dict[Any, Any], where: str
) -> None:
    path = tmp_path / "last"
    path.write_bytes(b"old")
    with pytest.raises(ConfigurationError, match=where):
        checkpoint.save(path, Checkpoint({}, metadata))
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["__metadata__", "\ud800", 3])
def test_names_that_the_format_cannot_hold_are_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ConfigurationError):
        checkpoint.save(tmp_path / "last", Checkpoint({name: np.zeros(1)}, {}))


def test_saving_into_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"gone.last"):
        checkpoint.save(tmp_path / "gone" / "last", Checkpoint({}, {}))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"there is no checkpoint .*nowhere"):
        checkpoint.load(tmp_path / "nowhere")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"is not a file; .*best\.safetensors"):
        checkpoint.load(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system are POSIX")
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="is not a file"):
        checkpoint.load(tmp_path / "pipe")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last"
    checkpoint.save(path, Checkpoint({"W": np.arange(6.0).reshape(2, 3)}, {"step": 1}))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="damaged"):
            checkpoint.load(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**62, 2**40, 100_000_001, 99_999_999])
def test_absurd_header_lengths(tmp_path: Path, length: int) -> None:
    path = tmp_path / "last"
    path.write_bytes(struct.pack("<Q", length) + b'{"__metadata__": {}}')
    with pytest.raises(FileFormatError, match="damaged"):
        checkpoint.load(path)


def test_a_safetensors_file_of_someone_else(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"W": np.zeros(2)}, tmp_path / "foreign", metadata=metadata)
        with pytest.raises(FileFormatError, match="is a safetensors file, but no checkpoint of xpnet"):
            checkpoint.load(tmp_path / "foreign")


def test_a_checkpoint_of_a_newer_xpnet(tmp_path: Path) -> None:
    save_file({"W": np.zeros(2)}, tmp_path / "newer", metadata={"format": "xpnet", "format_version": "3", "x": "?"})
    message = r"written by a newer xpnet \(format 3\); this one reads up to 2: upgrade xpnet"
    with pytest.raises(FileFormatError, match=message):
        checkpoint.load(tmp_path / "newer")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"format_version": "one"},
        {"format_version": "9" * 5000},
        {"format_version": "1", "step": ""},
        {"format_version": "1", "step": "NaN"},
        {"format_version": "1", "step": "9" * 5000},
        {"format_version": "1", "step": "[" * 100_000},
        {"format_version": "1", "loss": '{"$float": "3"}'},
        {"format_version": "1", "loss": '{"$float": ["nan"]}'},
    ],
)
def test_damaged_metadata(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = write_raw(tmp_path / "last", {"__metadata__": {"format": "xpnet", **metadata}})
    with pytest.raises(FileFormatError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("description", "data"),
    [
        ({"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}, b"abcd"),
        ({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}, b"abcd"),
        ({"dtype": "pickle", "shape": [4], "data_offsets": [0, 4]}, b"abcd"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, b"abcd"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, b"abcdabcd"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, b"abcd"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, b"abcd"),
        ({"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}, b""),
        ({"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}, b""),
        ({"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]}, b"abcd"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, b"abcd and more"),
    ],
)
def test_damaged_descriptions_of_a_tensor(tmp_path: Path, description: dict[str, Any], data: bytes) -> None:
    metadata = {"format": "xpnet", "format_version": "1"}
    path = write_raw(tmp_path / "last", {"__metadata__": metadata, "W": description}, data)
    with pytest.raises(FileFormatError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize(("dtype", "length"), [("BF16", 2), ("F8_E4M3", 4)])
def test_element_types_stay_what_they_are_when_a_package_gives_numpy_more(
    tmp_path: Path, dtype: str, length: int
) -> None:
    pytest.importorskip("ml_dtypes", reason="ml_dtypes, which comes with onnx, is not installed")
    test_damaged_descriptions_of_a_tensor(
        tmp_path, {"dtype": dtype, "shape": [length], "data_offsets": [0, 4]}, b"abcd"
    )


@pytest.mark.parametrize(
    "text", [b"", b"{", b"null", b"[]", b'{"__metadata__": {"format": 3}}', b"\xff\xfe", b"[" * 99999]
)
def test_damaged_headers(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(FileFormatError, match="damaged"):
        checkpoint.load(write_raw(tmp_path / "last", text))


@settings(QUICK, max_examples=400)
@given(st.data())
def test_mutated_files_load_or_raise_an_error_of_xpnet(folder: Path, whole_file: bytes, data: st.DataObject) -> None:
    path = folder / "mutated"
    content = bytearray(whole_file)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        replaced = data.draw(st.integers(0, 4))
        content[position : position + replaced] = data.draw(st.binary(max_size=4))
        content = content or bytearray(1)
    path.write_bytes(content)
    try:
        loaded = checkpoint.load(path)
    except Error:
        return
    assert sum(tensor.nbytes for tensor in loaded.tensors.values()) <= len(content)


def test_a_header_has_a_largest_size_in_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "last"
    path.write_bytes(b"old")
    with pytest.raises(ConfigurationError, match=r"take \d+ bytes, more than 1048576: keep less in it"):
        checkpoint.save(path, Checkpoint({}, {"text": "x" * 2**20}))
    assert path.read_bytes() == b"old"
    write_raw(path, {"__metadata__": {"format": "xpnet", "format_version": "1", "x": " " * 2**20 + "1"}})
    with pytest.raises(FileFormatError, match=r"damaged.* its header has \d+ bytes, and may have 1048576"):
        checkpoint.load(path)


@pytest.mark.parametrize(("levels", "whole"), [(90, True), (150, False), (900, False)])
def test_metadata_have_a_greatest_depth_in_both_directions(tmp_path: Path, levels: int, whole: bool) -> None:
    text = "[" * levels + "]" * levels
    path = write_raw(tmp_path / "raw", {"__metadata__": {"format": "xpnet", "format_version": "1", "x": text}})
    if whole:
        checkpoint.save(tmp_path / "saved", checkpoint.load(path))
        assert checkpoint.load(tmp_path / "saved").metadata["x"] == json.loads(text)
        return
    with pytest.raises(FileFormatError, match=r"damaged.*(nested|recursion)"):
        checkpoint.load(path)
    if levels < 500:
        with pytest.raises(ConfigurationError, match="nested more than 100 deep"):
            checkpoint.save(tmp_path / "saved", Checkpoint({}, {"x": json.loads(text)}))
