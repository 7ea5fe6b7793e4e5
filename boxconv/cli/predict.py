"""`boxconv predict`."""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..data.config import check_white, expect
from ..errors import UsageError, plural
from ..files import existing
from ..inference.open import DEFAULT, is_network, open_network, packaged
from ..inference.options import InferenceOptions
from ..reports.kinds import OF_VIDEOS, Kind
from .outputs import check_outputs

if TYPE_CHECKING:
    from ..data.class_table import DataError
    from ..inference.open import TrainedNetwork
    from ..inference.predict import Job, Result
    from ..reports.results import ResultWriter


@dataclass(frozen=True)
class Predict(InferenceOptions):
    """Label images and videos: class maps, pictures, probabilities, polygons and areas."""

    inputs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[NETWORK] IMAGE [IMAGE ...]")]
    """Images, or folders of images, whose own folders are mirrored below --out; or videos. A network may come first: a
    run's folder or checkpoint, an exported file (.onnx, .pt2, .safetensors), or a packaged network for street scenes,
    boxenet-camvid (the default) or boxonlyenet-camvid."""
    out: Path = Path("predictions")
    """Folder for the results."""
    save: Annotated[tuple[Kind, ...], tyro.conf.arg(metavar="KIND ...")] = ()
    """What is written for an image: maps (NAME.png, values as in label files), colours (NAME_colour.png), overlay (the
    colours on the image, NAME_overlay.png), probabilities (NAME_probabilities.npy), polygons (NAME.geojson); by default
    maps and colours. For a video: overlay (NAME_overlay.mp4, the default), colours. Several may be named."""
    min_area: int = 1
    """Leave regions of fewer pixels out of the polygons."""
    areas: Path | None = None
    """Also write how many pixels of each image are of each class, to this file.csv."""
    contact_sheet: Path | None = None
    """Also write a page with a small picture of each image and its classes to this file.html."""
    resume: bool = False
    """Skip images whose outputs are there already."""
    overwrite: bool = False
    """Replace outputs that are there already."""
    white: float | None = None
    """The value that is white in files of more than 8 bits; by default as in the network's training."""
    keep_going: bool = False
    """Skip images and videos that cannot be read. They are listed at the end, and the exit status is 1 (0 under
    torchrun, which would stop the other processes)."""
    device: str = "auto"
    quiet: bool = False


