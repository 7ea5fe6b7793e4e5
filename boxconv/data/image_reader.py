"""Opening the images of a network: as many channels as it takes, each of a stated range."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .bands import Bands, Picture
from .classes import DataError
from .image_files import FORMATS, PIXEL_LIMIT, check_regular, decode, opened, shown, undecodable

WHITES = (255, 4095, 65535)
"""Of 8, 12 and 16 bits."""

NOTE = "note"
"""Key in the `info` of a Pillow image that was not simply read: what was done to it, for a message."""


@dataclass(frozen=True)
class ImageReader:
    """Opens image files as pictures of `channels` channels. DataError, naming the file, for what cannot be one.

    3: mode RGB, 8 bits. Grey, palette and CMYK files are converted, alpha is dropped, not blended.
    1: grey; colours are converted (ITU-R 601-2 luma).
    2, 4: grey with alpha; red, green, blue and alpha, which may hold depth.
    Any number: .npy arrays (channels, h, w) or (h, w, channels), and TIFF files of so many grey pages.

    Files are turned upright by their EXIF orientation; of an animation or a file of several pages the first one counts.

    `white` is the value that becomes 1 in files of more than 8 bits. Left out it is 65535 for 16 bits, but, for 3
    channels, 4095 or 255 in a file without larger values: 12 or 8 bits, which is noted. Floating-point numbers need it.
    Values below 0 or above it are an error.
    """

    channels: int = 3
    white: float | None = None

    def __call__(self, path: str | Path) -> Picture:
        if Path(path).suffix.lower() == ".npy":
            return self._stack(path, _array(path))
        with opened(path) as file:
            return self.read(file, path)

    def read(self, file: BinaryIO, path: str | Path) -> Picture:
        """The same of a file that is open already, as uploads are; ``path`` is its name in messages. No .npy arrays."""
        image = decode(file, path, FORMATS)[0]
        if self.channels not in (1, 3) and image.format == "TIFF" and len(pages := _pages(file, path)) == self.channels:
            return self._stack(path, np.stack(pages))
        try:
            ImageOps.exif_transpose(image, in_place=True)
        except Exception as error:
            raise undecodable(path, error) from error
        image.info.pop("transparency", None)
        if image.mode.startswith("I") or image.mode == "F":
            return self._deep(path, np.asarray(image))
        if self.channels == 3:
            return image.convert("RGB")
        if self.channels == 1:
            grey = image.getchannel(0) if image.mode == "LA" else image.convert("L")
            return Bands((grey,))
        if len(image.getbands()) != self.channels or image.mode not in ("LA", "RGBA"):
            bands = f"{len(image.getbands())} (mode {image.mode})"
            hint = "; of a TIFF file Pillow reads no bands but colours and alpha: a .npy array holds any"
            raise self._unfit(path, bands + (hint if image.format == "TIFF" else ""))
        return Bands(image.split())

    def _deep(self, path: str | Path, values: npt.NDArray[Any]) -> Picture:
        """A grey image (h, w) of more than 8 bits."""
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
        # Of integers the upper 8 bits: as many values for each of the 256, which rounding would not give.
        levels = values * 256.0 / (white + 1) if white is not None and values.dtype.kind != "f" else unit * 255 + 0.5
        image = Image.fromarray(levels.astype(np.uint8)).convert("RGB")
        if note:
            image.info[NOTE] = note
        return image

    def _stack(self, path: str | Path, values: npt.NDArray[Any]) -> Picture:
        """An array of any layout that holds `channels` channels."""
        if values.ndim == 2:
            values = values[None]
        first, last = values.shape[0] == self.channels, values.shape[-1] == self.channels
        if first == last:
            both = f": both the first and the last axis could be the {self.channels} channels" if first else ""
            shape = " x ".join(map(str, values.shape))
            raise DataError(
                f"{shown(path)}: expected an array (channels, h, w) or (h, w, channels) of {self.channels} channels, "
                f"found {shape}{both}",
                "image channels",
            )
        values = values if first else values.transpose(2, 0, 1)
        if values.dtype != np.uint8:
            return Bands.of(self._unit_range(path, values))
        return Image.fromarray(values.transpose(1, 2, 0).copy()) if self.channels == 3 else Bands.of(values)

    def _unit_range(self, path: str | Path, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """`values` of more than 8 bits divided by what is white, float32 in 0 to 1."""
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
            f"{shown(path)}: expected an image of {self.channels} channels, found {found}", "image channels"
        )


RGB = ImageReader()


def open_image(path: str | Path) -> Image.Image:
    """Mode RGB: what an `ImageReader` of three channels opens. DataError for an array of more than 8 bits."""
    picture = RGB(path)
    if isinstance(picture, Bands):
        raise DataError(f"{shown(path)}: expected 8 bits per channel, found an array of more", "image mode")
    return picture


def _array(path: str | Path) -> npt.NDArray[Any]:
    """The array of a .npy file of two or three axes."""
    check_regular(path)
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise DataError(f"{shown(path)}: the content is not a .npy array", "not an image")
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # takes no memory for what a header only claims
        if mapped.ndim not in (2, 3):
            raise DataError(f"{shown(path)}: expected 2 or 3 axes, found shape {mapped.shape}", "image channels")
        if math.prod(mapped.shape) // min(mapped.shape) > PIXEL_LIMIT:
            raise DataError(f"{shown(path)}: {mapped.shape} are more than {PIXEL_LIMIT} pixels", "image too large")
        if mapped.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
            raise DataError(f"{shown(path)}: expected uint8, uint16 or float32, found {mapped.dtype}", "image mode")
        return np.array(mapped)
    except DataError:
        raise
    except Exception as error:  # headers of damaged bytes raise half a dozen types
        raise undecodable(path, error) from error


def _pages(file: BinaryIO, path: str | Path) -> list[npt.NDArray[Any]]:
    """The pages of a TIFF file (h, w) as long as they are grey and of one kind and size."""
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
