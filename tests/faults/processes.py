"""Training processes that are killed, interrupted or run out of resources, and what is left of their work."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from faults.checkpoints import Tally
from faults.runs import RUN, SMALL, digest, epochs, finish, start, train, unreadable, wait_for

from boxconv.training import checkpoint
from boxconv.training.checkpoint import CheckpointError


def killed_saves(folder: Path, count: int) -> Tally:
    """Kill a process (kill -9) that replaces a checkpoint of 24 MB again and again."""
    program = (
        "import sys, torch; from boxconv.training import checkpoint\n"
        "content = dict(network={}, classes={}, config={}, scores={}, model={'w': torch.rand(6_000_000)})\n"
        "print(flush=True)\n"
        "while True: checkpoint.save(sys.argv[1], content)"
    )
    path, tally, chance = folder / "a.pt", Tally(), random.Random(3)
    for _ in range(count):
        process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        wait_for(path.exists, process)  # type: ignore[arg-type]
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.wait()
        process.stdout.close()
        tally.tried += 1
        try:
            checkpoint.load(path)
            tally.right += 1
        except CheckpointError as error:
            tally.wrong.append(str(error))
    return tally


def killed_runs(folder: Path, count: int, whole: str) -> Tally:
    """Kill a training run (kill -9) at random times and resume it; ``whole``: digest of an uninterrupted run."""
    out, tally, chance = folder / "killed", Tally(), random.Random(4)
    while tally.tried < count:
        resumed = (out / "last.pt").exists()
        before = epochs(out)
        process = start("train", "--out", out, *(["--resume", "--quiet"] if resumed else RUN))
        if chance.random() < 0.8:  # otherwise it is killed while it starts
            wait_for(lambda out=out, before=before: epochs(out) > before, process)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.6))
        if process.poll() is not None:
            status, errors = finish(process)
            if status != 0:
                tally.wrong.append(f"could not resume: {errors}")
                break
            if digest(out) != whole:
                tally.wrong.append("the final weights differ")
            out = folder / f"killed{tally.tried}"  # the run is complete: start another one
            continue
        process.kill()
        finish(process)
        tally.tried += 1
        wrong = unreadable(out)
        tally.wrong += wrong
        tally.right += not wrong
    status, errors = train(out, *(["--resume", "--quiet"] if (out / "last.pt").exists() else RUN))
    if status != 0:
        tally.wrong.append(f"could not resume: {errors}")
    elif digest(out) != whole:
        tally.wrong.append("the final weights differ")
    return tally


def limited(size: int) -> Callable[[], None]:
    """A `preexec_fn` that limits files to ``size`` bytes, which has the effect of a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def expect(tally: Tally, what: str, status: int, errors: str, expected: int, *words: str) -> bool:
    """Count a fault. It is right if the errors contain ``words`` and no traceback, and the status is as expected."""
    tally.tried += 1
    missing = [word for word in words if word not in errors]
    if status != expected or missing or "Traceback" in errors:
        tally.wrong.append(f"{what}: status {status} (expected {expected}), missing {missing}: {errors[-1500:]}")
        return False
    tally.right += 1
    return True


def starved(folder: Path, whole: str) -> Tally:
    """A full disk, from the start or after some epochs; a folder that cannot be written; too little memory."""
    tally, out = Tally(), folder / "full"
    status, errors = train(out, *RUN, preexec_fn=limited(500_000))
    expect(tally, "disk full from the start", status, errors, 1, "last.pt", "cannot write", "File too large")
    status, errors = train(out, *RUN[:-1], "3", "--overwrite")
    assert status == 0, errors
    before = {path: path.read_bytes() for path in out.glob("*.pt")}
    status, errors = train(out, "--resume", "--epochs", "3", preexec_fn=limited(500_000))
    # All epochs are done: nothing to write but the small files.
    if status != 0 or {path: path.read_bytes() for path in out.glob("*.pt")} != before:
        tally.wrong.append(f"a finished run was changed: {errors}")

    out = folder / "full-later"
    process = start("train", "--out", out, *RUN)
    wait_for(lambda: epochs(out) >= 3, process)
    process.send_signal(signal.SIGINT)
    status, errors = finish(process)
    assert status == 130, errors
    before = {path: path.read_bytes() for path in out.glob("*.pt")}
    status, errors = train(out, "--resume", "--quiet", preexec_fn=limited(500_000))
    if expect(tally, "disk full later", status, errors, 1, "last.pt" if "last.pt" in errors else "best.pt", "intact"):
        if {path: path.read_bytes() for path in out.glob("*.pt")} != before or list(out.glob(".*.tmp.*")):
            tally.wrong.append("disk full later: a checkpoint was changed, or a temporary file stayed")
        status, errors = train(out, "--resume", "--quiet")
        if status != 0 or digest(out) != whole:
            tally.wrong.append(f"disk full later: could not go on: {errors}")

    status, errors = train("/sys/boxconv", *RUN)
    expect(tally, "a folder that cannot be made", status, errors, 2, "/sys/boxconv", "cannot be written")
    status, errors = train("/sys/kernel", *RUN)
    expect(tally, "a folder that holds other things", status, errors, 2, "/sys/kernel", "holds other files")

    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))

    status, errors = train(folder / "memory", *RUN, "--size", 512, 1024, "--batch-size", 64, "--scenes-per-epoch", 64,
                           "--network", "enet", preexec_fn=little_memory)  # fmt: skip
    expect(tally, "too little memory", status, errors, 1, "out of memory", "--accumulate")
    return tally


