"""Segmentation data sets: pairs of an image and a label map from folders."""

import hashlib
import operator
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .bands import Picture
from .class_table import ClassTable, DataError
from .image_cache import ImageCache
from .image_files import check_sizes, cut_border, shown
from .image_reader import RGB, ImageReader
from .label_files import open_label
from .layouts.base import Layout
from .layouts.folder import FOLDER
from .layouts.pairing import describe, find_pairs, where_expected


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Inside the block, the CPU generators of torch, `random` and numpy have a seed that depends only on `numbers`.

    Their earlier states are restored at the end, also after an exception. The generators belong to the process, so two
    threads must not run such blocks at the same time.
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


def evenly_spaced(length: int, most: int) -> list[int]:
    """Up to ``most`` indices of ``length`` items, at equal distances from the first one on; all if there are fewer."""
    count = min(length, most)
    return [i * length // count for i in range(count)]


def name_of(data: Dataset[Any], index: int) -> str:
    """The name of a sample for messages: that of its file, or its index."""
    return str(data.name(index)) if hasattr(data, "name") else str(index)


class SegmentationFolder(Dataset[Any]):
    """The images of a split and their labels, by default ROOT/images/SPLIT/* and ROOT/labels/SPLIT/*.png.

        data = SegmentationFolder("camvid", "train", CAMVID, transform=EvalTransform((176, 240)))
        image, label = data[0]          # epoch 0
        image, label = data[3, 0]       # the same pair, with the random numbers of epoch 3

    `transform(image, label)` gets the image (Pillow, mode RGB, or `Bands`) and the label (Pillow, mode L, classes
    0..K-1, void 255). The numbers that it draws from the generators of torch, `random` or numpy depend only on (seed,
    epoch, index), not on the number of workers or the order of access. Without a transform, items are these pairs.

    layout: where the files are and what their pixels mean. reader: what opens the images. border: pixels to cut off at
    every side of image and label. cache: stores resized pairs; the transform then gets these instead.

    Raises DataError, naming the file, for data that cannot be used: faulty names here, faulty content on access.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        classes: ClassTable,
        *,
        layout: Layout = FOLDER,
        reader: ImageReader = RGB,
        transform: Callable[..., Any] | None = None,
        seed: int = 0,
        border: int = 0,
        cache: ImageCache | None = None,
    ) -> None:
        pairs, faults = find_pairs(root, split, layout)
        if faults:
            described = f"{describe(faults, root)}\n{where_expected(faults, layout)}".rstrip()
            raise DataError(f"{shown(root)}: split {split!r} cannot be used\n{described}")
        if not pairs:
            raise DataError(f"{shown(root)}: split {split!r} has no labels")
        self.root = Path(root)
        self.split = split
        self.classes = classes
        self.reader = reader
        self.transform = transform
        self.seed = seed
        self.pairs = pairs
        self.encoding = layout.encoding(self.root, split, classes)
        self.border = border
        self.cache = cache

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
        if self.cache is None:
            image, label = self.read(index)
        else:
            settings = (self.border, self.encoding.described, self.reader.white)
            image, label = self.cache.get(self.pairs[index], settings, lambda: self.read(index))
        if self.transform is None:
            return image, label
        with seeded(self.seed, epoch, index):
            return self.transform(image, label)

    def read(self, index: int) -> tuple[Picture, Image.Image]:
        """Image and label from their files, with the border cut off. Raises DataError naming the file."""
        pair = self.pairs[index]
        image, label = self.reader(pair.image), open_label(pair.label, self.classes, self.encoding)
        check_sizes(image, label, *pair)
        return cut_border(image, self.border, pair.image), cut_border(label, self.border, pair.label)

    def label(self, index: int) -> Image.Image:
        """The label map alone (mode L, void 255), without opening the image. Raises DataError naming the file."""
        path = self.pairs[index].label
        return cut_border(open_label(path, self.classes, self.encoding), self.border, path)
