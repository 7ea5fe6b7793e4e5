"""Training runs that take a second: a small network with boxes on drawn scenes, and a data set that interrupts them."""

import json
import os
import signal
from contextlib import nullcontext

import torch
from torch import nn

from box_convolution import BoxConv2d
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import Augment, EvalTransform
from boxconv.training import checkpoint
from boxconv.training.config import TrainConfig
from boxconv.training.distributed import DistributedContext
from boxconv.training.loop import train as train_loop
from boxconv.training.run_folder import RunFolder
from boxconv.training.setup import Run

SIZE = (16, 32)
CLASSES = RoadScenes.classes
CPU = torch.device("cpu")
ALONE = DistributedContext()


def network(**changes):
    torch.manual_seed(5)
    parts = {
        "first": nn.Conv2d(3, 8, 3, padding=1), "active": nn.Tanh(), "boxes": BoxConv2d(8, 2, *SIZE),
        "dropout": nn.Dropout2d(0.2), "last": nn.Conv2d(16, len(CLASSES), 1),
    }  # fmt: skip
    return nn.Sequential(*(parts | changes).values())


def config(**changes):
    return TrainConfig(**{"size": SIZE, "epochs": 2, "batch_size": 3, "lr": 1e-2, "seed": 1} | changes)


def run(settings, model=None, *, data=None, validation=None, context=ALONE):
    return Run(
        settings,
        model or network(),
        {"name": "test"},
        CLASSES,
        data or RoadScenes(5, SIZE, seed=1, transform=Augment(SIZE)),
        validation or RoadScenes(3, SIZE, split="val", transform=EvalTransform(SIZE)),
        torch.ones(len(CLASSES)),
        context=context,
    )


def train(path, settings, model=None, *, resume=False, watch=None, **data):
    """Train in the folder ``path``; returns the network."""
    it = run(settings, model, **data)
    with RunFolder(path, resume=resume) if it.context.is_main else nullcontext() as folder:
        saved = checkpoint.load(path / "last.pt") if resume else None
        train_loop(it, folder, resume=saved, progress=False, watch=watch)
    return it.model


def records(path):
    """What a run wrote of its epochs."""
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def same(one, other):
    """Whether two networks, or two state dicts, are equal to the bit."""
    one, other = (it.state_dict() if isinstance(it, nn.Module) else it for it in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Signals(RoadScenes):
    """Scenes that note what they are asked for, and send a signal to their own process the ``at``-th time, if any."""

    def __init__(self, at=0, number=signal.SIGTERM, *, split="train", length=5):
        transform = (Augment if split == "train" else EvalTransform)(SIZE)
        super().__init__(length, SIZE, seed=1, split=split, transform=transform)
        self.at, self.number, self.asked = at, number, []

    def __getitem__(self, key):
        self.asked.append(key)
        if len(self.asked) == self.at:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(key)
