"""Label files: which formats are read, and their pixels; `label_encoding` says which class a value or colour is."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .class_table import ClassTable, DataError
from .image_files import FORMATS as IMAGE_FORMATS
from .image_files import decode, loses_bits, opened, shown, undecodable
from .label_encoding import UNKNOWN, ColourEncoding, LabelEncoding, ValueEncoding, index_encoding
from .polygons import read_polygons

FORMATS = ("PNG", "TIFF", "BMP")
SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".json"})
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")
"""Formats of files, and compressions in TIFF files, that change values or may change them."""

# Pillow spreads the values of 2- and 4-bit grey PNG and TIFF files over 0..255, by these factors.
_SPREAD = {"L;2": 85, "L;4": 17}

_MODES = {"F": "floating-point numbers", "CMYK": "colours of a printer", "YCbCr": "colours of a video"}

Pixels = npt.NDArray[Any]


def open_label(path: str | Path, classes: ClassTable, encoding: LabelEncoding | None = None) -> Image.Image:
    """Open a label file as a Pillow image of mode L with the classes 0..K-1 and 255 for void.

    A .json file contains polygons. Any other file must be PNG, TIFF or BMP, and `encoding` says what its pixels mean;
    by default the values of the class table. Raises DataError, naming the file, if it cannot be decoded, or if pixels
    have no meaning or an ambiguous one.
    """
    if Path(path).suffix.lower() == ".json":
        return read_polygons(path, classes)
    encoding = encoding or index_encoding(classes)
    if isinstance(encoding, ColourEncoding):
        pixels, kind = _in_colours(path, encoding), "colour not in the palette"
    else:
        pixels, kind = label_pixels(path), "label value"
        if pixels.ndim == 3:
            raise _unfit(
                path, "found colours: palette.csv in the data folder, or --palette FILE, names them (docs/data.md)"
            )
    labels = encoding.decode(pixels)
    unknown = labels == UNKNOWN
    if unknown.any():
        raise DataError(f"{shown(path)}: {encoding.explain(pixels, unknown)}", kind)
    if isinstance(encoding, ValueEncoding) and (doubt := encoding.doubts(pixels)):
        raise DataError(f"{shown(path)}: {doubt}", "other kind of label")
    return Image.fromarray(labels.astype(np.uint8))


def label_pixels(path: str | Path, *, coloured: bool = False) -> Pixels:
    """The pixels of a label file: values (h, w), or colours (h, w, 3) unless all of them are grey.

    A file with one bit per pixel gives 0 and 1, a file with a colour table gives its indices. With `coloured`, the
    first gives 0 and 255, the second the colours of its table. Raises DataError naming the file.
    """
    try:
        with opened(path) as file:
            image, raw_mode = decode(file, path, FORMATS)
    except DataError as error:
        if error.kind == "not an image" and (found := _format_of(path)) is not None:
            raise other_format(path, found) from error
        raise
    if image.format == "TIFF":
        _check_tiff(path, image)
    if loses_bits(image, raw_mode):
        raise _unfit(path, "found 16 bits in each of several channels, of which 8 can be read")
    image.info.pop("transparency", None)
    if image.mode in ("LA", "RGBA"):
        image = _opaque(path, image)
    if image.mode == "P" and coloured:
        image = image.convert("RGB")
    if image.mode not in ("1", "L", "P", "RGB") and not image.mode.startswith("I"):
        raise _unfit(path, f"found mode {image.mode} ({_MODES.get(image.mode, 'no values of classes')})")
    pixels: Pixels = np.asarray(image)
    if image.mode == "1":
        return pixels.astype(np.uint8) * np.uint8(255 if coloured else 1)
    if raw_mode in _SPREAD:
        return pixels // np.uint8(_SPREAD[raw_mode])
    if pixels.ndim == 3 and bool((pixels == pixels[..., :1]).all()):
        return pixels[..., 0]
    return pixels


def _in_colours(path: str | Path, encoding: ColourEncoding) -> Pixels:
    pixels = label_pixels(path, coloured=True)
    if pixels.ndim == 3:
        return pixels
    # Greys are colours if all of them are in the palette.
    if not {(value, value, value) for value in np.unique(pixels).tolist()} <= dict(encoding.colours).keys():
        raise _unfit(path, f"found grey values, expected a label in colours: {encoding.described}")
    return np.stack([pixels] * 3, -1).astype(np.uint8)


def _opaque(path: str | Path, image: Image.Image) -> Image.Image:
    """The image without its alpha channel. Raises DataError if any pixel is transparent."""
    transparent = int((np.asarray(image.getchannel("A")) < 255).sum())
    if transparent:
        raise _unfit(path, f"found {transparent} transparent pixels, which have no defined meaning")
    return image.convert(image.mode.removesuffix("A"))


def _check_tiff(path: str | Path, image: Image.Image) -> None:
    compression = str(image.info.get("compression")).upper()
    if any(name in compression for name in LOSSY):
        raise other_format(path, f"TIFF with {compression} compression")
    try:
        with Image.open(path, formats=("TIFF",)) as lazy:
            pages = lazy.n_frames
    except Exception as error:  # for damaged bytes, decoders raise a dozen types
        raise undecodable(path, error) from error
    if pages > 1:
        raise _unfit(path, f"found {pages} pages")


def other_format(path: str | Path, found: str) -> DataError:
    """The error for a label file of another format, or with another compression, than those that are read."""
    advice = "save the labels as PNG"
    if any(name in found for name in LOSSY):
        advice = "its values have changed: write the label again, as PNG, from where it was made, not from this file"
    message = f"{shown(path)}: labels must be PNG, TIFF or BMP files, found {found}: {advice}"
    return DataError(message, "label format")


def _format_of(path: str | Path) -> str | None:
    """The format of an image file that holds no label; None if it is not an image."""
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as lazy:
            return lazy.format
    except Exception:  # for damaged bytes, decoders raise a dozen types
        return None


def _unfit(path: str | Path, found: str) -> DataError:
    return DataError(f"{shown(path)}: a label must hold one value or colour per pixel, {found}", "label mode")
