"""Images that are not red, green and blue of 8 bits: any number of channels, of 8 bits or of floating-point numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter


@dataclass(frozen=True)
class Bands:
    """An image as one Pillow image per channel: all of mode L (0 to 255) or all of mode F (0 to 1), of one size.

    It has those of Pillow's methods that transforms use, with Pillow's arguments, so that they treat it as they treat a
    Pillow image. Channels never mix: Pillow itself would weight the others by what it holds for alpha.
    """

    bands: tuple[Image.Image, ...]

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "Bands":
        """Of (channels, h, w), uint8 or float32."""
        return cls(tuple(Image.fromarray(np.ascontiguousarray(channel)) for channel in values))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as Pillow has it."""
        return self.bands[0].size

    @property
    def width(self) -> int:
        return self.bands[0].width

    @property
    def height(self) -> int:
        return self.bands[0].height

    def array(self) -> npt.NDArray[Any]:
        """(channels, h, w): uint8, or float32 in 0 to 1."""
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
"""An image as files give it: mode RGB, or `Bands`."""


def from_pillow(image: Image.Image, channels: int) -> Picture:
    """An image of 8 bits for a network of so many channels: in colour, in grey, or band by band."""
    if channels == 3:
        return image.convert("RGB")
    return Bands((image.convert("L"),) if channels == 1 else image.split())


def as_rgb(picture: Picture) -> Image.Image:
    """Something to look at, mode RGB: the first three channels, or the first one in grey."""
    if isinstance(picture, Image.Image):
        return picture
    first = picture.bands[:3] if len(picture.bands) > 2 else picture.bands[:1] * 3
    return Image.merge("RGB", [band.point(lambda value: value * 255).convert("L") if band.mode == "F" else band
                               for band in first])  # fmt: skip


def _filtered(band: Image.Image, kernel: ImageFilter.Kernel) -> Image.Image:
    """What Pillow does for 8 bits only: correlation with a kernel, here of floating-point numbers."""
    (columns, rows), scale, offset, weights = kernel.filterargs
    values = np.asarray(band)
    h, w = values.shape
    padded = np.pad(values, ((rows // 2,) * 2, (columns // 2,) * 2), mode="edge")
    total = np.zeros_like(values)
    for i, weight in enumerate(weights):
        top, left = divmod(i, columns)
        total += np.float32(weight / scale) * padded[top : top + h, left : left + w]
    return Image.fromarray(total + np.float32(offset))
