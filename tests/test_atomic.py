"""xpnet.atomic: the file is the old one or the new one, whole, whatever happens."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import xpnet.atomic
from xpnet.atomic import remove_leftovers, write_atomically
from xpnet.errors import Error, RunFolderError


@pytest.mark.parametrize("data", [b"", b"new", bytes(range(256)) * 5000])
def test_the_bytes_replace_the_old_ones(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"old, and longer than some of the new")
    write_atomically(path, data)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == [path.name]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "atomic", b"x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        is_folder = os.fstat(descriptor).st_ino == tmp_path.stat().st_ino
        events.append("folder" if is_folder else f"{size} bytes")
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_atomically(tmp_path / "file", b"12345")
    assert events == ["5 bytes", "rename", "folder"]


def test_folders_that_cannot_be_opened_are_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(xpnet.atomic.os, "open", refuse)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_before_the_rename_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(xpnet.atomic.os, step, fail)
    with pytest.raises(RunFolderError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
        write_atomically(path, b"new")
    if isinstance(failure, OSError):
        assert str(caught.value) == f"cannot write {path}: No space left on device"
        assert isinstance(caught.value, Error)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"gone.last: No such file or directory"):
        write_atomically(tmp_path / "gone" / "last", b"new")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(RunFolderError, match="Not a directory"):
        write_atomically(tmp_path / "file" / "last", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_target_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunFolderError, match=r"folder: Is a directory"):
        write_atomically(tmp_path / "folder", b"new")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the system fails the write half-way just so."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import resource, sys; from xpnet.atomic import write_atomically\n"
        "from xpnet.errors import RunFolderError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_atomically(sys.argv[1], bytes(1_000_000))\n"
        "except RunFolderError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {path}: File too large\n"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_threads_that_write_the_same_file_leave_one_of_theirs_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    versions = [bytes([digit]) * 300_000 for digit in range(4)]
    torn = []

    def write_and_read(data: bytes) -> None:
        for _ in range(10):
            write_atomically(path, data)
            if path.read_bytes() not in versions:
                torn.append(data[:1])

    threads = [threading.Thread(target=write_and_read, args=(data,)) for data in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    versions = [bytes([digit]) * 4_000_000 for digit in range(3)]
    path.write_bytes(versions[0])
    script = (
        "import itertools, sys; from xpnet.atomic import write_atomically\n"
        "versions = [bytes([digit]) * 4_000_000 for digit in (1, 2)]\n"
        "print(flush=True)\n"
        "for data in itertools.cycle(versions): write_atomically(sys.argv[1], data)\n"
    )
    draw = random.Random(0)
    killed_amid_a_write = 0
    for _ in range(15):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(draw.uniform(0.0, 0.03))
            writer.send_signal(signal.SIGKILL)
        assert path.read_bytes() in versions
        left_over = [name for name in os.listdir(tmp_path) if name != "file"]
        killed_amid_a_write += len(left_over)
        for name in left_over:
            assert name.endswith(".tmp")
            (tmp_path / name).unlink()
    assert killed_amid_a_write > 0
    write_atomically(path, b"next")
    assert os.listdir(tmp_path) == ["file"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    stay = ["last", ".last.tmp", ".last.1.tmp.txt", ".other.1.tmp", "last.1.tmp", ".[l]ast.1.tmp"]
    for name in [*stay, ".last.1.tmp", ".last.4711.tmp"]:
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path / "last")
    assert sorted(os.listdir(tmp_path)) == sorted(stay)
    remove_leftovers(tmp_path / "[l]ast")
    assert sorted(os.listdir(tmp_path)) == sorted(stay[:-1])
