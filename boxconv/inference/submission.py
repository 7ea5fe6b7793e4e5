"""Predictions for the Cityscapes benchmark: one PNG file per image, of the image's size, with labelIds as pixels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..data.class_table import ClassTable, DataError
from ..data.data_folder import check_outside_data
from ..data.image_files import shown
from ..data.layouts.cityscapes import CITYSCAPES, LABEL_IDS, CityscapesLayout, submission_name
from ..data.layouts.pairing import describe, split_files
from ..data.transforms import EvalTransform
from ..files import write_png
from ..training.evaluation import most_likely
from .predict import Job, Labels, require_folder


def plan(root: Path, split: str, out: Path) -> list[Job]:
    """Decide which files to write, before any is written. The split needs no labels.

    Raises DataError if images are missing or misnamed, UsageError if `out` is in a data folder.
    """
    found = split_files(root, split, CityscapesLayout())
    faults = [fault for fault in found.faults if fault.file.is_relative_to(found.place)]
    if faults or not found.images:
        described = f"{describe(faults or found.faults, root)}\n{CityscapesLayout.description}"
        raise DataError(f"{shown(root)}: split {split!r} cannot be used\n{described}")
    check_outside_data({"--out": out}, root)
    require_folder(out)
    return [Job(path, (out / submission_name(path),)) for _, path in found.images]


def check_classes(classes: ClassTable) -> None:
    """Raise DataError unless a network's classes are the 19 of the benchmark, in the same order."""
    if classes.names != CITYSCAPES.names:
        raise DataError(
            f"the checkpoint has {len(classes)} classes ({', '.join(classes.names[:3])} ...): the benchmark takes "
            "predictions of the 19 classes of Cityscapes, in their order"
        )


@torch.inference_mode()
def label_ids(model: nn.Module, image: Image.Image, transform: EvalTransform, device: torch.device) -> Labels:
    """labelIds (height, width), uint8, of `image`: the network's classes, enlarged by nearest neighbour."""
    classes = most_likely(model(transform.image(image)[None].to(device)))[0].to("cpu", torch.uint8).numpy()
    enlarged = Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST)
    return np.array(LABEL_IDS, np.uint8)[np.asarray(enlarged)]


def write(job: Job, label_ids: Labels) -> None:
    """Write the prediction (height, width) for the image of a job."""
    job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
    write_png(job.outputs[0], Image.fromarray(label_ids))
