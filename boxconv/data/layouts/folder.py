"""A user's own data set: one folder of images and one of labels for each split."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..classes import ClassTable
from ..image_files import SUFFIXES, entries, images_in, shown
from ..label_encoding import LabelEncoding, index_encoding, read_palette
from ..label_reader import SUFFIXES as LABEL_SUFFIXES
from .base import Layout, SplitFiles, by_stem, missing_folders

POLYGONS = frozenset({".json"})


@dataclass(frozen=True)
class FolderLayout(Layout):
    """ROOT/images/SPLIT/NAME.* and ROOT/labels/SPLIT/NAME.png (.tif, .bmp, or .json of LabelMe), paired by NAME.

    If there is no folder labels/SPLIT, the labels are .json files beside the images.

    palette: CSV file of the labels' colours (`read_palette`); by default ROOT/palette.csv. Without such a file, labels
    have the values of the class table.
    """

    palette: Path | None = None
    description: ClassVar[str] = (
        "expected ROOT/images/SPLIT/NAME.jpg (or .png, .tif ...) and ROOT/labels/SPLIT/NAME.png (or .tif, .bmp, .json "
        "of LabelMe), one label per image"
    )

    def splits(self, root: Path) -> list[str]:
        folders = [root / kind for kind in ("images", "labels") if os.path.isdir(root / kind)]
        return sorted({path.name for folder in folders for path in entries(folder) if path.is_dir()})

    def files(self, root: Path, split: str) -> SplitFiles:
        images, labels = root / "images" / split, root / "labels" / split
        beside = not os.path.isdir(labels) and os.path.isdir(images) and bool(images_in(images, POLYGONS))
        if beside:  # where LabelMe saves labels by default
            labels = images
        found = SplitFiles(images, f"{shown(labels)}{os.sep}{{}}{'.json' if beside else '.png'}")
        absent = [folder for folder in (images, labels) if not os.path.isdir(folder)]
        if absent:
            found.faults.append(missing_folders(root, absent, self.splits(root)))
            return found
        found.images, others = by_stem(images)
        found.labels, more = by_stem(labels, POLYGONS if beside else SUFFIXES | LABEL_SUFFIXES)
        found.others = sorted({*others, *more}.difference(path for _, path in (*found.images, *found.labels)))
        return found

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        palette = self.palette or root / "palette.csv"
        if self.palette is None and not palette.is_file():
            return index_encoding(classes)
        return read_palette(palette, classes)


FOLDER = FolderLayout()
