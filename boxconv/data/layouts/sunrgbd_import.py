"""Convert the archives of SUN RGB-D's official site, whose labels are in MATLAB files, to folders of images and labels.

    SUNRGBD/SENSOR/.../image/NAME.jpg                         SUNRGBD.zip
    SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat                   SUNRGBDtoolbox.zip: folder and image of each scene,
    SUNRGBDtoolbox/Metadata/SUNRGBD2Dseg.mat                  its labels of 37 classes (HDF5),
    SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat              and the scenes of each split

become images/SPLIT/img-000001.jpg and labels/SPLIT/img-000001.png, numbered in each split in the order of the toolbox.
`--data sunrgbd` reads these. The MATLAB files need scipy and h5py.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from box_convolution.extras import require

from ...files import write_atomic, write_png
from ..class_table import DataError
from ..data_folder import check_outside_data
from ..image_files import check_regular, check_sizes, shown
from ..image_reader import open_image

META = Path("SUNRGBDtoolbox", "Metadata", "SUNRGBDMeta.mat")
LABELS = Path("SUNRGBDtoolbox", "Metadata", "SUNRGBD2Dseg.mat")
SPLITS = Path("SUNRGBDtoolbox", "traintestSUNRGBD", "allsplit.mat")


@dataclass(frozen=True)
class Scene:
    """A scene: its number in the toolbox, from 0, its image file, and the image and label to write."""

    number: int
    source: Path
    image: Path
    label: Path


def plan(root: Path, out: Path, *, resume: bool = False) -> list[Scene]:
    """Decide which scenes to write, before any is written; with `resume`, those that are not complete yet.

    Raises DataError if a file is missing or not as expected, or if `out` is in `root`, or has files without `resume`;
    UsageError if it is in another data folder.
    """
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{shown(out)}: is in the data folder {shown(root)}, which is never written to")
    check_outside_data({"--out": out.parent})  # `out` itself is a data folder as soon as this has begun to write it
    if out.exists() and not out.is_dir():
        raise DataError(f"{shown(out)}: a file is in the place of the output folder")
    if out.exists() and any(out.iterdir()) and not resume:
        raise DataError(f"{shown(out)}: holds files; choose a new --out, or give --resume to go on")
    if not root.is_dir():
        raise DataError(f"{shown(root)}: no such folder")
    for path in (META, LABELS, SPLITS):
        check_regular(root / path)
    names = _matlab(root / META, "SUNRGBDMeta")
    training = {_below(path) for path in _matlab(root / SPLITS, "alltrain")}
    testing = {_below(path) for path in _matlab(root / SPLITS, "alltest")}
    scenes = []
    counts = {"train": 0, "test": 0}
    for number, scene in enumerate(names):
        try:
            folder, name = _below(scene.sequenceName), str(scene.rgbname)
        except AttributeError as error:
            raise DataError(f"{shown(root / META)}: scene {number + 1}: {error}") from error
        if (folder in training) == (folder in testing):
            both = "both splits" if folder in training else "no split"
            raise DataError(f"{shown(root / SPLITS)}: scene {number + 1}, {shown(folder)}, is in {both}")
        split = "train" if folder in training else "test"
        counts[split] += 1
        stem = f"img-{counts[split]:06}"
        source = root / "SUNRGBD" / folder / "image" / name
        image = out / "images" / split / f"{stem}{source.suffix.lower()}"
        scenes.append(Scene(number, source, image, out / "labels" / split / f"{stem}.png"))
    missing = [scene.source for scene in scenes if not scene.source.is_file()]
    if missing:
        raise DataError(f"{shown(missing[0])}: no such image; {len(missing)} of {len(scenes)} are missing")
    # The label is written last: a scene that has one is complete.
    return [scene for scene in scenes if not (resume and scene.label.exists())]


def write(root: Path, scenes: list[Scene]) -> Iterator[Scene]:
    """Write image and label of each scene, and yield it then. Raises DataError for files that are not as expected."""
    h5py = _reader("h5py")
    try:
        file = h5py.File(root / LABELS, "r")
    except OSError as error:
        raise DataError(f"{shown(root / LABELS)}: cannot be read as HDF5: {error}") from error
    with file:
        for scene in scenes:
            label = Image.fromarray(_label(file, scene.number, root / LABELS))
            check_sizes(open_image(scene.source), label, scene.source, root / LABELS)
            for path in (scene.image, scene.label):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(scene.image, scene.source.read_bytes())
            write_png(scene.label, label)
            yield scene


def _label(file: Any, number: int, path: Path) -> np.ndarray:
    """The label map (h, w) of a scene, uint8: 0 is void, 1 to 37 are the classes."""
    try:
        values = np.asarray(file[file["SUNRGBD2Dseg"]["seglabel"][number][0]]).T  # MATLAB stores columns first
    except (KeyError, IndexError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{shown(path)}: no label of scene {number + 1} in it: {error}") from error
    if values.ndim != 2 or values.min() < 0 or values.max() > 37:
        raise DataError(f"{shown(path)}: scene {number + 1}: expected a map of labels 0 to 37, found {values.shape}")
    return values.astype(np.uint8)


def _matlab(path: Path, variable: str) -> Any:
    """A one-dimensional variable of a MATLAB file."""
    scipy_io = _reader("scipy.io")
    try:
        content = scipy_io.loadmat(path, squeeze_me=True, struct_as_record=False, variable_names=[variable])
        return np.atleast_1d(content[variable])
    except Exception as error:  # for damaged files, scipy raises half a dozen types
        raise DataError(f"{shown(path)}: no variable {variable} can be read from it: {error}") from error


def _reader(module: str) -> Any:
    """Import a module that only this command needs. Raises MissingPackageError if it is not installed."""
    require("reading SUN RGB-D's MATLAB files", module.partition(".")[0])
    return import_module(module)


def _below(path: Any) -> str:
    """A scene's folder below SUNRGBD/, from its path on the machine where the toolbox was made."""
    parts = [part for part in str(path).split("/") if part]
    if "SUNRGBD" not in parts or ".." in parts:
        raise DataError(f"expected the path of a scene with SUNRGBD in it, found {str(path)!r}")
    return os.path.join(*parts[parts.index("SUNRGBD") + 1 :], "").rstrip(os.sep)
