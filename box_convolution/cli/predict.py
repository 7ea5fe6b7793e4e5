"""`boxconv predict`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from .load import open_network


@dataclass(frozen=True)
class Predict:
    """Write label maps (NAME.png, class indices) and colour pictures (NAME_colour.png) for images."""

    checkpoint: tyro.conf.Positional[Path]
    """best.pt or last.pt of a run, or an exported network: .onnx, .pt2, .safetensors."""
    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Images, or folders of images."""
    out: Path
    """Folder for the results."""
    overwrite: bool = False
    device: str = "auto"
    quiet: bool = False


def run(args: Predict) -> None:
    from ..segmentation import engine
    from ..segmentation.predict import plan
    from ..segmentation.predict import predict as label

    device = engine.choose_device(args.device)
    opened = open_network(args.checkpoint)
    jobs = plan(args.inputs, args.out, overwrite=args.overwrite)
    labelled = label(opened.model, jobs, opened.classes, opened.prepare, device=device, progress=not args.quiet)
    done = sum(1 for _ in labelled)
    print(f"{done} image{'' if done == 1 else 's'} labelled in {args.out}")
