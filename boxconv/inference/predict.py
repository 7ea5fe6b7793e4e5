"""Label maps for images that have none: files in, files out, for folders of any size."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from ..data.classes import ClassTable, DataError
from ..data.datasets import images_in, open_image
from ..data.transforms import EvalTransform
from ..files import write_atomic
from ..progress import progress_bar
from ..training.evaluate import most_likely
from ..training.loading import ahead

Labels = npt.NDArray[np.uint8]


class Job(NamedTuple):
    """One image and the folder that is written to."""

    image: Path
    out: Path

    @property
    def label(self) -> Path:
        """Class indices."""
        return self.out / f"{self.image.stem}.png"

    @property
    def picture(self) -> Path:
        """The same in the classes' colours."""
        return self.out / f"{self.image.stem}_colour.png"

    def done(self) -> bool:
        """Whether both outputs are there; being written atomically, they are whole then."""
        return self.label.exists() and self.picture.exists()


@dataclass(frozen=True)
class Result:
    """What became of a job: None, or what is wrong with the image."""

    job: Job
    error: str | None = None


def plan(inputs: Sequence[Path], out: Path) -> list[Job]:
    """Decide what is read and written before anything is: NAME.png (class indices) and NAME_colour.png per image.

    ``inputs`` are images or folders of images. Raises DataError where there is nothing to read, two images would get
    one name, or an output would replace an input.
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
    inside = {folder for folder in {image.parent for image in images} if folder.resolve() == out.resolve()}
    inputs_there = {image.name for image in images if image.parent in inside}
    writers: dict[str, Path] = {}
    for job in (jobs := [Job(image, out) for image in images]):
        for path in (job.label, job.picture):
            if path.name in inputs_there:
                raise DataError(f"{path}: this output would replace an input; choose another --out")
            other = writers.setdefault(path.name, job.image)
            if other is not job.image:
                raise DataError(f"{path}: would be written for both {other} and {job.image}")
    return jobs


def pending(jobs: Sequence[Job], existing: Literal["refuse", "overwrite", "skip"]) -> list[Job]:
    """The jobs to do, where outputs are there already. DataError for such an output if ``existing`` is "refuse"."""
    if existing == "refuse":
        for path in (path for job in jobs for path in (job.label, job.picture)):
            if path.exists():
                raise DataError(f"{path}: exists already; choose another --out, or give --resume or --overwrite")
    return [job for job in jobs if existing != "skip" or not job.done()]


@torch.inference_mode()
def predict_image(model: nn.Module, image: Image.Image, prepare: EvalTransform, device: torch.device) -> Labels:
    """Class indices (height, width), uint8, of a Pillow RGB image of any size, at that size."""
    logits = model(prepare.image(image)[None].to(device))
    if logits.shape[2:] != (image.height, image.width):
        logits = interpolate(logits, (image.height, image.width), mode="bilinear", align_corners=False)
    labels: Labels = most_likely(logits)[0].to("cpu", torch.uint8).numpy()
    return labels


def predict(
    model: nn.Module,
    jobs: Sequence[Job],
    classes: ClassTable,
    prepare: EvalTransform,
    *,
    device: torch.device,
    progress: bool = True,
    keep_going: bool = False,
) -> Iterator[Result]:
    """Write the outputs of each job and yield what became of it, in the same order.

    One thread decodes the next images and one writes the last results while the network computes; no more than a
    handful of images is in memory. Raises DataError for an unreadable image, unless ``keep_going``.
    """
    model.eval().to(device)
    with ThreadPoolExecutor(1) as writer:
        waiting: list[tuple[Result, Future[None] | None]] = []
        for job, image in progress_bar(
            ahead(_opened(jobs)), desc="predicting", unit="image", total=len(jobs), shown=progress
        ):
            if isinstance(image, DataError):
                if not keep_going:
                    raise image
                waiting.append((Result(job, str(image)), None))
            else:
                labels = predict_image(model, image, prepare, device)
                waiting.append((Result(job), writer.submit(_write, job, labels, classes)))
            if len(waiting) > 2:
                yield _finished(*waiting.pop(0))
        for result, writing in waiting:
            yield _finished(result, writing)


def _opened(jobs: Iterable[Job]) -> Iterator[tuple[Job, Image.Image | DataError]]:
    for job in jobs:
        try:
            yield job, open_image(job.image)
        except DataError as error:
            yield job, error


def _write(job: Job, labels: Labels, classes: ClassTable) -> None:
    job.out.mkdir(parents=True, exist_ok=True)
    for path, pixels in ((job.label, labels), (job.picture, classes.colourise(labels))):
        image = Image.fromarray(pixels)
        write_atomic(path, lambda file, image=image: image.save(file, "PNG"))  # type: ignore[misc]


def _finished(result: Result, writing: Future[None] | None) -> Result:
    if writing is not None:
        writing.result()
    return result
