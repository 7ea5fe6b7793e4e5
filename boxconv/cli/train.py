"""`boxconv train`."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..files import Existing, existing
from ..inference.new_network import network_for
from ..inference.open import require_layers
from ..training import recipes
from ..training.config import TrainConfig

if TYPE_CHECKING:
    from ..training.recorder import Progress


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a network. With --out alone, it trains on drawn road scenes."""

    recipe: str | None = None
    """Name of an experiment's settings, or a JSON file of settings; other options override them. `--recipe help` lists
    the names. Settings that a recipe does not name have the paper's values. Without a recipe, the defaults are those
    that trained best (docs/results.md): --box-weight-decay 0; on drawn scenes in the ENet family --lr 8e-3 --box-lr 2,
    else --lr 2e-3 --box-lr 4; in the ENet family --box-dropout 0.01 0.1 0 0, the dropout of the blocks that box blocks
    replace."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data-root"])] = None
    """Folder of the data set; for --data folder it holds images/SPLIT/* and labels/SPLIT/*.png."""
    crop: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="INT INT")] = None
    """Height and width of the training crop; --size if left out."""
    out: Path = Path("runs/default")
    """Folder of the run: settings, metrics, checkpoints."""
    resume: bool = False
    """Continue the run in --out, with its settings; with more --epochs, its learning rate is from then on that of a run
    planned with so many."""
    overwrite: bool = False
    """Delete the run in --out, with its report in analysis/, and start again."""
    check_files: bool = True
    """Decode every image and label before training starts."""
    find_lr: bool = False
    """Instead of training: print the loss while the learning rate grows from step to step, and a rate to begin with.
    Nothing is written."""
    quiet: bool = False


BOX_DROPOUT = (0.01, 0.1, 0.0, 0.0)


def given(argv: Sequence[str], option: str) -> str | None:
    """Return the last value of an option in a command line; None if it has none."""
    value = None
    for place, word in enumerate(argv):
        if word == option:
            value = argv[place + 1] if place + 1 < len(argv) else None
        elif word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
    return value


def defaults(argv: Sequence[str]) -> Train:
    """Return the default settings for a command line: its recipe's, or else those that trained best.

    Raises UsageError for a wrong recipe.
    """
    if (recipe := given(argv, "--recipe")) is not None:
        return _with(recipes.settings(recipe), recipe=recipe, out=Path("runs", Path(recipe).stem))
    scenes = (given(argv, "--data") or TrainConfig.data) == "scenes"
    erfnet = "erfnet" in (given(argv, "--network") or TrainConfig.network)
    lr, box_lr = (8e-3, 2.0) if scenes and not erfnet else (2e-3, 4.0)
    return Train(lr=lr, box_lr=box_lr, box_weight_decay=0.0)


def defaults_of_run(args: Train) -> Train | None:
    """With --resume, those of the run in --out; None where there is none."""
    if not args.resume or not (args.out / "last.pt").exists():
        return None
    from ..training.start_or_resume import settings_in

    return _with(settings_in(args.out), recipe=args.recipe, out=args.out)


def _with(config: TrainConfig, **switches: Any) -> Train:
    return Train(**{f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)}, **switches)


def run(args: Train) -> None:
    if not args.resume:  # a run that goes on has been checked
        args.check_new()
        if args.start_from is not None:
            require_layers(args.start_from)

    from box_convolution import extras

    if args.report_every is not None:
        extras.require("--report-every", "matplotlib")
    if args.find_lr:
        find_lr(args)
        return
    mode = existing(resume=args.resume, overwrite=args.overwrite)
    train_and_tell(args.out, settings(args), existing=mode, check_files=args.check_files, quiet=args.quiet)


def train_and_tell(
    out: Path,
    config: TrainConfig,
    *,
    existing: Existing,
    check_files: bool = True,
    before: Callable[[], None] | None = None,
    quiet: bool = False,
) -> None:
    """Train the run of ``config`` in the folder ``out``, and print its best score. Arguments: as in `train_into`."""
    from box_convolution.deploy import keep_freed_memory

    from ..profiling import machine
    from ..training.distributed import init_distributed
    from ..training.recorder import best_of
    from ..training.start_or_resume import train_into

    keep_freed_memory()
    with init_distributed(config.timeout) as context:
        records = train_into(
            out,
            config,
            network_for,
            existing=existing,
            check_files=check_files,
            progress=not quiet,
            provenance=machine.provenance(),
            context=context,
            before=before,
            watch=show_progress,
        )
        if context.is_main:
            print(f"{best_of(records)}; weights in {out / 'best.pt'}")


def find_lr(args: Train) -> None:
    """Print how the loss depends on the learning rate."""
    from ..errors import UsageError
    from ..training.distributed import init_distributed
    from ..training.rate_search import described, try_rates
    from ..training.start_or_resume import built

    if args.resume:
        raise UsageError("--find-lr: is for a new run, not with --resume")
    with init_distributed(args.timeout) as context:
        progress = context.is_main and not args.quiet
        run = built(settings(args), network_for, context=context, check_files=args.check_files, progress=progress)
        if progress:
            print(run)
        tried = try_rates(run, progress=progress)
        if context.is_main:
            print(described(tried))


def settings(args: Train) -> TrainConfig:
    """The run's settings without the command's own switches."""
    from box_convolution.networks.enet import TABLES

    config = TrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(TrainConfig)})
    table = TABLES.get(config.network)
    boxes = table is not None and "X" in f"{table.s1} {table.s2} {table.s3} {table.s4}"
    fresh = args.recipe is None and config.start_from is None and not args.resume
    if fresh and boxes and not config.box_dropout:
        config = dataclasses.replace(config, box_dropout=BOX_DROPOUT)
    return config


def show_progress(progress: "Progress") -> None:
    """Write the page about a run that trains."""
    from ..reports.progress_report import write_progress
    from ..training.recorder import duration

    run, left = progress.run, progress.seconds_left
    data = run.config.root or "drawn scenes"
    write_progress(
        progress.folder,
        title=f"{run.network['name']} on {data}",
        records=progress.records,
        epochs=run.config.epochs,
        left=f"about {duration(left)}" if left else "",
        classes=run.classes,
        pictures=progress.previews,
    )
