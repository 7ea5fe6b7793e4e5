"""SUN RGB-D: its colour images with the labels of 37 classes that most papers use.

Images and labels are those of A. Handa (github.com/ankurhanda/sunrgbd-meta-data), in the order of the official toolbox:
samples 1 to 5050 are the test split, 5051 to 10335 the training split.

    SUNRGBD-train_images/img-000001.jpg ...     numbered from 1, although their labels are numbered from 5051
    SUNRGBD-test_images/img-000001.jpg ...
    sunrgbd_train_test_labels/img-000001.png ... img-010335.png        0 is void, 1 to 37 are the classes

The archives of the official site have their labels in MATLAB files, which `sunrgbd_import` converts. Its output, and
similar folders by others, are read as well: images/SPLIT (or image/SPLIT, or SPLIT) and labels/SPLIT (or label37/SPLIT
or annotations/SPLIT). There the training images may be numbered from 1 or from 5051.
"""

import os
import re
from pathlib import Path
from typing import ClassVar

from ..class_table import VOID, ClassTable
from ..image_files import shown
from ..label_encoding import LabelEncoding, ValueEncoding
from .base import DataIssue, Layout, SplitFiles, by_stem

SUNRGBD = ClassTable(
    names=(
        "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture",
        "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes",
        "ceiling", "books", "fridge", "tv", "paper", "towel", "shower curtain", "box", "whiteboard", "person",
        "night stand", "toilet", "sink", "lamp", "bathtub", "bag",
    ),
    # The data set has no colours of its own; these are spread evenly.
    colours=tuple((37 * k % 211 + 30, 83 * k % 199 + 40, 149 * k % 223 + 20) for k in range(37)),
)  # fmt: skip

TEST_SAMPLES, SAMPLES = 5050, 10335

_ENCODING = ValueEncoding(
    ((0, VOID), *((k + 1, k) for k in range(37))), "labels 1 to 37, or 0 for void (the 37 classes of SUN RGB-D)"
)
_OFFICIAL = ("SUNRGBD", "SUNRGBDtoolbox")


class SunRgbdLayout(Layout):
    """Splits `train` and `test`, as published. The paper states their sizes the other way round."""

    description: ClassVar[str] = (
        "expected ROOT/SUNRGBD-train_images/img-000001.jpg, ROOT/SUNRGBD-test_images/img-000001.jpg and "
        "ROOT/sunrgbd_train_test_labels/img-000001.png (or images/SPLIT/* and labels/SPLIT/*); the labels of 37 "
        "classes and the images come from github.com/ankurhanda/sunrgbd-meta-data"
    )
    published: ClassVar[dict[str, int]] = {"train": SAMPLES - TEST_SAMPLES, "test": TEST_SAMPLES}

    def splits(self, root: Path) -> list[str]:
        return [split for split in self.published if _image_folder(root, split).is_dir()]

    def files(self, root: Path, split: str) -> SplitFiles:
        images, labels = _image_folder(root, split), _label_folder(root, split)
        found = SplitFiles(images, f"{shown(labels)}{os.sep}img-{{}}.png")
        absent = [folder for folder in (images, labels) if not folder.is_dir()]
        if absent or split not in self.published:
            fault = self.missing_folders(root, absent or [images])
            if any((root / name).is_dir() for name in _OFFICIAL):
                hint = "for the archives of the official site, run `boxconv import-sunrgbd` first"
                fault = DataIssue(fault.file, fault.kind, f"{fault.message}; {hint}")
            found.faults.append(fault)
            return found
        shared = labels.parent == root  # one folder for both splits
        found.images = _numbered(images, split, found)
        found.labels = _numbered(labels, "both" if shared else split, found)
        if shared:
            found.labels = [item for item in found.labels if (int(item[0]) <= TEST_SAMPLES) == (split == "test")]
        return found

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        return _ENCODING


def _image_folder(root: Path, split: str) -> Path:
    choices = [root / f"SUNRGBD-{split}_images", root / "images" / split, root / "image" / split, root / split]
    return next((folder for folder in choices if folder.is_dir()), choices[0])


def _label_folder(root: Path, split: str) -> Path:
    by_split = [root / name / split for name in ("labels", "label37", "annotations")]
    shared = ("sunrgbd_train_test_labels", "sunrgbd_test_train_labels", "train_test_labels")
    choices = [*(root / name for name in shared), *by_split]
    return next((folder for folder in choices if folder.is_dir()), choices[0])


def _numbered(folder: Path, split: str, found: SplitFiles) -> list[tuple[str, Path]]:
    """The images of a folder. Keys are the numbers of their samples, with six digits: 000001 to 010335."""
    images, others = by_stem(folder)
    found.others += others
    matches = {path: re.fullmatch(r".*?(\d{1,6})", stem) for stem, path in images}
    numbers = {path: int(match[1]) for path, match in matches.items() if match}
    # A training split with numbers up to 5050 is numbered from 1, because those samples are the test split's.
    shift = TEST_SAMPLES if split == "train" and any(number <= TEST_SAMPLES for number in numbers.values()) else 0
    last = (TEST_SAMPLES if split == "test" else SAMPLES) - shift
    samples = []
    for _, path in images:
        number = numbers.get(path, 0)
        if 1 <= number <= last:
            samples.append((f"{number + shift:06}", path))
        else:
            message = f"{shown(path)}: expected a name like img-000001 with a number from 1 to {last}"
            found.faults.append(DataIssue(path, "odd name", message))
    return samples
