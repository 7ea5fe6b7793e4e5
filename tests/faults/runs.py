"""Training runs in separate processes, and checks of the files that they write."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boxconv.training import checkpoint
from boxconv.training.checkpoint import CheckpointError

SMALL = ["--size", "16", "32", "--network", "enet_minus", "--batch-size", "4"]
SMALL += ["--scenes-for-validation", "4", "--quiet"]
RUN = [*SMALL, "--scenes-per-epoch", "16", "--epochs", "12"]
BOXCONV = [sys.executable, "-m", "boxconv"]
PATIENCE = 180.0
"""Seconds after which a process is considered hung."""


def start(*arguments: object, launcher: list[str] = BOXCONV, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | options.pop("env", {})
    return subprocess.Popen(
        [*launcher, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process; returns its exit status and stderr, or 9999 and "hung"."""
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return 9999, "hung"
    return process.returncode, errors


def train(out: Path, *more: object, **options: Any) -> tuple[int, str]:
    return finish(start("train", "--out", out, *more, **options))


def digest(out: Path) -> str:
    """Hash of the weights in the last checkpoint. Raises CheckpointError if it is damaged."""
    weights = checkpoint.load(out / "last.pt")["model"]
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights.values())).hexdigest()


def epochs(out: Path) -> int:
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = PATIENCE) -> bool:
    """Wait until ``condition`` is true, the process ends, or time is up; returns whether it became true."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            return condition()
        time.sleep(0.02)
    return True


def unreadable(out: Path) -> list[str]:
    """What is wrong with the files of a run that has just been killed."""
    wrong = []
    for path in (out / "last.pt", out / "best.pt"):
        if path.exists():
            try:
                checkpoint.load(path)
            except CheckpointError as error:
                wrong.append(str(error))
    for path in (out / "config.json", out / "metrics.jsonl"):
        if path.exists():
            text = path.read_text()
            try:
                for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
                    json.loads(part)
            except ValueError as error:
                wrong.append(f"{path}: {error}")
    return wrong
