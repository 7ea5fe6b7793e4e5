"""Label maps for images that have none: files in, files out, for folders of any size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from ..data.bands import Picture
from ..data.classes import DataError
from ..data.image_files import counted, images_below, left_out, shown
from ..data.image_reader import NOTE, RGB
from ..data.transforms import EvalTransform
from ..files import Existing
from ..progress import progress_bar
from ..training.evaluation import most_likely
from ..training.loading import ahead

Labels = npt.NDArray[np.uint8]
ENDINGS = (".png", "_colour.png")
"""Of the files that are written where nothing else is asked for: label values and colours."""


class Prediction(NamedTuple):
    """What a network says of an image: class indices (h, w), and where asked for the probabilities (K, h, w)."""

    labels: Labels
    probabilities: npt.NDArray[np.float16] | None = None


class Job(NamedTuple):
    """One image and the files that are written for it."""

    image: Path
    outputs: tuple[Path, ...]

    def done(self) -> bool:
        """Whether all outputs are there; being written atomically, they are whole then."""
        return all(path.exists() for path in self.outputs)


@dataclass(frozen=True)
class Result:
    """What became of a job: what is wrong with its image, or what was done to read it, where there is such a thing."""

    job: Job
    error: str | None = None
    note: str | None = None


def plan(inputs: Sequence[Path], out: Path, endings: Sequence[str] = ENDINGS) -> list[Job]:
    """Decide what is read and written before anything is: for each image one file per ending, as NAME_colour.png.

    ``inputs`` are images or folders of images, whose own folders are mirrored below ``out``. Where outputs of two
    images would have one name, the images' suffixes go into it, as in NAME.jpg.png. Raises DataError where there is
    nothing to read, two images get one name all the same, or an output would replace an input.
    """
    jobs: list[Job] = []
    for path in inputs:
        if path.is_dir():
            found = images_below(path, out)
            if not found:
                others = counted(left_out(path, out).elements())
                raise DataError(f"{shown(path)}: no images in this folder" + (f", only {others}" if others else ""))
            jobs += [_job(image, out / image.parent.relative_to(path), image.stem, endings) for image in found]
        elif path.exists():
            jobs.append(_job(path, out, path.stem, endings))
        else:
            raise DataError(f"{shown(path)}: no such file or folder")
    require_folder(out)
    alike = _written_twice(jobs)
    jobs = [_job(job.image, job.outputs[0].parent, job.image.name, endings) if job in alike else job for job in jobs]
    for job, other in _written_twice(jobs).items():
        raise DataError(
            f"{shown(job.outputs[0])}: would be written for both {shown(other.image)} and {shown(job.image)}; give the "
            "folder that both are in, whose own folders are mirrored"
        )
    folders = {path.parent: path.parent.resolve() for job in jobs for path in (job.image, *job.outputs)}
    read = {folders[job.image.parent] / job.image.name for job in jobs}
    for path in (path for job in jobs for path in job.outputs):
        if folders[path.parent] / path.name in read:
            raise DataError(f"{shown(path)}: this output would replace an input; choose another --out")
    return jobs


def _job(image: Path, folder: Path, name: str, endings: Sequence[str]) -> Job:
    return Job(image, tuple(folder / f"{name}{ending}" for ending in endings))


def _written_twice(jobs: Sequence[Job]) -> dict[Job, Job]:
    """The jobs that write a file that another one writes as well, with that one."""
    writers: dict[Path, Job] = {}
    found: dict[Job, Job] = {}
    for job in jobs:
        for path in job.outputs:
            other = writers.setdefault(path, job)
            if other is not job:
                found[job] = other
                found.setdefault(other, job)
    return found


def require_folder(out: Path) -> None:
    """DataError where ``out`` cannot be a folder for outputs."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file is in the place of the output folder")


def pending(jobs: Sequence[Job], existing: Existing) -> list[Job]:
    """The jobs to do, where outputs are there already. DataError for such an output if ``existing`` is "refuse"."""
    present = [path for job in jobs for path in job.outputs if path.exists()]
    if present and existing == "refuse":
        raise DataError(
            f"{shown(present[0])}: exists already, as do {len(present)} of {sum(len(job.outputs) for job in jobs)} "
            "outputs; choose another --out, or give --resume to keep them and write the others, or --overwrite"
        )
    return [job for job in jobs if existing != "resume" or not job.done()]


def predict_image(model: nn.Module, image: Picture, transform: EvalTransform, device: torch.device) -> Labels:
    """Class indices (height, width), uint8, of an image of any size, at that size."""
    return label_map(model, transform.image(image).to(device), (image.height, image.width))


@torch.inference_mode()
def predict_probabilities(
    model: nn.Module, image: Picture, transform: EvalTransform, device: torch.device
) -> Prediction:
    """The same, with the probability of every class."""
    logits = _logits(model, transform.image(image).to(device), (image.height, image.width))
    return Prediction(_labels(logits), logits.float().softmax(1)[0].to("cpu", torch.float16).numpy())


@torch.inference_mode()
def label_map(model: nn.Module, image: torch.Tensor, size: tuple[int, int]) -> Labels:
    """Class indices, uint8, of what a transform made of an image, (channels, h, w), at ``size`` (height, width)."""
    return _labels(_logits(model, image, size))


def _logits(model: nn.Module, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(1, K, height, width)."""
    logits: torch.Tensor = model(image[None])
    if logits.shape[2:] != size:
        logits = interpolate(logits, size, mode="bilinear", align_corners=False)
    return logits


def _labels(logits: torch.Tensor) -> Labels:
    labels: Labels = most_likely(logits)[0].to("cpu", torch.uint8).numpy()
    return labels


def predict(
    jobs: Sequence[Job],
    label: Callable[[Any], Prediction],
    write: Callable[[Job, Any, Prediction], None],
    *,
    reader: Callable[[Path], Picture] = RGB,
    progress: bool = True,
    keep_going: bool = False,
) -> Iterator[Result]:
    """Write the outputs of each job and yield what became of it, in the same order.

    One thread decodes the next images and one writes the last results while the network computes; no more than a
    handful of images is in memory.

    Args:
        label: from an image to what the network says of it.
        write: writes the outputs of a job, given its image and what the network says.
        reader: opens an image; DataError for one that is unreadable.
        keep_going: leave out unreadable images, for which DataError is raised otherwise.
    """
    with ThreadPoolExecutor(1) as writer:
        waiting: list[tuple[Result, Future[None] | None]] = []
        opened = progress_bar(
            ahead(_opened(jobs, reader)), desc="predicting", unit="image", total=len(jobs), shown=progress
        )
        for job, image in opened:
            if isinstance(image, DataError):
                if not keep_going:
                    raise image
                waiting.append((Result(job, str(image)), None))
            else:
                prediction = label(image)
                note = image.info.get(NOTE) if isinstance(image, Image.Image) else None
                waiting.append((Result(job, note=note), writer.submit(write, job, image, prediction)))
            if len(waiting) > 2:
                yield _finished(*waiting.pop(0))
        for result, writing in waiting:
            yield _finished(result, writing)


def _opened(jobs: Iterable[Job], reader: Callable[[Path], Picture]) -> Iterator[tuple[Job, Picture | DataError]]:
    for job in jobs:
        try:
            yield job, reader(job.image)
        except DataError as error:
            yield job, error


def _finished(result: Result, writing: Future[None] | None) -> Result:
    if writing is not None:
        writing.result()
    return result
