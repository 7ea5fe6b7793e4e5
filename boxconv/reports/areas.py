"""How many pixels of each image are of each class, as a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.classes import ClassTable
from ..data.image_files import shown
from ..files import write_atomic
from .png import bands

COLUMNS = ("image", "label", "class", "pixels", "share")


class AreaTable:
    """Collects the areas of images, from any thread."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self._pixels: dict[Path, npt.NDArray[np.int64]] = {}

    def add(self, image: Path, labels: npt.NDArray[Any]) -> None:
        """Of the class indices (h, w) of an image."""
        self._pixels[image] = pixels_of_classes(labels, len(self.classes))

    def write(self, path: Path) -> None:
        """One row per image and class, also of classes without a pixel; ``share`` is of the image, 0 to 1."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image, pixels in sorted(self._pixels.items()):
            total = int(pixels.sum())
            for value, name, count in zip(self.classes.values, self.classes.names, pixels.tolist(), strict=True):
                writer.writerow((_named(image), value, name, count, f"{count / total:.6f}"))
        write_atomic(path, text.getvalue())


def pixels_of_classes(labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """How many pixels of a map (h, w) are of each of ``count`` classes."""
    return sum(
        (np.bincount(labels[rows].ravel(), minlength=count) for rows in bands(*labels.shape)), np.zeros(count, np.int64)
    )


def _named(image: Path) -> str:
    """The path, in a form that no spreadsheet takes for a formula."""
    text = shown(image)
    return f"./{text}" if text.startswith(("=", "+", "-", "@")) else text
