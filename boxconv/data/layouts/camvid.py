"""CamVid with 11 classes, in the layouts in which it is distributed.

    images/SPLIT/NAME.*, labels/SPLIT/NAME.png              class indices, 11 = void
    SPLIT/NAME.png, SPLITannot/NAME.png                     the same, as SegNet's authors published it
    SPLIT/NAME.png, SPLIT_labels/NAME_L.png                 colours of the original's 32 classes
    701_StillsRaw_full/NAME.png, LabeledApproved_full/NAME_L.png      the original, not split

The original is split as in SegNet, ENet and most later papers: 367 training, 101 validation, 233 test images. Its 32
classes are merged into 11 in the way of SegNet's authors.
"""

import os
import re
from pathlib import Path
from typing import ClassVar

from ..class_table import VOID, ClassTable
from ..image_files import shown
from ..label_encoding import Colour, ColourEncoding, LabelEncoding, index_encoding
from .base import Layout, SplitFiles, by_stem
from .folder import FOLDER

CAMVID = ClassTable(
    names=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
    ),
    colours=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    categories=(
        "sky", "construction", "object", "flat", "flat", "nature",
        "object", "construction", "vehicle", "human", "human",
    ),
    void=frozenset({11}),
)  # fmt: skip
"""CamVid as in SegNet, ENet and most later papers: 11 classes in their usual colours; label 11 is void."""

SPLITS = ("train", "val", "test")
CAMVID_FILMS = ("0001TP_", "0006R0_", "0016E5_", "Seq05VD_")
"""The original names of the images begin with one of these, in whatever folder they are."""

COLOURS: dict[str, dict[str, Colour]] = {
    "sky": {"Sky": (128, 128, 128)},
    "building": {
        "Building": (128, 0, 0), "Bridge": (0, 128, 64), "Wall": (64, 192, 0), "Tunnel": (64, 0, 64),
        "Archway": (192, 0, 128),
    },
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {"Road": (128, 64, 128), "LaneMkgsDriv": (128, 0, 192), "LaneMkgsNonDriv": (192, 0, 64)},
    "pavement": {"Sidewalk": (0, 0, 192), "ParkingBlock": (64, 192, 128), "RoadShoulder": (128, 128, 192)},
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "sign symbol": {"SignSymbol": (192, 128, 128), "Misc_Text": (128, 128, 64), "TrafficLight": (0, 64, 64)},
    "fence": {"Fence": (64, 64, 128)},
    "car": {
        "Car": (64, 0, 128), "SUVPickupTruck": (64, 128, 192), "Truck_Bus": (192, 128, 192), "Train": (192, 64, 128),
        "OtherMoving": (128, 64, 64),
    },
    "pedestrian": {
        "Pedestrian": (64, 64, 0), "Child": (192, 128, 64), "CartLuggagePram": (64, 0, 192), "Animal": (64, 128, 64),
    },
    "bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
    "void": {"Void": (0, 0, 0)},
}  # fmt: skip
"""For each of the 11 classes and void, the original classes that it contains and their colours."""

_ENCODING = ColourEncoding(
    tuple(
        (colour, VOID if name == "void" else CAMVID.names.index(name))
        for name, members in COLOURS.items()
        for colour in members.values()
    ),
    "the 32 colours of CamVid",
)


class CamVidLayout(Layout):
    description: ClassVar[str] = (
        "expected images/SPLIT and labels/SPLIT, SPLIT and SPLITannot, SPLIT and SPLIT_labels (colours), or "
        "701_StillsRaw_full and LabeledApproved_full (the original)"
    )
    published: ClassVar[dict[str, int]] = {"train": 367, "val": 101, "test": 233}

    def splits(self, root: Path) -> list[str]:
        if (root / "images").is_dir():
            return FOLDER.splits(root)
        if (root / "701_StillsRaw_full").is_dir():
            return list(SPLITS)
        return [split for split in SPLITS if (root / split).is_dir()]

    def files(self, root: Path, split: str) -> SplitFiles:
        if (root / "images").is_dir() or not os.path.isdir(root):
            return FOLDER.files(root, split)
        images, labels = _folders(root, split)
        colours = _in_colours(root, split)
        found = SplitFiles(images, f"{shown(labels)}{os.sep}{{}}{'_L' if colours else ''}.png")
        absent = [folder for folder in (images, labels) if not folder.is_dir()]
        if absent or split not in SPLITS:
            found.faults.append(self.missing_folders(root, absent or [images]))
            return found
        found.images, others = by_stem(images)
        label_files, more = by_stem(labels)
        found.labels = [(_image_stem(stem, colours), path) for stem, path in label_files]
        found.others = others + more
        if images.name == "701_StillsRaw_full":
            found.images = [item for item in found.images if _split_of(item[0]) == split]
            found.labels = [item for item in found.labels if _split_of(item[0]) == split]
        return found

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        return _ENCODING if _in_colours(root, split) else index_encoding(classes)


def _folders(root: Path, split: str) -> tuple[Path, Path]:
    if (root / "701_StillsRaw_full").is_dir():
        return root / "701_StillsRaw_full", root / "LabeledApproved_full"
    labels = root / f"{split}_labels"
    return root / split, labels if labels.is_dir() else root / f"{split}annot"


def _in_colours(root: Path, split: str) -> bool:
    return not (root / "images").is_dir() and not _folders(root, split)[1].name.endswith("annot")


def _image_stem(label: str, colours: bool) -> str:
    # SegNet's authors renamed some images: test_00001 has the label testannot_00001.
    return label.removesuffix("_L") if colours else re.sub(r"^(train|val|test)annot_", r"\1_", label)


def _split_of(name: str) -> str:
    """The split of an image of the original: it depends on the film and the frame number."""
    sequence, _, frame = name.partition("_")
    number = int("".join(filter(str.isdecimal, frame)) or 0)
    if sequence == "0016E5":
        return "val" if 7959 <= number <= 8159 else "train"
    if sequence == "0001TP":
        return "train" if number <= 8520 else "test"
    return "test" if sequence == "Seq05VD" else "train"
