"""The results of `boxconv predict`: files of several kinds for each image, and tables of all images."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.bands import Picture, as_rgb
from ..data.class_table import ClassTable, DataError
from ..data.image_files import shown
from ..data.label_files import open_label
from ..data.large_images import LargeImage
from ..files import write_atomic
from .areas import AreaTable
from .coloured_labels import overlay
from .contact_sheet import ContactSheet
from .kinds import ENDINGS, Kind
from .png import bands, write_png_bands
from .regions import write_geojson

MOST_PROBABILITIES = 2**29
"""Largest number of probabilities of one image, 1 GiB in float16; more are refused."""


Source = Picture | LargeImage
"""An image of any size, of which parts can be read."""


class ResultWriter:
    """Writes the results of images; any thread may call it.

    Args:
        kinds: the kinds of files to write for each image.
        min_area: least number of pixels of a region in the polygons.
        areas, contact_sheet: files that `write_tables` writes; None for none.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        classes: ClassTable,
        *,
        min_area: int = 1,
        areas: Path | None = None,
        contact_sheet: Path | None = None,
    ) -> None:
        self.kinds = tuple(kinds)
        self.classes = classes
        self.min_area = min_area
        self._areas = None if areas is None else (AreaTable(classes), areas)
        self._sheet = None if contact_sheet is None else (ContactSheet(classes), contact_sheet)

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of the files of an image, in the order in which `write` takes them."""
        return tuple(ENDINGS[kind] for kind in self.kinds)

    def check_size(self, path: Path, height: int, width: int) -> None:
        """Raise DataError if the probabilities of an image would need too much memory; call it before predicting."""
        if "probabilities" in self.kinds and len(self.classes) * height * width > MOST_PROBABILITIES:
            raise DataError(
                f"{shown(path)}: probabilities of {len(self.classes)} classes and {width} x {height} pixels are more "
                f"than {MOST_PROBABILITIES} numbers: leave them out of --save, or give smaller images",
                "image too large",
            )

    def write(
        self,
        path: Path,
        outputs: Sequence[Path],
        image: Source,
        labels: npt.NDArray[np.uint8],
        probabilities: npt.NDArray[np.float16] | None = None,
    ) -> None:
        """Write the results of one image.

        Args:
            path: the file of the image.
            outputs: one file per kind. Their folders are created.
            image: the image, which is read in parts.
            labels: (h, w) class indices.
            probabilities: (K, h, w), needed if they are among the kinds.

        Raises DataError if the probabilities are missing or rows of the image are damaged, OSError naming a file that
        cannot be written.
        """
        for kind, output in zip(self.kinds, outputs, strict=True):
            output.parent.mkdir(parents=True, exist_ok=True)
            if kind == "maps":
                write_png_bands(output, len(labels), (self.classes.in_files(part) for part in _parts(labels)))
            elif kind == "colours":
                write_png_bands(output, len(labels), (self.classes.colourise(part) for part in _parts(labels)))
            elif kind == "overlay":
                write_png_bands(output, len(labels), self._overlay(image, labels))
            elif kind == "polygons":
                write_geojson(output, labels, self.classes, image=path, min_area=self.min_area)
            elif probabilities is None:
                raise DataError(f"{shown(path)}: labelled in parts, so there are no probabilities of the whole image")
            else:
                write_atomic(output, lambda file: np.save(file, probabilities))
        self._add(path, outputs, labels, lambda: image)

    def add_earlier(self, path: Path, outputs: Sequence[Path], reader: Callable[[Path], Source]) -> None:
        """Add an image to the tables whose results, with its map, were written by an earlier run."""
        if self._areas is not None or self._sheet is not None:
            labels = np.asarray(open_label(outputs[self.kinds.index("maps")], self.classes))
            self._add(path, outputs, labels, lambda: reader(path))

    def write_tables(self) -> None:
        """Write the areas and the contact sheet of all images so far."""
        tables: list[tuple[AreaTable | ContactSheet, Path]] = [
            table for table in (self._areas, self._sheet) if table is not None
        ]
        for table, path in tables:
            path.parent.mkdir(parents=True, exist_ok=True)
            table.write(path)

    def _add(
        self, path: Path, outputs: Sequence[Path], labels: npt.NDArray[np.uint8], image: Callable[[], Source]
    ) -> None:
        if self._areas is not None:
            self._areas[0].add(path, labels)
        if self._sheet is not None:
            self._sheet[0].add(path, dict(zip(self.kinds, outputs, strict=True)), image(), labels)

    def _overlay(self, image: Source, labels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
        for rows in bands(*labels.shape):
            picture = as_rgb(image.crop((0, rows.start, image.width, rows.stop)))
            yield overlay(np.asarray(picture), self.classes.colourise(labels[rows]))


def _parts(labels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    return (labels[rows] for rows in bands(*labels.shape))


def frame_pictures(
    kinds: Sequence[Kind], frame: Picture, labels: npt.NDArray[np.uint8], classes: ClassTable
) -> list[npt.NDArray[np.uint8]]:
    """The pictures (h, w, 3) for a frame of a video; ``kinds`` are among those in `OF_VIDEOS`."""
    colours = classes.colourise(labels)
    return [colours if kind == "colours" else overlay(np.asarray(as_rgb(frame)), colours) for kind in kinds]
