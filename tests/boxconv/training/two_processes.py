"""The program of each of two processes for `test_distributed.py`. RANK etc. are set; the argument is a folder."""

import hashlib
import sys
from pathlib import Path

import torch
from small_runs import CLASSES, SIZE, Signals, config, train
from small_runs import network as small_network
from torch import nn

from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import EvalTransform
from boxconv.training import checkpoint
from boxconv.training.config import TrainConfig
from boxconv.training.distributed import DistributedContext, DistributedError, init_distributed
from boxconv.training.evaluation import evaluate
from boxconv.training.stop_signals import Interrupted


def network(norm: bool, dropout: float = 0.0) -> nn.Module:
    active = nn.Sequential(nn.BatchNorm2d(8), nn.Tanh()) if norm else nn.Tanh()
    return small_network(active=active, dropout=nn.Dropout2d(dropout))


def settings(**changes) -> TrainConfig:
    return config(**{"batch_size": 4} | changes)


def digest(model: nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def scenarios(context: DistributedContext, out: Path) -> dict[str, object]:
    """Results of all scenarios by name; a single process runs them as well, for comparison."""
    found: dict[str, object] = {}
    for length in (1, 4, 7):
        model = network(norm=True)
        scenes = RoadScenes(length, SIZE, split="val", transform=EvalTransform(SIZE))
        matrix = evaluate(model, scenes, CLASSES, batch_size=2, progress=False, context=context)
        found[f"matrix {length}"] = matrix.counts

    data = Signals(length=8)
    model = network(norm=True)
    train(out / "sync", settings(sync_bn=True), model, data=data, context=context)
    found["sync"], found["sync asked"] = model.state_dict(), data.asked

    data = Signals(length=7)  # the last batch has 3 images, in 3 parts: one each, for two processes
    model = network(norm=False)
    train(out / "parts", settings(accumulate=3), model, data=data, context=context)
    found["parts"], found["parts asked"] = model.state_dict(), data.asked

    model = network(norm=False)
    dice = settings(accumulate=3, loss="dice", optimizer="sgd", clip=0.1)
    train(out / "dice", dice, model, data=Signals(length=7), context=context)
    found["dice"] = model.state_dict()
    return found


def only_together(context: DistributedContext, out: Path) -> dict[str, object]:
    """Results of scenarios that need two processes."""
    found: dict[str, object] = {}
    unequal = settings(seed=context.rank)
    try:
        train(out / "unequal", unequal, network(norm=False), data=Signals(length=8), context=context)
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
    train(out / "early", every, network(norm=False), data=Signals(length=8), context=context)
    found["early"] = len((out / "early" / "metrics.jsonl").read_text().splitlines())

    settled = settings(ema=0.9, clip=0.1, optimizer="adamw", loss="dice", report_every=1)
    whole = network(norm=True, dropout=0.3)
    train(out / "whole", settled, whole, data=Signals(length=8), context=context)
    found["whole"] = digest(whole)
    parts = network(norm=True, dropout=0.3)
    try:
        stopped = Signals(2 if context.rank == 1 else 0, length=8)
        train(out / "halves", settled, parts, data=stopped, context=context)
    except Interrupted as stop:
        found["stopped by"] = stop.number
    context.all_gather(0)  # until rank 0 has saved
    state = checkpoint.load(out / "halves" / "last.pt")["training"]["state"]
    found["stopped at"] = state["epoch"], state["step"]
    parts = network(norm=True, dropout=0.3)
    train(out / "halves", settled, parts, data=Signals(length=8), context=context, resume=True)
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
