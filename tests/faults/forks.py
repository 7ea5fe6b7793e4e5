"""`python forks.py FOLDER KILLS`: kill a training run with `kill -9` at KILLS random times, resuming it each time.

It must end with the weights of a run that is not killed. Every attempt is a fork of this process, which has imported
everything already; this saves seconds. `processes.py` does the same with new processes.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch.utils.tensorboard
from faults.runs import RUN, digest, epochs, unreadable

from box_convolution import networks  # noqa: F401 - imported once, before the forks
from boxconv.cli import main
from boxconv.data.scenes import dataset as scenes  # noqa: F401
from boxconv.training import start_or_resume as training  # noqa: F401


def start(*arguments: str) -> int:
    """Run `boxconv` in a fork; returns its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(main(list(arguments)))
        finally:
            os._exit(99)
    return pid


def finish(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def attempts(folder: Path, kills: int) -> None:
    whole, out, chance = folder / "whole", folder / "killed", random.Random(6)
    assert finish(start("train", "--out", str(whole), *RUN)) == 0
    for _ in range(kills):
        how = ["--resume", "--quiet"] if (out / "last.pt").exists() else RUN
        before, pid = epochs(out), start("train", "--out", str(out), *how)
        while epochs(out) <= before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        os.kill(pid, signal.SIGKILL)
        assert finish(pid) in (-signal.SIGKILL, 0)
        assert not unreadable(out)
        if epochs(out) > 8:
            break
    assert finish(start("train", "--out", str(out), "--resume", "--quiet")) == 0
    assert digest(out) == digest(whole), "the weights differ"


if __name__ == "__main__":
    torch.set_num_threads(1)
    attempts(Path(sys.argv[1]), int(sys.argv[2]))
