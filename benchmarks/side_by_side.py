"""Training of many networks at the same time on one machine, for `results.py`. Every sample is made only once.

A network of this size leaves most of a GPU idle, because one process cannot start its kernels fast enough. Drawing and
augmenting the samples takes longer still. So one process per core makes the samples of all runs first, in files of one
epoch each; runs with the same data settings and the same seed share them. Then that many runs train side by side.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from boxconv import cli
from boxconv.cli import commands, train
from boxconv.data.config import DataConfig
from boxconv.data.registry import classes_of
from boxconv.inference.new_network import network_for
from boxconv.profiling import machine
from boxconv.training import checkpoint, loop
from boxconv.training.config import TrainConfig, to_plain
from boxconv.training.recorder import best_of
from boxconv.training.run_folder import RunFolder
from boxconv.training.setup import open_samples
from boxconv.training.start_or_resume import built
from boxconv.training.stop_signals import Interrupted

VALIDATION = -1
"""Stands for the validation samples where others are those of an epoch."""
OF_DATA = tuple(field.name for field in dataclasses.fields(DataConfig))
OF_SAMPLES = (*OF_DATA, "seed", "flip", "scale", "rotate", "blur", "brightness", "crop", "balanced_crops")
"""The settings that validation samples depend on, and training samples."""


@dataclass(frozen=True)
class Job:
    """A run to train: its folder, and the options of `boxconv train`."""

    folder: Path
    options: tuple[str, ...]

    def config(self) -> TrainConfig:
        argv = ["train", *self.options, "--out", str(self.folder)]
        return train.settings(commands.parse(argv))


class MadeSamples(Dataset[Any]):
    """The samples of a run, read from the files that `make_part` wrote; the same, bit for bit, as those of the run."""

    def __init__(self, config: TrainConfig, folder: Path, length: int, *, validation: bool) -> None:
        self.config, self.folder, self.length, self.validation = config, folder, length, validation
        self._opened: dict[int, tuple[Any, Any]] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Any) -> tuple[Tensor, Tensor]:
        part, index = (VALIDATION, key) if self.validation else key
        if part not in self._opened:
            self._opened = {part: _mapped(self.config, self.folder, part, self.length, "c")}
        images, labels = self._opened[part]
        return torch.from_numpy(images[index]), torch.from_numpy(labels[index]).long()


def make_part(config: TrainConfig, folder: Path, part: int) -> None:
    """Write the samples of epoch ``part``, or those of validation. A file with the final name is complete."""
    training, validation = open_samples(config, classes_of(config))
    data = validation if part == VALIDATION else training
    length = len(data)  # type: ignore[arg-type]
    paths = _paths(config, folder, part)
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    images, labels = _mapped(config, folder, part, length, "w+", ".new")
    for index in range(length):
        image, label = data[index if part == VALIDATION else (part, index)]
        images[index], labels[index] = image, label
    for path in paths:
        os.replace(f"{path}.new", path)


def _mapped(
    config: TrainConfig, folder: Path, part: int, length: int, mode: Any, ending: str = ""
) -> tuple[np.memmap[Any, Any], np.memmap[Any, Any]]:
    size = config.size if part == VALIDATION else config.crop or config.size
    images, labels = (f"{path}{ending}" for path in _paths(config, folder, part))
    shape = length, config.in_channels, *size
    return np.memmap(images, np.float32, mode, shape=shape), np.memmap(labels, np.uint8, mode, shape=(length, *size))


def _paths(config: TrainConfig, folder: Path, part: int) -> tuple[Path, Path]:
    plain = to_plain(config)
    settings = {name: plain[name] for name in (OF_DATA if part == VALIDATION else OF_SAMPLES)}
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    stem = "validation" if part == VALIDATION else f"epoch{part}"
    return folder / name / f"{stem}.images", folder / name / f"{stem}.labels"


def train_run(job: Job, samples: Path, afterwards: Sequence[str]) -> None:
    """Train a run, or the rest of it; then run a command of boxconv with its folder, such as `distance`."""
    config = job.config()
    resume = (job.folder / "last.pt").exists()
    run = built(config, network_for, resume=resume, progress=False)
    run = dataclasses.replace(
        run,
        train_data=MadeSamples(config, samples, len(run.train_data), validation=False),  # type: ignore[arg-type]
        val_data=MadeSamples(config, samples, len(run.val_data), validation=True),  # type: ignore[arg-type]
    )
    saved = checkpoint.load(job.folder / "last.pt") if resume else None
    with RunFolder(job.folder, resume=resume) as folder:
        records = loop.train(run, folder, resume=saved, provenance=machine.provenance(), progress=False)
    print(best_of(records))
    if afterwards:
        sys.exit(cli.main([word.replace("RUN", str(job.folder)) for word in afterwards]))


def train_all(
    jobs: Sequence[Job], samples: Path, at_a_time: int, minutes: float = math.inf, afterwards: Sequence[str] = ()
) -> dict[Path, int]:
    """Train the runs in order, ``at_a_time`` of them, in processes of their own; return the exit status of each folder.

    Args:
        samples: where samples are written; best a folder in memory, such as /dev/shm/samples.
        minutes: after that time, runs are stopped as by ctrl-C. The next call continues them.
        afterwards: a command of boxconv for each finished run; RUN in it stands for the run's folder.

    Call this before anything has used the GPU: the processes are forks of this one. What they print is in FOLDER.log.
    Raises RuntimeError if samples cannot be made.
    """
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + 60 * minutes
    statuses: dict[Path, int] = {}
    waiting = list(_tasks(jobs, samples))
    made: set[Path] = set()
    running: dict[Any, tuple[Any, _Task, float]] = {}
    stopped = False
    while waiting or running:
        try:
            while len(running) < at_a_time and (ready := next((one for one in waiting if one.needs <= made), None)):
                waiting.remove(ready)
                process = context.Process(target=_in_process, args=(ready, samples, tuple(afterwards)))
                process.start()
                running[process.sentinel] = process, ready, time.monotonic()
            ended = wait(list(running), timeout=1.0)
            if time.monotonic() > end and not stopped:
                waiting, stopped = [], True
                for process, _, _ in running.values():
                    process.terminate()
        except KeyboardInterrupt:  # the terminal sends it to the runs too, which save and end
            waiting, stopped, ended = [], True, []
        for sentinel in ended:
            process, task, since = running.pop(sentinel)
            process.join()
            if isinstance(task.what, Job):
                statuses[task.what.folder] = process.exitcode
                seconds = time.monotonic() - since
                print(f"{task.what.folder.name}: exit status {process.exitcode} after {seconds:.0f} s", flush=True)
            elif process.exitcode == 0:
                made.add(task.what)
            elif not stopped:
                raise RuntimeError(f"{task.what}: could not be written (exit status {process.exitcode})")
    return statuses


@dataclass(frozen=True)
class _Task:
    """Samples to make (``what`` is their file) or a run to train, which ``needs`` such files."""

    what: Path | Job
    config: TrainConfig
    part: int = 0
    needs: frozenset[Path] = frozenset()


def _tasks(jobs: Sequence[Job], samples: Path) -> Iterator[_Task]:
    known: set[Path] = set()
    for job in jobs:
        config = job.config()
        needs = {part: _paths(config, samples, part)[0] for part in (VALIDATION, *range(config.epochs))}
        for part, path in needs.items():
            if path not in known:
                known.add(path)
                yield _Task(path, config, part)
        yield _Task(job, config, needs=frozenset(needs.values()))


def _in_process(task: _Task, samples: Path, afterwards: Sequence[str]) -> None:
    if isinstance(task.what, Path):
        if not task.what.exists():
            make_part(task.config, samples, task.part)
        return
    task.what.folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        Path(f"{task.what.folder}.log").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            train_run(task.what, samples, afterwards)
        except Interrupted as error:
            sys.exit(128 + error.number)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
