"""`boxconv train`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..files import existing
from ..inference.new_network import network_for
from ..training.config import TrainConfig
from . import recipes


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a network. With --out alone, it trains on drawn road scenes."""

    recipe: str | None = None
    """Name of an experiment's settings, or a JSON file of settings; other options override them. `--recipe help` lists
    the names. Settings that a recipe does not name have the paper's values. Without a recipe, the defaults are those
    that trained best (docs/results.md): --lr 2e-3 --box-lr 4 --box-weight-decay 0, and in the ENet family --box-dropout
    0.01 0.1 0 0, the dropout of the blocks that box blocks replace."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data-root"])] = None
    """Folder of the data set; for --data folder it holds images/SPLIT/* and labels/SPLIT/*.png."""
    crop: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="INT INT")] = None
    """Height and width of the training crop; --size if left out."""
    out: Path = Path("runs/default")
    """Folder of the run: settings, metrics, checkpoints."""
    resume: bool = False
    """Continue the run in --out, with its settings."""
    overwrite: bool = False
    """Delete the run in --out, with its report in analysis/, and start again."""
    check_files: bool = True
    """Decode every image and label before training starts."""
    quiet: bool = False


BOX_DROPOUT = (0.01, 0.1, 0.0, 0.0)


def defaults(recipe: str | None) -> Train:
    """Return the default settings: a recipe's, or else those that trained best. UsageError for a wrong recipe."""
    if recipe is None:
        return Train(lr=2e-3, box_lr=4.0, box_weight_decay=0.0)
    config = recipes.settings(recipe)
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)}
    return Train(**values, recipe=recipe, out=Path("runs", Path(recipe).stem))


def run(args: Train) -> None:
    from ..profiling import machine
    from ..training.distributed import init_distributed
    from ..training.records import best_of
    from ..training.start import train_into

    if not args.resume:  # a run that goes on has been checked
        args.check()
    with init_distributed(args.timeout) as context:
        records = train_into(
            args.out,
            settings(args),
            network_for,
            existing=existing(resume=args.resume, overwrite=args.overwrite),
            defaults=settings(defaults(args.recipe)),
            check_files=args.check_files,
            progress=not args.quiet,
            provenance=machine.provenance(),
            context=context,
        )
        if context.is_main:
            print(f"{best_of(records)}; weights in {args.out / 'best.pt'}")


def settings(args: Train) -> TrainConfig:
    """The run's settings without the command's own switches."""
    from box_convolution.networks.enet import TABLES

    config = TrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(TrainConfig)})
    table = TABLES.get(config.network)
    boxes = table is not None and "X" in f"{table.s1} {table.s2} {table.s3} {table.s4}"
    if args.recipe is None and config.start_from is None and boxes and not config.box_dropout:
        config = dataclasses.replace(config, box_dropout=BOX_DROPOUT)
    return config
