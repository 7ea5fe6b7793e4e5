"""Where a data set keeps its files: which image and which label belong together. Only names are looked at."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from ..classes import ClassTable, DataError
from ..image_files import SUFFIXES, check_regular, counted, entries, images_in, kind_of, shown
from ..label_encoding import LabelEncoding, index_encoding, read_palette
from ..label_files import SUFFIXES as LABEL_SUFFIXES

POLYGONS = frozenset({".json"})
ADVICE = {
    "label value": "classes.csv names the value of each class, and those that mean void; boxconv check-data "
    "--write-classes drafts one"
}


class Pair(NamedTuple):
    image: Path
    label: Path


@dataclass(frozen=True)
class DataIssue:
    """One thing wrong with one file. `message` is complete: it names the file, what was found and what was expected."""

    file: Path
    kind: str
    message: str


@dataclass
class SplitFiles:
    """The files of one split, before they are paired by their keys.

    images, labels: (key, path), in the order of the samples. place: folder of the images, for messages.
    expected: the path of the label of a key, with {} for the key. others: entries that belong to no sample.
    needs_labels: whether an image without a label is a fault.
    """

    place: Path
    expected: str
    images: list[tuple[str, Path]] = field(default_factory=list)
    labels: list[tuple[str, Path]] = field(default_factory=list)
    faults: list[DataIssue] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    needs_labels: bool = True


class Layout(ABC):
    """How the files of a data set lie below its root."""

    description: ClassVar[str]
    """What is expected, for messages."""
    published: ClassVar[dict[str, int]] = {}
    """Images per split of the complete data set."""

    @abstractmethod
    def splits(self, root: Path) -> list[str]:
        """Names of the splits that are there, in part at least."""

    @abstractmethod
    def files(self, root: Path, split: str) -> SplitFiles:
        """The files of one split; what is missing is among their faults."""

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        """What the pixels of the split's labels mean."""
        return index_encoding(classes)


@dataclass(frozen=True)
class FolderLayout(Layout):
    """ROOT/images/SPLIT/NAME.* and ROOT/labels/SPLIT/NAME.png (.tif, .bmp, or .json of LabelMe), paired by NAME.

    Without labels/SPLIT, .json files beside the images are their labels.

    palette: CSV file of the labels' colours (`read_palette`); by default ROOT/palette.csv where there is one, else the
    labels hold the values of the class table.
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
        if beside:  # where LabelMe leaves them
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


def splits_of(root: str | Path, layout: Layout = FOLDER) -> list[str]:
    """Names of the splits that have images, labels or both; empty if nothing of the layout is at `root`."""
    return layout.splits(Path(root)) if os.path.isdir(root) else []


def split_files(root: str | Path, split: str, layout: Layout = FOLDER) -> SplitFiles:
    """The layout's `files`, with the same check of the arguments for all. DataError for a name that is no split's."""
    if split == ".." or not split or Path(split).name != split:
        raise DataError(f"a split is the name of a folder, found {split!r}")
    found = layout.files(Path(root), split)
    if not found.images and not found.faults:
        below = [path.name for path in found.others if path.is_dir()]
        hint = f"; sub-folders ({shown(', '.join(below[:5]))}) are not searched" if below else ""
        message = f"{shown(found.place)}: no image ({' '.join(sorted(SUFFIXES))}) in this folder{hint}"
        found.faults.append(DataIssue(found.place, "no images", message))
    return found


def find_pairs(root: str | Path, split: str, layout: Layout = FOLDER) -> tuple[list[Pair], list[DataIssue]]:
    """Images and labels of the same key, sorted by it, and all that keeps files from being part of a pair.

    Only names are looked at, no file is opened. Sub-folders and files of other kinds are no faults.
    """
    return pair_up(split_files(root, split, layout))


def pair_up(found: SplitFiles) -> tuple[list[Pair], list[DataIssue]]:
    faults = list(found.faults)
    images, labels = _one_per_key(found.images, faults), _one_per_key(found.labels, faults)
    if found.needs_labels:
        for key in sorted(images.keys() - labels.keys()):
            message = f"{shown(images[key])}: expected a label {found.expected.replace('{}', shown(key))}"
            faults.append(DataIssue(images[key], "image without label", message))
    for key in sorted(labels.keys() - images.keys()):
        message = f"{shown(labels[key])}: no image of this name in {shown(found.place)}"
        faults.append(DataIssue(labels[key], "label without image", message))
    for path in labels.values():
        if path.suffix.lower() not in LABEL_SUFFIXES:
            message = f"{shown(path)}: labels must be PNG, TIFF or BMP files: other formats may change the values"
            faults.append(DataIssue(path, "label format", message))
    unusable = {fault.file for fault in faults}
    pairs = [Pair(images[key], labels[key]) for key in sorted(images.keys() & labels.keys())]
    return [pair for pair in pairs if not unusable.intersection(pair)], faults


def describe(faults: Sequence[DataIssue], root: str | Path, limit: int = 5) -> str:
    """The faults grouped by kind: how many there are, and the first `limit`, with paths relative to `root`."""
    groups: dict[str, list[DataIssue]] = {}
    for fault in faults:
        groups.setdefault(fault.kind, []).append(fault)
    lines = []
    for kind, group in groups.items():
        remark = counted(kind_of(fault.file) for fault in group) if kind == "ignored" else ADVICE.get(kind)
        lines.append(f"{kind}: {len(group)}" + (f" ({remark})" if remark else ""))
        lines += ["  " + fault.message.replace(shown(root) + os.sep, "") for fault in group[:limit]]
        lines += [f"  ... and {len(group) - limit} more"] if len(group) > limit else []
    return "\n".join(lines)


def missing_folders(root: Path, folders: list[Path], splits: list[str]) -> DataIssue:
    """The fault that says which folders are not there, and what is there instead."""
    if not os.path.lexists(root):
        found = f"{shown(root)} does not exist"
    else:
        found = f"splits there: {', '.join(map(shown, splits))}" if splits else f"{shown(root)} has no splits"
    return DataIssue(folders[0], "missing folder", f"{' and '.join(map(shown, folders))}: no such folder; {found}")


def by_stem(folder: Path, suffixes: frozenset[str] = SUFFIXES) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The images of a folder with their stems as keys, and what else is in it."""
    images = images_in(folder, suffixes)
    return [(path.stem, path) for path in images], sorted(set(entries(folder)) - set(images))


def _one_per_key(files: list[tuple[str, Path]], faults: list[DataIssue]) -> dict[str, Path]:
    """One path per key, the first one. Further ones, and whatever is no file, are added to `faults`."""
    found: dict[str, Path] = {}
    for key, path in files:
        try:
            check_regular(path)
        except DataError as error:
            faults.append(DataIssue(path, error.kind, str(error)))
        first = found.setdefault(key, path)
        if first is not path:
            same = "has the same name, but for the suffix, as" if first.stem == path.stem else "is the same sample as"
            faults.append(DataIssue(path, "duplicate name", f"{shown(path)}: {same} {shown(first)}"))
    return found
