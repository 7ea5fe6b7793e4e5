"""`boxconv finetune`."""

from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from ..files import existing
from ..inference.new_network import finetuning
from ..inference.open import open_network, require_layers
from ..inference.scoring_data import validation_scores
from ..training.config import TrainConfig
from .train import train_and_tell


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
    """Move the boxes to whole pixel borders, and keep them there."""
    epochs: int = 10
    """Number of times that the training images are gone through."""
    lr: float = 1e-4
    """Learning rate at the start."""
    root: Path | None = None
    """Folder with images/ and labels/; by default that of the training."""
    batch_size: int | None = None
    """By default that of the old run. The same holds for --device and --workers."""
    device: str | None = None
    workers: int | None = None
    """Processes that load images."""
    overwrite: bool = False
    """Delete the run in --out, with its report in analysis/, and start again."""
    quiet: bool = False


def run(args: Finetune) -> None:
    require_layers(args.checkpoint)

    from box_convolution.deploy import snap_boxes

    from ..data.registry import classes_of
    from ..training.recorder import percent

    opened = open_network(args.checkpoint)
    given = {setting.name: getattr(args, setting.name, None) for setting in fields(TrainConfig)}
    changes = {name: value for name, value in given.items() if value is not None}
    config = finetuning(opened, args.checkpoint, **changes)

    def show_scores() -> None:
        classes = classes_of(config)
        before = validation_scores(opened.model, classes, config)["class_iou"]
        print(f"validation class IoU of {args.checkpoint}: {percent(before)}")
        if args.snap:
            snap_boxes(opened.model)
            after = validation_scores(opened.model, classes, config)["class_iou"]
            print(f"with snapped boxes: {percent(after)}")

    mode = existing(resume=False, overwrite=args.overwrite)
    train_and_tell(args.out, config, existing=mode, before=None if args.quiet else show_scores, quiet=args.quiet)
