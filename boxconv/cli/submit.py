"""`boxconv submit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UsageError
from ..inference.load import network_of


@dataclass(frozen=True)
class Submit:
    """Write files for the Cityscapes benchmark: CITY_SEQUENCE_FRAME_pred_labelIds.png for every image of a split."""

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    """Folder for the results: zip it and upload it, or score it with the cityscapesScripts."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data-root"])] = None
    """Folder with leftImg8bit/; by default that of the training."""
    split: str = "test"
    overwrite: bool = False
    """Replace files that are there already."""
    resume: bool = False
    """Write only the files that are not there yet."""
    device: str = "auto"
    quiet: bool = False


def run(args: Submit) -> None:
    from ..data.sources import prepare_of
    from ..inference import submission
    from ..training import checkpoint, engine

    if args.overwrite and args.resume:
        raise UsageError("--resume and --overwrite contradict each other: give one of them")
    device = engine.choose_device(args.device)
    content = checkpoint.load(args.checkpoint)
    config = checkpoint.settings(content, args.checkpoint)
    submission.check_classes(checkpoint.class_table(content, args.checkpoint))
    root = args.root or config.root
    if root is None:
        raise UsageError("--root: needed, for the network was not trained on files")
    entries = submission.plan(root, args.split, args.out, overwrite=args.overwrite, resume=args.resume)
    model = network_of(content, args.checkpoint)
    prepare = prepare_of(config)
    done = sum(1 for _ in submission.write(model, entries, prepare, device=device, progress=not args.quiet))
    print(f"{done} image{'' if done == 1 else 's'} labelled in {args.out}")
