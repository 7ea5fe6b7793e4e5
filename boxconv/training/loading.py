"""From a data set to batches: which samples make up a step, and loading them, with its speed on record.

Every step takes `batch_size` samples, whatever the number of processes and of parts that share the work.
"""

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..data.classes import DataError
from ..data.transforms import Augment
from .config import TrainConfig

T = TypeVar("T")
Key = Any
"""What a data set is indexed by: (epoch, index), or an index."""


def augment_of(config: TrainConfig) -> Augment:
    """What training does to an image and its label."""
    shared = {field.name: getattr(config, field.name) for field in fields(Augment) if hasattr(config, field.name)}
    return Augment(**shared | {"size": config.crop or config.size, "whole": config.size, "contrast": config.brightness})


class EpochBatches:
    """Batches of (epoch, index) in an order that depends on the seed and the epoch alone, from batch ``first`` on."""

    def __init__(self, length: int, batch_size: int, seed: int, epoch: int, first: int) -> None:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(length, generator=generator).tolist()
        batches = [order[i : i + batch_size] for i in range(0, length, batch_size)]
        self.batches = [[(epoch, index) for index in batch] for batch in batches[first:]]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Part(NamedTuple):
    """Samples that one process takes through the network at once."""

    keys: list[Key]
    counted: bool


def share(batch: Sequence[Key], parts: int, rank: int, size: int) -> list[Part]:
    """The parts, one after the other, in which process ``rank`` of ``size`` works through its share of a batch.

    A process for which a part has no sample takes the part's first one all the same, because the processes step
    together; it is not ``counted``.
    """
    result = []
    parts = min(parts, len(batch))
    for i in range(parts):
        part = batch[i * len(batch) // parts : (i + 1) * len(batch) // parts]
        mine = list(part[rank * len(part) // size : (rank + 1) * len(part) // size])
        result.append(Part(mine or [part[0]], bool(mine)))
    return result


@dataclass(frozen=True)
class _Failure:
    message: str


class _Reported(Dataset[Any]):
    """Samples with the seconds they took. A faulty file becomes a value: as an exception from a worker process it would
    arrive with that process's traceback for a message."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getitem__(self, key: Key) -> tuple[Any, float] | _Failure:
        started = time.perf_counter()
        try:
            return self.data[key], time.perf_counter() - started
        except DataError as error:
            return _Failure(str(error))
        except OSError as error:
            return _Failure(f"{error.filename}: {error.strerror}" if error.filename else str(error))


class Loader:
    """Iterates over batches (images (B, channels, h, w), labels (B, H, W)); raises DataError for a file that is faulty.

    workers: processes that load; 0 loads here. With ``thread``, 0 loads in a thread, while the caller computes.
    """

    def __init__(
        self, data: Dataset[Any], batches: Sequence[list[Key]], *, workers: int = 0, thread: bool = False
    ) -> None:
        self.workers = workers
        self.images = 0
        self.seconds = 0.0
        # A separate generator: loading must not change dropout's random numbers.
        loader = DataLoader(
            _Reported(data),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_collate,
            generator=torch.Generator(),
            worker_init_fn=_ignore_ctrl_c,
        )
        self._batches: Iterable[Any] = ahead(loader) if thread and workers == 0 else loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for loaded in self._batches:
            if isinstance(loaded, _Failure):
                raise DataError(loaded.message)
            (images, labels), seconds = loaded
            self.images += len(images)
            self.seconds += seconds
            yield images, labels


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, of which up to ``depth`` are fetched by a thread before they are asked for."""
    iterator = iter(items)
    end = object()
    thread = ThreadPoolExecutor(1)
    waiting = [thread.submit(next, iterator, end) for _ in range(depth)]
    try:
        while (item := waiting.pop(0).result()) is not end:
            waiting.append(thread.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        # Not waited for: this may be run by the garbage collector, in that very thread.
        thread.shutdown(wait=False, cancel_futures=True)


def _collate(samples: list[tuple[Any, float] | _Failure]) -> Any:
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
    items, seconds = zip(*samples, strict=True)
    return default_collate(list(items)), sum(seconds)


def _ignore_ctrl_c(worker: int) -> None:
    """The terminal sends ctrl-C to the workers too, but the training process decides when they end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
