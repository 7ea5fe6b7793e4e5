"""`boxconv draw`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..data.config import at_least, expect
from ..errors import UsageError
from ..inference.open import file_of, open_layers, require_layers
from .outputs import check_outputs


@dataclass(frozen=True)
class Draw:
    """Draw the boxes of one layer of a trained network; important boxes are more opaque."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NETWORK")]
    """best.pt or last.pt of a run, a .safetensors file, or a packaged network (boxenet-camvid, boxonlyenet-camvid)."""
    out: Path
    """Picture to write, .png or .svg."""
    layer: str | None = None
    """Name of the box layer, such as stage1.1.box; by default the first one."""
    image: Path | None = None
    """Image that the boxes are drawn over; by default an empty map."""
    features: bool = False
    """Draw over the layer's input for --image, averaged over its channels, instead of over the image itself."""
    at: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="FLOAT FLOAT")] = None
    """Row and column of the output pixel, in pixels of the layer's input; by default the middle."""
    most: int = 32
    """Number of boxes to draw, the most important ones."""
    gamma: bool = False
    """Importance as in the authors' script: also multiplied by the weights of the BatchNorms."""
    overwrite: bool = False
    """Replace files that are there already."""


def require_picture(option: str, path: Path | None) -> None:
    """Raise UsageError, before any work is done, if no picture can be written to ``path``; None means no picture."""
    if path is not None and path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"{option}: expected a name that ends in .png or .svg, got {path}")


def run(args: Draw) -> None:
    require_layers(args.checkpoint)

    import numpy as np
    import torch

    from box_convolution.drawing import draw_boxes

    from ..analysis.evaluation_mode import input_of
    from ..analysis.importance import importance
    from ..data.bands import as_rgb

    require_picture("--out", args.out)
    check_outputs({"--out": args.out}, overwrite=args.overwrite, inputs=(args.image, file_of(args.checkpoint)))
    at_least("most", args.most, 1)
    if args.features and args.image is None:
        raise UsageError("--features: needs an --image for the network to look at")
    opened = open_layers(args.checkpoint)
    model, kind = opened.model, opened.network["name"]
    picture = opened.reader(args.image) if args.image is not None else None
    blank = torch.zeros(opened.model.in_channels, *opened.about["size"])
    seen = blank if picture is None else opened.transform.image(picture)
    layers = {layer.name: layer for layer in importance(model, seen[None], gamma=args.gamma)}
    if not layers:
        raise UsageError(f"{args.checkpoint}: {kind} has no box layers")
    name = args.layer if args.layer is not None else next(iter(layers))
    expect("layer", name in layers, f"one of {', '.join(layers)}", repr(name))
    found = layers[name]
    h, w = found.map_size
    if args.at is not None and not (0 <= args.at[0] < h and 0 <= args.at[1] < w):
        raise UsageError(f"--at: {name} has a map of {h} x {w} pixels, got row {args.at[0]:g}, column {args.at[1]:g}")
    under: Any = None if picture is None else np.asarray(as_rgb(picture))
    if args.features:
        under = input_of(model.get_submodule(name), model, seen).mean(0).numpy()
    draw_boxes(
        found.boxes.numpy(),
        args.out,
        map_size=found.map_size,
        image=under,
        importance=found.importance.numpy() if found.importance.isfinite().any() else None,
        most=args.most,
        centre=args.at,
        title=f"Boxes of {name}, {kind}",
    )
    print(f"{min(args.most, len(found.boxes))} of {len(found.boxes)} boxes of {name} drawn in {args.out}")
    if found.remark:
        print(f"{name}: {found.remark}")
