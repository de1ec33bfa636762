"""xpnet.book_pickle: real files are read as NumPy reads them, hostile ones are refused in bounded memory."""

from __future__ import annotations

import hashlib
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
from base64 import b85decode
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import book_pickle
from xpnet.book_pickle import MOST_INSTRUCTIONS, read_book_pickle, sigmoid_network_shapes
from xpnet.errors import Error, FileFormatError, MissingFileError, ShapeError

QUICK = settings(derandomize=True, deadline=None, max_examples=80, database=None)
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]

# {'W1': asfortranarray([[0.5, -1.25], [3, 1e-30]], float32), 'b1': array([-0.0, 2], '>f8'),
#  'i': array([[-1]]), 'n': array([10, 92, 39, 34, 255], uint8)}, pickled by Python 2.7.18 with NumPy 1.16.6.
PYTHON_2 = {
    "pickle, protocol 0": b85decode(
        b"C}eOj3R5R(Ckk*e3S(|{ZE$%mV{dY0E^T#ebZKF7a$$K2Uvgz*Z*FsRa&=>L3UD$CC}VDQZE$%CZe(F{a$$K2a5D-hNiYg@a"
        b"5M^2Ct@cGa5V~aa5f53a5oAlNihm2NihmZF$#2WI0|EKb!~8Y3S@M7aAgW`ISMFKCuuk*3UDzn3P~^uNihm^a4|6oQgAUc3M"
        b"ff43R5RMCkk*eGYU>lPDw2>3P~+73P~^ubZ{{=3SvnxFbY#ATzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?Ckk*eH41"
        b"caF*XWfb5kc`F((ReF*gclG72bXGYTk4FbZ^VF*pimH41caF*yoSa569oC`mC2C`mF3bZ{~;3THVAC{rh9I425lGBOHDFbYX"
        b"A3UqKXGYV30GBgS(NizylCq5?%a56OtPEJlqEinp7Einp7FbZ^VGByfgNiZ-9Qzu+_I51pzFfd$rFfd$rFfd$rFfd$rFfd$r"
        b"Ffd$rFfc$|crY+rcrY+rcrY+rcrY+rcrY+rcrY+rcrY+03UD$v3UqKXI0|BOQzut3Ckk*fISOYo3MgkY3Mff13UqKYFbZci3"
        b"UqKYF$z*}GcpP&Nihm2NiqsaG75BXGcyWjISMFKCuTG!3UD(t3P~^uNihm^a5FUuQgAai3Mff43R5RMCkk*gHwsQpPDw2>3P"
        b"~+73P~^ubZ|2`3SvnxF$z;BTzD`rTzD`rTzD`rKU{b)FkE;rFhD?DcrY+rcrY+rcwsPHcw%N?LR@%ZGF);e3UD(y3UqKZFbZ"
        b"OGQzvdG3UD+r3THA3C}%SYC`m91bZ|5>3THJ6bZ|5?3Q}-1Gzut5F$yS2H41caG&KrmISMFKCv`C=3UD+w3P~^uNihm^a5Og"
        b"xQgAdl3Mff43R5S1Ckk*hISNirPDw2>3P~+73P~^ubZ|8=3SvnxFbY#ATy9)kTqh!2cxGlN3UD<s3UqKaG74gIE&"
    ),
    "cPickle, protocol 0": b85decode(
        b"C}eOk3R5R(CkkV3b!~8YE@N+UWiD-XY;<X1a&lpL3SV+%V{dMAbaHiLbP8}X3MgZ4b!~8Y3T|X!a&lpL3UD(DC`m91bW<l{C"
        b"kk{@a5M@iNihm2NihmZF$#2JZgp*Nc?x87d2nS4a5V}jQzvOSCkjb03P~{vbW(6O3Mff43R5RMCkjqZPDw2>3P~+73P~^ubY"
        b"e*`FbY#ATzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?Ckk|8b5kc`F((ReHwtGm3MgkY3Mff13UpH^VkZi8QgAp5C`m"
        b"C2C`mF3bZ0dRC{rh9I4258FbYXA3UpF%ISMFAGYV5DJ|_xJPEJWJF$zg7F$zgA3Up#gFfa;JCtP?qFkE;rFkE;rFkE;rFkE;"
        b"rFkE;rFkE;rFkE;rFhE>*Ffd$rFfd$rFfd$rFfd$rFfd$rFfd$rFfb<ybYgQ;Cs#2i3UDzn3THA3C}%SYC`m91bW<l{Ckk{@"
        b"a4|6oC`mC2C`mF3Niqs_XEh2aQzvFLCkjb03P~{vbW(6JG72b3GYV5DJSPfHPEJWJF$zg7F$zgA3Up#gFfj^KCtP?iFkE;rF"
        b"kE;rFh5*)Ffd$rFfc$sTzD`rTzD`rTzFwHTzFz;U_xAYVKQ8DCkk|8b5kd7CkkgW3MgkY3Mff13UpH^VkZi8QgAUd3Mff23M"
        b"ff63Up^R3Mf-2bulLjNiYgYF$#22a4|FrC`mI4Qzv{U3QkT=Ni8u7Ni8u7NiYg@Vo5MC3R5RsZd_bkCn8*UW@aY}bYgQZ"
    ),
    "cPickle, protocol 1": b85decode(
        b"eQ^OORRL*ZZgp*Nc`jpba%C=Ub!>ELVRCX|c?w^0Wn*t{b98cbV{{5}0w`l{b!~8Y3T|X!a&lpL3ULD{O8|6L0b+DgaRew!0"
        b"VqoWO96CaZgp*Nc?x87d2nS4aRn$<0%<r)080UMQgH?-O9NE_JWftdO8@`=|4RS=|Nlz>bYe*`FbY)&|NsC0|NsC0bYfKkVl"
        b"i<CXaXo`11L)XbX5UjbW(8$C`$n-O9FIg1t?VlW;ja#O96CJaS13(162V&PEJlr|NsC0O8@`=|4RULVo5MC3RMt*00000000"
        b"0$000000001VVpRfHF>wlL0w`z$C`$lzRRLmjQgI6?O93cL0!spPXay)$0%kNz080UMQgI9@O9NE_JWftdO8@`=|4RS=|Nlz"
        b">bYe*`F$z@>0000#002Nh005xBU_zn|bYfKjZfF81Xaguq0CZIWVsuh*4Jb<iC`$!&Xay)$0(CJ<080UMQgIF_O9NE_d`?bI"
        b"O8@`=|4RS=|Nlz>bYe*`FbY)#3S1{5|8!z?E&"
    ),
    "pickle, protocol 2": b85decode(
        b"fC7DS04P-fX>kE#Zgp*Nc`jpba%C=Ub!>ELVRCX|c?w^0Wn*t{b98cbV{{5}0%LA<ZE$%CZe(F{a$$K2aRW;Lg>eK`0b+3lh"
        b"j9i{aR(?%0ZRc(0fuo1V{UbAaCr)3ba`-P3ULWl0%<sL3QGV>0f%u5QgI9@O9NE_JaG+9PEJby|Ns9=|NsC0O8|6n4q}N_2>"
        b"<{8|NsC0|8Wm=aS&ov0%9?75oiKv14{sfaS~_+hj9~9aTF*^0ZRgfaTRC@RRU%>aTZGeO96**7gBK;C`$uX0X}gVPEJlr|Ns"
        b"C0O8@`=|4RULaT;QYRS<vx00000002M$000000040tba5PFRRUKraUEy^Xah?Cg>fEe1&47TQgI+CO94v)O9F;*A!rFz0%kO"
        b"EB1-^E0f%uTQgI|GO9NE_JaHvXPEJby|Ns9=|NsC0O8|6nCSr(H5C8xGKL7wgKmY)szhFY54RI%QaVTO{0d8?AXaZ;hO8|v&"
        b"Drg0VaVt`BEGSC>O9h2-Eocc<0(CKQE=vGQ0f%ufQgJXSO9NE_d~q>OPEJby|Ns9=|NsC0O8|6nGGd8U1qxgzBL8tSba6Cdb"
        b"uI"
    ),
}
# Of the arrays in the books' file, as Python's own unpickler gives them: little-endian, in C order.
DIGESTS = {
    "W1": "2d0714ca8d07d756",
    "W2": "10bbf55337dc7d2a",
    "W3": "fdcf773d0e9734a3",
    "b1": "44a9e3f961c33cd7",
    "b2": "6384406e92d5fe32",
    "b3": "9e4452c9a0a7589e",
}
# A pickle in hand-written instructions: an array, up to the state that BUILD gives it.
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00<NNNK\x00K\x00K\x00tb"


