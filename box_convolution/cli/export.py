"""`boxconv export`."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from ..segmentation.config import UsageError
from .load import about, network_of

Kind = Literal["onnx", "torch", "safetensors"]
SUFFIXES: dict[Kind, str] = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}


@dataclass(frozen=True)
class Export:
    """Write the network of a checkpoint as one file that needs nothing else: weights, classes, sizes, normalisation.

    onnx and torch hold the deployed network, BatchNorm folded and box blocks fused; its answers are compared with the
    checkpoint's on three image sizes. safetensors holds it as it was trained. boxconv predict reads all three.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    """FILE.onnx, FILE.pt2 (torch) or FILE.safetensors."""
    format: Kind | None = None
    """Told by --out where left out. onnx: standard operators only, any image size and batch."""
    snap: bool = False
    """Move boxes to whole pixel borders first; boxconv finetune does it without loss."""
    overwrite: bool = False


def run(args: Export) -> None:
    from ..deploy import deploy, export, snap_boxes
    from ..networks import weights
    from ..segmentation import checkpoint

    kind = args.format or next((name for name, suffix in SUFFIXES.items() if suffix == args.out.suffix), None)
    if kind is None or args.out.suffix != SUFFIXES[kind]:
        expected = SUFFIXES[kind] if kind else " or ".join(SUFFIXES.values())
        raise UsageError(f"--out: expected a name that ends in {expected}, got {args.out}")
    if args.out.exists() and not args.overwrite:
        raise UsageError(f"--out: {args.out} exists already; choose another name, or give --overwrite")
    content = checkpoint.load(args.checkpoint)
    network, values = network_of(content, args.checkpoint).eval(), about(content, args.checkpoint)
    if args.snap:
        snap_boxes(network)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent, prefix=".export") as folder:
        written = Path(folder) / args.out.name
        if kind == "safetensors":
            weights.save(network, written, content["network"], **values)
        else:
            deployed: Any = deploy(network)
            (export.save_onnx if kind == "onnx" else export.save_program)(deployed, written, values)
        os.replace(written, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")
    if kind != "safetensors":
        opened, _ = (export.open_onnx if kind == "onnx" else export.open_program)(args.out)
        _compare(network, opened, values["size"])


def _compare(network: object, opened: object, size: list[int]) -> None:
    """Print how far the file's answers are from the checkpoint's. Raises ExportError where they are not the same."""
    from ..deploy import export

    h, w = size
    sizes = [(h, w), (max(16, h // 2 + 3), max(16, w // 2 + 5)), (max(16, h * 3 // 4), max(16, w * 2 // 3 + 1))]
    print("against the checkpoint, random images:")
    for (h, w), (largest, share) in zip(sizes, export.differences(network, opened, sizes), strict=True):  # type: ignore[arg-type]
        print(
            f"  {h:5} x {w:<5} largest difference {largest:.1e} of the logits' range; above 1e-4: {share:.4%} of pixels"
        )
        if not share <= 0.01:
            raise export.ExportError("the exported network does not give the checkpoint's answers: do not use the file")
