"""Opening images for a network: with the number of channels that it takes, in a known range of values."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..errors import plural
from .bands import Bands, Picture
from .class_table import DataError
from .image_files import FORMATS, PIXEL_LIMIT, check_regular, decode, loses_bits, opened, shown, undecodable

WHITES = (255, 4095, 65535)
"""The white values of 8, 12 and 16 bits."""

NOTE = "note"
"""Key in the `info` of a Pillow image. Its value is a message that says how the values were converted."""


@dataclass(frozen=True)
class ImageReader:
    """Opens image files as pictures with `channels` channels. Raises DataError, naming the file, if that is impossible.

    3: 8-bit RGB. Grey, palette and CMYK files are converted; alpha is dropped, not blended.
    1: grey. Colours are converted (ITU-R 601-2 luma).
    2: grey with alpha. 4: red, green, blue and alpha, which may hold depth.
    Any number: .npy arrays (channels, h, w) or (h, w, channels), and TIFF files of as many grey pages.

    Files are turned upright by their EXIF orientation. Otherwise only the first frame or page of a file is used.

    `white` is the value that becomes 1 in files of more than 8 bits. Files of floating-point numbers need it. By
    default it is 65535 for 16 bits. But for 3 channels, a grey file whose values all fit into 12 or 8 bits has the
    white value 4095 or 255, and the picture gets a `NOTE`. Values below 0 or above `white` raise DataError. Of 16 bits
    in each of several channels, Pillow reads the upper 8 only: another `white` than 65535 raises DataError, and without
    it the picture gets a `NOTE` if its values fit into 12 bits, because it is nearly black.
    """

    channels: int = 3
    white: float | None = None

    def __call__(self, path: str | Path) -> Picture:
        if Path(path).suffix.lower() == ".npy":
            return self._stack(path, _array(path))
        with opened(path) as file:
            return self.read(file, path)

    def read(self, file: BinaryIO, path: str | Path) -> Picture:
        """Read a file that is open already, such as an upload; ``path`` is its name in messages. Not for .npy files."""
        image, raw_mode = decode(file, path, FORMATS)
        if self.channels not in (1, 3) and image.format == "TIFF" and len(pages := _pages(file, path)) == self.channels:
            return self._stack(path, np.stack(pages))
        try:
            ImageOps.exif_transpose(image, in_place=True)
        except Exception as error:
            raise undecodable(path, error) from error
        dark = self.upper_bits(path, image) if loses_bits(image, raw_mode) else ""
        picture = self.picture(path, image)
        if dark and isinstance(picture, Image.Image):
            picture.info[NOTE] = dark
        return picture

    def upper_bits(self, path: str | Path, image: Image.Image) -> str:
        """A note if an image that `loses_bits` is nearly black. Raises DataError for a white value that needs them."""
        found = f"16 bits in each of {len(image.getbands())} channels, of which only the upper 8 are read"
        advice = "a .npy array (uint16) keeps all of them"
        if self.white is not None and self.white != WHITES[-1]:
            raise DataError(f"{shown(path)}: --white {self.white:g} cannot be used: {found}; {advice}", "image mode")
        highest = int(np.asarray(image).max())
        if self.white is not None or highest > WHITES[1] >> 8:
            return ""
        return f"{found}, and no value is above {highest * 256 + 255}: the image is nearly black; {advice}"

    def picture(self, path: str | Path, image: Image.Image) -> Picture:
        """Convert an upright image that Pillow has read; ``path`` is its name in messages."""
        image.info.pop("transparency", None)
        if image.mode.startswith("I") or image.mode == "F":
            return self._deep(path, np.asarray(image))
        if self.channels == 3:
            return image.convert("RGB")
        if self.channels == 1:
            if image.mode == "LAB":  # Pillow has no way from there to grey
                image = image.convert("RGB")
            grey = image.getchannel(0) if image.mode == "LA" else image.convert("L")
            return Bands((grey,))
        if len(image.getbands()) != self.channels or image.mode not in ("LA", "RGBA"):
            bands = f"{len(image.getbands())} (mode {image.mode})"
            hint = "; of a TIFF file Pillow reads no bands but colours and alpha: a .npy array holds any"
            raise self._unfit(path, bands + (hint if image.format == "TIFF" else ""))
        return Bands(image.split())

    def _deep(self, path: str | Path, values: npt.NDArray[Any]) -> Picture:
        """Convert a grey image (h, w) of more than 8 bits."""
        if self.channels not in (1, 3):
            raise self._unfit(path, "1")
        if self.channels == 1:
            return Bands.of(self._unit_range(path, values)[None])
        white, note = self.white, ""
        if white is None and values.dtype.kind != "f":
            white = next((white for white in WHITES if values.max() <= white), WHITES[-1])
            if white < WHITES[-1]:
                note = (
                    f"16 bits a pixel, but no value above {values.max()}: read as {white.bit_length()} bits, white is "
                    f"{white}; --white VALUE says otherwise"
                )
        unit = ImageReader(1, white)._unit_range(path, values)
        # Integers keep their upper 8 bits: then every one of the 256 levels stands for equally many values.
        levels = values * 256.0 / (white + 1) if white is not None and values.dtype.kind != "f" else unit * 255 + 0.5
        image = Image.fromarray(levels.astype(np.uint8)).convert("RGB")
        if note:
            image.info[NOTE] = note
        return image

    def _stack(self, path: str | Path, values: npt.NDArray[Any]) -> Picture:
        """Convert an array with `channels` channels on its first or last axis."""
        return self.of_channels(path, channels_first(path, values, self.channels))

    def of_channels(self, path: str | Path, values: npt.NDArray[Any]) -> Picture:
        """Convert an array (channels, h, w); ``path`` is for messages."""
        if values.dtype != np.uint8:
            return Bands.of(self._unit_range(path, values))
        return Image.fromarray(values.transpose(1, 2, 0).copy()) if self.channels == 3 else Bands.of(values)

    def _unit_range(self, path: str | Path, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """`values` of more than 8 bits divided by the white value: float32 from 0 to 1."""
        floating = values.dtype.kind == "f"
        if floating and self.white is None:
            raise DataError(
                f"{shown(path)}: expected 8 or 16 bits per channel, found floating-point numbers: give --white VALUE, "
                "the number that is white",
                "image mode",
            )
        white = WHITES[-1] if self.white is None else self.white
        if floating and not np.isfinite(values).all():
            raise DataError(f"{shown(path)}: holds numbers that are not finite", "image value")
        low, high = values.min(), values.max()
        if low < 0 or high > white:
            raise DataError(
                f"{shown(path)}: values must lie between 0 and {white:g}, found {low:g} to {high:g}; --white "
                "VALUE says which value is white",
                "image value",
            )
        scaled: npt.NDArray[np.float32] = (values / np.float64(white)).astype(np.float32)
        return scaled

    def _unfit(self, path: str | Path, found: str) -> DataError:
        return DataError(
            f"{shown(path)}: expected an image of {plural(self.channels, 'channel')}, found {found}", "image channels"
        )


RGB = ImageReader()


def open_image(path: str | Path) -> Image.Image:
    """Open an image as mode RGB with `ImageReader`. Raises DataError, also for an array of more than 8 bits."""
    picture = RGB(path)
    if isinstance(picture, Bands):
        raise DataError(f"{shown(path)}: expected 8 bits per channel, found an array of more", "image mode")
    return picture


def channels_first(path: str | Path, values: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    """View of an array (channels, h, w) or (h, w, channels) as (channels, h, w); an array (h, w) has one channel.

    Raises DataError if no axis, or both axes, could be the channels.
    """
    if values.ndim == 2:
        values = values[None]
    first, last = values.shape[0] == channels, values.shape[-1] == channels
    if first == last:
        both = f": both the first and the last axis could be the {channels} channels" if first else ""
        shape = " x ".join(map(str, values.shape))
        raise DataError(
            f"{shown(path)}: expected an array (channels, h, w) or (h, w, channels) of {channels} channels, "
            f"found {shape}{both}",
            "image channels",
        )
    return values if first else values.transpose(2, 0, 1)


def mapped_array(path: str | Path) -> npt.NDArray[Any]:
    """The memory-mapped array of a .npy file, with two or three axes. Raises DataError for anything else."""
    check_regular(path)
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise DataError(f"{shown(path)}: the content is not a .npy array", "not an image")
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if mapped.ndim not in (2, 3):
            raise DataError(f"{shown(path)}: expected 2 or 3 axes, found shape {mapped.shape}", "image channels")
        if mapped.size == 0:
            raise DataError(f"{shown(path)}: holds no pixel, found shape {mapped.shape}", "damaged file")
        if mapped.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
            raise DataError(f"{shown(path)}: expected uint8, uint16 or float32, found {mapped.dtype}", "image mode")
        return mapped
    except DataError:
        raise
    except Exception as error:  # for damaged headers, numpy raises half a dozen types
        raise undecodable(path, error) from error


def _array(path: str | Path) -> npt.NDArray[Any]:
    """The array of a .npy file in memory; it is mapped first, so that a false header cannot claim memory."""
    mapped = mapped_array(path)
    if math.prod(mapped.shape) // min(mapped.shape) > PIXEL_LIMIT:
        raise DataError(f"{shown(path)}: {mapped.shape} are more than {PIXEL_LIMIT} pixels", "image too large")
    return np.array(mapped)


def _pages(file: BinaryIO, path: str | Path) -> list[npt.NDArray[Any]]:
    """The pages (h, w) of a TIFF file, up to the first one that is not grey or differs in mode or size."""
    pages: list[npt.NDArray[Any]] = []
    kinds = set()
    try:
        with Image.open(file, formats=("TIFF",)) as lazy:
            for index in range(lazy.n_frames):
                lazy.seek(index)
                kinds.add((lazy.mode, lazy.size))
                if len(kinds) > 1 or not (lazy.mode in ("L", "F") or lazy.mode.startswith("I")):
                    break
                pages.append(np.array(lazy))
    except Exception as error:  # decoders of damaged bytes raise a dozen types
        raise undecodable(path, error) from error
    return pages
