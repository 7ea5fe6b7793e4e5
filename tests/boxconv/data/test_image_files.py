"""Opening images and labels: all formats are converted as documented, and other files raise errors that name them."""

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_trees import THREE, png, png_chunk, tiff
from PIL import Image

from boxconv.data.class_table import ClassTable, DataError
from boxconv.data.image_files import AVIF, images_in, shown
from boxconv.data.image_reader import open_image
from boxconv.data.label_files import open_label


def grey_png(path: Path, width: int, height: int, depth: int, *rows: bytes) -> Path:
    path.write_bytes(png(width, height, depth, b"".join(b"\0" + row for row in rows)))
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "jfif", "bmp", "tif", "TIFF", "webp", "ppm", "gif", "avif"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    if suffix == "avif" and not AVIF:
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (6, 4), (40, 80, 120)).save(path)
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (6, 4))
    assert np.abs(np.asarray(image).astype(int) - [40, 80, 120]).max() <= 3
    assert images_in(tmp_path) == [path]


def test_modes_become_rgb(tmp_path: Path) -> None:
    colour = Image.new("RGB", (3, 2), (255, 0, 0))
    transparent = Image.new("RGBA", (3, 2), (255, 0, 0, 0))
    palette = colour.quantize(2)
    palette.info["transparency"] = bytes([0, 0])
    for name, image in {"p.png": palette, "rgba.png": transparent, "cmyk.tif": colour.convert("CMYK")}.items():
        image.save(tmp_path / name)
        assert open_image(tmp_path / name).getpixel((2, 1)) == (255, 0, 0), name
    Image.new("L", (3, 2), 77).save(tmp_path / "l.png")
    Image.new("LA", (3, 2), (77, 0)).save(tmp_path / "la.png")
    Image.new("1", (3, 2), 1).save(tmp_path / "1.png")
    assert open_image(tmp_path / "l.png").getpixel((0, 0)) == (77, 77, 77)
    assert open_image(tmp_path / "la.png").getpixel((0, 0)) == (77, 77, 77)
    assert open_image(tmp_path / "1.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path) -> None:
    path = grey_png(tmp_path / "16.png", 2, 1, 16, struct.pack(">HH", 0x1234, 0xFFFF))
    assert np.asarray(open_image(path)).tolist() == [[[0x12] * 3, [0xFF] * 3]]
    Image.fromarray(np.array([[0, 0x8001]], np.int32)).save(tmp_path / "32.tif")
    assert np.asarray(open_image(tmp_path / "32.tif")).tolist() == [[[0] * 3, [0x80] * 3]]


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "32.tif")
    with pytest.raises(DataError, match=r"32\.tif: values must lie between 0 and 65535, found 0 to 70000"):
        open_image(tmp_path / "32.tif")


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    upright = open_image(tmp_path / "turned.png")
    assert upright.size == (4, 6)
    assert upright.getpixel((3, 0)) == (255, 255, 255)


def test_first_image_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "film.tif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "film.tif").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("depth, row", [(2, bytes([0b00_01_10_01])), (4, bytes([0x01, 0x21]))])
def test_labels_of_few_bits_are_not_spread(depth: int, row: bytes, tmp_path: Path) -> None:
    grey_png(tmp_path / "label.png", 4, 1, depth, row)
    (tmp_path / "label.tif").write_bytes(tiff(4, 1, depth, row))
    for name in ("label.png", "label.tif"):
        assert np.asarray(open_label(tmp_path / name, THREE)).tolist() == [[0, 1, 2, 1]], name


def test_labels_outside_the_classes(tmp_path: Path) -> None:
    values = np.zeros((4, 5), np.uint8)
    values[2, 3:] = 3
    values[3, 1] = 200
    Image.fromarray(values).save(tmp_path / "label.png")
    with pytest.raises(DataError) as caught:
        open_label(tmp_path / "label.png", THREE)
    assert str(caught.value) == (
        f"{tmp_path}/label.png: expected labels 0 to 2, or 11, 255 for void, "
        "found 3 (first at row 2, column 3; 2 pixels), 200 (first at row 3, column 1; 1 pixel)"
    )


