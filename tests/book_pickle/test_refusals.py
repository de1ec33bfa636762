"""What is refused: every name but three, other values than arrays, what is not a file, files cut short."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.book_pickle.conftest import ARRAY, named, read, state
from xpnet import book_pickle
from xpnet.book_pickle import read_book_pickle
from xpnet.errors import FileFormatError, MissingFileError


class Malicious:
    """Python's own unpickler would make a folder of the name ``ran``."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_runs(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"W1": Malicious(tmp_path / "ran")}, protocol)
    with pytest.raises(FileFormatError, match=r"it names '(posix|nt)\.mkdir'; only numpy"):
        read(tmp_path / "weights.pkl", content)
    assert not (tmp_path / "ran").exists()
    pickle.loads(content)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "numpy load",
        "numpy.core.multiarray fromfile",
        "numpy dtype.type",
        "numpy.ndarray tofile",
        "xpnet.book_pickle _Array",
        "_codecs encode",
        "copyreg _reconstructor",
    ],
)
def test_every_other_name_is_refused_by_name(path: Path, name: str) -> None:
    module, attribute = name.split()
    by_line = f"c{module}\n{attribute}\n".encode()
    by_stack = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute)) + b"\x93"
    for instructions in (by_line, by_stack):
        with pytest.raises(FileFormatError, match=f"it names '{module}.{attribute}'"):
            read(path, named(instructions))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([np.zeros(2)], "EMPTY_LIST"),
        ({}, "the dict is empty"),
        (3, "it holds one int"),
        (None, "it holds one nonetype"),
        (np.zeros(2), "it holds one array"),
        ({"W1": 3}, "under 'W1' it holds one int"),
        ({"params": {"W1": np.zeros(2)}}, "under 'params' it holds one dict"),
        ({1: np.zeros(2)}, "other keys than strings"),
        ({"W1": 0.5}, "BINFLOAT"),
        ({"W1": np.zeros(2, np.complex64)}, "type 'c8'; expected f2, f4"),
        ({"W1": np.zeros(2, bool)}, "type 'b1'"),
        ({"W1": np.array(["a"])}, "type 'U1'"),
        ({"W1": np.array([None])}, "EMPTY_LIST"),
        ({"W1": np.zeros(2, [("x", "f4")])}, "type 'V4'"),
        ({"W1": np.float32(1.0)}, "it names 'numpy._core.multiarray.scalar'"),
    ],
)
def test_what_was_found_in_place_of_a_dict_of_arrays(path: Path, value: object, found: str) -> None:
    with pytest.raises(FileFormatError, match=f"{path.name} is not a pickled dict of NumPy arrays .*: .*{found}"):
        read(path, pickle.dumps(value, protocol=3))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"there is no weight file .*nowhere"):
        read_book_pickle(tmp_path / "nowhere")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"is not a file; .*sample_weight\.pkl"):
        read_book_pickle(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system are POSIX")
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="is not a file"):
        read_book_pickle(tmp_path / "pipe")


def test_a_file_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = named(ARRAY + state())
    monkeypatch.setattr(book_pickle, "LARGEST_FILE", len(content))
    assert read(path, content).keys() == {"W1"}
    with pytest.raises(FileFormatError, match=f"more than {len(content)} bytes"):
        read(path, content + b"x")


@pytest.mark.parametrize("protocol", [3, 4])
def test_every_truncation_is_noticed(path: Path, protocol: int) -> None:
    whole = pickle.dumps({"W1": np.arange(6.0).reshape(2, 3)}, protocol)
    for length in range(len(whole)):
        with pytest.raises(FileFormatError, match="not a pickled dict"):
            read(path, whole[:length])
