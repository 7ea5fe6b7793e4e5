"""Label maps for images that have none: files in, files out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate
from tqdm import tqdm

from .classes import ClassTable, DataError
from .datasets import images_in, open_image
from .files import write_atomic
from .transforms import Prepare


@dataclass(frozen=True)
class Job:
    """One image and the files that are written for it."""

    image: Path
    label: Path
    picture: Path


def plan(inputs: Sequence[Path], out: Path, *, overwrite: bool = False) -> list[Job]:
    """Decide what is read and written before anything is: NAME.png (class indices) and NAME_colour.png per image.

    ``inputs`` are images or folders of images. Raises DataError where there is nothing to read, two images would get
    one name, an output would replace an input, or an output exists already and ``overwrite`` is not given.
    """
    images: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = images_in(path)
            if not found:
                raise DataError(f"{path}: no images in this folder")
            images += found
        elif path.exists():
            images.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file is in the place of the output folder")
    jobs = [Job(image, out / f"{image.stem}.png", out / f"{image.stem}_colour.png") for image in images]
    sources = {image.resolve() for image in images}
    writers: dict[Path, Path] = {}
    for job in jobs:
        for target in (job.label, job.picture):
            if target.resolve() in sources:
                raise DataError(f"{target}: this output would replace an input; choose another --out")
            other = writers.setdefault(target, job.image)
            if other is not job.image:
                raise DataError(f"{target}: would be written for both {other} and {job.image}")
            if target.exists() and not overwrite:
                raise DataError(f"{target}: exists already; choose another --out, or give --overwrite")
    return jobs


@torch.inference_mode()
def predict_image(
    model: nn.Module, image: Image.Image, prepare: Prepare, device: torch.device
) -> npt.NDArray[np.uint8]:
    """Class indices (height, width), uint8, of a Pillow RGB image of any size, at that size."""
    logits = model(prepare.image(image)[None].to(device))
    if logits.shape[2:] != (image.height, image.width):
        logits = interpolate(logits, (image.height, image.width), mode="bilinear", align_corners=False)
    labels: npt.NDArray[np.uint8] = logits.argmax(1)[0].to("cpu", torch.uint8).numpy()
    return labels


def predict(
    model: nn.Module,
    jobs: Sequence[Job],
    classes: ClassTable,
    prepare: Prepare,
    *,
    device: torch.device,
    progress: bool = True,
) -> Iterator[Job]:
    """Write the outputs of each job and yield it. Raises DataError for an unreadable image."""
    model.eval().to(device)
    for job in tqdm(jobs, desc="predicting", unit="image", leave=False, disable=not progress):
        label = predict_image(model, open_image(job.image), prepare, device)
        job.label.parent.mkdir(parents=True, exist_ok=True)
        _write_png(job.label, Image.fromarray(label))
        _write_png(job.picture, Image.fromarray(classes.colourise(label)))
        yield job


def _write_png(path: Path, image: Image.Image) -> None:
    write_atomic(path, lambda file: image.save(file, "PNG"))
