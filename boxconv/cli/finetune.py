"""`boxconv finetune`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import UsageError
from ..inference.load import EXPORTED, file_of, network_of, validation_scores
from ..training.config import TrainConfig
from . import train


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
    """Learning rate of Adam at the start."""
    root: Path | None = None
    """Folder with images/ and labels/; by default that of the training."""
    batch_size: int | None = None
    """By default that of the old run; so are device and workers."""
    device: str | None = None
    workers: int | None = None
    overwrite: bool = False
    """Delete the run in --out, with its report in analysis/, and start again."""
    quiet: bool = False


def run(args: Finetune) -> None:
    from box_convolution.deploy import snap_boxes

    from ..data.sources import classes_of
    from ..training import checkpoint
    from ..training.records import percent

    path = file_of(args.checkpoint)
    if path.suffix in EXPORTED:
        raise UsageError(
            f"{args.checkpoint}: expected a checkpoint, with the settings of its run; from other weights, train: "
            f"boxconv train --start-from {args.checkpoint} --network NAME --data ..."
        )
    content = checkpoint.load(path)
    given = {name: getattr(args, name) for name in ("root", "batch_size", "device", "workers")}
    settings = checkpoint.settings(content, path)
    tables = {name: getattr(settings, name) for name in ("classes", "palette")}
    if args.root is not None:  # they may have moved with it
        tables = {name: table if table and table.exists() else None for name, table in tables.items()}
    config = dataclasses.replace(
        settings,
        warmup=0.0,
        start_from=path.resolve(),
        snap=args.snap,
        epochs=args.epochs,
        lr=args.lr,
        **tables,
        **{name: value for name, value in given.items() if value is not None},
    )
    config.check()
    classes = checkpoint.class_table(content, path)
    if (found := classes_of(config).names) != classes.names:
        raise UsageError(
            f"--root: {args.checkpoint} tells apart {', '.join(classes.names)}; {config.root} has the classes "
            f"{', '.join(found)}: boxconv train --start-from gives the network a fresh last layer for them"
        )
    if not args.quiet:
        network = network_of(content, path)
        before = validation_scores(network, classes, config)["class_iou"]
        print(f"validation class IoU of {args.checkpoint}: {percent(before)}")
        if args.snap:
            snap_boxes(network)
            print(f"with snapped boxes: {percent(validation_scores(network, classes, config)['class_iou'])}")
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    train.run(train.Train(**values, out=args.out, overwrite=args.overwrite, quiet=args.quiet))
