"""Images read in parts: the same pixels as the whole image, for every kind of TIFF file, or a clear message."""

import struct

import numpy as np
import pytest
from PIL import Image

from boxconv.data import large_images, tiff_strips
from boxconv.data.bands import Bands
from boxconv.data.class_table import DataError
from boxconv.data.image_reader import ImageReader
from boxconv.data.large_images import LargeImage, open_any_size

H, W = 203, 171


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch):
    for module in (large_images, tiff_strips):
        monkeypatch.setattr(module, "PIXEL_LIMIT", 30_000)


def smooth(channels=3):
    """Pixels (H, W, channels) that vary in every row, and smoothly, so that JPEG hardly changes them."""
    i, j = np.indices((H, W))
    waves = [128 + 100 * np.sin(i / 17 + k) * np.cos(j / (11 + k)) for k in range(channels)]
    return np.stack(waves, -1).astype(np.uint8)


def array_of(picture):
    return picture.array() if isinstance(picture, Bands) else np.asarray(picture)


def tiled_tiff(path, pixels, tile=64, order="<", skip=()):
    """Write an uncompressed TIFF file in square tiles, which Pillow cannot write."""
    h, w, channels = pixels.shape
    pieces = []
    for top in range(0, h, tile):
        for left in range(0, w, tile):
            piece = np.zeros((tile, tile, channels), np.uint8)
            part = pixels[top : top + tile, left : left + tile]
            piece[: part.shape[0], : part.shape[1]] = part
            pieces.append(piece.tobytes())
    offsets, body = [], b""
    for piece in pieces:
        offsets.append(8 + len(body))
        body += piece
    tags = {
        256: w, 257: h, 258: [8] * channels, 259: 1, 262: 2, 277: channels, 322: tile, 323: tile,
        324: offsets, 325: [len(piece) for piece in pieces],
    }  # fmt: skip
    start = 8 + len(body)
    after = start + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, value in tags.items():
        if tag in skip:
            value = value[:-1]
        listed = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{order}{len(listed)}L", *listed)
        inline = packed if len(packed) == 4 else struct.pack(f"{order}L", after + len(values))
        values += b"" if len(packed) == 4 else packed
        entries += struct.pack(f"{order}HHL", tag, 4, len(listed)) + inline
    header = struct.pack(f"{order}2sHL", b"II" if order == "<" else b"MM", 42, start)
    path.write_bytes(header + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values)


def saved(path, kind):
    """A file of this kind."""
    if kind.startswith("tiles"):
        tiled_tiff(path, smooth(), order=">" if kind.endswith("MM") else "<")
        return
    mode, _, rest = kind.partition(" ")
    image = Image.fromarray(smooth())
    if mode == "P":
        image = image.quantize(40)
    elif mode == "I;16":
        image = Image.fromarray(smooth(1)[..., 0].astype(np.uint16) * 256)
    elif mode == "RGBA":
        image = Image.fromarray(smooth(4))
    else:
        image = image.convert(mode)
    image.save(path, "TIFF", **({"compression": rest} if rest else {}))


