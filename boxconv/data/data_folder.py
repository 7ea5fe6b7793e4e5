"""The folder of a data set: how it is recognised, and that no command writes into it."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import UsageError

SIGNS = {
    "cityscapes": ("leftImg8bit", "leftImg8bit_trainvaltest", "gtFine"),
    "sunrgbd": ("SUNRGBD-train_images", "SUNRGBD-test_images", "sunrgbd_train_test_labels", "label37", "SUNRGBD"),
    "camvid": ("701_StillsRaw_full", "trainannot", "train_labels"),
}
"""Folders that only this data set has, for each value of --data that is recognised by them."""


TABLES = ("classes.csv", "palette.csv")


def check_outside_data(outputs: Mapping[str, Path | None], root: Path | None = None) -> None:
    """Raise UsageError if an output would be among the files of a data set. Call this before any work is done.

    Args:
        outputs: from the name of an option to the file or folder that it names; None if the option is not given.
        root: a data folder that the command reads: nothing is written into it. Of other folders that hold a data set,
            its own files are protected (`data_folder_of`): a project may well have them beside its results.
    """
    for option, path in outputs.items():
        if path is None:
            continue
        folder = root if root is not None and path.resolve().is_relative_to(root.resolve()) else data_folder_of(path)
        if folder is not None:
            raise UsageError(
                f"{option}: {path} is in the data folder {folder}, which is never written to: give another place"
            )


def data_folder_of(path: Path) -> Path | None:
    """The data folder that ``path`` is, or is in the folders or tables of; None if there is none.

    Much else may be in a folder that holds a data set, such as a project's results.
    """
    path = path.resolve()
    for folder in (path, *path.parents):
        if parts := _parts_of(folder):
            own = (folder / name for name in (*parts, *TABLES))
            return folder if path == folder or any(path.is_relative_to(one) for one in own) else None
    return None


def sorted_splits(root: Path | None) -> list[str]:
    """Those of the splits train and val that ROOT/images has a folder for: --val-share cannot divide them."""
    return [split for split in ("train", "val") if root is not None and (root / "images" / split).is_dir()]


def _parts_of(folder: Path) -> list[str]:
    """The folders of the data set in ``folder``; empty if it holds none."""
    own = [name for name in ("images", "labels") if os.path.isdir(folder / name)]
    # Labels that are polygons may be beside the images.
    paired = len(own) == 2 or (own == ["images"] and os.path.isfile(folder / "classes.csv"))
    known = [sign for signs in SIGNS.values() for sign in signs if os.path.isdir(folder / sign)]
    return known + own if paired else known
