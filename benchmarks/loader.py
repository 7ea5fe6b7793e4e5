"""What it costs to make training samples ready, stage by stage, and how fast a loader delivers them.

    python benchmarks/loader.py --data camvid --root CAMVID --size 360 480 [--workers 2] [--network boxenet]

Stages are timed one sample after the other in this process, on one thread; the figure is the median over the samples.
With --network, a step of its training is timed, too: what takes longer, loading or the step, sets the pace. The cache
is made in a temporary folder and removed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from box_convolution import networks
from boxconv.data.config import DataConfig
from boxconv.data.datasets import SegmentationFolder, open_image
from boxconv.data.image_cache import ImageCache
from boxconv.data.registry import classes_of, detect, layout_of
from boxconv.data.transforms import Augment, EvalTransform
from boxconv.training.config import TrainConfig
from boxconv.training.distributed import ALONE
from boxconv.training.step import TrainStep


class First(Dataset[Any]):
    """The first samples of a data set: those that are in the cache."""

    def __init__(self, data: SegmentationFolder, samples: int) -> None:
        self.data = data
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self.data[key]


def milliseconds(stage: Callable[[int], Any], samples: int) -> float:
    """Median processor time of one call over `samples` of them, after one that is not counted."""
    stage(0)
    times = []
    for index in range(samples):
        started = time.process_time()
        stage(index)
        times.append(time.process_time() - started)
    return 1000 * statistics.median(times)


def measure(
    data: Dataset[Any], *, batch_size: int = 8, workers: int = 0, seconds: float = 20.0, epoch: int = 0
) -> float:
    """Samples per second, loaded in batches as training does until `seconds` are over or the data set is through.

    The first batch, which waits for the workers to start and fills their queues, is not counted where there are more.
    """
    length = len(data)  # type: ignore[arg-type]
    order = torch.randperm(length, generator=torch.Generator().manual_seed(epoch)).tolist()
    batches = [[(epoch, index) for index in order[i : i + batch_size]] for i in range(0, length, batch_size)]
    loader = DataLoader(data, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
    began = started = now = time.perf_counter()
    loaded = 0
    for number, (images, _) in enumerate(loader):
        now = time.perf_counter()
        if number == 0 and len(batches) > 1:
            started = now
            continue
        loaded += len(images)
        if now - began > seconds:
            break
    return loaded / max(now - started, 1e-9)


def training_step(network: str, classes: int, size: tuple[int, int], batch_size: int = 8) -> Callable[[int], Any]:
    """One step with `batch_size` images of random numbers."""
    config = TrainConfig(network=network, size=size)
    model = networks.create(network, classes, size)
    step = TrainStep(model, config, torch.ones(classes), torch.device("cpu"), ALONE)
    images, labels = torch.randn(batch_size, 3, *size), torch.randint(classes, (batch_size, *size))
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
            cost = milliseconds(training_step(args.network, len(classes_of(config)), size), 5) / 8
            print(f"  {f'a training step of {args.network}':36} {cost:8.2f} ms   {1000 / cost:8.1f} /s")
        for workers in args.workers:
            for cached in (False, True):
                speed = measure(First(opened(augment, cached=cached), samples), workers=workers)
                where = f"{workers} worker(s)" if workers else "the training process"
                print(f"  {'with' if cached else 'without'} cache, from {where}: {speed:.1f} images/s")


if __name__ == "__main__":
    main()
