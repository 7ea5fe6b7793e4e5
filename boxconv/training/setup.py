"""Build a training run from settings. Commands and user programs use the same function.

from boxconv.inference.new_network import network_for

config, create_network = network_for(TrainConfig(network="boxenet"))
run = build_run(config, create_network)
with RunFolder("runs/mine") as folder:
    records = train(run, folder)
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data.checks.check import check
from ..data.class_table import ClassTable, DataError
from ..data.layouts.pairing import describe
from ..data.registry import classes_of, layout_of, open_split, prepare_of, reader_of
from ..data.statistics import channel_statistics
from ..errors import plural
from .config import TrainConfig
from .device import choose_device
from .distributed import ALONE, DistributedContext
from .loading import augment_of
from .losses import class_weights
from .metrics import count_pixels, without_pixels

CreateNetwork = Callable[[ClassTable], tuple[nn.Module, dict[str, Any]]]
"""From the classes to a network on the CPU, and its description as plain values: the field `network` of checkpoints."""

SCENES_COUNTED = 50
"""Number of drawn scenes whose pixels are counted for the class weights. From files, all labels are counted."""


@dataclass(frozen=True)
class Run:
    """Everything that a training run needs.

    Attributes:
        network: description of the model, which is stored in the checkpoints as it is.
        train_data: indexed by (epoch, index); its items are (image (channels, h, w), label (h, w)).
        val_data: indexed by int; its items are the same.
        class_weight: (K,) weights of the classes in the loss.
    """

    config: TrainConfig
    model: nn.Module
    network: dict[str, Any]
    classes: ClassTable
    train_data: Dataset[Any]
    val_data: Dataset[Any]
    class_weight: Tensor
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    context: DistributedContext = ALONE
    unscored: dict[str, list[str]] = field(default_factory=dict)
    """Names of the classes that have no pixel in the labels, for each split that lacks any."""

    @property
    def images(self) -> int:
        """Number of training images in an epoch."""
        return len(self.train_data)  # type: ignore[arg-type]

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return math.ceil(self.images / self.config.batch_size)

    def __str__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        h, w = self.config.size
        world, threads = self.context.world_size, torch.get_num_threads()
        return (
            f"{self.network['name']}, {parameters:,} parameters, {plural(len(self.classes), 'class')}; "
            f"{self.images} training and {len(self.val_data)} validation images at {h} x {w}; "  # type: ignore[arg-type]
            f"{f'{world} processes, each on ' if world > 1 else ''}{self.device.type}, {plural(threads, 'thread')}"
            f"{'; its first steps take minutes: they compile' if self.config.compile else ''}"
        )


def build_run(
    config: TrainConfig,
    create_network: CreateNetwork,
    *,
    context: DistributedContext = ALONE,
    check_files: bool = True,
    progress: bool = True,
) -> Run:
    """Build everything that a run with these settings needs.

    Args:
        create_network: called after torch's generator has been seeded with `config.seed`.
        check_files: first decode every image and label, and check them.

    Raises:
        UsageError: a setting is out of range.
        DataError: files are missing or faulty; with ``check_files``, the message names all of them.
        TrainingError: the device is not available.
    """
    config.check()
    config.check_processes(context.world_size)
    if config.padding and progress:
        print(f"note: {config.padding}")
    device = choose_device(config.device, context.local_rank)
    classes = classes_of(config)
    if config.measures_channels:
        mean, std = context.run_on_main("channels", lambda: _measured(config, classes, progress=progress))
        config = dataclasses.replace(config, mean=tuple(mean), std=tuple(std))
    train_data, val_data = open_samples(config, classes)
    pixels: dict[str, Tensor] = {}
    train_split, val_split = config.train_split, config.val_split
    if config.root is not None and check_files:
        context.run_on_main("check", lambda: pixels.update(_checked(config, classes, progress=progress)))
    if train_split not in pixels:
        most = None if config.root else SCENES_COUNTED
        pixels[train_split] = count_pixels(train_data, most)
    unscored = {}
    if config.root is not None and context.is_main:
        if val_split not in pixels:
            pixels[val_split] = count_pixels(val_data)
        unscored = {split: absent for split, count in pixels.items() if (absent := without_pixels(count, classes))}
    torch.manual_seed(config.seed)
    model, network = create_network(classes)
    weights = class_weights(pixels[train_split], config.class_balance)
    return Run(config, model, network, classes, train_data, val_data, weights, device, context, unscored)


def open_samples(config: TrainConfig, classes: ClassTable) -> tuple[Dataset[Any], Dataset[Any]]:
    """Return `Run.train_data` and `Run.val_data`. Raises DataError for a split that is not there."""
    train_data = open_split(config, config.train_split, classes, augment_of(config), seed=config.seed)
    return train_data, open_split(config, config.val_split, classes, prepare_of(config))


def _checked(config: TrainConfig, classes: ClassTable, *, progress: bool) -> dict[str, Tensor]:
    """Label pixels of every class (K,), for each split. Raises DataError with all faults of the files."""
    assert config.root is not None
    report = check(
        config.root,
        classes,
        [config.train_split, config.val_split],
        layout=layout_of(config),
        reader=reader_of(config),
        border=config.border,
        progress=progress,
    )
    if not report.ok:
        raise DataError("the data has faults, nothing was trained\n" + report.text())
    if report.warnings and progress:
        print("WARNINGS\n" + describe(report.warnings, config.root))
    return {split: torch.tensor(counts[: len(classes)]) for split, counts in report.pixels.items()}


def _measured(
    config: TrainConfig, classes: ClassTable, *, progress: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of the training images."""
    mean, std = channel_statistics(open_split(config, config.train_split, classes, None))
    if progress:
        print(f"measured on the training images: --mean {' '.join(map(str, mean))} --std {' '.join(map(str, std))}")
    return mean, std
