"""Images with too many pixels to be decoded at once. TIFF files and .npy arrays are read some rows at a time.

Pillow's other formats cannot be decoded in parts.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from .bands import Bands, Picture
from .class_table import DataError
from .image_files import PIXEL_LIMIT, check_regular, loses_bits, raw_mode_of, shown
from .image_reader import ImageReader, channels_first, mapped_array
from .tiff_strips import TiffStrips

LONGEST_SIDE = 2**17
"""Longer images are refused: the memory that prediction needs grows with the width."""
STRIP_PIXELS = 2**23
"""About the number of pixels that are read at once for resizing."""


@dataclass(frozen=True)
class LargeImage:
    """An image file of which only the requested rows are read.

    It has the methods of a Pillow image that prediction uses, with the same arguments and results. They raise DataError
    for damaged rows.
    """

    size: tuple[int, int]
    """Width and height, as in Pillow."""
    rows: Callable[[int, int], Picture]
    """From the first row, and the row after the last one, to a picture of these rows."""

    @property
    def width(self) -> int:
        return self.size[0]

    @property
    def height(self) -> int:
        return self.size[1]

    def crop(self, box: tuple[int, int, int, int]) -> Picture:
        left, top, right, bottom = box
        rows = self.rows(top, bottom)
        return rows if (left, right) == (0, self.width) else rows.crop((left, 0, right, bottom - top))

    def resize(self, size: tuple[int, int], resample: Image.Resampling) -> Picture:
        """Resize to ``size`` (width, height) like Pillow, but read only some rows at a time."""
        scale = self.height / size[1]
        reach = max(scale, 1.0) + 1  # rows of the file that bilinear resampling reads beyond a row's own
        step = max(1, int(STRIP_PIXELS / self.width / scale))
        parts = []
        for first in range(0, size[1], step):
            last = min(first + step, size[1])
            top, bottom = max(0, int(first * scale - reach)), min(self.height, math.ceil(last * scale + reach))
            box = (0, first * scale - top, self.width, min(last * scale, self.height) - top)
            parts.append(self.rows(top, bottom).resize((size[0], last - first), resample, box=box))
        return _stacked(parts)


def open_any_size(path: Path, reader: ImageReader) -> Picture | LargeImage:
    """Open an image with ``reader``; with more than `PIXEL_LIMIT` pixels, as a LargeImage.

    Raises DataError, naming the file, if it cannot be read, or has too many pixels and cannot be read in parts.
    """
    check_regular(path)
    if path.suffix.lower() == ".npy":
        return _large_array(path, reader) or reader(path)
    try:
        file = TiffImageFile(path)  # not `Image.open`, which refuses so many pixels
    except Exception:  # not a TIFF file, or a damaged one: the reader raises an error that says what is wrong
        return reader(path)
    with file:
        if file.width * file.height <= PIXEL_LIMIT:
            return reader(path)
        _check_sides(path, *file.size)
        strips, mode = TiffStrips.of(path, file), file.mode
        if loses_bits(file, raw_mode_of(file)):
            reader.upper_bits(path, strips.read(0, 1))
    if mode.startswith("I") and reader.channels == 3 and reader.white is None:  # 12 bits or 16, by the largest value
        raise DataError(
            f"{shown(path)}: more than 8 bits a pixel, read in parts: give --white VALUE, the number that is white",
            "image mode",
        )
    return LargeImage((strips.width, strips.height), lambda top, bottom: reader.picture(path, strips.read(top, bottom)))


def _large_array(path: Path, reader: ImageReader) -> LargeImage | None:
    """The array of a .npy file as a LargeImage, or None if it is small enough to be read at once."""
    values = channels_first(path, mapped_array(path), reader.channels)
    h, w = values.shape[1:]
    if h * w <= PIXEL_LIMIT:
        return None
    _check_sides(path, w, h)
    return LargeImage((w, h), lambda top, bottom: reader.of_channels(path, np.array(values[:, top:bottom])))


def _check_sides(path: Path, width: int, height: int) -> None:
    if max(width, height) > LONGEST_SIDE:
        raise DataError(
            f"{shown(path)}: {width} x {height} pixels; no side may be longer than {LONGEST_SIDE}", "image too large"
        )


def _stacked(parts: list[Picture]) -> Picture:
    """Join pictures of the same width, one below the other."""
    if isinstance(parts[0], Bands):
        columns = zip(*(part.bands for part in parts if isinstance(part, Bands)), strict=True)
        return Bands(tuple(map(_joined, columns)))
    return _joined(part for part in parts if isinstance(part, Image.Image))


def _joined(images: Iterable[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(image) for image in images]))
