import gzip
import hashlib
import re
import socket
import subprocess
import sys
import threading

import pytest

from xpnet import errors
from xpnet.data.download import SOURCES, Source, fetch

FILES = {
    "images.gz": gzip.compress(bytes(300_000) + b"images", mtime=0),
    "labels.gz": gzip.compress(b"labels", mtime=0),
}
WRONG = FILES | {"labels.gz": gzip.compress(b"lobels", mtime=0)}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def source(*mirrors):
    return Source(tuple(getattr(mirror, "address", mirror) for mirror in mirrors), SHA256)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.fixture
def dead():
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}/set/"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "set"


def test_downloads_every_file(mirror, folder):
    fetch(source(mirror(FILES)), folder)
    assert contents(folder) == FILES


def test_keeps_what_is_there_and_replaces_what_is_wrong(mirror, folder):
    folder.mkdir(parents=True)
    (folder / "images.gz").write_bytes(FILES["images.gz"])
    (folder / "labels.gz").write_bytes(b"half a fi")
    server = mirror(FILES)
    fetch(source(server), folder)
    assert contents(folder) == FILES
    assert [name for command, name in server.requests if command == "GET"] == ["labels.gz"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_dead_mirror_is_passed_over(mirror, folder, dead, order):
    fetch(source(*(dead, mirror(FILES))[::order]), folder)
    assert contents(folder) == FILES


@pytest.mark.parametrize("order", [1, -1])
def test_a_silent_mirror_is_not_waited_for(mirror, folder, order):
    fetch(source(*(mirror(FILES, "silent"), mirror(FILES))[::order]), folder, answer_within=5)
    assert contents(folder) == FILES


@pytest.mark.parametrize("bad", ["truncating", "stalling"])
def test_another_mirror_takes_over_in_mid_file(mirror, folder, bad):
    first, second = mirror(FILES, bad), mirror(FILES)
    fetch(source(first, second), folder, stall_after=0.2)
    assert contents(folder) == FILES


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("truncating", r"failed \(IncompleteRead\)|failed \(ProtocolError\)"),
        ("stalling", r"failed \(ReadTimeoutError\)"),
    ],
)
def test_an_interrupted_download_leaves_no_file(mirror, folder, kind, failure):
    with pytest.raises(errors.MissingFileError, match=failure):
        fetch(source(mirror(FILES, kind)), folder, stall_after=0.2)
    assert contents(folder) == {}


def test_wrong_bytes_are_an_error_and_are_not_kept(mirror, folder):
    with pytest.raises(errors.MissingFileError, match=r"labels\.gz without the published SHA-256"):
        fetch(source(mirror(WRONG), mirror(WRONG)), folder)
    assert contents(folder) == {"images.gz": FILES["images.gz"]}


@pytest.mark.parametrize("order", [1, -1])
def test_after_wrong_bytes_the_other_mirror_is_asked(mirror, folder, order):
    fetch(source(*(mirror(WRONG), mirror(FILES))[::order]), folder)
    assert contents(folder) == FILES


def test_a_mirror_without_the_files(mirror, folder):
    with pytest.raises(errors.MissingFileError, match="/set/ answered 404"):
        fetch(source(mirror({})), folder)
    assert contents(folder) == {}


def test_gives_up_when_no_mirror_answers(mirror, folder, dead):
    silent = mirror(FILES, "silent")
    with pytest.raises(errors.MissingFileError) as caught:
        fetch(source(silent, dead), folder, answer_within=0.2)
    assert re.search(rf"{silent.address} (no answer within 0\.2 s|failed \(ReadTimeout\))", str(caught.value))
    assert f"{dead} failed (ConnectionError)" in str(caught.value)
    assert not folder.exists()


def test_gives_up_when_the_name_server_hangs(monkeypatch, folder):
    answered = threading.Event()

    def hang(*_args, **_kwargs):
        answered.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    threads = set(threading.enumerate())
    try:
        with pytest.raises(errors.MissingFileError, match=r"http://mirror\.invalid/ no answer within 0\.2 s"):
            fetch(source("http://mirror.invalid/"), folder, answer_within=0.2)
        asking = set(threading.enumerate()) - threads
        assert asking
        assert all(thread.daemon for thread in asking)
    finally:
        answered.set()
    for thread in asking:
        thread.join()


def test_goes_through_the_environments_proxy(mirror, folder, monkeypatch):
    proxy = mirror(FILES)
    monkeypatch.setenv("http_proxy", proxy.address)
    fetch(source("http://mirror.invalid/set/"), folder)
    assert contents(folder) == FILES
    assert len(proxy.requests) == 3


def test_the_hash_is_of_the_file_as_stored(mirror, folder):
    fetch(source(mirror(FILES, "declaring gzip")), folder)
    assert contents(folder) == FILES


def test_a_folder_that_cannot_be_written(mirror, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.MissingFileError, match="cannot be written: "):
        fetch(source(mirror(FILES)), tmp_path / "file" / "set")


def test_processes_download_side_by_side(mirror, folder):
    code = f"""
from pathlib import Path
from xpnet.data.download import Source, fetch
fetch(Source(({mirror(FILES).address!r},), {SHA256!r}), Path({str(folder)!r}))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert contents(folder) == FILES


def test_the_published_addresses():
    for name, published in SOURCES.items():
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in published.mirrors), name
        assert len(set(published.sha256.values())) == 4
        assert all(len(bytes.fromhex(digest)) == 32 for digest in published.sha256.values())
    assert SOURCES["mnist"].sha256.keys() == SOURCES["fashion-mnist"].sha256.keys()


def test_the_published_hashes_are_those_of_the_official_files(real_mnist):
    for name, digest in SOURCES["mnist"].sha256.items():
        assert hashlib.sha256((real_mnist / "mnist" / name).read_bytes()).hexdigest() == digest
