"""Segmentation data sets: pairs of an image and a label map, read from folders."""

import hashlib
import operator
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .classes import ClassTable, DataError
from .image_files import (
    SUFFIXES,
    check_regular,
    check_sizes,
    entries,
    images_in,
    open_image,
    open_label,
    shown,
)

__all__ = [
    "DataError",
    "Fault",
    "Pair",
    "SegmentationFolder",
    "describe",
    "find_pairs",
    "images_in",
    "open_image",
    "open_label",
    "seeded",
    "splits_of",
]

LAYOUT = "expected ROOT/images/SPLIT/NAME.jpg (or .png, .tif ...) and ROOT/labels/SPLIT/NAME.png, one label per image"

ADVICE = {"label value": "a value that means void needs a row named void in the class file"}


class Pair(NamedTuple):
    image: Path
    label: Path


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one file. `message` is complete: it names the file, what was found and what was expected."""

    file: Path
    kind: str
    message: str


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Inside, the CPU generators of torch, `random` and numpy start from a seed that depends on `numbers` alone.

    Outside nothing changes: their states are restored on exit, also after an exception. The generators belong to the
    process, so two threads must not be inside at once.
    """
    digest = hashlib.blake2b(repr(tuple(int(number) for number in numbers)).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little")
    states = torch.default_generator.get_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what third-party transforms draw from
        yield
    finally:
        torch.default_generator.set_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])  # noqa: NPY002


def splits_of(root: str | Path) -> list[str]:
    """Names of the splits that have images, labels or both, sorted; empty if `root` holds neither folder."""
    folders = [Path(root, kind) for kind in ("images", "labels") if os.path.isdir(Path(root, kind))]
    return sorted({path.name for folder in folders for path in entries(folder) if path.is_dir()})


def find_pairs(root: str | Path, split: str) -> tuple[list[Pair], list[Fault]]:
    """Images and labels of the same stem, sorted by it, and all that keeps files from being part of a pair.

    Only names are looked at, no file is opened. Sub-folders and files of other kinds are no faults.
    """
    if split == ".." or not split or Path(split).name != split:
        raise DataError(f"a split is the name of a folder, found {split!r}")
    folders = {kind: Path(root, kind, split) for kind in ("images", "labels")}
    missing = [folder for folder in folders.values() if not os.path.isdir(folder)]
    if missing:
        return [], [_missing_folders(root, missing)]
    faults: list[Fault] = []
    images = _by_stem(images_in(folders["images"]), faults)
    labels = _by_stem(images_in(folders["labels"]), faults)
    if not images:
        below = [path.name for path in entries(folders["images"]) if path.is_dir()]
        hint = f"; sub-folders ({shown(', '.join(below[:5]))}) are not searched" if below else ""
        message = f"{shown(folders['images'])}: no image ({' '.join(sorted(SUFFIXES))}) in this folder{hint}"
        faults.append(Fault(folders["images"], "no images", message))
    for stem in sorted(images.keys() - labels.keys()):
        label = shown(folders["labels"] / f"{stem}.png")
        faults.append(Fault(images[stem], "image without label", f"{shown(images[stem])}: expected a label {label}"))
    for stem in sorted(labels.keys() - images.keys()):
        message = f"{shown(labels[stem])}: no image of this name in {shown(folders['images'])}"
        faults.append(Fault(labels[stem], "label without image", message))
    for path in labels.values():
        if path.suffix.lower() != ".png":
            message = f"{shown(path)}: labels must be PNG files, because other formats may change the values"
            faults.append(Fault(path, "label is no PNG", message))
    unusable = {fault.file for fault in faults}
    pairs = [Pair(images[stem], labels[stem]) for stem in sorted(images.keys() & labels.keys())]
    return [pair for pair in pairs if not unusable.intersection(pair)], faults


def describe(faults: Sequence[Fault], root: str | Path, limit: int = 5) -> str:
    """The faults grouped by kind: how many there are, and the first `limit`, with paths relative to `root`."""
    groups: dict[str, list[Fault]] = {}
    for fault in faults:
        groups.setdefault(fault.kind, []).append(fault)
    lines = []
    for kind, group in groups.items():
        lines.append(f"{kind}: {len(group)}" + (f" ({ADVICE[kind]})" if kind in ADVICE else ""))
        lines += ["  " + fault.message.replace(shown(root) + os.sep, "") for fault in group[:limit]]
        lines += [f"  ... and {len(group) - limit} more"] if len(group) > limit else []
    return "\n".join(lines)


class SegmentationFolder(Dataset[Any]):
    """The images ROOT/images/SPLIT/* with their labels ROOT/labels/SPLIT/*.png, paired by file name without suffix.

        data = SegmentationFolder("camvid", "train", CAMVID, transform=Prepare((176, 240)))
        image, label = data[0]          # epoch 0
        image, label = data[3, 0]       # the same pair, with the random numbers of epoch 3

    `transform(image, label)` gets Pillow images of modes RGB and L; void is 255 in the label. What it draws from the
    generators of torch, `random` or numpy depends on (seed, epoch, index) alone, not on workers or order. Without a
    transform the two Pillow images are returned. DataError, naming the file, for whatever cannot be used.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        classes: ClassTable,
        *,
        transform: Callable[[Image.Image, Image.Image], Any] | None = None,
        seed: int = 0,
    ) -> None:
        pairs, faults = find_pairs(root, split)
        if faults:
            raise DataError(f"{shown(root)}: split {split!r} cannot be used\n{describe(faults, root)}\n{LAYOUT}")
        self.root = Path(root)
        self.split = split
        self.classes = classes
        self.transform = transform
        self.seed = seed
        self.pairs = pairs

    @property
    def names(self) -> list[str]:
        return [pair.image.stem for pair in self.pairs]

    def name(self, index: int) -> str:
        return self.pairs[index].image.stem

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SupportsIndex | tuple[SupportsIndex, SupportsIndex]) -> Any:
        epoch, index = (operator.index(number) for number in (key if isinstance(key, tuple) else (0, key)))
        index = range(len(self))[index]
        pair = self.pairs[index]
        image, label = open_image(pair.image), self.label(index)
        check_sizes(image, label, *pair)
        if self.transform is None:
            return image, label
        with seeded(self.seed, epoch, index):
            return self.transform(image, label)

    def label(self, index: int) -> Image.Image:
        """The label map alone, mode L, void = 255; the image is not opened."""
        return open_label(self.pairs[index].label, self.classes)


def _missing_folders(root: str | Path, folders: list[Path]) -> Fault:
    if not os.path.lexists(root):
        found = f"{shown(root)} does not exist"
    else:
        splits = splits_of(root)
        found = f"splits there: {', '.join(map(shown, splits))}" if splits else f"{shown(root)} has no splits"
    return Fault(folders[0], "missing folder", f"{' and '.join(map(shown, folders))}: no such folder; {found}")


def _by_stem(paths: list[Path], faults: list[Fault]) -> dict[str, Path]:
    """One path per stem, the first one. Further ones, and whatever is no file, are added to `faults`."""
    found: dict[str, Path] = {}
    for path in paths:
        try:
            check_regular(path)
        except DataError as error:
            faults.append(Fault(path, error.kind, str(error)))
        first = found.setdefault(path.stem, path)
        if first is not path:
            message = f"{shown(path)}: has the same name, but for the suffix, as {shown(first)}"
            faults.append(Fault(path, "duplicate name", message))
    return found