KINDS = ["RGB", "L", "P", "RGBA", "CMYK", "1", "tiles II", "tiles MM", "RGB tiff_lzw", "RGB packbits", "RGB jpeg",
         "RGB tiff_adobe_deflate", "L tiff_lzw", "P tiff_adobe_deflate", "I;16", "I;16 tiff_lzw"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_tiff_file_are_parts_of_the_image(tmp_path, monkeypatch, kind):
    path = tmp_path / "image.tif"
    monkeypatch.setattr("PIL.TiffImagePlugin.STRIP_SIZE", 5000)  # strips of a few rows
    saved(path, kind)
    for reader in (ImageReader(white=65535), ImageReader(1)):
        whole = array_of(reader(path))
        image = open_any_size(path, reader)
        assert isinstance(image, LargeImage)
        assert (image.size, image.width, image.height) == ((W, H), W, H)
        for top, bottom in ((0, H), (0, 1), (H - 1, H), (37, 130)):
            part = array_of(image.crop((0, top, W, bottom)))
            assert (part == whole[..., top:bottom, :] if whole.shape[0] == 1 else part == whole[top:bottom]).all()
        part = array_of(image.crop((20, 50, 90, 60)))
        assert (part == (whole[:, 50:60, 20:90] if whole.shape[0] == 1 else whole[50:60, 20:90])).all()


@pytest.mark.parametrize("size", [(40, 50), (W, H), (300, 250), (3, 2)])
def test_resizing_in_parts_is_resizing(tmp_path, monkeypatch, size):
    path = tmp_path / "image.tif"
    saved(path, "RGB")
    monkeypatch.setattr(large_images, "STRIP_PIXELS", 10 * W)
    for reader in (ImageReader(), ImageReader(1)):
        image, whole = open_any_size(path, reader), reader(path)
        assert isinstance(image, LargeImage)
        found, expected = (array_of(each.resize(size, Image.Resampling.BILINEAR)) for each in (image, whole))
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 1, "rounding"


@pytest.mark.parametrize("shape", [(3, H, W), (H, W, 3)])
def test_arrays_are_read_in_parts(tmp_path, shape):
    path = tmp_path / "image.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    image, whole = open_any_size(path, ImageReader()), np.asarray(ImageReader()(path))
    assert isinstance(image, LargeImage)
    assert (np.asarray(image.crop((5, 10, 100, 13))) == whole[10:13, 5:100]).all(), "3 rows, which are no channels"
    values = np.linspace(0, 1, H * W * 4, dtype=np.float32).reshape(4, H, W)
    np.save(path, values)
    image = open_any_size(path, ImageReader(4, 1.0))
    np.testing.assert_allclose(array_of(image.crop((0, 10, W, 20))), values[:, 10:20], atol=1e-6)


def test_small_images_are_opened_whole(tmp_path):
    for name in ("a.tif", "b.npy", "c.png"):
        path = tmp_path / name
        if name == "b.npy":
            np.save(path, np.zeros((20, 30, 3), np.uint8))
        else:
            Image.new("RGB", (30, 20)).save(path)
        assert isinstance(open_any_size(path, ImageReader()), Image.Image)


def other(path, kind):
    image = Image.fromarray(smooth())
    if kind == "one compressed strip":
        image.save(path, "TIFF", compression="tiff_lzw", strip_size=10**9)
    elif kind == "turned":
        exif = Image.Exif()
        exif[274] = 6
        image.save(path, "TIFF", exif=exif)
    elif kind == "16 bits":
        saved(path, "I;16")
    elif kind == "truncated":
        image.save(path, "TIFF")
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "missing tile":
        tiled_tiff(path, smooth(), skip=(324, 325))
    elif kind == "far too wide":
        tiled_tiff(path, np.zeros((1, 2**17 + 1, 3), np.uint8), tile=64)
    elif kind == "no image":
        path.write_bytes(b"II*\0" + bytes(100))


@pytest.mark.parametrize(
    "kind, message",
    [
        ("one compressed strip", "cannot be read in parts: it is compressed in strips of 203 rows; expected tiles"),
        ("turned", "cannot be read in parts: it is turned by its EXIF orientation"),
        ("16 bits", "give --white VALUE"),
        ("truncated", "damaged: its strips or tiles are not all there"),
        ("missing tile", "damaged: its strips or tiles are not all there"),
        pytest.param("far too wide", "no side may be longer than 131072", marks=pytest.mark.slow),
        ("no image", "image.tif"),
    ],
)
def test_what_cannot_be_read_in_parts(tmp_path, monkeypatch, kind, message):
    path = tmp_path / "image.tif"
    if kind == "one compressed strip":
        monkeypatch.setattr("PIL.TiffImagePlugin.STRIP_SIZE", 10**9)
    other(path, kind)
    with pytest.raises(DataError) as caught:
        open_any_size(path, ImageReader())
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_strip_that_cannot_be_decoded_names_the_file(tmp_path):
    path = tmp_path / "image.tif"
    noise = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "TIFF", compression="tiff_adobe_deflate")
    content = bytearray(path.read_bytes())
    content[5000:6000] = bytes(1000)
    path.write_bytes(content)
    image = open_any_size(path, ImageReader())
    with pytest.raises(DataError, match=r"image\.tif: the file is damaged"):
        image.crop((0, 0, W, H))
