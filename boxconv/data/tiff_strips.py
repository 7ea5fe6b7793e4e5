"""Reading TIFF files in parts. Each part is copied into a small TIFF file in memory, which Pillow decodes."""

import io
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from .class_table import DataError
from .image_files import PIXEL_LIMIT, shown, undecodable

# Tag numbers of the TIFF format.
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _STRIP_OFFSETS, _ORIENTATION = 256, 257, 258, 259, 273, 274
_ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_LONG = {_WIDTH, _HEIGHT, _STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES, *range(_TILE_WIDTH, _TILE_BYTES + 1)}
# Besides these: photometric interpretation, fill order, samples per pixel, predictor, colour map, extra samples, sample
# format, JPEG tables, and the subsampling of YCbCr.
_KEPT = (_BITS_PER_SAMPLE, _COMPRESSION, 262, 266, 277, 317, 320, _TILE_WIDTH, _TILE_HEIGHT, 338, 339, 347, 530)


@dataclass(frozen=True)
class TiffStrips:
    """The strips or tiles of a TIFF file, which can be decoded separately.

    `pieces` are offset and length of each strip or tile; `across` of them lie side by side, and each is `high` rows
    high. `tags` say how they are encoded.
    """

    path: Path
    width: int
    height: int
    high: int
    across: int
    pieces: tuple[tuple[int, int], ...]
    tags: dict[int, tuple[int, ...] | bytes]
    order: str
    """Byte order in the notation of `struct`: "<" or ">"."""

    @classmethod
    def of(cls, path: Path, file: TiffImageFile) -> "TiffStrips":
        """The strips or tiles of the file at ``path``. Raises DataError if it cannot be read in parts."""
        try:
            return cls._of(path, file)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, DataError):
                raise
            raise undecodable(path, error) from error

    @classmethod
    def _of(cls, path: Path, file: TiffImageFile) -> "TiffStrips":
        tags = {tag: _values(file.tag_v2[tag]) for tag in _KEPT if tag in file.tag_v2}
        width, height = file.width, file.height
        if file.tag_v2.get(_PLANAR, 1) != 1:
            raise _in_parts(path, "its channels are stored one after the other")
        if file.tag_v2.get(_ORIENTATION, 1) != 1:
            raise _in_parts(path, "it is turned by its EXIF orientation")
        tiled = _TILE_OFFSETS in file.tag_v2
        names = (_TILE_OFFSETS, _TILE_BYTES) if tiled else (_STRIP_OFFSETS, _STRIP_BYTES)
        offsets, lengths = (_values(file.tag_v2[name]) for name in names)
        pieces = tuple(zip(offsets, lengths, strict=True))
        high = int(file.tag_v2[_TILE_HEIGHT] if tiled else min(file.tag_v2.get(_ROWS_PER_STRIP, height), height))
        across = math.ceil(width / file.tag_v2[_TILE_WIDTH]) if tiled else 1
        if file.tag_v2.get(_COMPRESSION, 1) == 1 and not tiled:
            high, pieces = _in_rows(pieces, high, height, width * sum(tags.get(_BITS_PER_SAMPLE, (1,))))
        size = os.path.getsize(path)
        if len(pieces) != math.ceil(height / high) * across or any(
            start < 8 or length < 1 or start + length > size for start, length in pieces
        ):
            raise DataError(
                f"{shown(path)}: the file is damaged: its strips or tiles are not all there", "damaged file"
            )
        if high * width > PIXEL_LIMIT:
            raise _in_parts(path, f"it is compressed in strips of {high} rows")
        order = ">" if file.tag_v2.prefix == b"MM" else "<"
        return cls(path, width, height, high, across, pieces, tags, order)

    def read(self, top: int, bottom: int) -> Image.Image:
        """Decode the rows from ``top`` up to, but not including, ``bottom``. Raises DataError for damaged rows."""
        first, last = top // self.high, math.ceil(bottom / self.high)
        pieces = self.pieces[first * self.across : last * self.across]
        rows = min(last * self.high, self.height) - first * self.high
        try:
            with open(self.path, "rb") as file:
                encoded = [_read_at(file, start, length) for start, length in pieces]
            with TiffImageFile(io.BytesIO(self._file(rows, encoded))) as image:
                image.load()
                return image.crop((0, top - first * self.high, self.width, bottom - first * self.high))
        except Exception as error:  # for damaged bytes, decoders raise a dozen types
            raise undecodable(self.path, error) from error

    def _file(self, rows: int, pieces: list[bytes]) -> bytes:
        """The bytes of a TIFF file with these pieces: header, pieces, directory."""
        offsets = [8]
        for piece in pieces:
            offsets.append(offsets[-1] + len(piece) + len(piece) % 2)
        tiled = _TILE_HEIGHT in self.tags
        where, bytes_of = (_TILE_OFFSETS, _TILE_BYTES) if tiled else (_STRIP_OFFSETS, _STRIP_BYTES)
        tags: dict[int, tuple[int, ...] | bytes] = self.tags | {
            _WIDTH: (self.width,),
            _HEIGHT: (rows,),
            where: tuple(offsets[:-1]),
            bytes_of: tuple(map(len, pieces)),
        }
        if not tiled:
            tags[_ROWS_PER_STRIP] = (self.high,)
        start = offsets.pop()
        values_at = start + 2 + 12 * len(tags) + 4
        entries, values = b"", b""
        for tag, value in sorted(tags.items()):
            kind, letter = (7, "B") if isinstance(value, bytes) else (4, "L") if tag in _LONG else (3, "H")
            packed = struct.pack(f"{self.order}{len(value)}{letter}", *value)
            inline = packed.ljust(4, b"\0")
            if len(packed) > 4:
                inline = struct.pack(f"{self.order}L", values_at + len(values))
                values += packed + b"\0" * (len(packed) % 2)
            entries += struct.pack(f"{self.order}HHL", tag, kind, len(value)) + inline
        header = struct.pack(f"{self.order}2sHL", b"MM" if self.order == ">" else b"II", 42, start)
        body = b"".join(piece + b"\0" * (len(piece) % 2) for piece in pieces)
        return header + body + struct.pack(f"{self.order}H", len(tags)) + entries + bytes(4) + values


def _values(value: Any) -> Any:
    """A tag's value as Pillow gives it; numbers always as a tuple."""
    return value if isinstance(value, bytes | tuple) else (value,)


def _in_rows(pieces: Any, high: int, height: int, bits: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Divide uncompressed strips, which may be as high as the image, into rows: the new height and the new pieces."""
    length = (bits + 7) // 8
    rows = (pieces[row // high][0] + row % high * length for row in range(height))
    return 1, tuple((start, length) for start in rows)


def _read_at(file: Any, start: int, length: int) -> bytes:
    file.seek(start)
    content: bytes = file.read(length)
    return content


def _in_parts(path: Path, reason: str) -> DataError:
    return DataError(
        f"{shown(path)}: more than {PIXEL_LIMIT} pixels, and this TIFF file cannot be read in parts: {reason}; "
        "expected tiles or low strips, the channels of a pixel together",
        "image too large",
    )