def state(shape: bytes = b"K\x01\x85", dtype: bytes = DTYPE, data: bytes = b"C\x04abcd") -> bytes:
    return b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def named(value: bytes) -> bytes:
    """A pickled dict of one entry, W1."""
    return b"\x80\x03}X\x02\x00\x00\x00W1" + value + b"s."


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pickles") / "weights.pkl"


def read(path: Path, content: bytes) -> dict[str, np.ndarray]:
    path.write_bytes(content)
    return read_book_pickle(path)


@pytest.fixture
def sample_weight() -> Path:
    if "XPNET_DATA_DIR" not in os.environ:
        pytest.skip("XPNET_DATA_DIR is not set: the books' weights are not at hand")
    return Path(os.environ["XPNET_DATA_DIR"], "weights", "sample_weight.pkl")


def test_the_books_own_file(sample_weight: Path) -> None:
    digest = "b7f55a27988ba34c3777b0f1bbd464817c8a4db855723e6ff26f703501917a13"
    assert hashlib.sha256(sample_weight.read_bytes()).hexdigest() == digest
    weights = read_book_pickle(sample_weight)
    assert {name: array.shape for name, array in weights.items()} == {
        "b2": (100,),
        "W1": (784, 50),
        "b1": (50,),
        "W2": (50, 100),
        "W3": (100, 10),
        "b3": (10,),
    }
    for name, array in weights.items():
        assert hashlib.sha256(array.astype("<f4").tobytes()).hexdigest().startswith(DIGESTS[name])
    for array in weights.values():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert sigmoid_network_shapes(weights) == [784, 50, 100, 10]


