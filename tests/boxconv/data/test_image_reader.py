"""Images with any number of channels, with 8 bits or more: how values are converted, and what is refused."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_trees import png, tiff
from PIL import Image

from boxconv.data.bands import Bands, as_rgb, from_pillow
from boxconv.data.class_table import DataError
from boxconv.data.image_reader import NOTE, ImageReader
from boxconv.data.transforms import unit_range

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
FOUR = RANDOM.integers(0, 256, (6, 9, 4), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (6, 9), dtype=np.uint16)
TWELVE = RANDOM.integers(0, 4096, (6, 9), dtype=np.uint16)
STACK = RANDOM.integers(0, 65536, (5, 6, 9), dtype=np.uint16)
METRES = RANDOM.random((6, 9), dtype=np.float32) * 8


def write(folder: Path, name: str, values: np.ndarray) -> Path:
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, values)
    elif values.ndim == 3 and len(values) == 5:
        pages = [Image.fromarray(page) for page in values]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    else:
        Image.fromarray(values).save(path)
    return path


LUMA = np.asarray(Image.fromarray(COLOUR).convert("L"))

# File, its values, channels, white, and what the network sees: (channels, h, w) of 0 to 1.
READ: list[tuple[str, np.ndarray, int, float | None, np.ndarray]] = [
    ("grey.png", GREY, 1, None, GREY[None] / 255),
    ("grey.tif", GREY, 1, None, GREY[None] / 255),
    ("colours as grey.png", COLOUR, 1, None, LUMA[None] / 255),
    ("16 bits.png", DEEP, 1, None, DEEP[None] / 65535),
    ("16 bits.tif", DEEP, 1, None, DEEP[None] / 65535),
    ("12 bits of a grey network.png", TWELVE, 1, None, TWELVE[None] / 65535),
    ("12 bits.png", TWELVE, 1, 4095, TWELVE[None] / 4095),
    ("metres.tif", METRES, 1, 8.0, METRES[None] / 8),
    ("metres.npy", METRES, 1, 8.0, METRES[None] / 8),
    ("grey with alpha.png", FOUR[..., :2], 2, None, FOUR[..., :2].transpose(2, 0, 1) / 255),
    ("rgba.png", FOUR, 4, None, FOUR.transpose(2, 0, 1) / 255),
    ("rgba.tif", FOUR, 4, None, FOUR.transpose(2, 0, 1) / 255),
    ("channels last.npy", FOUR, 4, None, FOUR.transpose(2, 0, 1) / 255),
    ("channels first.npy", FOUR.transpose(2, 0, 1), 4, None, FOUR.transpose(2, 0, 1) / 255),
    ("stack.npy", STACK, 5, None, STACK / 65535),
    ("stack, big-endian.npy", STACK.astype(">u2"), 5, None, STACK / 65535),
    ("stack of 12 bits.npy", STACK >> 4, 5, 4095, (STACK >> 4) / 4095),
    ("stack of floats.npy", STACK / np.float32(2**16), 5, 1.0, STACK / 2**16),
    ("pages.tif", STACK, 5, None, STACK / 65535),
    ("colours.npy", COLOUR, 3, None, COLOUR.transpose(2, 0, 1) / 255),
    ("deep colours.npy", STACK[:3], 3, None, STACK[:3] / 65535),
    ("colours.png", COLOUR, 3, None, COLOUR.transpose(2, 0, 1) / 255),
    ("16 bits for three.png", DEEP, 3, None, np.stack([DEEP >> 8] * 3) / 255),
    ("12 bits for three.png", TWELVE, 3, None, np.stack([TWELVE >> 4] * 3) / 255),
    ("12 bits for three, as 16.png", TWELVE, 3, 65535, np.stack([TWELVE >> 8] * 3) / 255),
    ("8 of 16 bits.png", GREY.astype(np.uint16), 3, None, np.stack([GREY] * 3) / 255),
    ("metres for three.tif", METRES, 3, 8.0, np.stack([np.round(METRES * 255 / 8)] * 3) / 255),
]


@pytest.mark.parametrize("name, values, channels, white, expected", READ, ids=[item[0] for item in READ])
def test_values(
    name: str, values: np.ndarray, channels: int, white: float | None, expected: np.ndarray, tmp_path: Path
) -> None:
    picture = ImageReader(channels, white)(write(tmp_path, name, values))
    assert picture.size == (9, 6)
    seen = unit_range(picture)
    assert (seen.dtype.is_floating_point, tuple(seen.shape)) == (True, (channels, 6, 9))
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-6)
    assert as_rgb(picture).mode == "RGB"


# File, its values, channels, white, and words of the message.
REFUSED: list[tuple[str, Any, int, float | None, str]] = [
    ("no alpha.png", COLOUR, 4, None, r"expected an image of 4 channels, found 3 \(mode RGB\)"),
    ("no alpha.tif", COLOUR, 4, None, r"found 3 \(mode RGB\); of a TIFF file .*\.npy"),
    ("grey.png", GREY, 4, None, r"found 1 \(mode L\)"),
    ("deep grey.png", DEEP, 4, None, "expected an image of 4 channels, found 1"),
    ("fewer.npy", STACK[:4], 5, None, "of 5 channels, found 4 x 6 x 9"),
    ("square.npy", np.zeros((4, 6, 4), np.uint8), 4, None, "both the first and the last axis could be the 4 channels"),
    ("four axes.npy", np.zeros((1, 4, 6, 9), np.uint8), 4, None, "expected 2 or 3 axes"),
    ("integers.npy", np.zeros((4, 6, 9), np.int64), 4, None, "expected uint8, uint16 or float32, found int64"),
    ("no range.npy", np.zeros((4, 6, 9), np.float32), 4, None, "floating-point numbers: give --white VALUE"),
    ("no range.tif", METRES, 1, None, "floating-point numbers: give --white VALUE"),
    ("no range for three.tif", METRES, 3, None, "floating-point numbers: give --white VALUE"),
    ("brighter.npy", STACK, 5, 4095, r"values must lie between 0 and 4095, found \d+ to \d+"),
    ("below.npy", -METRES, 1, 8.0, "values must lie between 0 and 8"),
    ("nan.npy", np.full((6, 9), np.nan, np.float32), 1, 8.0, "not finite"),
    ("pages.tif", STACK, 4, None, "expected an image of 4 channels"),
    ("text.npy", b"not an array", 4, None, r"not a \.npy array"),
    ("empty.npy", b"", 4, None, r"not a \.npy array"),
    ("objects.npy", np.array([[{}]], object), 1, None, "damaged"),
    ("claims.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '|u1', 'fortran_order': False, 'shape': (4, 99999, 9999), }\n",
     4, None, "damaged"),
]  # fmt: skip


@pytest.mark.parametrize("name, values, channels, white, words", REFUSED, ids=[item[0] for item in REFUSED])
def test_refused(name: str, values: Any, channels: int, white: float | None, words: str, tmp_path: Path) -> None:
    if isinstance(values, bytes):
        (tmp_path / name).write_bytes(values)
    else:
        write(tmp_path, name, values)
    with pytest.raises(DataError, match=words) as caught:
        ImageReader(channels, white)(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_fewer_bits_than_the_file_has_are_noted(tmp_path: Path) -> None:
    noted = {
        bits: ImageReader()(write(tmp_path, f"{bits}.png", values)).info.get(NOTE)  # type: ignore[union-attr]
        for bits, values in ((8, GREY.astype(np.uint16)), (12, TWELVE), (16, DEEP))
    }
    assert noted[16] is None
    assert "read as 12 bits, white is 4095" in noted[12]
    assert "read as 8 bits, white is 255" in noted[8]
    assert NOTE not in ImageReader(white=4095)(tmp_path / "12.png").info  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_in_each_of_three_channels(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{suffix}"

    def noted(highest: int, white: float | None = None) -> str | None:
        values = range(highest - 5, highest + 1)
        if suffix == "png":
            path.write_bytes(png(2, 1, 16, b"\0" + struct.pack(">6H", *values), colour=2))
        else:
            path.write_bytes(tiff(2, 1, 16, struct.pack("<6H", *values), channels=3))
        picture = ImageReader(white=white)(path)
        assert isinstance(picture, Image.Image)
        assert picture.getpixel((1, 0)) == (highest >> 8,) * 3
        return picture.info.get(NOTE)

    assert (noted(65535), noted(5000, 65535)) == (None, None)
    assert "16 bits in each of 3 channels, of which only the upper 8 are read, and no value is above 4095" in str(
        noted(4095)
    )
    with pytest.raises(DataError, match=rf"deep\.{suffix}: --white 4095 cannot be used: 16 bits in each of 3 channels"):
        noted(4095, 4095)


def test_lab_colours_become_grey(tmp_path: Path) -> None:
    Image.new("LAB", (2, 1), (100, 128, 128)).save(tmp_path / "lab.tif")
    assert ImageReader(1)(tmp_path / "lab.tif").size == (2, 1)


def test_truncated_arrays_are_damaged(tmp_path: Path) -> None:
    path = write(tmp_path, "stack.npy", STACK)
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"stack\.npy"):
            ImageReader(5)(path)


def test_channels_do_not_mix() -> None:
    """When Pillow resizes RGBA, it weights colours by alpha, which would be wrong for depth."""
    four = FOUR.copy()
    four[..., 3] = np.where(np.arange(9) % 2, 255, 0)
    bands = Bands.of(four.transpose(2, 0, 1)).resize((4, 3), Image.Resampling.BILINEAR)
    alone = Image.fromarray(four[..., :3]).resize((4, 3), Image.Resampling.BILINEAR)
    assert np.array_equal(bands.array()[:3].transpose(1, 2, 0), np.asarray(alone))


def test_images_in_memory() -> None:
    image = Image.fromarray(FOUR)
    for channels, expected in ((1, np.asarray(image.convert("L"))[None]), (4, FOUR.transpose(2, 0, 1))):
        assert np.array_equal(from_pillow(image, channels).array(), expected)  # type: ignore[union-attr]
    assert np.array_equal(np.asarray(from_pillow(image, 3)), FOUR[..., :3])
