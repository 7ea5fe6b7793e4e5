"""`boxconv predict`."""

import dataclasses
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UsageError
from ..files import existing
from ..inference.open import DEFAULT, is_network, open_network, packaged
from ..inference.options import InferenceOptions


@dataclass(frozen=True)
class Predict(InferenceOptions):
    """Write label maps (NAME.png, values as in label files) and colour pictures (NAME_colour.png) for images."""

    inputs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[NETWORK] IMAGE [IMAGE ...]")]
    """Images, or folders of images, whose own folders are mirrored below --out. A network may come first: a run's
    folder or checkpoint, an exported file (.onnx, .pt2, .safetensors), or a packaged network for street scenes,
    boxenet-camvid (the default) or boxonlyenet-camvid."""
    out: Path = Path("predictions")
    """Folder for the results."""
    resume: bool = False
    """Skip images whose outputs are there already."""
    overwrite: bool = False
    """Replace outputs that are there already."""
    white: float | None = None
    """The value that is white in files of more than 8 bits; by default as in the network's training."""
    keep_going: bool = False
    """Skip images that cannot be read. They are listed at the end, and the exit status is 1 (0 under torchrun, which
    would stop the other processes)."""
    device: str = "auto"
    quiet: bool = False


def run(args: Predict) -> int:
    from ..data.image_files import counted, left_out, shown
    from ..data.large_images import open_any_size
    from ..files import sweep
    from ..inference.predict import pending, plan
    from ..inference.predict import predict as label
    from ..training.device import choose_device
    from ..training.distributed import shard

    if args.white is not None and not 0 < args.white < math.inf:
        raise UsageError(f"--white: expected a positive number, got {args.white}")
    mode = existing(resume=args.resume, overwrite=args.overwrite)
    network, file, inputs = _split(args.inputs)
    device = choose_device(args.device, int(os.environ.get("LOCAL_RANK", "0")))
    opened = open_network(file)
    opened.check(args)
    opened.model.to(device)
    # After a restart by torchrun the outputs of the first attempt are there.
    if mode == "refuse" and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        mode = "resume"
    mine = shard(plan(inputs, args.out))
    jobs = pending(mine, mode)
    if mode == "resume":
        sweep(args.out, older_than=3600)  # younger ones may be another process's
    reader = opened.reader if args.white is None else dataclasses.replace(opened.reader, white=args.white)
    started = time.perf_counter()
    results = list(
        label(
            jobs,
            lambda image: opened.apply(image, args, progress=not args.quiet),
            lambda labels: (opened.classes.in_files(labels), opened.classes.colourise(labels)),
            reader=lambda path: open_any_size(path, reader),
            progress=not args.quiet,
            keep_going=args.keep_going,
        )
    )
    seconds = time.perf_counter() - started
    unreadable = [result.error for result in results if result.error is not None]
    done = len(results) - len(unreadable)
    for folder in filter(Path.is_dir, inputs):
        if others := counted(left_out(folder, args.out).elements()):
            print(f"left out of {shown(folder)}: {others}")
    before = f", {len(mine) - len(jobs)} were there already" if len(mine) > len(jobs) else ""
    print(f"{done} image{'' if done == 1 else 's'} labelled by {network} in {args.out}{before}")
    if done:
        print(f"{done / seconds:.3g} images a second")
    if notes := [f"{shown(result.job.image)}: {result.note}" for result in results if result.note is not None]:
        print(f"note: {notes[0]}" + (f" (and {len(notes) - 1} more like it)" if len(notes) > 1 else ""))
    if unreadable:
        print(f"boxconv: error: {len(unreadable)} left out:", *unreadable, sep="\n  ", file=sys.stderr)
    return 1 if unreadable and int(os.environ.get("WORLD_SIZE", "1")) == 1 else 0


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
