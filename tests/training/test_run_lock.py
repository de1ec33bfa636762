"""xpnet.training.run_lock: one process in a folder, and the lock goes with it, however it ends."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xpnet.errors import CallOrderError, RunFolderError
from xpnet.training import run_lock
from xpnet.training.run_lock import RunLock

HOLD = (
    "import sys; from pathlib import Path; from xpnet.training.run_lock import RunLock\n"
    "with RunLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
)


def holder_of(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with holder_of(tmp_path) as process:
        with pytest.raises(RunFolderError) as raised, RunLock(tmp_path):
            pass
        assert str(raised.value).startswith(f"the run folder {tmp_path} is in use by process {process.pid} on ")
        assert str(raised.value).endswith(": wait for its end, or stop it")
        assert os.listdir(tmp_path) == [".lock"]  # who was refused took nothing away
    with RunLock(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with holder_of(tmp_path) as process:
        process.kill()
    assert os.listdir(tmp_path) == [".lock"]
    with RunLock(tmp_path) as lock:
        assert lock.path.read_text().startswith(f"process {os.getpid()} on ")
    assert os.listdir(tmp_path) == []


def test_a_second_run_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on "), RunLock(tmp_path):
            pass
        lock.require_held()


def test_a_holder_that_has_not_yet_said_who_it_is(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        lock.path.write_text("")
        with pytest.raises(RunFolderError, match="is in use by another process: wait"), RunLock(tmp_path):
            pass


def test_of_many_at_once_one_is_in(tmp_path: Path) -> None:
    """Each enters as often as it can; none finds another inside, although each removes the file when it leaves."""
    inside, together, entered = [0], [], [0]

    def enter_often() -> None:
        for _ in range(300):
            try:
                with RunLock(tmp_path):
                    inside[0] += 1
                    entered[0] += 1
                    if inside[0] > 1:
                        together.append(inside[0])
                    inside[0] -= 1
            except RunFolderError:
                pass

    threads = [threading.Thread(target=enter_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == []
    assert entered[0] > 4
    assert os.listdir(tmp_path) == []


def test_a_file_removed_by_its_holder_in_the_last_moment_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened, then removed by who held it, then locked: that lock is on a file that nobody else can see."""
    take, taken = run_lock._lock, []

    def remove_and_lock(descriptor: int) -> None:
        if not taken:
            (tmp_path / ".lock").unlink()
        taken.append(descriptor)
        take(descriptor)

    monkeypatch.setattr(run_lock, "_lock", remove_and_lock)
    with RunLock(tmp_path) as lock:
        lock.require_held()
        with pytest.raises(RunFolderError, match="in use"), RunLock(tmp_path):
            pass
    assert len(taken) == 3


def replace_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def give_to_another_run(folder: Path) -> None:
    replace_folder(folder)
    (folder / ".lock").write_text("process 1 on elsewhere")


def put_a_file_there(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("notes")


@pytest.mark.parametrize("take_away", [shutil.rmtree, replace_folder, give_to_another_run, put_a_file_there])
def test_a_folder_that_was_taken_away_is_noticed(tmp_path: Path, take_away: Callable[[Path], None]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with RunLock(folder) as lock:
        lock.require_held()
        take_away(folder)
        with pytest.raises(RunFolderError, match=r"run, or \.lock in it, was removed during the run"):
            lock.require_held()
        left = sorted(tmp_path.rglob("*"))
    assert sorted(tmp_path.rglob("*")) == left  # a lock of others stays


def test_a_folder_that_was_not_entered(tmp_path: Path) -> None:
    with pytest.raises(CallOrderError, match=r"is not open: use it in 'with RunFolder"):
        RunLock(tmp_path).require_held()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"cannot write .*none/\.lock: No such file"), RunLock(tmp_path / "none"):
        pass


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock, "_lock", lock)
    with RunLock(tmp_path) as one:
        one.require_held()
        assert not one.exclusive
    assert os.listdir(tmp_path) == []
