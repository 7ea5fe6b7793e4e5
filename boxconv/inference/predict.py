"""Label maps for images that have none: files in, files out, for folders of any size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from ..data.classes import DataError
from ..data.datasets import images_in, open_image
from ..data.transforms import EvalTransform
from ..files import Existing, write_png
from ..progress import progress_bar
from ..training.evaluation import most_likely
from ..training.loading import ahead

Labels = npt.NDArray[np.uint8]


class Job(NamedTuple):
    """One image and the files that are written for it: PNG files."""

    image: Path
    outputs: tuple[Path, ...]

    def done(self) -> bool:
        """Whether all outputs are there; being written atomically, they are whole then."""
        return all(path.exists() for path in self.outputs)


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
    require_folder(out)
    inside = {folder for folder in {image.parent for image in images} if folder.resolve() == out.resolve()}
    inputs_there = {image.name for image in images if image.parent in inside}
    writers: dict[str, Path] = {}
    jobs = [Job(image, (out / f"{image.stem}.png", out / f"{image.stem}_colour.png")) for image in images]
    for job in jobs:
        for path in job.outputs:
            if path.name in inputs_there:
                raise DataError(f"{path}: this output would replace an input; choose another --out")
            other = writers.setdefault(path.name, job.image)
            if other is not job.image:
                raise DataError(f"{path}: would be written for both {other} and {job.image}")
    return jobs


def require_folder(out: Path) -> None:
    """DataError where ``out`` cannot be a folder for outputs."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file is in the place of the output folder")


def pending(jobs: Sequence[Job], existing: Existing) -> list[Job]:
    """The jobs to do, where outputs are there already. DataError for such an output if ``existing`` is "refuse"."""
    present = [path for job in jobs for path in job.outputs if path.exists()]
    if present and existing == "refuse":
        raise DataError(
            f"{present[0]}: exists already, as do {len(present)} of {sum(len(job.outputs) for job in jobs)} outputs; "
            "choose another --out, or give --resume to keep them and write the others, or --overwrite"
        )
    return [job for job in jobs if existing != "resume" or not job.done()]


@torch.inference_mode()
def predict_image(model: nn.Module, image: Image.Image, transform: EvalTransform, device: torch.device) -> Labels:
    """Class indices (height, width), uint8, of a Pillow RGB image of any size, at that size."""
    logits = model(transform.image(image)[None].to(device))
    if logits.shape[2:] != (image.height, image.width):
        logits = interpolate(logits, (image.height, image.width), mode="bilinear", align_corners=False)
    labels: Labels = most_likely(logits)[0].to("cpu", torch.uint8).numpy()
    return labels


def predict(
    jobs: Sequence[Job],
    label: Callable[[Image.Image], Labels],
    pictures: Callable[[Labels], Sequence[Labels]],
    *,
    progress: bool = True,
    keep_going: bool = False,
) -> Iterator[Result]:
    """Write the outputs of each job and yield what became of it, in the same order.

    One thread decodes the next images and one writes the last results while the network computes; no more than a
    handful of images is in memory.

    Args:
        label: from an image to its label map.
        pictures: from a label map to the pixels of the outputs.
        keep_going: leave out unreadable images, for which DataError is raised otherwise.
    """
    with ThreadPoolExecutor(1) as writer:
        waiting: list[tuple[Result, Future[None] | None]] = []
        opened = progress_bar(ahead(_opened(jobs)), desc="predicting", unit="image", total=len(jobs), shown=progress)
        for job, image in opened:
            if isinstance(image, DataError):
                if not keep_going:
                    raise image
                waiting.append((Result(job, str(image)), None))
            else:
                labels = label(image)
                waiting.append((Result(job), writer.submit(_write, job, labels, pictures)))
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


def _write(job: Job, labels: Labels, pictures: Callable[[Labels], Sequence[Labels]]) -> None:
    for path, pixels in zip(job.outputs, pictures(labels), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, Image.fromarray(pixels))


def _finished(result: Result, writing: Future[None] | None) -> Result:
    if writing is not None:
        writing.result()
    return result