@pytest.mark.parametrize("written", PYTHON_2)
def test_pickles_of_python_2(path: Path, written: str) -> None:
    weights = read(path, PYTHON_2[written])
    assert weights.keys() == {"W1", "b1", "i", "n"}
    np.testing.assert_array_equal(weights["W1"], np.array([[0.5, -1.25], [3, 1e-30]], np.float32), strict=True)
    np.testing.assert_array_equal(weights["b1"], np.array([-0.0, 2.0]), strict=True)
    np.testing.assert_array_equal(weights["i"], np.array([[-1]], np.int64), strict=True)
    np.testing.assert_array_equal(weights["n"], np.array([10, 92, 39, 34, 255], np.uint8), strict=True)
    assert np.signbit(weights["b1"][0])


def test_unicode_keys_of_python_2(path: Path) -> None:
    for key in (b"VW1\n", b"X\x02\x00\x00\x00W1"):
        assert read(path, b"(d" + key + ARRAY + state() + b"s.").keys() == {"W1"}


def test_sizes_that_python_2_wrote_as_long_integers(path: Path) -> None:
    for size in (b"L1L\n", b"\x8a\x01\x01"):
        assert read(path, named(ARRAY + state(shape=size + b"\x85")))["W1"].shape == (1,)


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from("<>")) + draw(st.sampled_from(DTYPES)))
    array = draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    return draw(st.sampled_from([np.ascontiguousarray, np.asfortranarray]))(array) if array.ndim else array