def test_cityscapes_ids_are_recognised(tmp_path: Path) -> None:
    nineteen = ClassTable(tuple(map(str, range(19))), tuple((i, 0, 0) for i in range(19)))
    Image.new("L", (3, 2), 26).save(tmp_path / "label.png")
    with pytest.raises(DataError, match="labelTrainIds"):
        open_label(tmp_path / "label.png", nineteen)


def test_paths_and_contents_that_are_not_images(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "byte.png").write_bytes(b"\x89")
    (tmp_path / "text.png").write_text("not found")
    (tmp_path / "film.png").write_bytes(b"RIFF\x24\0\0\0AVI " + bytes(100))
    words = {
        "folder": "found a folder", "pipe": "found a pipe", "dangling": "a link to nowhere.png", "loop": "a link to",
        "empty": "is empty", "byte": "not an image", "text": "not an image", "film": "not an image",
        "absent": "No such file",
    }  # fmt: skip
    for name, expected in words.items():
        with pytest.raises(DataError, match=rf"{name}\.png.*{expected}"):
            open_image(tmp_path / f"{name}.png")
        with pytest.raises(DataError, match=rf"{name}\.png.*{expected}"):
            open_label(tmp_path / f"{name}.png", THREE)


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (3, 2)).save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match=r"image\.png: cannot be read: Permission denied"):
        open_image(path)


def test_huge_images_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    for width, height in ((8193, 8192), (65500, 65500)):
        path = grey_png(tmp_path / "bomb.png", width, height, 8, b"\0" * 100)
        for opened in (open_image, lambda path: open_label(path, THREE)):
            with pytest.raises(DataError, match=r"bomb\.png.*67108864"):
                opened(path)


def test_huge_text_is_refused(tmp_path: Path) -> None:
    path = grey_png(tmp_path / "text.png", 1, 1, 8, b"\0")
    chunk = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk + content[33:])
    with pytest.raises(DataError, match=r"text\.png"):
        open_image(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"])
def test_truncation_at_every_length(kind: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format=kind)
    content, path = buffer.getvalue(), tmp_path / "image.png"
    path.write_bytes(content)
    assert open_image(path).size == (16, 12)
    for length in range(0, len(content) // 2, 7):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"image\.png"):
            open_image(path)


@pytest.mark.filterwarnings("ignore")
def test_flipped_bits_never_escape(tmp_path: Path) -> None:
    """A damaged file gives an image or raises DataError, and nothing else."""
    draw, path, messages = random.Random(0), tmp_path / "image.png", []
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"):
        buffer = io.BytesIO()
        Image.effect_noise((16, 12), 80).convert("RGB").save(buffer, format=kind)
        for _ in range(150):
            content = bytearray(buffer.getvalue())
            for _ in range(draw.randint(1, 8)):
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(content)
            for opened in (open_image, lambda path: open_label(path, THREE)):
                try:
                    opened(path)
                except DataError as error:
                    messages.append(str(error))
    assert len(messages) > 900
    assert all("image.png" in message for message in messages)


def test_images_in(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", ".hidden.png", "._a.jpg", "Thumbs.db", ".DS_Store", "notes.txt", "c.tiff", "noext"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path)] == ["a.jpg", "b.PNG", "c.tiff"]
    with pytest.raises(DataError, match="nowhere"):
        images_in(tmp_path / "nowhere")


def test_odd_names_are_shown_on_one_line(tmp_path: Path) -> None:
    assert shown("a\nb ü.png") == "a\\nb ü.png"
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff .PNG"))
    Image.new("RGB", (3, 2)).save(io.BytesIO(), format="PNG")
    path.write_text("text")
    with pytest.raises(DataError) as caught:
        open_image(path)
    assert str(caught.value).encode("utf-8").decode().isprintable()
