"""A user's own data set: one folder of images and one of labels for each split."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..class_table import ClassTable
from ..image_files import SUFFIXES, entries, images_in, shown
from ..label_encoding import LabelEncoding, index_encoding, read_palette
from ..label_files import SUFFIXES as LABEL_SUFFIXES
from .base import DataIssue, Layout, SplitFiles, by_stem

POLYGONS = frozenset({".json"})
DIVIDED = ("train", "val")
"""The splits that `val_share` makes."""


@dataclass(frozen=True)
class FolderLayout(Layout):
    """ROOT/images/SPLIT/NAME.* and ROOT/labels/SPLIT/NAME.png (.tif, .bmp, or .json of LabelMe), paired by NAME.

    If there is no folder labels/SPLIT, the labels are .json files beside the images.

    palette: CSV file of the labels' colours (`read_palette`); by default ROOT/palette.csv. Without such a file, labels
    have the values of the class table.
    val_share: if ROOT/images and ROOT/labels are not sorted into folders of splits, the share of their files that is
    the split val; the others are train. A file's split depends only on its name.
    """

    palette: Path | None = None
    val_share: float | None = None
    description: ClassVar[str] = (
        "expected ROOT/images/SPLIT/NAME.jpg (or .png, .tif ...) and ROOT/labels/SPLIT/NAME.png (or .tif, .bmp, .json "
        "of LabelMe), one label per image; or ROOT/images/NAME.jpg and ROOT/labels/NAME.png with --val-share 0.2, "
        "which keeps a fifth of them for validation"
    )

    def splits(self, root: Path) -> list[str]:
        folders = [root / kind for kind in ("images", "labels") if os.path.isdir(root / kind)]
        found = {path.name for folder in folders for path in entries(folder) if path.is_dir()}
        unsorted = bool(folders) and bool(images_in(folders[0]))
        return sorted(found.union(split for split in DIVIDED if unsorted and self._divides(root, split)))

    def files(self, root: Path, split: str) -> SplitFiles:
        images, labels = root / "images" / split, root / "labels" / split
        divided = self._divides(root, split)
        if divided:
            images, labels = images.parent, labels.parent
        beside = not os.path.isdir(labels) and os.path.isdir(images) and bool(images_in(images, POLYGONS))
        if beside:  # where LabelMe saves labels by default
            labels = images
        found = SplitFiles(images, f"{shown(labels)}{os.sep}{{}}{'.json' if beside else '.png'}")
        absent = [folder for folder in (images, labels) if not os.path.isdir(folder)]
        if absent:
            found.faults.append(self.missing_folders(root, absent))
            return found
        found.images, others = by_stem(images)
        found.labels, more = by_stem(labels, POLYGONS if beside else SUFFIXES | LABEL_SUFFIXES)
        found.others = sorted({*others, *more}.difference(path for _, path in (*found.images, *found.labels)))
        if divided:
            self._divide(found, split)
        return found

    def instead(self, root: Path) -> str:
        images = root / "images"
        loose = len(images_in(images)) if self.val_share is None and images.is_dir() else 0
        if loose == 0:
            return super().instead(root)
        return f"; {loose} {'image is' if loose == 1 else 'images are'} in images/ itself: --val-share 0.2 divides them"

    def _divides(self, root: Path, split: str) -> bool:
        """Whether ``split`` is made by `val_share`. Where there is a folder of images for it, that counts."""
        return self.val_share is not None and split in DIVIDED and not os.path.isdir(root / "images" / split)

    def _divide(self, found: SplitFiles, split: str) -> None:
        """Keep only the files of ``split``. It is a fault if there are images, but none of them is in the split."""
        there = len(found.images)
        found.images = [(key, path) for key, path in found.images if self._split_of(key) == split]
        found.labels = [(key, path) for key, path in found.labels if self._split_of(key) == split]
        if there and not found.images:
            message = f"--val-share {self.val_share}: none of the {there} images in {shown(found.place)} is in {split}"
            found.faults.append(DataIssue(found.place, "no images", message))

    def _split_of(self, key: str) -> str:
        assert self.val_share is not None
        digest = hashlib.blake2b(os.fsencode(key), digest_size=8).digest()
        return "val" if int.from_bytes(digest, "little") < self.val_share * 2**64 else "train"

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        palette = self.palette or root / "palette.csv"
        if self.palette is None and not palette.is_file():
            return index_encoding(classes)
        return read_palette(palette, classes)


FOLDER = FolderLayout()