@QUICK
@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), weights(), min_size=1, max_size=4),
    st.sampled_from([3, 4]),
)
def test_what_python_3_pickles_comes_back(path: Path, saved: dict[str, np.ndarray], protocol: int) -> None:
    loaded = read(path, pickle.dumps(saved, protocol))
    assert loaded.keys() == saved.keys()
    for name, array in saved.items():
        native = np.array(array, array.dtype.newbyteorder("="), order="C")
        assert loaded[name].dtype == native.dtype
        assert loaded[name].shape == native.shape
        assert loaded[name].tobytes() == native.tobytes()
        assert loaded[name].flags.c_contiguous
        assert loaded[name].flags.writeable
        assert loaded[name].dtype.isnative


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_hundred_arrays(path: Path, protocol: int) -> None:
    saved = {f"W{i}": np.full((2, 3), i, np.float32) for i in range(100)}
    weights = read(path, pickle.dumps(saved, protocol))
    assert weights.keys() == saved.keys()
    assert all((weights[name] == array).all() for name, array in saved.items())


def test_both_names_of_numpys_private_package(path: Path) -> None:
    for package in (b"numpy.core", b"numpy._core"):
        weights = read(path, named(ARRAY.replace(b"numpy.core", package) + state()))
        assert weights["W1"].tobytes() == b"abcd"


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


def test_an_array_under_two_names_is_two_arrays(path: Path) -> None:
    bias = np.arange(3.0)
    weights = read(path, pickle.dumps({"b1": bias, "b2": bias}, protocol=3))
    weights["b1"][:] = 7.0
    assert weights["b2"].tolist() == [0.0, 1.0, 2.0]


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


def network(*sizes: int) -> dict[str, np.ndarray]:
    names = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        names[f"W{layer}"], names[f"b{layer}"] = np.zeros((inputs, outputs)), np.zeros(outputs)
    return names


@pytest.mark.parametrize("sizes", [(3, 2), (784, 50, 100, 10), tuple(range(2, 15))])
def test_layer_sizes(sizes: tuple[int, ...]) -> None:
    assert sigmoid_network_shapes(network(*sizes)) == list(sizes)
    assert sigmoid_network_shapes(dict(reversed(network(*sizes).items()))) == list(sizes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W2": None}, "missing: b1, W2|unexpected: b2"),
        ({"b2": None}, "missing: b2; unexpected: none"),
        ({"W1": None}, "missing: W1"),
        ({"W4": np.zeros((4, 4)), "b4": np.zeros(4)}, "missing: W3, b3; unexpected: W4, b4"),
        ({"gamma": np.zeros(3)}, "missing: none; unexpected: gamma"),
        ({"W": np.zeros(3)}, "missing: W3, b3; unexpected: W"),
        ({"W01": np.zeros(3)}, "unexpected: W01"),
    ],
)
def test_names_with_gaps_are_named(change: dict[str, Any], message: str) -> None:
    weights = {name: array for name, array in {**network(4, 3, 2), **change}.items() if array is not None}
    with pytest.raises(FileFormatError, match=message):
        sigmoid_network_shapes(weights)


def test_no_weights_at_all() -> None:
    with pytest.raises(FileFormatError, match="missing: W1, b1"):
        sigmoid_network_shapes({})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("W1", (), r"W1 has shape \(\); expected \(inputs, outputs\)"),
        ("W1", (4, 3, 1), r"W1 has shape \(4, 3, 1\)"),
        ("W2", (5, 2), r"W2 has shape \(5, 2\); expected 3 rows, as W1 has columns"),
        ("b2", (3,), r"b2 has shape \(3,\); expected \(2,\), as W2 is \(3, 2\)"),
        ("b1", (1, 3), r"b1 has shape \(1, 3\)"),
        ("b1", (), r"b1 has shape \(\)"),
    ],
)
def test_shapes_that_do_not_chain_are_named(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        sigmoid_network_shapes({**network(4, 3, 2), name: np.zeros(shape)})
