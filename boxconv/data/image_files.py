"""Opening image and label files that may be anything: damaged, huge, of another kind, or no files at all.

Whatever is wrong becomes a `DataError` that names the file. Nothing is ever written.
"""

import os
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .classes import ClassTable, DataError
from .label_encoding import UNKNOWN, ColourEncoding, LabelEncoding, ValueEncoding, index_encoding

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")

PIXEL_LIMIT = 2**26
"""Larger images (8192 x 8192) are refused before memory is taken for them. It is less than Pillow's own limit, at which
Pillow only warns, so no image is read that Pillow holds for a decompression bomb."""

_MODES = {
    "1": "a 1-bit mask",
    "LA": "grey with alpha",
    "RGB": "colours: colour-coded labels need a palette file, see --palette",
    "RGBA": "colours with alpha: colour-coded labels need a palette file, see --palette",
    "I": "more than 8 bits",
    "I;16": "16 bits",
    "F": "floating-point numbers",
}

# Pillow spreads the values of 2- and 4-bit grey PNG files over 0..255; this factor was applied.
_SPREAD = {"L;2": 85, "L;4": 17}

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


def shown(path: str | os.PathLike[str]) -> str:
    """The path for a message: one printable line, also if the name holds a newline or bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(path))


def entries(folder: str | Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files and the ones that Windows and macOS leave behind."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot list the folder: {error.strerror}", "missing folder") from error
    return [Path(folder, name) for name in sorted(names) if name[0] != "." and name.lower() not in _SYSTEM_FILES]


def images_in(folder: str | Path) -> list[Path]:
    """Everything in the folder, not below it, whose suffix (in any case) is one of `SUFFIXES`; sorted by name."""
    return [path for path in entries(folder) if path.suffix.lower() in SUFFIXES]


def check_regular(path: str | Path) -> None:
    """DataError unless `path` is a file or a link to one. Opening a named pipe would wait forever, so ask before."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        link = f" (a link to {shown(os.readlink(path))})" if os.path.islink(path) else ""
        raise DataError(f"{shown(path)}: cannot be read{link}: {error.strerror}", "unreadable file") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise DataError(f"{shown(path)}: expected a file, found {what}", "not a file")


def open_image(path: str | Path) -> Image.Image:
    """Mode RGB, decoded fully, turned upright by its EXIF orientation.

    Grey, palette and CMYK images are converted; alpha is dropped, not blended; of 16 bits the upper 8 are kept; of an
    animation or a multi-page file the first image. Floating-point images are refused: they have no range.
    """
    image = _decoded(path, FORMATS)[0]
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:
        raise _undecodable(path, error) from error
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{shown(path)}: expected at most 16 bits per channel, found 32", "image mode")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise DataError(f"{shown(path)}: expected 8 or 16 bits per channel, found floating-point numbers", "image mode")
    image.info.pop("transparency", None)
    return image.convert("RGB")


def open_label(path: str | Path, classes: ClassTable, encoding: LabelEncoding | None = None) -> Image.Image:
    """Mode L, decoded fully: 0..K-1 are classes, everything that means void has become 255.

    The file is a PNG. `encoding` says what its pixels mean, by default that the byte (mode L) or the palette index
    (mode P) is the class. For colours the mode is RGB or P. Other modes, and pixels that mean nothing, are errors.
    """
    encoding = encoding or index_encoding(classes)
    image, raw_mode = _decoded(path, ("PNG",))
    if isinstance(encoding, ColourEncoding):
        if image.mode not in ("RGB", "P"):
            raise DataError(
                f"{shown(path)}: expected a label in colours (mode RGB or P), found mode {image.mode} "
                f"({_MODES.get(image.mode, 'grey values')})",
                "label mode",
            )
        image.info.pop("transparency", None)
        pixels = np.asarray(image.convert("RGB"))
    else:
        if image.mode not in ("L", "P"):
            raise DataError(
                f"{shown(path)}: expected a label of one byte per pixel, the class index (mode L or P), "
                f"found mode {image.mode} ({_MODES.get(image.mode, 'not an index')})",
                "label mode",
            )
        pixels = np.asarray(image)
        if raw_mode in _SPREAD:
            pixels = pixels // np.uint8(_SPREAD[raw_mode])
    labels = encoding.decode(pixels)
    unknown = labels == UNKNOWN
    if unknown.any():
        kind = "colour not in the palette" if isinstance(encoding, ColourEncoding) else "label value"
        raise DataError(f"{shown(path)}: {encoding.explain(pixels, unknown)}", kind)
    if isinstance(encoding, ValueEncoding) and (doubt := encoding.doubts(pixels)):
        raise DataError(f"{shown(path)}: {doubt}", "other kind of label")
    return Image.fromarray(labels.astype(np.uint8))


def check_sizes(image: Image.Image, label: Image.Image, image_path: str | Path, label_path: str | Path) -> None:
    """DataError unless both have the same width and height."""
    if image.size != label.size:
        turned = image.size == label.size[::-1]
        raise DataError(
            f"{shown(label_path)}: the label is {label.width} x {label.height} pixels (width x height), "
            f"its image {shown(image_path)} is {image.width} x {image.height}"
            + ("; was it drawn before the EXIF orientation of the image was applied?" if turned else ""),
            "sizes differ",
        )


def cut_border(image: Image.Image, border: int, path: str | Path) -> Image.Image:
    """`image` without `border` pixels at each side. DataError where nothing would be left."""
    if border == 0:
        return image
    if min(image.size) <= 2 * border:
        found = f"{image.width} x {image.height} pixels"
        raise DataError(f"{shown(path)}: {found} leave nothing without a border of {border}", "image too small")
    return image.crop((border, border, image.width - border, image.height - border))


def _decoded(path: str | Path, formats: tuple[str, ...]) -> tuple[Image.Image, str]:
    """The decoded image and the raw mode of its file: "" where there is none."""
    check_regular(path)
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise DataError(f"{shown(path)}: the file is empty", "damaged file")
            image = Image.open(file, formats=formats)
            if image.width * image.height > PIXEL_LIMIT:
                found = f"{image.width} x {image.height} pixels"
                raise DataError(f"{shown(path)}: {found} are more than {PIXEL_LIMIT}", "image too large")
            raw_mode = image.tile[0][3] if image.tile else ""
            image.load()
    except DataError:
        raise
    except UnidentifiedImageError as error:
        message = f"{shown(path)}: the content is not an image of kind {', '.join(formats)}"
        raise DataError(message, "not an image") from error
    except Exception as error:  # decoders of damaged bytes raise a dozen types, SyntaxError and struct.error among them
        raise _undecodable(path, error) from error
    return image, raw_mode if isinstance(raw_mode, str) else ""


def _undecodable(path: str | Path, error: Exception) -> DataError:
    if isinstance(error, PermissionError):
        return DataError(f"{shown(path)}: cannot be read: {error.strerror}", "unreadable file")
    if isinstance(error, Image.DecompressionBombError):
        return DataError(f"{shown(path)}: more than {PIXEL_LIMIT} pixels", "image too large")
    return DataError(f"{shown(path)}: the file is damaged: {error or type(error).__name__}", "damaged file")
