"""Settings: which images, and how they are prepared. Importing this does not import torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from .data_folder import check_outside_data, sorted_splits

MEAN = (0.28471, 0.32577, 0.28767)
STD = (0.18672, 0.18991, 0.18665)
"""Channel means and standard deviations of Cityscapes, which the paper's networks were trained with."""

OnDisk = Literal["camvid", "cityscapes", "sunrgbd", "folder"]
Data = Literal["scenes", OnDisk]


@dataclass(frozen=True)
class DataConfig:
    """The data set, and how its images are prepared."""

    data: Data = "scenes"
    """scenes: road scenes drawn by a program, without files; camvid, cityscapes, sunrgbd: as downloaded; folder: any
    images with a class table."""
    root: Path | None = None
    """Folder of the data set; for --data folder it holds images/SPLIT/* and labels/SPLIT/*.png."""
    classes: Path | None = None
    """CSV file of the classes: label,name,red,green,blue,category. ROOT/classes.csv if left out; the known data sets
    have their own."""
    palette: Path | None = None
    """CSV file of the labels' colours for --data folder: red,green,blue,name. ROOT/palette.csv where there is one, else
    labels are class indices."""
    val_share: float | None = None
    """Share of the images of --data folder to keep for validation, such as 0.2, if images/ and labels/ have no folders
    for splits. Which images these are depends only on their names."""
    border: int = 0
    """Pixels to cut off at every side of image and label, before anything else is done."""
    size: tuple[int, int] = (128, 256)
    """Height and width that images are resized to, in pixels."""
    in_channels: int = 3
    """Channels of an image. 1: grey; 4: RGBA files, whose alpha may be depth; any number: .npy arrays (channels, h, w)
    or (h, w, channels), or TIFF files of as many grey pages."""
    white: float | None = None
    """The value that is white in files of more than 8 bits, such as 4095 for 12 bits. If left out 65535, but less for
    --in-channels 3 in files without larger values (docs/data.md). Files of floating-point numbers need it."""
    mean: tuple[float, ...] = MEAN
    """Mean of each channel, on a scale of 0 to 1; it is subtracted from images. If left out, that of Cityscapes for 3
    channels; for other numbers of channels it is measured on the training images."""
    std: tuple[float, ...] = STD
    """Standard deviation of each channel; images are divided by it. Give it together with --mean, or neither."""
    cache: Path | None = None
    """Folder where resized images are kept, so that later epochs need not decode large files."""
    scenes_per_epoch: int = 240
    """Drawn scenes in an epoch; no scene is shown twice."""
    scenes_for_validation: int = 60
    """Drawn scenes to validate on, always the same ones."""

    def check(self) -> None:
        """Raise UsageError for a value out of range."""
        if self.data != "scenes" and self.root is None:
            raise UsageError(f"--root: --data {self.data} needs the folder of the data set")
        if self.data == "scenes" and self.root is not None:
            raise UsageError(
                f"--root: got {self.root}, but --data scenes draws its images; say --data folder or camvid"
            )
        if self.palette is not None and self.data != "folder":
            raise UsageError(f"--palette: got {self.palette}, but only --data folder has labels in colours of its own")
        if self.val_share is not None:
            expect("val_share", 0 < self.val_share < 1, "a share between 0 and 1", self.val_share)
            if self.data != "folder":
                raise UsageError(f"--val-share: got {self.val_share}, but --data {self.data} has its own splits")
        if self.cache is not None:
            if self.root is None:
                raise UsageError(f"--cache: got {self.cache}, but drawn scenes have no files to keep")
            check_outside_data({"--cache": self.cache}, self.root)
        at_least("border", self.border, 0)
        if self.border and self.data == "scenes":
            raise UsageError(f"--border: got {self.border}, but drawn scenes have no border to cut off")
        self._check_channels()
        h, w = self.size
        expect("size", min(h, w) >= 16, "height and width of at least 16 pixels", f"{h} {w}")
        at_least("scenes-per-epoch", self.scenes_per_epoch, 1)
        at_least("scenes-for-validation", self.scenes_for_validation, 1)

    def check_new(self) -> None:
        """`check`, and that --val-share has a use: a run may have been saved with one, but folders decide."""
        self.check()
        if self.val_share is not None and (there := sorted_splits(self.root)):
            raise UsageError(
                f"--val-share: got {self.val_share}, but {self.root}/images has folders for splits already: "
                f"{', '.join(there)}"
            )

    @property
    def measures_channels(self) -> bool:
        """Whether mean and standard deviation of the channels have yet to be measured on the training images."""
        return self.in_channels != len(MEAN) and (self.mean, self.std) == (MEAN, STD)

    def _check_channels(self) -> None:
        at_least("in-channels", self.in_channels, 1)
        if self.in_channels != 3 and self.data == "scenes":
            raise UsageError(f"--in-channels: got {self.in_channels}, but drawn scenes are red, green and blue")
        if self.in_channels != 3 and self.cache is not None:
            raise UsageError(
                f"--cache: keeps images of 3 channels of 8 bits only, got --in-channels {self.in_channels}"
            )
        check_white(self.white)
        if self.measures_channels:
            return
        numbers = f"{self.in_channels} {'number' if self.in_channels == 1 else 'numbers'}"
        right = len(self.mean) == self.in_channels and all(map(math.isfinite, self.mean))
        expect("mean", right, f"{numbers}, as many as --in-channels", " ".join(map(str, self.mean)))
        right = len(self.std) == self.in_channels and all(0 < value < math.inf for value in self.std)
        expect("std", right, f"{numbers} above 0, as many as --in-channels", " ".join(map(str, self.std)))


def option(name: str) -> str:
    """The command-line option of a setting: "in_channels" is --in-channels."""
    return "--" + name.replace("_", "-")


def at_least(name: str, value: int | None, least: int) -> None:
    """Raise UsageError for a setting that is too small; None is a setting that was left out."""
    expect(name, value is None or value >= least, f"at least {least}", value)


def expect(name: str, right: bool, what: str, got: object) -> None:
    """Raise UsageError for a setting that is not ``right``: ``what`` was expected."""
    if not right:
        raise UsageError(f"{option(name)}: expected {what}, got {got}")


def check_white(white: float | None) -> None:
    """Raise UsageError unless the value of --white is a positive number, or was left out (None)."""
    expect("white", white is None or 0 < white < math.inf, "a positive number", white)
