"""Finding and opening image and label files, which may be damaged, huge, of another format, or not files at all.

Every such problem is raised as a `DataError` that names the file. Nothing is ever written.
"""

import importlib.util
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from .bands import Picture
from .class_table import DataError

SUFFIXES = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif", ".avif", ".npy",
    }
)  # fmt: skip
AVIF = ("AVIF",) if importlib.util.find_spec("PIL.AvifImagePlugin") else ()  # since Pillow 11.3
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF", *AVIF)

PIXEL_LIMIT = 2**26
"""Images with more pixels (8192 x 8192) are refused before they are decoded. Pillow's own limit is larger, and Pillow
only warns there, so no image that Pillow takes for a decompression bomb is read."""

_IN_PARTS = "; only TIFF files and .npy arrays are read in parts, by boxconv predict"

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


def shown(path: str | os.PathLike[str]) -> str:
    """The path for a message: one printable line, also if the name holds a newline or bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(path))


def entries(folder: str | Path) -> list[Path]:
    """The entries of a folder, sorted, without hidden files and those that Windows and macOS leave behind.

    Raises DataError if the folder cannot be listed.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot list the folder: {error.strerror}", "missing folder") from error
    return [Path(folder, name) for name in sorted(names) if name[0] != "." and name.lower() not in _SYSTEM_FILES]


def images_in(folder: str | Path, suffixes: frozenset[str] = SUFFIXES) -> list[Path]:
    """Entries of the folder itself whose suffix, in upper or lower case, is one of `suffixes`; sorted by name."""
    return [path for path in entries(folder) if path.suffix.lower() in suffixes]


def images_below(folder: Path, but: Path) -> list[Path]:
    """All images in a folder and its sub-folders, except in the sub-folder `but`, which may hold results; sorted."""
    return [path for path in _files_below(folder, but) if path.suffix.lower() in SUFFIXES]


def left_out(folder: Path, but: Path) -> Counter[str]:
    """How many files of each kind `images_below` ignores; links to folders are not followed."""
    return Counter(kind_of(path) for path in _files_below(folder, but) if path.suffix.lower() not in SUFFIXES)


def kind_of(path: Path) -> str:
    """The kind of a file for messages: its suffix, or words if it has none."""
    return shown(path.suffix.lower()) or ("folder" if path.is_dir() else "without suffix")


def counted(kinds: Iterable[str]) -> str:
    """How many of each kind, the most frequent first: "5 .txt, 1 .pdf"."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common())


def _files_below(folder: Path, but: Path) -> list[Path]:
    found = []
    for path in entries(folder):
        if not path.is_dir() or path.is_symlink():
            found.append(path)
        elif path.resolve() != but.resolve():
            found += _files_below(path, but)
    return found


def check_regular(path: str | Path) -> None:
    """Raise DataError unless `path` is a file or a link to one. Opening a named pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        link = f" (a link to {shown(os.readlink(path))})" if os.path.islink(path) else ""
        raise DataError(f"{shown(path)}: cannot be read{link}: {error.strerror}", "unreadable file") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise DataError(f"{shown(path)}: expected a file, found {what}", "not a file")


def check_sizes(image: Picture, label: Image.Image, image_path: str | Path, label_path: str | Path) -> None:
    """Raise DataError unless image and label have the same width and height."""
    if image.size != label.size:
        turned = image.size == label.size[::-1]
        raise DataError(
            f"{shown(label_path)}: the label is {label.width} x {label.height} pixels (width x height), "
            f"its image {shown(image_path)} is {image.width} x {image.height}"
            + ("; was it drawn before the EXIF orientation of the image was applied?" if turned else ""),
            "sizes differ",
        )


def cut_border(image: Any, border: int, path: str | Path) -> Any:
    """`image` without `border` pixels at each side. Raises DataError if nothing would be left."""
    if border == 0:
        return image
    if min(image.size) <= 2 * border:
        found = f"{image.width} x {image.height} pixels"
        raise DataError(f"{shown(path)}: {found} leave nothing without a border of {border}", "image too small")
    return image.crop((border, border, image.width - border, image.height - border))


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """Open the file at ``path`` for reading. Raises DataError if it cannot be read."""
    check_regular(path)
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise undecodable(path, error) from error


def decode(file: BinaryIO, name: str | Path, formats: tuple[str, ...]) -> tuple[Image.Image, str]:
    """The decoded image of an open file, and Pillow's raw mode of the file or ""; ``name`` is for messages.

    Raises DataError if the file cannot be decoded.
    """
    try:
        if file.seek(0, os.SEEK_END) == 0:
            raise DataError(f"{shown(name)}: the file is empty", "damaged file")
        file.seek(0)
        image = Image.open(file, formats=formats)
        if image.width * image.height > PIXEL_LIMIT:
            found = f"{image.width} x {image.height} pixels"
            raise DataError(f"{shown(name)}: {found} are more than {PIXEL_LIMIT}{_IN_PARTS}", "image too large")
        raw_mode = raw_mode_of(image)
        image.load()
    except DataError:
        raise
    except UnidentifiedImageError as error:
        message = f"{shown(name)}: the content is not an image of kind {', '.join(formats)}"
        raise DataError(message, "not an image") from error
    except Exception as error:  # for damaged bytes, decoders raise a dozen types, even SyntaxError and struct.error
        raise undecodable(name, error) from error
    return image, raw_mode


def raw_mode_of(image: Image.Image) -> str:
    """Pillow's raw mode of a file that is open but not yet loaded; "" if its format has none."""
    tiles = getattr(image, "tile", [])  # of an image from a file
    arguments = tiles[0][3] if tiles else ""
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments  # a tuple in TIFF files
    return raw_mode if isinstance(raw_mode, str) else ""


def loses_bits(image: Image.Image, raw_mode: str) -> bool:
    """Whether a file has 16 bits in each of several channels, of which Pillow keeps the upper 8."""
    return len(image.getbands()) > 1 and raw_mode.endswith((";16L", ";16B", ";16N"))


def undecodable(path: str | Path, error: Exception) -> DataError:
    if isinstance(error, PermissionError):
        return DataError(f"{shown(path)}: cannot be read: {error.strerror}", "unreadable file")
    if isinstance(error, Image.DecompressionBombError):
        return DataError(f"{shown(path)}: more than {PIXEL_LIMIT} pixels{_IN_PARTS}", "image too large")
    return DataError(f"{shown(path)}: the file is damaged: {error or type(error).__name__}", "damaged file")
