"""`boxconv evaluate`."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..data.config import Data, at_least
from ..data.data_folder import check_outside_data
from ..errors import plural
from ..files import write_atomic
from ..inference.open import file_of, open_network
from ..inference.options import InferenceOptions
from ..inference.scoring_data import classes_of_labels, data_of
from .draw import require_picture
from .outputs import check_outputs

if TYPE_CHECKING:
    from ..inference.open import TrainedNetwork
    from ..training.distributed import DistributedContext


PICTURED = 4


@dataclass(frozen=True)
class Evaluate(InferenceOptions):
    """Score a network on a data set."""

    network: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NETWORK")]
    """best.pt or last.pt of a run; or, with --root, an exported file (.onnx, .pt2, .safetensors) or a packaged network
    (boxenet-camvid, boxonlyenet-camvid)."""
    data: Data | None = None
    """Kind of data set; by default that of the training."""
    root: Path | None = None
    """Folder with images/ and labels/; by default that of the training."""
    split: str | None = None
    """Name of the split; by default the validation split of the training, or val."""
    full_resolution: bool = False
    """Score at the size of the label files, not at that of the network's images."""
    batch_size: int = 8
    """Images that the network takes at once."""
    workers: int = 0
    """Processes that load images; with 0, a thread loads the next ones while the network computes."""
    device: str = "auto"
    json: Path | None = None
    """Also write the scores, their confidence intervals and the confusion matrix to this file."""
    picture: Path | None = None
    """Also draw image, truth, prediction and errors of four evenly spaced images, into FILE.png or .svg."""
    overwrite: bool = False
    """Replace files that are there already."""
    quiet: bool = False


def run(args: Evaluate) -> None:
    from box_convolution.deploy import keep_freed_memory

    from ..training.distributed import init_distributed

    at_least("batch_size", args.batch_size, 1)
    at_least("workers", args.workers, 0)
    require_picture("--picture", args.picture)
    outputs = {"--json": args.json, "--picture": args.picture}
    check_outputs(outputs, overwrite=args.overwrite, inputs=(file_of(args.network),), root=args.root)
    keep_freed_memory()
    with init_distributed() as context:
        _evaluate(args, context)


def _evaluate(args: Evaluate, context: "DistributedContext") -> None:
    import torch

    from ..data.registry import open_split
    from ..inference.score_patches import scores_of
    from ..training.device import choose_device
    from ..training.evaluation import ImageTransform, score_table
    from ..training.evaluation import evaluate as score
    from ..training.metrics import about_absent, score_intervals, without_pixels

    device = choose_device(args.device, context.local_rank)
    opened = open_network(args.network)
    opened.check(args)
    config = data_of(opened, args.network, args.data, args.root)
    check_outside_data({"--json": args.json, "--picture": args.picture}, config.root)
    split = args.split or config.val_split
    classes = classes_of_labels(opened, config)
    size = args.size or (opened.transform.size if args.tile is None else None)
    transform = dataclasses.replace(opened.transform, size=size)
    data: Any = open_split(config, split, classes, ImageTransform(transform) if args.full_resolution else transform)
    by_image = torch.zeros(len(data), len(classes), len(classes), dtype=torch.int64)
    matrix = score(
        opened.model.to(device),
        data,
        classes,
        batch_size=1 if args.full_resolution or size is None else args.batch_size,
        workers=args.workers,
        progress=not args.quiet,
        context=context,
        by_image=by_image,
        scores=lambda model, images, shape: scores_of(model, images, shape, args),
    )
    if not context.is_main:
        return
    scores, intervals = matrix.scores(classes), score_intervals(by_image, classes)
    at = "their own size" if size is None else f"{size[0]} x {size[1]}"
    where = ("the labels' own resolution" if args.full_resolution else at) + args.described
    print(
        f"{args.network} on {config.root or 'drawn scenes'}, {split}: {plural(len(data), 'image')}, scored at {where}"
    )
    print(score_table(scores, intervals))
    if absent := without_pixels(matrix.counts.sum(1), classes):
        print(about_absent("the labels", absent))
    if args.json is not None:
        numbers = {"scores": scores, "intervals": intervals, **matrix.state(), "classes": list(classes.names)}
        write_atomic(args.json, json.dumps(numbers, indent=2) + "\n")
    if args.picture is not None:
        _draw(args.picture, args, opened, open_split(config, split, classes, None))


def _draw(path: Path, options: InferenceOptions, opened: "TrainedNetwork", data: Any) -> None:
    import numpy as np

    from ..data.bands import as_rgb
    from ..data.datasets import evenly_spaced
    from ..data.image_files import shown
    from ..reports.prediction_picture import prediction_panel

    chosen = evenly_spaced(len(data), PICTURED)
    images, labels = zip(*(data[index] for index in chosen), strict=True)
    predictions = [opened.apply(image, options).labels for image in images]
    prediction_panel([np.asarray(as_rgb(image)) for image in images], labels, predictions,
                     opened.classes, path, titles=[shown(data.name(index)) for index in chosen])  # fmt: skip
