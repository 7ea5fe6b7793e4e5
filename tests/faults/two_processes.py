"""Pairs of training processes under torchrun, one of which is killed or stopped; and pairs that end normally."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.checkpoints import Tally
from faults.runs import BOXCONV, RUN, SMALL, digest, epochs, finish, start, train, unreadable, wait_for
from pairs import pair

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
TORCHRUN += ["--nproc-per-node", "2", "--max-restarts", "3"]


def ranks(torchrun: subprocess.Popen[str]) -> list[int]:
    """Process ids of torchrun's workers, by rank."""
    path = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children")
    found = {}
    for pid in path.read_text().split():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(v[5:]): int(pid) for v in variables if v.startswith(b"RANK=")}
    return [found[rank] for rank in sorted(found)]


def together(folder: Path) -> str:
    """Digest of an uninterrupted run in two processes."""
    status, errors = train(folder / "two", *RUN, launcher=[*TORCHRUN, *BOXCONV[1:]])
    assert status == 0, errors
    return digest(folder / "two")


def killed_ranks(folder: Path, count: int, whole: str, limit: float = 30.0) -> tuple[Tally, float]:
    """Kill one of two ranks under torchrun: the job must restart by itself and end with the same weights.

    Also returns the longest time in seconds from the kill to the end of a job.
    """
    tally, slowest, chance = Tally(), 0.0, random.Random(5)
    for i in range(count):
        out = folder / f"rank{i}"
        process = start("train", "--out", out, *RUN, launcher=[*TORCHRUN, *BOXCONV[1:]])
        after = chance.randint(1, 6)
        wait_for(lambda out=out, after=after: epochs(out) >= after, process)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.2))
        moment = time.monotonic()
        os.kill(ranks(process)[i % 2], signal.SIGKILL)
        status, errors = finish(process)
        seconds = time.monotonic() - moment
        slowest = max(slowest, seconds)
        tally.tried += 1
        if status != 0:
            tally.wrong.append(f"job {i} ended with {status}: {errors[-2000:]}")
        elif digest(out) != whole:
            tally.wrong.append(f"job {i}: the final weights differ")
        elif seconds > limit:
            tally.wrong.append(f"job {i} took {seconds:.0f} s from the kill to its end")
        else:
            tally.right += 1
    return tally, slowest


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def orphans(folder: Path, count: int, limit: float = 10.0) -> tuple[Tally, float]:
    """Kill torchrun itself: its workers must end by themselves. Also returns the longest time in seconds."""
    tally, slowest = Tally(), 0.0
    for i in range(count):
        out = folder / f"orphans{i}"
        process = start("train", "--out", out, *SMALL, "--scenes-per-epoch", 16, "--epochs", 1000,
                        launcher=[*TORCHRUN, *BOXCONV[1:]])  # fmt: skip
        wait_for(lambda out=out: epochs(out) > 0, process)  # type: ignore[misc]
        workers = ranks(process)
        moment = time.monotonic()
        process.kill()
        process.wait()
        while any(map(alive, workers)) and time.monotonic() - moment < 3 * limit:
            time.sleep(0.05)
        seconds = time.monotonic() - moment
        slowest = max(slowest, seconds)
        tally.tried += 1
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)
        wrong = unreadable(out) + ([f"workers lived for {seconds:.0f} s"] if seconds > limit else [])
        tally.wrong += wrong
        tally.right += not wrong
        process.stderr.close()
    return tally, slowest


def hung_rank(folder: Path, whole: str) -> Tally:
    """Stop a rank (SIGSTOP) under torchrun: after --timeout the job restarts, and ends with the same weights."""
    out = folder / "hung"
    process = start("train", "--out", out, *RUN, "--timeout", 5, launcher=[*TORCHRUN, *BOXCONV[1:]])
    wait_for(lambda: epochs(out) >= 2, process)
    os.kill(ranks(process)[1], signal.SIGSTOP)
    status, errors = finish(process)
    if status != 0:
        return Tally(1, 0, [f"the job ended with {status}: {errors[-2000:]}"])
    if digest(out) != whole:
        return Tally(1, 0, ["the final weights differ"])
    return Tally(1, 1)


def ends(folder: Path, count: int) -> Tally:
    """Pairs of processes that finish their work: both must end with status 0 and print no message.

    They are, in turn, a training run, an evaluation, and a user's own program.
    """
    tally = Tally()
    for i in range(count):
        out = folder / f"end{i}"
        commands = (
            [*BOXCONV, "train", "--out", out, *SMALL, "--scenes-per-epoch", 4, "--epochs", 1],
            [*BOXCONV, "evaluate", folder / "end0" / "best.pt", "--quiet"],
            [sys.executable, Path(__file__).with_name("own_program.py")],
        )
        with pair(commands[i % 3], stdout=subprocess.DEVNULL) as started:
            found = [finish(process) for process in started]
        tally.tried += 1
        if bad := [result for result in found if result != (0, "")]:
            tally.wrong.append(f"run {i}: status {[status for status, _ in found]}: {bad[0][1][-1000:]}")
        else:
            tally.right += 1
    return tally


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run ``count`` other processes that keep the processor busy during the block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def ends_on_a_busy_machine(folder: Path, count: int) -> Tally:
    with busy(2):
        return ends(folder, count)