def run(args: Predict) -> int:
    from box_convolution.deploy import keep_freed_memory

    from ..data.video import SUFFIXES
    from ..files import sweep
    from ..inference.predict import pending, plan
    from ..reports.results import ResultWriter
    from ..training.device import choose_device
    from ..training.distributed import shard

    mode = existing(resume=args.resume, overwrite=args.overwrite)
    _, file, inputs = _split(args.inputs)
    videos = [path for path in inputs if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    _check(args, videos, file)
    device = choose_device(args.device, int(os.environ.get("LOCAL_RANK", "0")))
    opened = open_network(file)
    opened.check(args)
    opened.model.to(device)
    keep_freed_memory()
    # After a restart by torchrun the outputs of the first attempt are there.
    if mode == "refuse" and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        mode = "resume"
    channels = len(opened.transform.mean)
    if videos and channels not in (1, 3):
        raise UsageError(f"{videos[0]}: a video, which has colours; this network takes images of {channels} channels")
    images = [path for path in inputs if path not in videos]
    writer = ResultWriter(
        _kinds(args), opened.classes, min_area=args.min_area, areas=args.areas, contact_sheet=args.contact_sheet
    )
    planned = shard(plan(images, args.out, writer.endings))
    of_videos = shard(plan(videos, args.out, [OF_VIDEOS[kind] for kind in _video_kinds(args)]))
    jobs, video_jobs = pending(planned, mode), pending(of_videos, mode)
    if mode == "resume":
        sweep(args.out, older_than=3600)  # younger ones may be another process's
    failed = _label_images(args, opened, writer, planned, jobs) if images else []
    return _status([*failed, *_label_videos(args, opened, video_jobs)])


def _check(args: Predict, videos: Sequence[Path], network: Path) -> None:
    """UsageError for options that are impossible."""
    check_white(args.white)
    expect("min_area", args.min_area >= 1, "at least 1 pixel", args.min_area)
    tables = {"--areas": (args.areas, ".csv"), "--contact-sheet": (args.contact_sheet, ".html")}
    check_outputs({name: path for name, (path, _) in tables.items()}, overwrite=args.overwrite, inputs=(network,))
    for name, (path, suffix) in tables.items():
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise UsageError(f"{name}: expected a file{suffix}, got {path}")
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError(f"{name}: is written by a single process: give it with --resume in a run of its own")
        if videos:
            raise UsageError(f"{name}: is for images, got the video {videos[0]}: label it in a run of its own")
        if args.resume and "maps" not in _kinds(args):
            raise UsageError(f"{name}: with --resume it reads the maps of earlier images: add maps to --save")
    if videos:
        from box_convolution.extras import require

        require("reading and writing videos", "imageio_ffmpeg")
    if videos and (others := [kind for kind in args.save if kind not in OF_VIDEOS]):
        raise UsageError(
            f"--save: for videos expected {' and '.join(OF_VIDEOS)}, got {', '.join(others)}; {videos[0]} can be taken "
            "apart into images by ffmpeg -i VIDEO %06d.png"
        )


def _kinds(args: Predict) -> tuple[Kind, ...]:
    return tuple(dict.fromkeys(args.save)) or ("maps", "colours")


def _video_kinds(args: Predict) -> tuple[Kind, ...]:
    return tuple(kind for kind in dict.fromkeys(args.save) if kind in OF_VIDEOS) or ("overlay",)


def _label_images(
    args: Predict, opened: "TrainedNetwork", writer: "ResultWriter", planned: Sequence["Job"], jobs: Sequence["Job"]
) -> list[str]:
    """Label the images of ``jobs`` and say what came of it; returns why some were left out."""
    from ..data.class_table import DataError
    from ..data.large_images import open_any_size
    from ..inference.predict import Prediction, predict

    reader = opened.reader if args.white is None else dataclasses.replace(opened.reader, white=args.white)

    def read(path: Path) -> Any:
        image = open_any_size(path, reader)
        writer.check_size(path, image.height, image.width)
        return image

    def label(image: Any) -> Prediction:
        wanted = "probabilities" in writer.kinds
        return opened.apply(image, args, probabilities=wanted, progress=not args.quiet)

    started = time.perf_counter()
    found = predict(
        jobs,
        label,
        lambda job, image, found: writer.write(job.image, job.outputs, image, *found),
        reader=read,
        progress=not args.quiet,
        keep_going=args.keep_going,
    )
    try:
        results = list(found)
    except DataError as error:
        raise _advised(args, error, len(jobs)) from error
    seconds = time.perf_counter() - started
    for job in set(planned).difference(jobs):
        writer.add_earlier(job.image, job.outputs, lambda path: open_any_size(path, reader))
    writer.write_tables()
    return _report(args, results, len(planned) - len(jobs), seconds)


def _advised(args: Predict, error: "DataError", files: int) -> "DataError":
    """The error with the options that help, if there are other files to label."""
    keep = "" if args.resume or args.overwrite else ", --resume keeps what is written already"
    return type(error)(f"{error}; --keep-going skips such files{keep}", error.kind) if files > 1 else error


def _report(args: Predict, results: Sequence["Result"], before: int, seconds: float) -> list[str]:
    """Say what came of the images; returns why some were left out."""
    from ..data.image_files import counted, left_out, shown

    network, _, inputs = _split(args.inputs)
    unreadable = [result.error for result in results if result.error is not None]
    done = len(results) - len(unreadable)
    for folder in filter(Path.is_dir, inputs):
        if others := counted(left_out(folder, args.out).elements()):
            print(f"left out of {shown(folder)}: {others}")
    earlier = f", {before} {'was' if before == 1 else 'were'} there already" if before else ""
    print(f"{plural(done, 'image')} labelled by {network} in {args.out}{earlier}")
    if done:
        print(f"{done / seconds:.3g} images a second")
    if notes := [f"{shown(result.job.image)}: {result.note}" for result in results if result.note is not None]:
        print(f"note: {notes[0]}" + (f" (and {len(notes) - 1} more like it)" if len(notes) > 1 else ""))
    return unreadable


def _status(unreadable: Sequence[str]) -> int:
    """List what was left out; returns the exit status."""
    if unreadable:
        print(f"boxconv: error: {len(unreadable)} left out:", *unreadable, sep="\n  ", file=sys.stderr)
    return 1 if unreadable and int(os.environ.get("WORLD_SIZE", "1")) == 1 else 0


def _label_videos(args: Predict, opened: "TrainedNetwork", jobs: Sequence["Job"]) -> list[str]:
    """Label the videos of ``jobs`` and say what came of it; returns why some were left out."""
    from ..data.class_table import DataError
    from ..inference.video import label_video
    from ..reports.results import frame_pictures

    unreadable = []
    for job in jobs:
        try:
            labelled = label_video(
                job,
                lambda frame: opened.apply(frame, args).labels,
                lambda frame, labels: frame_pictures(_video_kinds(args), frame, labels, opened.classes),
                progress=not args.quiet,
            )
        except DataError as error:
            if not args.keep_going:
                raise _advised(args, error, len(jobs)) from error
            unreadable.append(str(error))
            continue
        print(labelled.summary())
        print(*(f"  {path}" for path in job.outputs), sep="\n")
    return unreadable


def _split(inputs: tuple[Path, ...]) -> tuple[Path, Path, tuple[Path, ...]]:
    """The network's name, its file, and the images."""
    given = bool(inputs) and is_network(inputs[0])
    images = inputs[1:] if given else inputs
    if not images:
        got = " ".join(map(str, inputs)) or "nothing"
        raise UsageError(f"no image to label: expected boxconv predict [NETWORK] IMAGE [IMAGE ...], got {got}")
    if misplaced := [word for word in images if is_network(word)]:
        raise UsageError(f"{misplaced[0]}: is a network, and only one may be given, before the images")
    if given:
        return inputs[0], inputs[0], images
    return Path(DEFAULT), packaged()[DEFAULT], images  # whatever else has this name in the folder
