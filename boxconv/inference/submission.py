"""Predictions for the Cityscapes benchmark: one PNG per image, of the image's size, whose pixels are labelIds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..data.classes import ClassTable, DataError
from ..data.image_files import open_image, shown
from ..data.layouts.base import describe, split_files
from ..data.layouts.cityscapes import CITYSCAPES, LABEL_IDS, CityscapesLayout, submission_name
from ..data.transforms import EvalTransform
from ..files import write_atomic
from ..progress import progress_bar


@dataclass(frozen=True)
class Entry:
    """One image and the file that is written for it."""

    image: Path
    target: Path


def plan(root: Path, split: str, out: Path, *, overwrite: bool = False, resume: bool = False) -> list[Entry]:
    """What is to be written, decided before anything is. Labels need not be there.

    DataError where images are missing or misnamed, `out` is in the data folder, or a file is there already: `overwrite`
    replaces it, `resume` leaves it and goes on with the others.
    """
    found = split_files(root, split, CityscapesLayout())
    faults = [fault for fault in found.faults if fault.file.is_relative_to(found.place)]
    if faults or not found.images:
        described = f"{describe(faults or found.faults, root)}\n{CityscapesLayout.description}"
        raise DataError(f"{shown(root)}: split {split!r} cannot be used\n{described}")
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{shown(out)}: is in the data folder {shown(root)}, which is never written to")
    if out.exists() and not out.is_dir():
        raise DataError(f"{shown(out)}: a file is in the place of the output folder")
    entries = [Entry(path, out / submission_name(path)) for _, path in found.images]
    present = [entry for entry in entries if entry.target.exists()]
    if present and not (overwrite or resume):
        raise DataError(
            f"{shown(present[0].target)}: exists already, as do {len(present)} of {len(entries)}; choose another "
            "--out, or give --resume to keep them and write the others, or --overwrite"
        )
    return [entry for entry in entries if not resume or not entry.target.exists()]


def check_classes(classes: ClassTable) -> None:
    """DataError unless the classes of a network are the 19 of the benchmark, in their order."""
    if classes.names != CITYSCAPES.names:
        raise DataError(
            f"the checkpoint knows {len(classes)} classes ({', '.join(classes.names[:3])} ...): the benchmark takes "
            "predictions of the 19 classes of Cityscapes, in their order"
        )


@torch.inference_mode()
def label_ids(model: nn.Module, image: Image.Image, prepare: EvalTransform, device: torch.device) -> Image.Image:
    """Mode L, in the size of `image`: the network's classes, enlarged by nearest pixel, as labelIds."""
    classes = model(prepare.image(image)[None].to(device)).argmax(1)[0].to("cpu", torch.uint8).numpy()
    enlarged = Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST)
    return Image.fromarray(np.array(LABEL_IDS, np.uint8)[np.asarray(enlarged)])


def write(
    model: nn.Module, entries: list[Entry], prepare: EvalTransform, *, device: torch.device, progress: bool = True
) -> Iterator[Entry]:
    """Writes the file of each entry and yields it. DataError for an unreadable image."""
    model.eval().to(device)
    for entry in progress_bar(entries, desc="predicting", unit="image", shown=progress):
        prediction = label_ids(model, open_image(entry.image), prepare, device)
        entry.target.parent.mkdir(parents=True, exist_ok=True)
        _write_png(entry.target, prediction)
        yield entry


def _write_png(path: Path, image: Image.Image) -> None:
    write_atomic(path, lambda file: image.save(file, "PNG"))
