"""Images other than 8-bit RGB: any number of channels, with 8 bits each or floating-point numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter


@dataclass(frozen=True)
class Bands:
    """An image as one Pillow image per channel: all of mode L (0 to 255) or all of mode F (0 to 1), and of one size.

    It has the methods of a Pillow image that the transforms use, with the same arguments. Channels are processed
    separately: in an image with alpha, Pillow would weight the other channels by it when it resizes.
    """

    bands: tuple[Image.Image, ...]

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "Bands":
        """From an array (channels, h, w): uint8, or float32 from 0 to 1."""
        return cls(tuple(Image.fromarray(np.ascontiguousarray(channel)) for channel in values))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in this order, as in Pillow."""
        return self.bands[0].size

    @property
    def width(self) -> int:
        return self.bands[0].width

    @property
    def height(self) -> int:
        return self.bands[0].height

    def array(self) -> npt.NDArray[Any]:
        """The pixels (channels, h, w): uint8, or float32 from 0 to 1."""
        return np.stack([np.asarray(band) for band in self.bands])

    def getextrema(self) -> tuple[Any, ...]:
        return tuple(band.getextrema() for band in self.bands)

    def resize(self, *args: Any, **options: Any) -> "Bands":
        return Bands(tuple(band.resize(*args, **options) for band in self.bands))

    def rotate(self, *args: Any, **options: Any) -> "Bands":
        return Bands(tuple(band.rotate(*args, **options) for band in self.bands))

    def crop(self, box: tuple[int, int, int, int]) -> "Bands":
        return Bands(tuple(band.crop(box) for band in self.bands))

    def filter(self, kernel: ImageFilter.Kernel) -> "Bands":
        return Bands(tuple(_filtered(band, kernel) if band.mode == "F" else band.filter(kernel) for band in self.bands))


Picture = Image.Image | Bands
"""An image as an `ImageReader` returns it: a Pillow image of mode RGB, or `Bands`."""


def from_pillow(image: Image.Image, channels: int) -> Picture:
    """Convert an 8-bit Pillow image for a network with ``channels`` inputs: 3 is RGB, 1 is grey, else its own bands."""
    if channels == 3:
        return image.convert("RGB")
    return Bands((image.convert("L"),) if channels == 1 else image.split())


def as_rgb(picture: Picture) -> Image.Image:
    """A Pillow image of mode RGB for display: the first three channels, or the first one in grey."""
    if isinstance(picture, Image.Image):
        return picture
    first = picture.bands[:3] if len(picture.bands) > 2 else picture.bands[:1] * 3
    return Image.merge("RGB", [band.point(lambda value: value * 255).convert("L") if band.mode == "F" else band
                               for band in first])  # fmt: skip


def _filtered(band: Image.Image, kernel: ImageFilter.Kernel) -> Image.Image:
    """Correlate a band of floating-point numbers with a kernel; Pillow's own `filter` works on 8 bits only."""
    (columns, rows), scale, offset, weights = kernel.filterargs
    values = np.asarray(band)
    h, w = values.shape
    padded = np.pad(values, ((rows // 2,) * 2, (columns // 2,) * 2), mode="edge")
    total = np.zeros_like(values)
    for i, weight in enumerate(weights):
        top, left = divmod(i, columns)
        total += np.float32(weight / scale) * padded[top : top + h, left : left + w]
    return Image.fromarray(total + np.float32(offset))
