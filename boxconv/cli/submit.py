"""`boxconv submit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UsageError, plural
from ..files import existing
from ..inference.open import open_network


@dataclass(frozen=True)
class Submit:
    """Write files for the Cityscapes benchmark: CITY_SEQUENCE_FRAME_pred_labelIds.png for every image of a split."""

    checkpoint: tyro.conf.Positional[Path]
    """Checkpoint, or the folder of a run (its best.pt), or an exported file."""
    out: Path
    """Folder for the results: zip it and upload it, or score it with the cityscapesScripts."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data-root"])] = None
    """Folder with leftImg8bit/; by default that of the training."""
    split: str = "test"
    """Name of the split."""
    overwrite: bool = False
    """Replace files that are there already."""
    resume: bool = False
    """Write only the files that are not there yet."""
    device: str = "auto"
    quiet: bool = False


def run(args: Submit) -> None:
    from ..inference import submission
    from ..inference.predict import Prediction, pending, predict
    from ..training.device import choose_device

    mode = existing(resume=args.resume, overwrite=args.overwrite)
    device = choose_device(args.device)
    opened = open_network(args.checkpoint)
    submission.check_classes(opened.classes)
    root = args.root or (opened.config.root if opened.config else None)
    if root is None:
        raise UsageError("--root: needed, for the network was not trained on files")
    jobs = pending(submission.plan(root, args.split, args.out), mode)
    model, transform = opened.model.to(device), opened.transform
    results = predict(
        jobs,
        lambda image: Prediction(submission.label_ids(model, image, transform, device)),
        lambda job, _, prediction: submission.write(job, prediction.labels),
        progress=not args.quiet,
    )
    done = sum(1 for _ in results)
    print(f"{plural(done, 'image')} labelled in {args.out}")
