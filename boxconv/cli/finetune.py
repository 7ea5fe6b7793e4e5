"""`boxconv finetune`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..files import existing
from ..inference.new_network import finetuning, network_for
from ..inference.open import open_network
from ..inference.scoring import validation_scores
from .train import show_progress

if TYPE_CHECKING:
    from ..training.config import TrainConfig
    from ..training.setup import CreateNetwork


@dataclass(frozen=True)
class Finetune:
    """Start a new run from a checkpoint's weights, with the settings of its run except for those below.

    With --snap the boxes move to whole pixel borders and stay there, while all other weights adapt (section 4 of the
    paper). boxconv train --resume continues an interrupted fine-tuning run.
    """

    checkpoint: tyro.conf.Positional[Path]
    """Checkpoint, or the folder of a run (its best.pt)."""
    out: Path
    """Folder of the new run."""
    snap: bool = False
    epochs: int = 10
    lr: float = 1e-4
    """Learning rate at the start."""
    root: Path | None = None
    """Folder with images/ and labels/; by default that of the training."""
    batch_size: int | None = None
    """By default that of the old run. The same holds for --device and --workers."""
    device: str | None = None
    workers: int | None = None
    overwrite: bool = False
    """Delete the run in --out, with its report in analysis/, and start again."""
    quiet: bool = False


def run(args: Finetune) -> None:
    from box_convolution.deploy import snap_boxes

    from ..data.registry import classes_of
    from ..profiling import machine
    from ..training.distributed import init_distributed
    from ..training.records import best_of, percent
    from ..training.start import train_into

    opened = open_network(args.checkpoint)
    given = {name: getattr(args, name) for name in ("root", "batch_size", "device", "workers")}
    changes = {name: value for name, value in given.items() if value is not None}
    config = finetuning(opened, args.checkpoint, snap=args.snap, epochs=args.epochs, lr=args.lr, **changes)

    def show_scores() -> None:
        classes = classes_of(config)
        before = validation_scores(opened.model, classes, config)["class_iou"]
        print(f"validation class IoU of {args.checkpoint}: {percent(before)}")
        if args.snap:
            snap_boxes(opened.model)
            after = validation_scores(opened.model, classes, config)["class_iou"]
            print(f"with snapped boxes: {percent(after)}")

    with init_distributed(config.timeout) as context:

        def scored_first(config: "TrainConfig", *, resume: bool, quiet: bool) -> "tuple[TrainConfig, CreateNetwork]":
            """`network_for`, which is called when the folder is known to be free."""
            if not (args.quiet or resume):
                context.run_on_main("scores before", show_scores)
            return network_for(config, resume=resume, quiet=quiet)

        records = train_into(
            args.out,
            config,
            scored_first,
            existing=existing(resume=False, overwrite=args.overwrite),
            progress=not args.quiet,
            provenance=machine.provenance(),
            context=context,
            watch=show_progress,
        )
        if context.is_main:
            print(f"{best_of(records)}; weights in {args.out / 'best.pt'}")
