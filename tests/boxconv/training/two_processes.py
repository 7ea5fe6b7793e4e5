"""The program of each of two processes for `test_distributed.py`. RANK etc. are set; the argument is a folder."""

import hashlib
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from box_convolution import BoxConv2d
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import Augment, EvalTransform
from boxconv.training import checkpoint
from boxconv.training.config import TrainConfig
from boxconv.training.distributed import DistributedContext, DistributedError, init_distributed
from boxconv.training.evaluation import evaluate
from boxconv.training.loop import train as train_loop
from boxconv.training.run_folder import RunFolder
from boxconv.training.setup import Run
from boxconv.training.stop_signals import Interrupted

SIZE = (16, 32)
CLASSES = RoadScenes.classes
CPU = torch.device("cpu")


def network(norm: bool, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.Tanh(),
        BoxConv2d(8, 2, *SIZE),
        nn.Dropout2d(dropout),
        nn.Conv2d(16, len(CLASSES), 1),
    )


class Noted(RoadScenes):
    """Records the requested keys, and sends SIGTERM to its own process at request number ``signal_at``, if any."""

    def __init__(self, length: int, signal_at: int = 0) -> None:
        super().__init__(length, SIZE, seed=1, transform=Augment(SIZE))
        self.asked: list[tuple[int, int]] = []
        self.signal_at = signal_at

    def __getitem__(self, key):
        self.asked.append(key)
        if len(self.asked) == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(key)


def validation(length: int) -> RoadScenes:
    return RoadScenes(length, SIZE, split="val", transform=EvalTransform(SIZE))


def settings(**changes) -> TrainConfig:
    return TrainConfig(**{"size": SIZE, "epochs": 2, "batch_size": 4, "lr": 1e-2, "seed": 1} | changes)


def train(
    context: DistributedContext, path: Path, config: TrainConfig, data: Noted, model: nn.Module, *, resume: bool = False
) -> None:
    weight = torch.ones(len(CLASSES))
    run = Run(config, model, {"name": "test"}, CLASSES, data, validation(3), weight, CPU, context)
    with RunFolder(path, resume=resume) if context.is_main else nullcontext() as folder:
        train_loop(run, folder, resume=checkpoint.load(path / "last.pt") if resume else None, progress=False)


def digest(model: nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def scenarios(context: DistributedContext, out: Path) -> dict[str, object]:
    """Results of all scenarios by name; a single process runs them as well, for comparison."""
    found: dict[str, object] = {}
    for length in (1, 4, 7):
        model = network(norm=True)
        matrix = evaluate(model, validation(length), CLASSES, batch_size=2, progress=False, context=context)
        found[f"matrix {length}"] = matrix.counts

    data = Noted(8)
    model = network(norm=True)
    train(context, out / "sync", settings(sync_bn=True), data, model)
    found["sync"], found["sync asked"] = model.state_dict(), data.asked

    data = Noted(7)  # the last batch has 3 images, in 3 parts: one each, for two processes
    model = network(norm=False)
    train(context, out / "parts", settings(accumulate=3), data, model)
    found["parts"], found["parts asked"] = model.state_dict(), data.asked

    model = network(norm=False)
    train(context, out / "dice", settings(accumulate=3, loss="dice", optimizer="sgd", clip=0.1), Noted(7), model)
    found["dice"] = model.state_dict()
    return found


def only_together(context: DistributedContext, out: Path) -> dict[str, object]:
    """Results of scenarios that need two processes."""
    found: dict[str, object] = {}
    try:
        train(context, out / "unequal", settings(seed=context.rank), Noted(8), network(norm=False))
    except DistributedError as error:
        found["unequal"] = str(error)

    def fails() -> None:
        raise ValueError("no")

    try:
        context.run_on_main("fails", fails)
    except (ValueError, DistributedError) as error:
        found["once"] = f"{type(error).__name__}: {error}"
    found["result"] = context.run_on_main("works", lambda: {"rank": context.rank})

    # All options that have a state of their own are on. The learning rate is so small that the first epoch is the best.
    every = settings(epochs=9, lr=1e-12, ema=0.9, clip=0.1, optimizer="adamw", loss="dice", patience=2, report_every=2)
    train(context, out / "early", every, Noted(8), network(norm=False))
    found["early"] = len((out / "early" / "metrics.jsonl").read_text().splitlines())

    settled = settings(ema=0.9, clip=0.1, optimizer="adamw", loss="dice", report_every=1)
    whole = network(norm=True, dropout=0.3)
    train(context, out / "whole", settled, Noted(8), whole)
    found["whole"] = digest(whole)
    parts = network(norm=True, dropout=0.3)
    try:
        train(context, out / "halves", settled, Noted(8, signal_at=2 if context.rank == 1 else 0), parts)
    except Interrupted as stop:
        found["stopped by"] = stop.number
    context.all_gather(0)  # until rank 0 has saved
    state = checkpoint.load(out / "halves" / "last.pt")["training"]["state"]
    found["stopped at"] = state["epoch"], state["step"]
    parts = network(norm=True, dropout=0.3)
    train(context, out / "halves", settled, Noted(8), parts, resume=True)
    found["halves"] = digest(parts)
    context.all_gather(0)  # until rank 0 has saved
    ends = [checkpoint.load(out / run / "last.pt")["training"]["average"] for run in ("whole", "halves")]
    found["averages differ"] = [name for name, value in ends[0].items() if not torch.equal(value, ends[1][name])]
    return found


def threads() -> list[str]:
    """Names of this process's threads."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    with init_distributed(100) as context:
        out = Path(sys.argv[1])
        found = scenarios(context, out) | only_together(context, out)
        found["threads together"] = threads()
    found["threads afterwards"] = threads()
    torch.save(found, out / f"rank{context.rank}.pt")