def signalled(folder: Path, whole: str) -> Tally:
    """SIGINT and SIGTERM. Once: the state is saved, status 130 or 143, and the resumed run is not changed by it.

    Twice: the process ends at once.
    """
    tally = Tally()
    for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        out = folder / f"signal{number}"
        process = start("train", "--out", out, *RUN)
        wait_for(lambda out=out: epochs(out) >= 3, process)  # type: ignore[misc]
        process.send_signal(number)
        status, errors = finish(process)
        if expect(tally, f"signal {number}", status, errors, expected, "the state is saved, go on with --resume"):
            status, errors = train(out, "--resume", "--quiet")
            if status != 0 or digest(out) != whole:
                tally.wrong.append(f"signal {number}: the rest of the run differs: {errors}")
    for number in (signal.SIGINT, signal.SIGTERM):
        out = folder / f"signals{number}"
        # One very long step: after the first signal the process waits for its end, after the second it does not.
        process = start("train", "--out", out, *SMALL, "--size", 1024, 2048, "--batch-size", 8, "--scenes-per-epoch", 8)
        wait_for((out / "metrics.jsonl").exists, process)
        wait_for(lambda process=process: catches_sigterm(process.pid), process)  # type: ignore[misc]
        process.send_signal(number)
        wait_for(lambda process=process: not catches_sigterm(process.pid), process)  # type: ignore[misc]
        moment = time.monotonic()
        process.send_signal(number)
        status, errors = finish(process)
        seconds = time.monotonic() - moment
        tally.tried += 1
        if status not in (128 + number, -number) or seconds > 5 or "Traceback" in errors or unreadable(out):
            tally.wrong.append(f"second signal {number}: status {status} after {seconds:.1f} s: {errors[-1000:]}")
        else:
            tally.right += 1
    return tally


def catches_sigterm(pid: int) -> bool:
    """Whether the process handles SIGTERM, which it does only in training before it has got a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def dead_workers(folder: Path, count: int, whole: str) -> Tally:
    """Kill processes that load images: there is a message, status 1, and the resumed run is not changed by it."""
    tally = Tally()
    for i in range(count):
        out = folder / f"worker{i}"
        process = start("train", "--out", out, *RUN, "--workers", 1)
        wait_for(lambda out=out: epochs(out) >= 2, process)  # type: ignore[misc]
        while process.poll() is None:  # again and again: a worker that has just finished changes nothing
            for pid in children(process):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        status, errors = finish(process)
        if expect(tally, "a dead worker", status, errors, 1, "a process that loads images has died", "intact"):
            status, errors = train(out, "--resume", "--quiet")
            if status != 0 or digest(out) != whole:
                tally.wrong.append(f"dead worker {i}: the rest of the run differs: {errors}")
    return tally


def second_writers(folder: Path, count: int) -> Tally:
    """Start a second process for the folder of a run: it is refused, naming process id and host of the first one."""
    tally, out = Tally(), folder / "shared"
    first = start("train", "--out", out, *SMALL, "--scenes-per-epoch", 16, "--epochs", 1000)
    wait_for(lambda: epochs(out) > 0, first)
    for i in range(count):
        how = (["--resume", "--quiet"], [*RUN, "--overwrite"])[i % 2]
        status, errors = train(out, *how)
        expect(tally, "a second writer", status, errors, 2, f"in use by process {first.pid} on ")
    if first.poll() is not None:
        tally.wrong.append("the first process was disturbed")
    first.kill()
    finish(first)
    status, errors = train(out, *RUN[:-1], "1", "--overwrite")
    if status != 0:
        tally.wrong.append(f"the lock outlived its process: {errors}")
    return tally


def losses(folder: Path) -> Tally:
    """Far too high learning rates: training stops with a message, and no weights that are not finite are saved."""
    tally = Tally()
    for rate in ("1e30", "1e18"):
        out = folder / rate
        status, errors = train(out, *RUN, "--lr", rate)
        if expect(tally, f"--lr {rate}", status, errors, 1, "not finite" if "not finite" in errors else "the loss is",
                  "try a lower --lr"):  # fmt: skip
            tally.wrong += unreadable(out)
    return tally
