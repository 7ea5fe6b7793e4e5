"""`boxconv predict`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from .load import network_of


@dataclass(frozen=True)
class Predict:
    """Write label maps (NAME.png, class indices) and colour pictures (NAME_colour.png) for images."""

    checkpoint: tyro.conf.Positional[Path]
    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Images, or folders of images."""
    out: Path
    """Folder for the results."""
    overwrite: bool = False
    device: str = "auto"
    quiet: bool = False


def run(args: Predict) -> None:
    from ..segmentation import checkpoint, engine
    from ..segmentation.classes import ClassTable
    from ..segmentation.predict import plan
    from ..segmentation.predict import predict as label
    from ..segmentation.sources import prepare_of

    device = engine.choose_device(args.device)
    content = checkpoint.load(args.checkpoint)
    config = checkpoint.settings(content, args.checkpoint)
    jobs = plan(args.inputs, args.out, overwrite=args.overwrite)
    model = network_of(content, args.checkpoint)
    classes = ClassTable.from_dict(content["classes"])
    done = sum(1 for _ in label(model, jobs, classes, prepare_of(config), device=device, progress=not args.quiet))
    print(f"{done} image{'' if done == 1 else 's'} labelled in {args.out}")
