"""Pairing the images and labels of a split, and the faults of files that cannot be paired."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..class_table import DataError
from ..image_files import SUFFIXES, check_regular, counted, kind_of, shown
from ..label_files import SUFFIXES as LABEL_SUFFIXES
from ..label_files import other_format
from .base import DataIssue, Layout, Pair, SplitFiles
from .folder import FOLDER

ADVICE = {
    "label value": "classes.csv names the value of each class, and those that mean void; boxconv check-data "
    "--write-classes drafts one"
}


ABSENT = frozenset({"missing folder", "no images", "image without label", "label without image", "odd name"})
"""Kinds of faults for which it helps to know where files are expected."""


def splits_of(root: str | Path, layout: Layout = FOLDER) -> list[str]:
    """Names of the splits that have images, labels or both; empty if `root` has none of the layout's folders."""
    return layout.splits(Path(root)) if os.path.isdir(root) else []


def split_files(root: str | Path, split: str, layout: Layout = FOLDER) -> SplitFiles:
    """The layout's `files`, with a fault if there is no image. Raises DataError if `split` is not a folder's name."""
    if split == ".." or not split or Path(split).name != split:
        raise DataError(f"a split is the name of a folder, found {split!r}")
    found = layout.files(Path(root), split)
    if not found.images and not found.faults:
        below = sorted({path.name for path in found.others if path.is_dir()})  # of images and of labels
        hint = f"; sub-folders ({shown(', '.join(below[:5]))}) are not searched: move their files up" if below else ""
        message = f"{shown(found.place)}: no image ({' '.join(sorted(SUFFIXES))}) in this folder{hint}"
        found.faults.append(DataIssue(found.place, "no images", message))
    return found


def find_pairs(root: str | Path, split: str, layout: Layout = FOLDER) -> tuple[list[Pair], list[DataIssue]]:
    """Pairs of image and label, sorted by their key, and the faults of all other files.

    No file is opened. Sub-folders and files of other kinds are not faults. Raises DataError if `split` is not the name
    of a folder.
    """
    return pair_up(split_files(root, split, layout))


def pair_up(found: SplitFiles) -> tuple[list[Pair], list[DataIssue]]:
    """`find_pairs` for the files of a split that have been found already."""
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
            error = other_format(path, Image.registered_extensions().get(path.suffix.lower(), path.suffix))
            faults.append(DataIssue(path, error.kind, str(error)))
    unusable = {fault.file for fault in faults}
    pairs = [Pair(images[key], labels[key]) for key in sorted(images.keys() & labels.keys())]
    return [pair for pair in pairs if not unusable.intersection(pair)], faults


def describe(faults: Sequence[DataIssue], root: str | Path, limit: int = 5) -> str:
    """Text with the faults grouped by kind: their number and the first `limit`, with paths relative to `root`."""
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


def where_expected(faults: Sequence[DataIssue], layout: Layout) -> str:
    """The layout's description if files are missing, else ""."""
    return layout.description if any(fault.kind in ABSENT for fault in faults) else ""


def _one_per_key(files: list[tuple[str, Path]], faults: list[DataIssue]) -> dict[str, Path]:
    """The first path of each key. Further paths of a key, and entries that are not files, are added to `faults`."""
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
