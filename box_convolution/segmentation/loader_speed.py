"""How fast samples are made ready: to be held against the samples that a training step takes."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class LoaderSpeed:
    """Samples per second of wall time, and how many were loaded to find out."""

    samples_per_second: float
    samples: int
    workers: int

    def __str__(self) -> str:
        where = f"{self.workers} worker{'' if self.workers == 1 else 's'}" if self.workers else "the training process"
        return f"{self.samples_per_second:.1f} images/s from {where}"


def measure(
    data: Dataset[Any], *, batch_size: int = 8, workers: int = 0, seconds: float = 5.0, epoch: int = 0
) -> LoaderSpeed:
    """Loads batches as training does until `seconds` are over or the data set is through; results are thrown away.

    The first batch, which waits for the workers to start and fills their queues, is not counted where there are more.
    """
    length = len(data)  # type: ignore[arg-type]
    order = torch.randperm(length, generator=torch.Generator().manual_seed(epoch)).tolist()
    batches = [[(epoch, index) for index in order[i : i + batch_size]] for i in range(0, length, batch_size)]
    loader = DataLoader(data, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
    began = started = now = time.perf_counter()
    loaded = 0
    for number, (images, _) in enumerate(loader):
        now = time.perf_counter()
        if number == 0 and len(batches) > 1:
            started = now
            continue
        loaded += len(images)
        if now - began > seconds:
            break
    return LoaderSpeed(loaded / max(now - started, 1e-9), loaded, workers)
