"""From a data set to batches: the samples of each step, and their loading, whose time is measured.

Every step takes `batch_size` samples, for any number of processes and of parts that share the work.
"""

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..data.class_table import DataError
from ..data.transforms import Augment
from .config import TrainConfig
from .distributed import DistributedContext

T = TypeVar("T")
Key = Any
"""The index of a sample in a data set: (epoch, index), or an index alone."""


def augment_of(config: TrainConfig) -> Augment:
    """The random transform of training images and labels with these settings."""
    shared = {field.name: getattr(config, field.name) for field in fields(Augment) if hasattr(config, field.name)}
    return Augment(**shared | {"size": config.crop or config.size, "whole": config.size, "contrast": config.brightness})


def epoch_batches(config: TrainConfig, length: int, epoch: int, first: int = 0) -> list[list[tuple[int, int]]]:
    """Batches of (epoch, index) from batch ``first`` on. The order depends only on the seed and the epoch."""
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + epoch) % 2**63)
    order = [(epoch, index) for index in torch.randperm(length, generator=generator).tolist()]
    size = config.batch_size
    return [order[i : i + size] for i in range(first * size, length, size)]


class Part(NamedTuple):
    """Samples that one process passes through the network at once."""

    keys: list[Key]
    counted: bool
    """False if the samples belong to another process and must not influence the result (`share`)."""


def share(batch: Sequence[Key], parts: int, rank: int, size: int) -> list[Part]:
    """The share of process ``rank`` of ``size`` in a batch that is processed in ``parts``, one `Part` for each.

    If a part has no sample for this process, it takes the first sample of the part without counting it, because all
    processes must run the same number of passes.
    """
    result = []
    parts = min(parts, len(batch))
    for i in range(parts):
        part = batch[i * len(batch) // parts : (i + 1) * len(batch) // parts]
        mine = list(part[rank * len(part) // size : (rank + 1) * len(part) // size])
        result.append(Part(mine or [part[0]], bool(mine)))
    return result


class _Reported(Dataset[Any]):
    """Samples with the seconds that they took to load. A faulty file gives a DataError as its sample.

    If it were raised, it would arrive from a worker process with the traceback of that process as its message.
    """

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getitem__(self, key: Key) -> tuple[Any, float] | DataError:
        started = time.perf_counter()
        try:
            return self.data[key], time.perf_counter() - started
        except DataError as error:
            return error
        except OSError as error:
            return DataError(f"{error.filename}: {error.strerror}" if error.filename else str(error))


class Loader:
    """Iterates over batches: images (B, channels, h, w) and labels (B, H, W). Raises DataError for a faulty file.

    Args:
        batches: the keys of the samples of each batch.
        workers: processes that load; 0 loads in the calling process.
        thread: with ``workers`` 0, load the next batches in a thread while the caller computes.

    Attributes:
        seconds: the time that one process would have needed to load the images so far.
    """

    def __init__(
        self, data: Dataset[Any], batches: Sequence[list[Key]], *, workers: int = 0, thread: bool = False
    ) -> None:
        self.seconds = 0.0
        # A separate generator: loading must not change dropout's random numbers.
        loader = DataLoader(
            _Reported(data),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_collate,
            generator=torch.Generator(),
            worker_init_fn=_leave_signals_to_training,
        )
        self._batches: Iterable[Any] = ahead(loader) if thread and workers == 0 else loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for loaded in self._batches:
            if isinstance(loaded, DataError):
                raise loaded
            (images, labels), seconds = loaded
            self.seconds += seconds
            yield images, labels


class StepInputs:
    """Iterates over steps: for each, the inputs of `TrainStep.step`, which are this process's parts of a batch.

    batches: the keys of the samples of each step, in all processes.
    loader: loads the samples; tells how long that takes.
    """

    def __init__(
        self, data: Dataset[Any], batches: Iterable[Sequence[Key]], config: TrainConfig, context: DistributedContext
    ) -> None:
        self._steps = [share(batch, config.accumulate, context.rank, context.world_size) for batch in batches]
        self.loader = Loader(data, [part.keys for parts in self._steps for part in parts], workers=config.workers)

    def __iter__(self) -> Iterator[list[tuple[Tensor, Tensor, bool]]]:
        loaded = iter(self.loader)
        for parts in self._steps:
            yield [(*next(loaded), part.counted) for part in parts]

    def __len__(self) -> int:
        return len(self._steps)


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Iterate over ``items``; a thread fetches up to ``depth`` of them in advance."""
    iterator = iter(items)
    end = object()
    thread = ThreadPoolExecutor(1)
    waiting = [thread.submit(next, iterator, end) for _ in range(depth)]
    try:
        while (item := waiting.pop(0).result()) is not end:
            waiting.append(thread.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        # No waiting for the thread: the garbage collector may run this line in that thread.
        thread.shutdown(wait=False, cancel_futures=True)


def _collate(samples: list[tuple[Any, float] | DataError]) -> Any:
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    items, seconds = zip(*samples, strict=True)
    return default_collate(list(items)), sum(seconds)


def _leave_signals_to_training(worker: int) -> None:
    """Let the training process decide when its workers end: ctrl-C goes to all processes, and often SIGTERM.

    A second SIGTERM ends a worker: PyTorch and Python send it to those that do not end by themselves.
    """

    def ignore_once(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_once)
