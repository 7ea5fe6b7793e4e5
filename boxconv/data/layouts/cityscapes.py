"""Cityscapes with fine annotations, as unzipped: its classes, label encodings, files, and names for submissions.

    leftImg8bit/{train,val,test}/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png
    gtFine/{train,val,test}/CITY/CITY_SEQUENCE_FRAME_gtFine_labelIds.png      (or ..._gtFine_labelTrainIds.png)

Names, ids and categories are those of `labels.py` in cityscapesScripts.
"""

import os
import re
from pathlib import Path
from typing import ClassVar

from ..class_table import VOID, ClassTable
from ..image_files import entries, shown
from ..label_encoding import LabelEncoding, ValueEncoding
from .base import DataIssue, Layout, SplitFiles

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The id of each of the 19 classes in labelIds files and in submissions. The other ids up to 33 are void."""

CITYSCAPES = ClassTable(
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    colours=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
    categories=(
        "flat", "flat", "construction", "construction", "construction", "object", "object", "object", "nature",
        "nature", "sky", "human", "human", "vehicle", "vehicle", "vehicle", "vehicle", "vehicle", "vehicle",
    ),
)  # fmt: skip

_NAME = re.compile(r"(?P<city>[A-Za-z-]+)_\d{6}_\d{6}")


def _label_ids_hint(unknown: list[int]) -> str:
    return "labelIds in a file of labelTrainIds?" if max(unknown) <= 33 else ""


def _train_ids_doubt(values: list[int]) -> str:
    # Among labelIds, 255 is a license plate, and every image with one has other ids above 18, such as car (26).
    if VOID in values and not any(18 < value < VOID for value in values):
        return "expected labelIds 0 to 33, found 255 but nothing from 19 to 33: labelTrainIds in a file of labelIds?"
    return ""


# The id of a license plate is -1, which is 255 in a byte.
_IDS = ValueEncoding(
    ((VOID, VOID), *((value, LABEL_IDS.index(value) if value in LABEL_IDS else VOID) for value in range(34))),
    "labelIds 0 to 33, or 255 for a license plate",
    doubt=_train_ids_doubt,
)
_TRAIN_IDS = ValueEncoding(
    (*((k, k) for k in range(19)), (VOID, VOID)), "labelTrainIds 0 to 18, or 255 for void", _label_ids_hint
)


class CityscapesLayout(Layout):
    """The two archives, unzipped into one folder or each into a folder of its own name.

    If a split has labelIds files, they are read, else its labelTrainIds files. Labels of the test split are not
    published: its label files are entirely void, and may be missing.
    """

    description: ClassVar[str] = (
        "expected ROOT/leftImg8bit/SPLIT/CITY/CITY_000000_000019_leftImg8bit.png and "
        "ROOT/gtFine/SPLIT/CITY/CITY_000000_000019_gtFine_labelIds.png (or labelTrainIds)"
    )
    published: ClassVar[dict[str, int]] = {"train": 2975, "val": 500, "test": 1525}

    def splits(self, root: Path) -> list[str]:
        parts = [part for part in (_part(root, "leftImg8bit"), _part(root, "gtFine")) if part.is_dir()]
        there = {path.name for part in parts for path in entries(part) if path.is_dir()}
        return [name for name in self.published if name in there] + sorted(there - self.published.keys())

    def files(self, root: Path, split: str) -> SplitFiles:
        images, labels = _part(root, "leftImg8bit") / split, _part(root, "gtFine") / split
        kind = _label_kind(labels)
        found = SplitFiles(images, f"{shown(labels)}{os.sep}{{}}_gtFine_{kind}.png", needs_labels=split != "test")
        required = (images, labels) if found.needs_labels else (images,)
        absent = [folder for folder in required if not folder.is_dir()]
        if absent:
            found.faults.append(self.missing_folders(root, absent))
            return found
        for path in _files_of_cities(images, found):
            _sort_in(path, "_leftImg8bit", found.images, found)
        for path in _files_of_cities(labels, found) if labels.is_dir() else ():
            if path.stem.endswith(f"_gtFine_{kind}") or "_gtFine_" not in path.name:
                _sort_in(path, f"_gtFine_{kind}", found.labels, found)
        return found

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        return _IDS if _label_kind(_part(root, "gtFine") / split) == "labelIds" else _TRAIN_IDS


def submission_name(image: Path) -> str:
    """File name of the prediction for an image. The benchmark accepts CITY_SEQUENCE_FRAME*.png in any sub-folder."""
    return image.stem.removesuffix("_leftImg8bit") + "_pred_labelIds.png"


def _part(root: Path, name: str) -> Path:
    archive = root / f"{name}_trainvaltest" / name
    return archive if not (root / name).is_dir() and archive.is_dir() else root / name


def _label_kind(folder: Path) -> str:
    cities = [path for path in entries(folder) if path.is_dir()] if folder.is_dir() else []
    names = [name for city in cities for name in os.listdir(city)]
    plain = any(name.endswith("_gtFine_labelIds.png") for name in names)
    return "labelTrainIds" if not plain and any(name.endswith("_labelTrainIds.png") for name in names) else "labelIds"


def _files_of_cities(folder: Path, found: SplitFiles) -> list[Path]:
    files = []
    for city in entries(folder):
        if city.is_dir():
            files += entries(city)
        else:
            found.others.append(city)
    return files


def _sort_in(path: Path, ending: str, samples: list[tuple[str, Path]], found: SplitFiles) -> None:
    """Add a file to `samples`; to the faults if its name is wrong; to the other files if it is not a PNG file."""
    if path.suffix.lower() != ".png":
        found.others.append(path)
        return
    city = path.parent.name
    match = _NAME.fullmatch(path.stem.removesuffix(ending)) if path.stem.endswith(ending) else None
    if match is None or match["city"] != city:
        message = f"{shown(path)}: expected a name like {shown(city)}_000000_000019{ending}.png in this folder"
        found.faults.append(DataIssue(path, "odd name", message))
        return
    samples.append((f"{city}/{match[0]}", path))
