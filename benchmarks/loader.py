"""Time to prepare training samples, stage by stage, and the speed at which a loader delivers them.

    python benchmarks/loader.py --data camvid --root CAMVID --size 360 480 [--workers 2] [--network boxenet]

Stages are timed for one sample after the other in this process, on one thread; the result is the median over samples.
With --network, a training step is timed as well: the slower of loading and stepping limits the speed of training. The
cache is in a temporary folder, which is removed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from box_convolution import networks
from boxconv.data.config import DataConfig
from boxconv.data.datasets import SegmentationFolder
from boxconv.data.image_cache import ImageCache
from boxconv.data.image_reader import open_image
from boxconv.data.registry import classes_of, detect, layout_of
from boxconv.data.transforms import Augment, EvalTransform
from boxconv.training.config import TrainConfig
from boxconv.training.distributed import ALONE
from boxconv.training.step import TrainStep

BATCH_SIZE = 8
SECONDS = 20.0


def milliseconds(stage: Callable[[int], Any], samples: int) -> float:
    """Median processor time of `samples` calls in milliseconds, after one call that is not counted."""
    stage(0)
    times = []
    for index in range(samples):
        started = time.process_time()
        stage(index)
        times.append(time.process_time() - started)
    return 1000 * statistics.median(times)


def measure(data: Subset[Any], *, workers: int) -> float:
    """Samples per second, loaded in batches as in training, until `SECONDS` are over or all samples are loaded.

    If there are several batches, the first one is not counted, because it waits for the workers to start.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    batches = [order[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]
    loader = DataLoader(data, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
    began = started = now = time.perf_counter()
    loaded = 0
    for number, (images, _) in enumerate(loader):
        now = time.perf_counter()
        if number == 0 and len(batches) > 1:
            started = now
            continue
        loaded += len(images)
        if now - began > SECONDS:
            break
    return loaded / max(now - started, 1e-9)


def training_step(network: str, classes: int, size: tuple[int, int]) -> Callable[[int], Any]:
    """A call that runs one training step with `BATCH_SIZE` images of random numbers."""
    config = TrainConfig(network=network, size=size)
    model = networks.create(network, classes, size)
    step = TrainStep(model, config, torch.ones(classes), torch.device("cpu"), ALONE)
    images, labels = torch.randn(BATCH_SIZE, 3, *size), torch.randint(classes, (BATCH_SIZE, *size))
    return lambda _: step.step([(images, labels, True)], config.lr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--data", default=None, help="camvid, cityscapes, sunrgbd or folder; found out if left out")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--network", choices=networks.names(), help="also time its training step, 8 images at a time")
    parser.add_argument("--workers", type=int, nargs="*", default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)

    size = (args.size[0], args.size[1])
    config = DataConfig(data=args.data or detect(args.root), root=args.root, size=size)
    config.check()
    augment = Augment(size, scale=(0.88, 1.12), rotate=7.5, brightness=0.0, contrast=0.0)
    with tempfile.TemporaryDirectory() as folder:
        cache = ImageCache(Path(folder), size)

        def opened(transform: Any, *, cached: bool = False) -> SegmentationFolder:
            return SegmentationFolder(
                args.root, args.split, classes_of(config), layout=layout_of(config), transform=transform,
                cache=cache if cached else None,
            )  # fmt: skip

        plain, kept = opened(None), opened(None, cached=True)
        samples = min(args.samples, len(plain))
        pairs = [plain[index] for index in range(min(samples, 8))]
        small = [kept[index] for index in range(samples)][: len(pairs)]
        stages: dict[str, Callable[[int], Any]] = {
            "decode the image": lambda i: open_image(plain.pairs[i].image),
            "decode the label": plain.label,
            "resize, normalise (EvalTransform)": lambda i: EvalTransform(size)(*pairs[i % len(pairs)]),
            "scale, rotate, normalise (Augment)": lambda i: augment(*pairs[i % len(pairs)]),
            "read both from the cache": kept.__getitem__,
            "Augment what the cache gave": lambda i: augment(*small[i % len(small)]),
        }
        print(
            f"{config.data}, {samples} samples, {pairs[0][0].size[1]} x {pairs[0][0].size[0]} -> {size[0]} x {size[1]}"
        )
        for name, stage in stages.items():
            cost = milliseconds(stage, samples)
            print(f"  {name:36} {cost:8.2f} ms   {1000 / cost:8.1f} /s")
        if args.network is not None:
            cost = milliseconds(training_step(args.network, len(classes_of(config)), size), 5) / BATCH_SIZE
            print(f"  {f'a training step of {args.network}':36} {cost:8.2f} ms   {1000 / cost:8.1f} /s")
        for workers in args.workers:
            for cached in (False, True):
                speed = measure(Subset(opened(augment, cached=cached), range(samples)), workers=workers)
                where = f"{workers} worker(s)" if workers else "the training process"
                print(f"  {'with' if cached else 'without'} cache, from {where}: {speed:.1f} images/s")


if __name__ == "__main__":
    main()
