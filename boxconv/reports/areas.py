"""The number of pixels of each class in each image, as a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.class_table import ClassTable
from ..data.image_files import shown
from ..files import write_atomic
from .png import bands

COLUMNS = ("image", "label", "class", "pixels", "share")


class AreaTable:
    """Collects the areas of classes in images; any thread may add some."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self._pixels: dict[Path, npt.NDArray[np.int64]] = {}

    def add(self, image: Path, labels: npt.NDArray[Any]) -> None:
        """Count the class indices (h, w) of an image."""
        self._pixels[image] = pixels_of_classes(labels, len(self.classes))

    def write(self, path: Path) -> None:
        """Write one row per image and class, also for classes without a pixel; ``share`` of the image is 0 to 1."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image, pixels in sorted(self._pixels.items()):
            total = int(pixels.sum())
            for value, name, count in zip(self.classes.values, self.classes.names, pixels.tolist(), strict=True):
                writer.writerow((_named(image), value, name, count, f"{count / total:.6f}"))
        write_atomic(path, text.getvalue())


def pixels_of_classes(labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Number of pixels (count,) of each class in a map of class indices (h, w)."""
    return sum(
        (np.bincount(labels[rows].ravel(), minlength=count) for rows in bands(*labels.shape)), np.zeros(count, np.int64)
    )


def _named(image: Path) -> str:
    """The path as text that a spreadsheet does not take for a formula."""
    text = shown(image)
    return f"./{text}" if text.startswith(("=", "+", "-", "@")) else text
