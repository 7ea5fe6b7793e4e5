"""`boxconv export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..data.config import expect
from ..errors import UsageError
from ..files import replacing
from ..inference.open import file_of, open_layers, require_layers
from ..inference.scoring_data import classes_of_labels, data_of, validation_scores
from .outputs import check_outputs

if TYPE_CHECKING:
    from ..inference.open import TrainedNetwork

Kind = Literal["onnx", "torch", "safetensors"]
CALIBRATION_IMAGES = 50  # of the training split, evenly chosen
SUFFIXES: dict[Kind, str] = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}


@dataclass(frozen=True)
class Export:
    """Write a trained network to one complete file: weights, classes, sizes, normalisation.

    onnx and torch files contain the deployed network, with BatchNorm folded and box blocks fused. Its logits are
    compared with those of the trained network at three image sizes. safetensors files contain the training form.
    boxconv predict reads all three.
    """

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NETWORK")]
    """best.pt or last.pt of a run, a .safetensors file, or a packaged network (boxenet-camvid, boxonlyenet-camvid)."""
    out: Path
    """FILE.onnx, FILE.pt2 (torch) or FILE.safetensors."""
    format: Kind | None = None
    """By default, the suffix of --out decides. onnx: standard operators only, any image size and batch."""
    standard_operators: bool = False
    """With torch: only operators of PyTorch. Slower, but the file can be loaded and compiled without this package."""
    custom_operators: bool = False
    """With onnx: box convolutions are our operator for onnxruntime. Faster, but only readers that have it (see
    docs/deployment.md) open the file."""
    half: bool = False
    """With safetensors: weights in half precision, for half the size."""
    licence: str | None = None
    """Licence of the weights, stored with them; by default the one in the trained network's file."""
    snap: bool = False
    """Move boxes to whole pixel borders first. (boxconv finetune --snap also lets the other weights adapt.)"""
    prune: float | None = None
    """Leave out boxes whose output varies less than this share (such as 0.1) of what is typical in their layer; 0
    leaves out only those without any effect. The network is scored on the validation split before and after."""
    min_area: float = 0.0
    """With --prune: also leave out boxes with an area of fewer pixels than this, such as 1.1 for single pixels."""
    root: Path | None = None
    """With --prune: folder with images/ and labels/; by default that of the training."""
    overwrite: bool = False
    """Replace files that are there already."""


def run(args: Export) -> None:
    require_layers(args.checkpoint)

    from box_convolution.deploy import snap_boxes
    from box_convolution.deploy.exported import ExportError
    from box_convolution.networks import weights

    kind = args.format or next((name for name, suffix in SUFFIXES.items() if suffix == args.out.suffix), None)
    if kind is None or args.out.suffix != SUFFIXES[kind]:
        expected = SUFFIXES[kind] if kind else " or ".join(SUFFIXES.values())
        raise UsageError(f"--out: expected a name that ends in {expected}, got {args.out}")
    check_outputs({"--out": args.out}, overwrite=args.overwrite, inputs=(file_of(args.checkpoint),), root=args.root)
    if args.prune is not None and (kind == "safetensors" or not args.prune >= 0):
        expected = "expected an influence of at least 0, with onnx or torch"
        raise UsageError(f"--prune: {expected}, got {args.prune} with {kind}")
    expect("min_area", args.min_area >= 0, "pixels, at least 0", args.min_area)
    if args.min_area and args.prune is None:
        raise UsageError("--min-area: needs --prune; --prune 0 takes out nothing else")
    if args.half and kind != "safetensors":
        raise UsageError(f"--half: only safetensors files are written in half precision, not {kind}")
    if args.standard_operators and kind != "torch":
        raise UsageError(f"--standard-operators: only for torch files (.pt2); {kind} needs no such option")
    if args.custom_operators and kind != "onnx":
        raise UsageError(f"--custom-operators: only for onnx files, not {kind}")
    trained = open_layers(args.checkpoint)
    network, values = trained.model, dict(trained.about)
    if args.snap:
        snap_boxes(network)
        values.pop("scores", None)  # those of the boxes as they were trained
    if args.licence is not None:
        values["licence"] = args.licence

    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.prune is not None:
        network = _pruned(trained, args)
        values.pop("scores", None)
    with replacing(args.out) as written:
        if kind == "safetensors":
            weights.save(network, written, trained.network, half=args.half, **values)
        else:
            print(f"exporting to {args.out}: up to a minute or two", flush=True)
            try:
                largest = _write_deployed(network, written, args, values)
            except ExportError as error:  # it names the file that is to become --out
                raise ExportError(str(error).replace(str(written), str(args.out))) from error
            compared = "network" if args.prune is None else "pruned network"
            print(f"largest difference from the {compared}: {largest:.1e} of the logits' range")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


def _write_deployed(network: Any, path: Path, args: Export, values: dict[str, Any]) -> float:
    """Write an .onnx or a .pt2 file; returns how far its answers are from those of ``network``."""
    import torch

    from box_convolution.deploy import deploy, pt2_files, to_onnx
    from box_convolution.deploy.agreement import sizes_to_compare
    from box_convolution.deploy.exported import compared

    images = [(torch.zeros(1, network.in_channels, *size),) for size in sizes_to_compare(*values["size"])]
    if path.suffix == ".onnx":
        return to_onnx(network, path, images[0], custom_operators=args.custom_operators, metadata=values)
    deployed: Any = network if args.prune is not None else deploy(network)
    pt2_files.save_program(deployed, path, values, standard_operators=args.standard_operators)
    opened, _ = pt2_files.open_program(path)
    return compared(network, opened, images, path)


def _pruned(trained: "TrainedNetwork", args: Export) -> Any:
    """Return the deployed and pruned network; print its scores before and after."""
    import torch

    from box_convolution.deploy import deploy, prune
    from box_convolution.layer import BoxConv2d

    from ..data.registry import open_split, prepare_of
    from ..training.recorder import percent

    assert args.prune is not None
    if not any(isinstance(layer, BoxConv2d) for layer in trained.model.modules()):
        raise UsageError(f"--prune: there are no boxes in {trained.network['name']}")
    config = data_of(trained, args.checkpoint, root=args.root)
    classes = classes_of_labels(trained, config)
    deployed = deploy(trained.model)
    data: Any = open_split(config, config.train_split, classes, prepare_of(config), seed=config.seed)
    step = -(-len(data) // CALIBRATION_IMAGES)
    images = (torch.as_tensor(data[index][0])[None] for index in range(0, len(data), step))
    pruned, report = prune(deployed, images, args.prune, min_area=args.min_area)
    before, after = (percent(validation_scores(model, classes, config)["class_iou"]) for model in (deployed, pruned))
    print(
        f"took out {sum(layer.removed_boxes for layer in report)} of {sum(layer.boxes for layer in report)} boxes, "
        f"so that nothing reads {sum(layer.idle_channels for layer in report)} of "
        f"{sum(layer.channels for layer in report)} channels any more; validation class IoU {before} -> {after}"
    )
    return pruned
