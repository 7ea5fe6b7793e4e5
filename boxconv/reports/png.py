"""Writing PNG files some rows at a time. Pillow would need the whole picture in memory, with four bytes per pixel."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..files import write_atomic

_BAND_PIXELS = 2**20
_GREY, _COLOUR = 0, 2
_UP = 2  # the PNG filter that subtracts the row above, which leaves mostly zeros in label maps


def bands(height: int, width: int) -> Iterator[slice]:
    """Slices of consecutive rows, with about a million pixels each, that cover a picture."""
    rows = max(1, _BAND_PIXELS // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def write_png_bands(path: Path, height: int, parts: Iterable[npt.NDArray[Any]]) -> None:
    """Write a picture of ``height`` rows from its ``parts``, from top to bottom.

    Each part is (rows, w), uint8 or uint16, or (rows, w, 3), uint8. Raises OSError naming ``path``.
    """

    def write(file: BinaryIO) -> None:
        file.write(b"\x89PNG\r\n\x1a\n")
        compress = zlib.compressobj(3)
        above: npt.NDArray[np.uint8] | None = None
        for part in parts:
            samples = part.astype(">u2") if part.dtype == np.uint16 else np.ascontiguousarray(part)
            rows = samples.reshape(len(part), -1).view(np.uint8)
            if above is None:
                kind = _COLOUR if part.ndim == 3 else _GREY
                header = struct.pack(">2I5B", part.shape[1], height, 8 * part.itemsize, kind, 0, 0, 0)
                _chunk(file, b"IHDR", header)
                above = np.zeros_like(rows[0])
            filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
            filtered[:, 0] = _UP
            filtered[0, 1:] = rows[0] - above
            filtered[1:, 1:] = rows[1:] - rows[:-1]
            above = rows[-1]
            if encoded := compress.compress(filtered.data):
                _chunk(file, b"IDAT", encoded)
        _chunk(file, b"IDAT", compress.flush())
        _chunk(file, b"IEND", b"")

    write_atomic(path, write)


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content)
    file.write(struct.pack(">I", zlib.crc32(kind + content)))
