"""Settings: which images, and how they are prepared. Importing this does not import torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError

MEAN = (0.28471, 0.32577, 0.28767)
STD = (0.18672, 0.18991, 0.18665)
"""Channel means and standard deviations of Cityscapes, which the paper's networks were trained with."""

Data = Literal["scenes", "camvid", "cityscapes", "sunrgbd", "folder"]


@dataclass(frozen=True)
class DataConfig:
    """Which images, at which size."""

    data: Data = "scenes"
    """scenes: road scenes drawn by program, no files; camvid, cityscapes, sunrgbd: as downloaded; folder: any images
    with a class table."""
    root: Path | None = None
    """Folder of the data set; for --data folder it holds images/SPLIT/* and labels/SPLIT/*.png."""
    classes: Path | None = None
    """CSV file of the classes: label,name,red,green,blue,category. ROOT/classes.csv if left out; the known data sets
    have their own."""
    palette: Path | None = None
    """CSV file of the labels' colours for --data folder: red,green,blue,name. ROOT/palette.csv where there is one, else
    labels are class indices."""
    border: int = 0
    """Pixels that are cut off at every side of image and label before anything else."""
    size: tuple[int, int] = (128, 256)
    """Height and width that images are resized to, in pixels."""
    mean: tuple[float, float, float] = MEAN
    """Mean of red, green and blue, between 0 and 1, which is subtracted from images; by default that of Cityscapes."""
    std: tuple[float, float, float] = STD
    """Standard deviation of red, green and blue, by which images are divided."""
    cache: Path | None = None
    """Folder where resized images are kept, so that later epochs need not decode large files."""
    scenes_per_epoch: int = 240
    """Drawn scenes in an epoch; no scene is shown twice."""
    scenes_for_validation: int = 60

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
        if self.cache is not None:
            if self.root is None:
                raise UsageError(f"--cache: got {self.cache}, but drawn scenes have no files to keep")
            if self.cache.resolve().is_relative_to(self.root.resolve()):
                raise UsageError(f"--cache: {self.cache} is in the data folder {self.root}, which is never written to")
        at_least("border", self.border, 0)
        if self.border and self.data == "scenes":
            raise UsageError(f"--border: got {self.border}, but drawn scenes have no border to cut off")
        if not all(map(math.isfinite, self.mean)):
            raise UsageError(f"--mean: expected three numbers, got {' '.join(map(str, self.mean))}")
        if not all(0 < value < math.inf for value in self.std):
            raise UsageError(f"--std: expected three positive numbers, got {' '.join(map(str, self.std))}")
        if min(self.size) < 16:
            raise UsageError(
                f"--size: expected height and width of at least 16 pixels, got {self.size[0]} {self.size[1]}"
            )
        at_least("scenes-per-epoch", self.scenes_per_epoch, 1)
        at_least("scenes-for-validation", self.scenes_for_validation, 1)


def option(name: str) -> str:
    """What the command line calls a setting."""
    return "--" + name.replace("_", "-")


def at_least(name: str, value: int, least: int) -> None:
    """Raise UsageError for a setting that is too small."""
    if value < least:
        raise UsageError(f"{option(name)}: expected at least {least}, got {value}")
