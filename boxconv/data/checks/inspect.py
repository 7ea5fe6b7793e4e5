"""Faults and oddities of the files of one sample, which are decoded as in training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..bands import Picture
from ..class_table import VOID, ClassTable, DataError
from ..image_files import FORMATS, check_sizes, cut_border, shown
from ..image_reader import NOTE, RGB, ImageReader
from ..label_encoding import LabelEncoding
from ..label_files import open_label
from ..layouts.base import DataIssue

_ENDINGS = {
    "PNG": (".png",), "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"), "MPO": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "BMP": (".bmp",), "TIFF": (".tif", ".tiff"), "WEBP": (".webp",), "PPM": (".ppm",), "GIF": (".gif",),
    "AVIF": (".avif",),
}  # fmt: skip
_RESERVED = frozenset('<>:"|?*\\')
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Sample:
    """Files to decode: a pair, or an image or a label that has no partner.

    labelled: whether a label that is entirely void is a fault.
    border: pixels to cut off at every side of the label before its pixels are counted.
    """

    split: str
    image: Path | None
    label: Path | None
    encoding: LabelEncoding
    labelled: bool = True
    reader: ImageReader = RGB
    border: int = 0


@dataclass
class Findings:
    """The result for one sample.

    size: (height, width) of the image. pixels: label pixels of each class, and then of void. None if unreadable.
    """

    faults: list[DataIssue] = field(default_factory=list)
    warnings: list[DataIssue] = field(default_factory=list)
    size: tuple[int, int] | None = None
    pixels: list[int] | None = None


def inspect(sample: Sample, classes: ClassTable) -> Findings:
    """Decode the files of a sample and check them."""
    found = Findings()
    image = label = None
    if sample.image is not None:
        try:
            image = sample.reader(sample.image)
            found.size = (image.height, image.width)
            if sample.image.suffix.lower() != ".npy":
                found.warnings += _oddities(sample.image, sample.reader.channels)
            found.warnings += _odd_pixels(sample.image, image)
        except DataError as error:
            found.faults.append(DataIssue(sample.image, error.kind, str(error)))
    if sample.label is not None:
        try:
            label = open_label(sample.label, classes, sample.encoding)
            histogram = cut_border(label, sample.border, sample.label).histogram()
            found.pixels = [*histogram[: len(classes)], histogram[VOID]]
            if sample.labelled and not any(histogram[:VOID]):
                message = f"{shown(sample.label)}: every pixel is void, there is nothing to learn from"
                found.faults.append(DataIssue(sample.label, "label all void", message))
        except DataError as error:
            found.faults.append(DataIssue(sample.label, error.kind, str(error)))
    if image and label and sample.image and sample.label:
        try:
            check_sizes(image, label, sample.image, sample.label)
        except DataError as error:
            found.faults.append(DataIssue(sample.label, error.kind, str(error)))
    return found


def odd_names(paths: Sequence[Path]) -> list[DataIssue]:
    """Warnings about names that cause trouble on other systems, and about names that differ in case only."""
    found = []
    alike: dict[str, Path] = {}
    for path in paths:
        name = path.name
        try:
            os.fsencode(name).decode()
            reason = "control characters" if not name.isprintable() else ""
        except UnicodeDecodeError:
            reason = "bytes that are not UTF-8"
        if not reason and (name[0] == "-" or name != name.strip() or path.stem != path.stem.strip()):
            reason = "a dash or blank at its start, or a blank at its end"
        if not reason and _RESERVED.intersection(name):
            reason = f"a character that Windows reserves ({' '.join(sorted(_RESERVED.intersection(name)))})"
        if reason:
            found.append(DataIssue(path, "odd file name", f"{shown(path)}: the name has {reason}"))
        first = alike.setdefault(str(path).casefold(), path)
        if first is not path:
            message = f"{shown(path)}: differs from {shown(first)} in upper and lower case alone"
            found.append(DataIssue(path, "names alike but for case", message))
    return found


def _oddities(path: Path, channels: int) -> list[DataIssue]:
    """Warnings about an image file whose first picture can be decoded. Raises DataError if later ones are damaged."""
    found = []
    try:
        with Image.open(path, formats=FORMATS) as lazy:
            kind = lazy.format or ""
            frames = getattr(lazy, "n_frames", 1) if kind != "MPO" else 1
            orientation = lazy.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # for damaged bytes, decoders raise a dozen types
        message = f"{shown(path)}: the file is damaged behind its first picture: {error or type(error).__name__}"
        raise DataError(message, "damaged file") from error
    if path.suffix.lower() not in _ENDINGS.get(kind, ()):
        found.append(
            DataIssue(path, "wrong suffix", f"{shown(path)}: the content is {kind}, the name says {path.suffix}")
        )
    if frames > 1 and (frames != channels or channels == 3):  # otherwise the frames are the channels
        message = f"{shown(path)}: holds {frames} images, of which the first is used"
        found.append(DataIssue(path, "several images in a file", message))
    if orientation != 1:
        message = f"{shown(path)}: is turned by its EXIF orientation; its label must be turned already"
        found.append(DataIssue(path, "image turned by EXIF", message))
    return found


def _odd_pixels(path: Path, image: Picture) -> list[DataIssue]:
    """Warnings about the pixels of an image."""
    found = []
    if isinstance(image, Image.Image) and NOTE in image.info:
        found.append(DataIssue(path, "fewer bits than the file has", f"{shown(path)}: {image.info[NOTE]}"))
    extrema = image.getextrema()
    if all(low == high for low, high in extrema):
        colour = ", ".join(str(low) for low, _ in extrema)
        found.append(DataIssue(path, "blank image", f"{shown(path)}: every pixel is ({colour})"))
    return found
