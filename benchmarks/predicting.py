"""Speed of `boxconv predict`, compared with its three parts: reading files, the network, writing results.

    python benchmarks/predicting.py --pixels 512 1024 --images 24

The images are drawn and saved in a temporary folder. `predict` runs the three parts at the same time, in three threads.
It takes turns with each part alone, in one process; PyTorch has one thread. Times are wall time, so other programs on
the machine reduce the gain.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from boxconv import open_network
from boxconv.data.image_reader import open_image
from boxconv.data.scenes.dataset import draw_scene
from boxconv.inference.predict import Job, Prediction, plan, predict
from boxconv.profiling.machine import provenance
from boxconv.reports.results import ResultWriter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs=2, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--network", default="boxenet-camvid")
    parser.add_argument("--suffix", default=".png", help="of the image files, such as .jpg")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = open_network(args.network)

    def label(image: Any) -> Prediction:
        return Prediction(network.predict(image))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for seed in range(args.images):
            Image.fromarray(draw_scene(seed, *args.pixels)[0]).save(folder / "images" / f"{seed}{args.suffix}")
        jobs = plan([folder / "images"], folder / "out")
        images = [open_image(job.image) for job in jobs[:4]]
        found = [label(image) for image in images]

        writer = ResultWriter(("maps", "colours"), network.classes)

        def write(job: Job, image: Any, found: Prediction) -> None:
            writer.write(job.image, job.outputs, image, *found)

        parts: dict[str, Callable[[], object]] = {
            "reading": lambda: [open_image(job.image) for job in jobs],
            "network": lambda: [label(images[i % 4]) for i in range(len(jobs))],
            "writing": lambda: [write(job, images[i % 4], found[i % 4]) for i, job in enumerate(jobs)],
            "all at once": lambda: list(predict(jobs, label, write, progress=False)),
        }
        seconds: dict[str, list[float]] = {part: [] for part in parts}
        for _ in range(args.turns):
            for part, run in parts.items():
                started = time.perf_counter()
                run()
                seconds[part].append(time.perf_counter() - started)
    print(
        f"{args.network}, {args.images} images of {args.pixels[0]} x {args.pixels[1]} ({args.suffix}); {provenance()}"
    )
    rates = {part: args.images / statistics.median(each) for part, each in seconds.items()}
    for part, rate in rates.items():
        print(f"  {part:12} {rate:8.1f} images/s")
    *alone, together = rates.values()
    one_by_one = 1 / sum(1 / rate for rate in alone)
    print(f"  one after the other {one_by_one:.1f}; all at once is {together / one_by_one:.2f} times as fast, and has "
          f"{together / min(alone):.0%} of the rate of the slowest part; load {os.getloadavg()[0]:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
