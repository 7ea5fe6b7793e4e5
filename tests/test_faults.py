"""The faults of docs/reliability.md, tried a few times each (`make reliability` tries them many times)."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from faults import checkpoints, hostile, two_processes

from boxconv import cli, files
from boxconv.cli import check_data, commands
from boxconv.files import sweep, write_atomic
from boxconv.training import lock
from boxconv.training.lock import LockedError
from boxconv.training.run_folder import RunFolder, RunFolderError

TESTS = Path(__file__).parent


def python(*arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, **options,
    )  # fmt: skip


@pytest.mark.parametrize("attempt", [checkpoints.damaged, checkpoints.tampered])
def test_damaged_checkpoints(tmp_path, attempt):
    tally = attempt(tmp_path, 200)
    assert tally.wrong == []
    assert tally.tried == 200
    assert tally.right == 200 or (attempt is checkpoints.tampered and tally.right > 150)


@pytest.mark.filterwarnings("ignore")
def test_hostile_files(tmp_path, monkeypatch):
    monkeypatch.setenv(hostile.CODE_RAN, "")  # put back afterwards
    tally = checkpoints.hostile_files(tmp_path)
    assert tally.wrong == []
    assert tally.right == tally.tried >= 60


@pytest.mark.filterwarnings("ignore")
def test_the_hostile_files_are_hostile(tmp_path, monkeypatch):
    """`torch.load(weights_only=False)` runs the code in them; otherwise refusing them would show nothing."""
    target, path = tmp_path / "ran", tmp_path / "a.pt"
    monkeypatch.setenv(hostile.CODE_RAN, str(target))
    found = list(hostile.code())
    assert len(found) >= 25
    ran = 0
    for _, data in found:
        path.write_bytes(data)
        with contextlib.suppress(Exception):
            torch.load(path, weights_only=False)
        if target.exists():
            ran += 1
            target.rmdir()
    assert ran >= 15


@pytest.mark.slow
def test_kill_at_random_times_and_resume(tmp_path):
    process = python(TESTS / "faults" / "forks.py", tmp_path, 2)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors


@pytest.mark.skipif(sys.platform != "linux", reason="finds torchrun's processes in /proc")
def test_a_killed_rank_does_not_change_the_result(tmp_path):
    whole = two_processes.together(tmp_path)
    tally, _ = two_processes.killed_ranks(tmp_path, 1, whole, limit=120)
    assert tally.wrong == []


def test_a_worker_ends_when_its_launcher_is_killed():
    worker = (
        "import os, time; from boxconv.training import distributed as d; d._end_with_parent(); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    launcher = python("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])")
    pid = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    end = time.monotonic() + 60
    while two_processes.alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    try:
        assert not two_processes.alive(pid)
    finally:
        if two_processes.alive(pid):
            os.kill(pid, signal.SIGKILL)
    assert "the launcher" in launcher.stderr.read()
    launcher.stdout.close()
    launcher.stderr.close()


ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES]


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_write_that_fails_anywhere_leaves_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "last.pt"
    path.write_text("old")

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if call == "open":
            patch.setattr(files, "open", fails, raising=False)
        elif call in ("fsync", "replace"):
            patch.setattr(files.os, call, fails)
        with pytest.raises(OSError, match=r"cannot write: .*; what was there before is intact") as caught:
            write_atomic(path, fails if call == "write" else lambda file: file.write(b"new"))
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_old_leftovers_are_swept(tmp_path):
    for name in (".a.pt.tmp.1", ".b.png.tmp.23", "a.pt", ".other"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".a.pt.tmp.1", (0, 0))
    sweep(tmp_path, older_than=3600)
    assert {path.name for path in tmp_path.iterdir()} == {".b.png.tmp.23", "a.pt", ".other"}
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.pt", ".other"}


HOLDER = """
import os, sys, time
from pathlib import Path
from boxconv.training.lock import lock
lock(Path(sys.argv[1]) / ".lock")
child = os.fork()  # as a data-loading process: it must not keep the lock
if child:
    print(child, flush=True)
time.sleep(60)
"""


def test_one_writer_at_a_time(tmp_path):
    holder = python("-c", HOLDER, tmp_path)
    child = int(holder.stdout.readline())
    with pytest.raises(RunFolderError, match=rf"in use by process {holder.pid} on \S+, which writes here"):
        RunFolder(tmp_path)
    with pytest.raises(LockedError):
        lock.lock(tmp_path / ".lock")
    holder.kill()
    holder.wait()
    try:
        with RunFolder(tmp_path):  # the lock ends with its process, though its file and its child are still there
            assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        assert not (tmp_path / ".lock").exists()
    finally:
        os.kill(child, signal.SIGKILL)
        holder.communicate()


@pytest.mark.parametrize(
    "error, status, message",
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), 1, "that loads images has died"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"), 1, "out of memory"),
        (MemoryError(), 1, "out of memory: MemoryError"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer"), 1, "another process has ended"),
        (OSError(28, "No space left on device", "/disk/last.pt"), 1, "/disk/last.pt: No space left on device"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_errors_that_can_happen_anywhere_have_a_message(monkeypatch, capsys, error, status, message):
    def fails(args):
        raise error

    monkeypatch.setitem(commands.COMMANDS, "check-data", (check_data.CheckData, fails))
    assert cli.main(["check-data", "somewhere"]) == status
    assert message in capsys.readouterr().err


def test_unexpected_errors_show_a_traceback(monkeypatch):
    def fails(args):
        raise ZeroDivisionError

    monkeypatch.setitem(commands.COMMANDS, "check-data", (check_data.CheckData, fails))
    with pytest.raises(ZeroDivisionError):
        cli.main(["check-data", "somewhere"])


def test_a_reader_that_closes_the_pipe():
    """As with `boxconv cost enet | head -1`, but here the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "boxconv", "cost", "enet_minus", "--size", "32", "32"], stdout=writer,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    assert "Traceback" not in process.stderr
    assert process.returncode == 128 + signal.SIGPIPE, process.stderr
