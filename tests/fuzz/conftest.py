"""Hostile files by the thousand, and what a reader may do with one.

It gives what the file holds or raises an error of xpnet. Meanwhile it takes at most twice the memory of what the file
really holds, beside a fixed allowance; comes to an end; and runs nothing, writes nothing, asks no network.
"""

from __future__ import annotations

import codecs
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from xpnet.errors import Error, OutOfMemoryError

MIB = 2**20
ALLOWANCE = MIB  # the pieces in which files are read, and the interpreter's objects around a small file
ADDRESS_SPACE = 512 * MIB  # beside what the process has: for what is allocated behind Python's back
CPU_SECONDS = 30  # of this process, not of the clock: a busy machine changes nothing
Reader = Callable[[Path], object]


class Hang(BaseException):
    """Not an Exception: no reader takes it for damage."""


class File(bytes):
    """What is written to a file; a failing case shows its beginning, and hypothesis can make it again."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes, {self[:300]!r}"


class Outcome(NamedTuple):
    """What became of a file: its content or the error, and the most memory it took."""

    content: object
    error: Error | None
    peak: int


@pytest.fixture(params=[40, pytest.param(1200, marks=pytest.mark.guarantees)], ids=["short", "long"])
def cases(request: pytest.FixtureRequest) -> int:
    """How many files a test tries."""
    return request.param


@pytest.fixture
def watched() -> Callable[[Reader, Path], Outcome]:
    """``watched(read, path)``: read under every restriction but that of memory, which is measured."""
    return _watched


@pytest.fixture
def fuzz(cases: int, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., None]:
    """``fuzz(contents, read, valid)``: every content, written to a file, is read by the rules above.

    Args:
        contents: strategy for the bytes of a file.
        read: called with the path of it.
        valid: a content that must be readable: so the reader is warm, and surely the right one.
        honest: how many bytes a content really holds, unpacked.
        name: of the file.
    """

    def run(
        contents: st.SearchStrategy[bytes],
        read: Reader,
        valid: bytes,
        honest: Callable[[bytes], int] = len,
        name: str = "file",
    ) -> None:
        path = tmp_path / name
        path.write_bytes(valid)
        read(path)
        tried = refused = 0

        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            derandomize=cases < 1000,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(contents.map(File))
        def one(content: File) -> None:
            nonlocal tried, refused
            tried += 1
            path.write_bytes(content)
            outcome = _watched(read, path)
            allowed = 2 * honest(content) + ALLOWANCE
            assert outcome.peak <= allowed, f"{outcome.peak} bytes for {allowed}"
            if outcome.error is not None:
                assert not isinstance(outcome.error, OutOfMemoryError), outcome.error
                assert str(outcome.error).strip()
                refused += 1

        with _address_space(ADDRESS_SPACE):
            one()
        print(f"\n{request.node.nodeid}: {tried} files, {refused} of them refused")

    return run


@pytest.fixture
def mutated() -> Callable[..., st.SearchStrategy[bytes]]:
    """``mutated(*sources)``: one of them, changed in up to four places."""
    return _mutated


@pytest.fixture
def misshapen() -> Callable[..., st.SearchStrategy[Any]]:
    """``misshapen(table)``: a copy with up to three of its values, at any depth, made what they should not be."""
    return _misshapen


_NUMBERS = [0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]


@st.composite
def _mutated(draw: st.DrawFn, *sources: bytes) -> bytes:
    content = bytearray(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["cut", "drop", "change", "number", "insert", "repeat", "splice"]))
        if kind == "cut":
            del content[place:]
        elif kind == "drop":
            del content[place : place + draw(st.integers(1, 64))]
        elif kind == "change":
            content[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "number":
            width, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
            number = draw(st.sampled_from(_NUMBERS)) % 256**width
            content[place : place + width] = number.to_bytes(width, order)
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=32))
        elif kind == "repeat":
            content[place:place] = content[place : place + 64] * draw(st.integers(1, 100))
        else:
            other = draw(st.sampled_from(sources))
            content[place:] = other[draw(st.integers(0, len(other))) :]
    return bytes(content)


def _deep(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = {"layers": [value], "type": "Sequential"}
    return value


_VALUES: list[Any] = [
    True, False, 0, -1, 1, 3, 2**31, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e-320,
    1e308, -1e308, float("nan"), float("inf"), float("-inf"), "", "x", "relu", "digits", "same", "\0", "a\0.npz",
    "a\nb", "\x1b[2J", "\u202e", "W" * 5000, "../../x", "9" * 5000, [], [[]], [1, 2], ["x"], [True], {}, {"": 0},
    {"type": "x"}, {"type": []}, {"type": {}}, {"$float": "nan"}, {"type": "Flatten"}, {"type": "Linear"},
    {"type": "Linear", "inputs": 10**9, "outputs": 10**9}, {"type": "HeNormal"}, {"type": "Constant", "value": "x"},
    {"type": "Sequential", "layers": []}, {"type": "Adam"}, _deep({"type": "ReLU"}, 30), _deep({"type": "ReLU"}, 300),
    _deep(3, 90),
]  # fmt: skip


@st.composite
def _misshapen(draw: st.DrawFn, table: Any) -> Any:
    values = st.sampled_from(_VALUES)
    root = {"root": _copied(table)}
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        places = list(_places(root))
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "wrap", "twice"]))
        if kind == "replace":
            parent[key] = _copied(draw(values))
        elif kind == "remove" and parent is not root:
            del parent[key]
        elif kind == "add" and isinstance(parent[key], dict):
            parent[key][draw(st.sampled_from(["", "x", "type", "layers", "weights", "\0", "k" * 300]))] = _copied(
                draw(values)
            )
        elif kind == "wrap":
            parent[key] = [parent[key]] if draw(st.booleans()) else {"type": parent[key]}
        elif kind == "twice" and isinstance(parent[key], list):
            parent[key] = parent[key] * 2
    return root["root"]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of every table and list within, as its owner and its key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _watched(read: Reader, path: Path) -> Outcome:
    content, refusal = None, None
    with _no_code_run(path.parent), _no_hang():
        tracemalloc.start()
        try:
            content = read(path)
        except Error as error:
            refusal = error
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    return Outcome(content, refusal, peak)


_events: list[str] | None = None  # what happened under watch; None: nobody watches
_folder = ""
_HARMLESS = {"os.listdir", "os.scandir", "os.walk"}
_SUSPECT = ("exec", "import", "os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pickle.", "code.", "urllib.")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is None:
        return
    opened_to_write = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    on_files = opened_to_write or event.startswith("os.")
    if on_files and (isinstance(arguments[0], int) or str(arguments[0]).startswith(_folder)):
        return  # an open file's number, or the folder of the file that is read
    if opened_to_write or (event.startswith(_SUSPECT) and event not in _HARMLESS):
        _events.append(f"{event} {arguments!r:.200}")


@contextmanager
def _no_code_run(folder: Path) -> Iterator[None]:
    """No file outside ``folder`` written, no module imported, no code executed, no process or connection begun."""
    global _events, _folder
    if not hasattr(sys, "_xpnet_audited"):  # a hook is there for good: once a process
        sys.addaudithook(_audit)
        sys._xpnet_audited = True  # type: ignore[attr-defined]
    for codec in ("unicode_escape", "raw_unicode_escape"):
        codecs.lookup(codec)  # Python imports them when a pickle has a text of Python 2's
    _events, _folder = [], str(folder)
    try:
        yield
    finally:
        events, _events = _events, None
        assert not events, events


@contextmanager
def _no_hang() -> Iterator[None]:
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise Hang(f"{CPU_SECONDS} seconds of the processor")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _address_space(more: int) -> Iterator[None]:
    """A limit on the address space, where the system knows such limits and says how much there is already."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (int(statm.read_text().split()[0]) * resource.getpagesize() + more, before[1])
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
