"""Small data sets in the layouts in which they are published or made, with images of noise."""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from boxconv.data.class_table import ClassTable, write_classes
from boxconv.data.layouts.camvid import COLOURS
from boxconv.data.scenes.dataset import SCENE_CLASSES, draw_scene

THREE = ClassTable(
    ("road", "car", "tree"), ((128, 64, 128), (0, 0, 142), (0, 99, 0)), ("flat", "vehicle", "nature"), frozenset({11})
)
SIZE = (12, 20)
"""Height and width of the images."""


def fingerprint(root: Path) -> str:
    """Hash of names, modes, times and contents of everything below `root`."""
    digest = hashlib.sha256()
    for folder, folders, files in sorted(os.walk(root)):
        for name in sorted(folders + files):
            path = Path(folder, name)
            status = path.lstat()
            digest.update(repr((str(path), status.st_mode, status.st_size, status.st_mtime_ns)).encode())
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def noise(name: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, name))).integers(0, 256, (*size, 3), dtype=np.uint8)


def pick(name: str, values: Sequence, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A label map of random pixels in which each of the values (or colours) occurs."""
    table = np.array(values, np.uint8)
    index = np.random.default_rng(sum(map(ord, name)) + 1).permutation(size[0] * size[1]) % len(table)
    return table[index.reshape(size)]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, content: bytes, *, colour: int = 0) -> bytes:
    """A PNG file, grey or with ``colour`` 2. The size in its header need not fit its content: rows, each after a 0."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def tiff(width: int, height: int, depth: int, content: bytes, *, channels: int = 1) -> bytes:
    """A TIFF file without compression, of ``depth`` bits in each of the channels: kinds that Pillow cannot write."""
    after = 8 + len(content)  # where the depths are, if they are too many for their entry
    depths = struct.pack(f"<{channels}H", *[depth] * channels)
    tags = {256: width, 257: height, 258: depth if channels == 1 else after, 259: 1, 262: 1 if channels == 1 else 2,
            273: 8, 277: channels, 278: height, 279: len(content)}  # fmt: skip
    entries = [struct.pack("<HHII", tag, 3, channels if tag == 258 else 1, value) for tag, value in tags.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", after + len(depths)) + content + depths + directory


def pair(root: Path, split: str, name: str, *, suffix: str = ".png", size: tuple[int, int] = SIZE) -> tuple[Path, Path]:
    """An image of noise and its label, for classes 0 to 2; returns their paths."""
    image = noise(split + name, size)
    label = save(root / "labels" / split / f"{name}.png", image[..., 0] % 3)
    return save(root / "images" / split / f"{name}{suffix}", image), label


def scenes(root: Path, splits: dict[str, Iterable[int]], size: tuple[int, int], *, suffix: str = ".png") -> Path:
    """images/SPLIT and labels/SPLIT with the drawn scenes of these seeds, and a class file."""
    for split, seeds in splits.items():
        for seed in seeds:
            image, label = draw_scene(seed, *size)
            save(root / "images" / split / f"{seed}{suffix}", image)
            save(root / "labels" / split / f"{seed}.png", label)
    write_classes(root / "classes.csv", SCENE_CLASSES)
    return root


def folder(root: Path) -> Path:
    """images/SPLIT and labels/SPLIT with a class file. Labels are class indices; 11 and 255 are void."""
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            save(root / "images" / split / f"scene{i}.png", noise(f"{split}{i}"))
            save(root / "labels" / split / f"scene{i}.png", pick(f"{split}{i}", (0, 1, 2, 11, 255)))
    write_classes(root / "classes.csv", THREE)
    return root


def coloured_folder(root: Path) -> Path:
    """Like `folder`, with labels in colours, two of which mean car and two mean void."""
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            save(root / "images" / split / f"scene{i}.jpg", noise(f"{split}{i}"))
            colours = ((128, 64, 128), (0, 0, 142), (0, 0, 70), (0, 99, 0), (0, 0, 0), (255, 255, 255))
            save(root / "labels" / split / f"scene{i}.png", pick(f"{split}{i}", colours))
    write_classes(root / "classes.csv", THREE)
    (root / "palette.csv").write_text(
        "red,green,blue,name\n128,64,128,road\n0,0,142,car\n0,0,70,car\n0,99,0,tree\n0,0,0,void\n255,255,255,void\n"
    )
    return root


def cityscapes(root: Path, *, kind: str = "labelIds", size: tuple[int, int] = (16, 32)) -> Path:
    """Cityscapes as unzipped, also with the other files beside the labels, which are not read; test labels are void."""
    values = (*range(34),) if kind == "labelIds" else (*range(19), 255)
    for split, cities in (("train", ("aachen", "jena")), ("val", ("lindau",)), ("test", ("berlin",))):
        for city in cities:
            for frame in ("000019", "000020"):
                name = f"{city}_000000_{frame}"
                save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", noise(name, size))
                labels = root / "gtFine" / split / city
                void = (0, 1, 2, 3) if kind == "labelIds" else (255,)
                save(labels / f"{name}_gtFine_{kind}.png", pick(name, void if split == "test" else values, size))
                save(labels / f"{name}_gtFine_color.png", noise(name, size))
                save(labels / f"{name}_gtFine_instanceIds.png", np.zeros(size, np.uint16))
                (labels / f"{name}_gtFine_polygons.json").write_text("{}")
    return root


def sunrgbd(root: Path) -> Path:
    """SUN RGB-D as published by A. Handa: training images are numbered from 1, their labels from 5051."""
    for number in (1, 2, 5050):
        save(root / "SUNRGBD-test_images" / f"img-{number:06}.jpg", noise(f"test{number}"))
    for number in (1, 2, 3, 5285):
        save(root / "SUNRGBD-train_images" / f"img-{number:06}.jpg", noise(f"train{number}"))
    for number in (1, 2, 5050, 5051, 5052, 5053, 10335):
        save(root / "sunrgbd_train_test_labels" / f"img-{number:06}.png", pick(str(number), range(38)))
    return root


def sunrgbd_by_split(root: Path) -> Path:
    """SUN RGB-D sorted by split, as others distribute it; images and labels are numbered from 1."""
    for split, numbers in (("train", (1, 2, 5285)), ("test", (1, 5050))):
        for number in numbers:
            save(root / "image" / split / f"img-{number:06}.jpg", noise(f"{split}{number}"))
            save(root / "label37" / split / f"img37labels-{number:06}.png", pick(str(number), range(38)))
    return root


def camvid_segnet(root: Path) -> Path:
    names = {
        "train": ("0001TP_006690", "0006R0_f00930", "0016E5_00390"), "val": ("0016E5_07959",), "test": ("test_00001",)
    }  # fmt: skip
    for split, stems in names.items():
        for name in stems:
            save(root / split / f"{name}.png", noise(name))
            label = name.replace("test_", "testannot_")
            save(root / f"{split}annot" / f"{label}.png", pick(name, range(12)))
        (root / f"{split}.txt").write_text("/SegNet/CamVid/...\n")
    return root


_COLOURS = [colour for members in COLOURS.values() for colour in members.values()]


def camvid_coloured(root: Path) -> Path:
    for split, names in (("train", ("0001TP_006690", "0016E5_00390")), ("val", ("0016E5_07959",))):
        for name in names:
            save(root / split / f"{name}.png", noise(name))
            save(root / f"{split}_labels" / f"{name}_L.png", pick(name, _COLOURS))
    return root


def camvid_original(root: Path) -> Path:
    names = (
        "0001TP_006690", "0001TP_008520", "0001TP_008550", "0006R0_f00930", "0016E5_00390", "0016E5_07959",
        "0016E5_08159", "0016E5_08640", "Seq05VD_f00000",
    )  # fmt: skip
    for name in names:
        save(root / "701_StillsRaw_full" / f"{name}.png", noise(name))
        save(root / "LabeledApproved_full" / f"{name}_L.png", pick(name, _COLOURS))
    lines = [f"{r} {g} {b}\t{name}" for members in COLOURS.values() for name, (r, g, b) in members.items()]
    (root / "label_colors.txt").write_text("\n".join(lines))
    return root


def camvid_folders(root: Path) -> Path:
    for split, names in (("train", ("0001TP_006690", "0016E5_00390")), ("val", ("0016E5_07959",))):
        for name in names:
            save(root / "images" / split / f"{name}.jpg", noise(name))
            save(root / "labels" / split / f"{name}.png", pick(name, range(12)))
    return root


TREES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "folder": ("folder", folder),
    "folder with a palette": ("folder", coloured_folder),
    "Cityscapes": ("cityscapes", cityscapes),
    "Cityscapes, trainIds": ("cityscapes", lambda root: cityscapes(root, kind="labelTrainIds")),
    "SUN RGB-D": ("sunrgbd", sunrgbd),
    "SUN RGB-D by split": ("sunrgbd", sunrgbd_by_split),
    "CamVid of SegNet": ("camvid", camvid_segnet),
    "CamVid in colours": ("camvid", camvid_coloured),
    "CamVid, the original": ("camvid", camvid_original),
    "CamVid in folders": ("camvid", camvid_folders),
}
"""For each layout, by a name for tests: the data set's name for --data, and the function that writes it."""
