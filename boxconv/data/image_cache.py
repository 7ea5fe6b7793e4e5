"""Resized images and labels on disk, so that later epochs need not decode large files again."""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import write_atomic
from .bands import Bands, Picture
from .class_table import DataError
from .image_files import shown
from .layouts.base import Pair

_HEADER = struct.Struct("<16sIII")  # signature, height, width, CRC-32 of the pixels


@dataclass(frozen=True)
class ImageCache:
    """Pairs resized to `size` = (h, w), one file each in `folder`, with four bytes per pixel: red, green, blue, label.

    Images are resized bilinearly and labels by nearest neighbour, as `EvalTransform` does it, so the scores of an
    evaluation do not depend on the cache. `Augment` scales the resized image instead of the original one.

    An entry is written again if it is damaged, or if any of these has changed: `size`, the `settings` of the data set,
    the size or the modification time of one of the two files. Several processes may share the folder, and it may be
    deleted at any time.
    """

    folder: Path
    size: tuple[int, int]

    def get(
        self, pair: Pair, settings: Any, read: Callable[[], tuple[Picture, Image.Image]]
    ) -> tuple[Image.Image, Image.Image]:
        """Image and label of `pair`, resized, from the cache; if they are not in it, from `read`, and then stored.

        Raises DataError for images other than 8-bit RGB, OSError if the entry cannot be written.
        """
        path = self.path(pair)
        signature = _digest(self.size, settings, *(_state(file) for file in pair))
        kept = _load(path, signature)
        if kept is None:
            image, label = read()
            if isinstance(image, Bands):
                raise DataError(f"{shown(pair.image)}: the cache keeps 3 channels of 8 bits only: leave out --cache")
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
            label = label.resize(self.size[::-1], Image.Resampling.NEAREST)
            kept = np.dstack([np.asarray(image), np.asarray(label)])
            _store(path, signature, kept)
        return Image.fromarray(kept[..., :3].copy()), Image.fromarray(kept[..., 3].copy())

    def path(self, pair: Pair) -> Path:
        """The file of a pair. Its name depends on the absolute paths of image and label, and on `size`."""
        name = _digest(self.size, *(os.fsencode(os.path.abspath(file)) for file in pair)).hex()
        return self.folder / name[:2] / f"{name}.rgbl"


def _digest(*parts: Any) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # reading the file will say why
    return status.st_size, status.st_mtime_ns


def _load(path: Path, signature: bytes) -> np.ndarray | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) < _HEADER.size:
        return None
    made_for, h, w, checksum = _HEADER.unpack_from(content)
    pixels = memoryview(content)[_HEADER.size :]
    if made_for != signature or len(pixels) != 4 * h * w or zlib.crc32(pixels) != checksum:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(h, w, 4)


def _store(path: Path, signature: bytes, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _HEADER.pack(signature, *pixels.shape[:2], zlib.crc32(pixels.tobytes()))
    write_atomic(path, header + pixels.tobytes())
