"""Predict label maps for image files, and write result files, for any number of images."""

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

from ..data.bands import Picture
from ..data.class_table import DataError
from ..data.data_folder import check_outside_data
from ..data.image_files import counted, images_below, left_out, shown
from ..data.image_reader import NOTE, RGB
from ..data.large_images import LargeImage
from ..data.transforms import EvalTransform
from ..files import Existing
from ..progress_bar import progress_bar
from ..training.loading import ahead
from .open import packaged
from .options import InferenceOptions
from .score_patches import Labels, label_map, labels_and_probabilities, scores_of_image

ENDINGS = (".png", "_colour.png")
"""Endings of the files that are written by default: label values and colours."""


class Prediction(NamedTuple):
    """The prediction for an image: class indices (h, w), and if requested the probabilities (K, h, w)."""

    labels: Labels
    probabilities: npt.NDArray[np.float16] | None = None


class Job(NamedTuple):
    """An image file, and the files to write for it."""

    image: Path
    outputs: tuple[Path, ...]

    def done(self) -> bool:
        """Whether all outputs exist. They are complete then, because files are written atomically."""
        return all(path.exists() for path in self.outputs)


@dataclass(frozen=True)
class Result:
    """The outcome of a job. ``error``: why its image cannot be used. ``note``: how its values had to be converted."""

    job: Job
    error: str | None = None
    note: str | None = None


def plan(inputs: Sequence[Path], out: Path, endings: Sequence[str] = ENDINGS) -> list[Job]:
    """Decide which files to read and write, before any is written: for each image one file per ending.

    ``inputs`` are images, or folders of images whose sub-folders are reproduced below ``out``. If outputs of two images
    would have the same name, they keep the suffixes of their images, as in NAME.jpg.png. Raises DataError if there is
    nothing to read, if ``out`` is one of the folders, if two images still have the same output, or if an output would
    replace an input; UsageError if an output would be in a data folder.
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
            known = "" if path.suffix else f", nor one of the package's networks, {', '.join(packaged())}"
            raise DataError(f"{shown(path)}: no such file or folder{known}")
    require_folder(out)
    alike = _written_twice(jobs)
    jobs = [_job(job.image, job.outputs[0].parent, job.image.name, endings) if job in alike else job for job in jobs]
    for job, other in _written_twice(jobs).items():
        if job.image == other.image:
            raise DataError(f"{shown(job.image)}: given twice")
        raise DataError(
            f"{shown(job.outputs[0])}: would be written for both {shown(other.image)} and {shown(job.image)}; give the "
            "folder that both are in, whose own folders are mirrored"
        )
    for folder in {path.parent for job in jobs for path in job.outputs}:
        check_outside_data({"--out": folder})
    if any(path.is_dir() and path.resolve() == out.resolve() for path in inputs):
        raise DataError(f"{shown(out)}: results would mix with the images in this folder; choose another --out")
    folders = {path.parent: path.parent.resolve() for job in jobs for path in (job.image, *job.outputs)}
    read = {folders[job.image.parent] / job.image.name for job in jobs}
    for path in (path for job in jobs for path in job.outputs):
        if folders[path.parent] / path.name in read:
            raise DataError(f"{shown(path)}: this output would replace an input; choose another --out")
    return jobs


def _job(image: Path, folder: Path, name: str, endings: Sequence[str]) -> Job:
    return Job(image, tuple(folder / f"{name}{ending}" for ending in endings))


def _written_twice(jobs: Sequence[Job]) -> dict[Job, Job]:
    """The jobs that write the same file as another job, with that other job."""
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
    """Raise DataError if ``out`` is a file, and so cannot be the folder for outputs."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file is in the place of the output folder")


def pending(jobs: Sequence[Job], existing: Existing) -> list[Job]:
    """The jobs that are still to be done. Raises DataError if ``existing`` is "refuse" and an output exists already."""
    present = [path for job in jobs for path in job.outputs if path.exists()]
    if present and existing == "refuse":
        total, verb = sum(len(job.outputs) for job in jobs), "exists" if len(present) == 1 else "exist"
        raise DataError(
            f"{len(present)} of {total} outputs {verb} already, the first is {shown(present[0])}; choose another "
            "--out, or give --resume to keep them and write the others, or --overwrite"
        )
    return [job for job in jobs if existing != "resume" or not job.done()]


@torch.inference_mode()
def predict_image(
    model: nn.Module,
    image: Picture | LargeImage,
    transform: EvalTransform,
    options: InferenceOptions = InferenceOptions(),  # noqa: B008 - frozen
    *,
    probabilities: bool = False,
    progress: bool = False,
) -> Prediction:
    """Class indices of an image at its own size, which may be any, and if requested the probability of every class."""
    patches = scores_of_image(model, image, transform, options, progress=progress)
    size = (image.height, image.width)
    if probabilities:
        return Prediction(*labels_and_probabilities(patches, size, averaged=options.averages))
    return Prediction(label_map(patches, size))


def predict(
    jobs: Sequence[Job],
    label: Callable[[Any], Prediction],
    write: Callable[[Job, Any, Prediction], None],
    *,
    reader: Callable[[Path], Picture | LargeImage] = RGB,
    progress: bool = True,
    keep_going: bool = False,
) -> Iterator[Result]:
    """Write the outputs of each job, and yield their results in the same order.

    While the network computes, one thread decodes the next images and one writes the last results. Only a few images
    are in memory at a time.

    Args:
        label: from an image to its prediction.
        write: writes the outputs of a job, given its image and prediction.
        reader: opens an image; raises DataError if it is unreadable.
        keep_going: report unreadable images in the results, instead of raising DataError.
    """
    with ThreadPoolExecutor(1) as writer:
        waiting: list[tuple[Result, Future[None] | None]] = []
        opened = progress_bar(
            ahead(_opened(jobs, reader)), desc="predicting", unit="image", total=len(jobs), shown=progress
        )
        for job, image in opened:
            try:
                if isinstance(image, DataError):
                    raise image
                prediction = label(image)  # DataError: a large image is read only now, and may be damaged
                note = image.info.get(NOTE) if isinstance(image, Image.Image) else None
                waiting.append((Result(job, note=note), writer.submit(write, job, image, prediction)))
            except DataError as error:
                if not keep_going:
                    raise
                waiting.append((Result(job, str(error)), None))
            if len(waiting) > 2:
                yield _finished(*waiting.pop(0), keep_going)
        for result, writing in waiting:
            yield _finished(result, writing, keep_going)


def _opened(
    jobs: Iterable[Job], reader: Callable[[Path], Picture | LargeImage]
) -> Iterator[tuple[Job, Picture | LargeImage | DataError]]:
    for job in jobs:
        try:
            yield job, reader(job.image)
        except DataError as error:
            yield job, error


def _finished(result: Result, writing: Future[None] | None, keep_going: bool) -> Result:
    try:
        if writing is not None:
            writing.result()
        return result
    except DataError as error:  # a writer reads rows of a large image again, for an overlay
        if not keep_going:
            raise
        return Result(result.job, str(error))
