"""One fault at a time in a clean data set: the check reports it for the right file and kind, and nothing else."""

import io
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import data_trees
import numpy as np
import pytest
from data_trees import SIZE, fingerprint, noise, pick, png, png_chunk, save
from PIL import Image

from boxconv.data.checks.check import Report, check
from boxconv.data.checks.inspect import Sample, inspect
from boxconv.data.config import DataConfig
from boxconv.data.label_encoding import index_encoding
from boxconv.data.registry import classes_of, layout_of

IMAGE, LABEL = Path("images/train/scene1.png"), Path("labels/train/scene1.png")
BOMB = png(65500, 65500, 8, bytes(100))


Plant = Callable[[Path], object]


def planted(tree: str, plant: Plant, folder: Path) -> Report:
    """The report on a clean data set to which this is done; the check changes nothing."""
    data, make = data_trees.TREES[tree]
    root = make(folder / "data")
    plant(root)
    config = DataConfig(data=data, root=root)  # type: ignore[arg-type]
    before = fingerprint(root)
    report = check(root, classes_of(config), layout=layout_of(config), workers=2)
    assert fingerprint(root) == before
    return report


@pytest.mark.parametrize("name", data_trees.TREES)
def test_no_false_alarm(name: str, tmp_path: Path) -> None:
    report = planted(name, lambda root: None, tmp_path)
    assert (report.faults, report.warnings) == ([], [])
    assert sum(report.pairs.values()) >= 3
    assert all(report.pairs.values())


def huge_text(path: Path) -> None:
    content = path.read_bytes()
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))
    path.write_bytes(content[:33] + text + content[33:])


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(content)


def as_jpeg(path: Path) -> None:
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue())


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def value(path: Path, new: int) -> None:
    values = np.asarray(Image.open(path)).copy()
    values[7, 5:8] = new
    save(path, values)


def two_frames(root: Path) -> None:
    (root / IMAGE).unlink()
    first, second = (Image.fromarray(noise(name)) for name in "ab")
    first.save((root / IMAGE).with_suffix(".tif"), save_all=True, append_images=[second])


def two_pages(root: Path) -> None:
    (root / LABEL).unlink()
    page = Image.fromarray(pick("a", (0, 1, 2)))
    page.save((root / LABEL).with_suffix(".tif"), save_all=True, append_images=[page])


def turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise("a", SIZE[::-1])).save(root / IMAGE, exif=exif)


def another_pair(root: Path, name: str | bytes) -> None:
    for kind in (b"images", b"labels"):
        text = os.fsencode(name) if isinstance(name, str) else name
        path = Path(os.fsdecode(os.path.join(os.fsencode(root), kind, b"train", text + b".png")))
        save(path, noise("another") if kind == b"images" else pick("another", (0, 1, 2)))


def remove_tree(root: Path, *parts: str) -> None:
    for path in sorted(root.joinpath(*parts).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    root.joinpath(*parts).rmdir()


# The kind under which it is reported, the file, what is done to the tree. Under "warning" what may be meant.
FOLDER: list[tuple[str, str, str, Plant]] = [
    ("no labels folder", "missing folder", "labels/train", lambda r: remove_tree(r, "labels", "train")),
    ("no images folder", "missing folder", "images/val", lambda r: remove_tree(r, "images", "val")),
    ("empty split", "no images", "images/test", lambda r: [(r / k / "test").mkdir() for k in ("images", "labels")]),
    ("no label", "image without label", str(IMAGE), lambda r: (r / LABEL).unlink()),
    ("no image", "label without image", str(LABEL), lambda r: (r / IMAGE).unlink()),
    ("two suffixes", "duplicate name", "images/train/scene1.png",
     lambda r: save((r / IMAGE).with_suffix(".bmp"), noise("other"))),
    ("empty file", "damaged file", str(IMAGE), lambda r: (r / IMAGE).write_bytes(b"")),
    ("one byte", "not an image", str(IMAGE), lambda r: (r / IMAGE).write_bytes(b"\x89")),
    ("truncated image", "damaged file", str(IMAGE), lambda r: (r / IMAGE).write_bytes((r / IMAGE).read_bytes()[:300])),
    ("truncated label", "damaged file", str(LABEL), lambda r: (r / LABEL).write_bytes((r / LABEL).read_bytes()[:70])),
    ("bit flipped in an image", "damaged file", str(IMAGE), lambda r: flip(r / IMAGE, 0.5)),
    ("bit flipped in a label", "damaged file", str(LABEL), lambda r: flip(r / LABEL, 0.6)),
    ("text", "not an image", str(IMAGE), lambda r: (r / IMAGE).write_text("<html>not found</html>")),
    ("label is a JPEG", "label format", str(LABEL), lambda r: as_jpeg(r / LABEL)),
    ("label named JPEG", "label format", "labels/train/scene1.jpg",
     lambda r: (r / LABEL).rename((r / LABEL).with_suffix(".jpg"))),
    ("folder", "not a file", str(IMAGE), lambda r: replace_by(r / IMAGE, Path.mkdir)),
    ("pipe", "not a file", str(LABEL), lambda r: replace_by(r / LABEL, os.mkfifo)),
    ("dangling link", "unreadable file", str(LABEL), lambda r: replace_by(r / LABEL, lambda p: p.symlink_to("none"))),
    ("looping link", "unreadable file", str(IMAGE), lambda r: replace_by(r / IMAGE, lambda p: p.symlink_to(p.name))),
    ("decompression bomb", "image too large", str(IMAGE), lambda r: (r / IMAGE).write_bytes(BOMB)),
    ("label bomb", "image too large", str(LABEL), lambda r: (r / LABEL).write_bytes(BOMB)),
    ("huge text", "damaged file", str(IMAGE), lambda r: huge_text(r / IMAGE)),
    ("floating point", "image mode", "images/train/scene1.tif",
     lambda r: ((r / IMAGE).unlink(), save((r / IMAGE).with_suffix(".tif"), np.zeros(SIZE, np.float32)))),
    ("another size", "sizes differ", str(LABEL), lambda r: save(r / LABEL, pick("a", (0, 1), (13, 20)))),
    ("label of floats", "label mode", "labels/train/scene1.tif",
     lambda r: ((r / LABEL).unlink(), save((r / LABEL).with_suffix(".tif"), pick("a", (0, 1)).astype(np.float32)))),
    ("colours without a palette", "label mode", str(LABEL), lambda r: save(r / LABEL, noise("a"))),
    ("label with alpha", "label mode", str(LABEL), lambda r: Image.new("RGBA", SIZE[::-1]).save(r / LABEL)),
    ("label of two pages", "label mode", "labels/train/scene1.tif", two_pages),
    ("polygons without an end", "polygons", "labels/train/scene1.json",
     lambda r: ((r / LABEL).unlink(), (r / LABEL).with_suffix(".json").write_text("{"))),
    ("masks of 0 and 255", "class 0 only", "labels/train",
     lambda r: [save(path, pick(path.name, (0, 255))) for path in sorted((r / "labels/train").iterdir())]),
    ("unknown label", "label value", str(LABEL), lambda r: value(r / LABEL, 9)),
    ("all void", "label all void", str(LABEL), lambda r: Image.new("L", SIZE[::-1], 255).save(r / LABEL)),
    ("all void by the class file", "label all void", str(LABEL),
     lambda r: Image.new("L", SIZE[::-1], 11).save(r / LABEL)),
    ("palette without classes", "palette", ".", lambda r: (r / "palette.csv").write_text("red,green,blue,name\n")),
    ("palette with a slip", "palette", ".",
     lambda r: (r / "palette.csv").write_text("red,green,blue,name\n1,2,3,raod\n")),
]  # fmt: skip

WARNINGS: list[tuple[str, str, str, Plant]] = [
    ("PNG named JPEG", "wrong suffix", "images/train/scene1.jpg",
     lambda r: (r / IMAGE).rename((r / IMAGE).with_suffix(".jpg"))),
    ("JPEG named PNG", "wrong suffix", str(IMAGE), lambda r: as_jpeg(r / IMAGE)),
    ("two pages", "several images in a file", "images/train/scene1.tif", two_frames),
    ("turned by EXIF", "image turned by EXIF", str(IMAGE), turned),
    ("blank", "blank image", str(IMAGE), lambda r: Image.new("RGB", SIZE[::-1], (9, 9, 9)).save(r / IMAGE)),
    ("one image in two splits", "image in two splits", "images/val/scene0.png",
     lambda r: (r / "images/val/scene0.png").write_bytes((r / IMAGE).read_bytes())),
    ("one image twice", "image twice in a split", "images/train/scene2.png",
     lambda r: (r / "images/train/scene2.png").write_bytes((r / IMAGE).read_bytes())),
    ("a class that is nowhere", "class without a pixel", "labels/val",
     lambda r: [save(path, pick(path.name, (0, 1))) for path in sorted((r / "labels/val").iterdir())]),
    ("12 bits in 16", "fewer bits than the file has", str(IMAGE),
     lambda r: save(r / IMAGE, noise("a")[..., 0].astype(np.uint16) * 16)),
    ("text file", "ignored", "images/train/notes.txt", lambda r: (r / "images/train/notes.txt").touch()),
    ("sub-folder", "ignored", "labels/train/old", lambda r: (r / "labels/train/old").mkdir()),
    ("newline in a name", "odd file name", "images/train/a\nb.png", lambda r: another_pair(r, "a\nb")),
    ("bytes that are no text", "odd file name", "images/train/\udcff.png", lambda r: another_pair(r, b"\xff")),
    ("dash in front", "odd file name", "images/train/-rf.png", lambda r: another_pair(r, "-rf")),
    ("blank at the end", "odd file name", "images/train/a .png", lambda r: another_pair(r, "a ")),
    ("question mark", "odd file name", "images/train/a?.png", lambda r: another_pair(r, "a?")),
    ("upper case", "names alike but for case", "images/train/scene1.png", lambda r: another_pair(r, "Scene1")),
]  # fmt: skip


def kinds_and_files(report: Report, faults: list) -> list[tuple[str, str]]:
    return [(fault.kind, str(fault.file.relative_to(report.root))) for fault in faults]


@pytest.mark.parametrize("kind, file, plant", [item[1:] for item in FOLDER], ids=[item[0] for item in FOLDER])
def test_faults(kind: str, file: str, plant: Plant, tmp_path: Path) -> None:
    report = planted("folder", plant, tmp_path)
    assert kinds_and_files(report, report.faults) == [(kind, file)], report.text()
    assert not report.ok
    assert kind in report.text()


@pytest.mark.parametrize("kind, file, plant", [item[1:] for item in WARNINGS], ids=[item[0] for item in WARNINGS])
def test_warnings(kind: str, file: str, plant: Plant, tmp_path: Path) -> None:
    report = planted("folder", plant, tmp_path)
    assert report.ok, report.text()
    assert {(kind, file), (kind, file.replace("images", "labels"))} >= set(kinds_and_files(report, report.warnings))
    assert (kind, file) in kinds_and_files(report, report.warnings), report.text()
    report.text().encode()  # can be printed, whatever the names are


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix, mutants", [("tif", 300), ("webp", 50), ("png", 50), ("jpg", 50)])
def test_damage_anywhere_never_escapes(suffix: str, mutants: int, tmp_path: Path) -> None:
    """For truncated files, and files with flipped bits, the check reports issues or none, but raises no exception."""
    draw = random.Random(2)
    exif = Image.Exif()
    exif[0x0112] = 6
    first, second = (Image.fromarray(noise(name)) for name in "ab")
    pages = {} if suffix == "jpg" else {"save_all": True, "append_images": [second]}
    path = tmp_path / f"image.{suffix}"
    first.save(path, exif=exif, **pages)
    content, kinds = path.read_bytes(), set()
    sample = Sample("train", path, None, index_encoding(data_trees.THREE))
    for _ in range(mutants):
        damaged = bytearray(content[: draw.randrange(1, len(content))] if draw.random() < 0.3 else content)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        found = inspect(sample, data_trees.THREE)
        kinds |= {fault.kind for fault in (*found.faults, *found.warnings)}
    assert "damaged file" in kinds


@pytest.mark.parametrize(
    "tree, folder", [("CamVid, the original", "LabeledApproved_full"), ("SUN RGB-D", "sunrgbd_train_test_labels")]
)
def test_a_folder_that_splits_share_is_reported_once(tree: str, folder: str, tmp_path: Path) -> None:
    report = planted(tree, lambda root: (root / folder / "notes.txt").touch(), tmp_path)
    assert kinds_and_files(report, report.warnings) == [("ignored", f"{folder}/notes.txt")]


# The data set, the kind, a part of the file's name, a part of the message, what is done.
OTHERS: list[tuple[str, str, str, str, str, Plant]] = [
    ("colour not in the palette", "folder with a palette", "colour not in the palette", "labels/val/scene1.png",
     "(1, 2, 3) (first at row 2, column 4; 1 pixel)",
     lambda r: _colour(r / "labels/val/scene1.png", (1, 2, 3))),
    ("colours resampled", "folder with a palette", "colour not in the palette", "labels/val/scene1.png",
     "compressed as a photograph", lambda r: save(r / "labels/val/scene1.png", noise("many"))),
    ("indices for colours", "folder with a palette", "label mode", "labels/val/scene1.png", "in colours",
     lambda r: save(r / "labels/val/scene1.png", pick("a", (0, 1)))),
    ("CamVid colour unknown", "CamVid in colours", "colour not in the palette", "0016E5_07959_L.png", "32 colours",
     lambda r: _colour(r / "val_labels/0016E5_07959_L.png", (1, 2, 3))),
    ("CamVid label missing", "CamVid, the original", "image without label", "0016E5_07959.png", "0016E5_07959_L.png",
     lambda r: (r / "LabeledApproved_full/0016E5_07959_L.png").unlink()),
    ("labelIds named trainIds", "Cityscapes, trainIds", "label value", "lindau_000000_000019", "labelIds in a file of",
     lambda r: _only(r / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelTrainIds.png", (7, 26, 33))),
    ("trainIds named labelIds", "Cityscapes", "other kind of label", "lindau_000000_000019", "labelTrainIds in a file",
     lambda r: _only(r / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png", (*range(19), 255))),
    ("labelId unknown", "Cityscapes", "label value", "lindau_000000_000019", "found 34 (first at row 7, column 5",
     lambda r: value(r / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png", 34)),
    ("file in the wrong city", "Cityscapes", "odd name", "jena_000000_000009", "aachen_000000_000019_leftImg8bit.png",
     lambda r: save(r / "leftImg8bit/train/aachen/jena_000000_000009_leftImg8bit.png", noise("b", (16, 32)))),
    ("Cityscapes label missing", "Cityscapes", "image without label", "jena_000000_000019", "gtFine_labelIds.png",
     lambda r: (r / "gtFine/train/jena/jena_000000_000019_gtFine_labelIds.png").unlink()),
    ("Cityscapes all void", "Cityscapes", "label all void", "jena_000000_000019", "every pixel is void",
     lambda r: _only(r / "gtFine/train/jena/jena_000000_000019_gtFine_labelIds.png", (0, 1, 4))),
    ("SUN number", "SUN RGB-D", "odd name", "img-005051.jpg", "from 1 to 5050",
     lambda r: save(r / "SUNRGBD-test_images/img-005051.jpg", noise("c"))),
    ("SUN label number", "SUN RGB-D", "odd name", "img-010336.png", "from 1 to 10335",
     lambda r: save(r / "sunrgbd_train_test_labels/img-010336.png", pick("c", range(38)))),
    ("SUN label missing", "SUN RGB-D", "image without label", "img-000002.jpg", "img-005052.png",
     lambda r: (r / "sunrgbd_train_test_labels/img-005052.png").unlink()),
    ("SUN label of 40 classes", "SUN RGB-D", "label value", "img-005052.png", "found 38 (first",
     lambda r: value(r / "sunrgbd_train_test_labels/img-005052.png", 38)),
    ("SUN all void", "SUN RGB-D", "label all void", "img-005052.png", "every pixel is void",
     lambda r: _only(r / "sunrgbd_train_test_labels/img-005052.png", (0,))),
]  # fmt: skip


def _colour(path: Path, colour: tuple[int, int, int]) -> None:
    values = np.asarray(Image.open(path)).copy()
    values[2, 4] = colour
    save(path, values)


def _only(path: Path, values: tuple[int, ...]) -> None:
    save(path, pick(path.name, values, np.asarray(Image.open(path)).shape[:2]))


@pytest.mark.parametrize(
    "tree, kind, file, words, plant", [item[1:] for item in OTHERS], ids=[item[0] for item in OTHERS]
)
def test_faults_of_other_data_sets(tree: str, kind: str, file: str, words: str, plant: Plant, tmp_path: Path) -> None:
    report = planted(tree, plant, tmp_path)
    assert [fault.kind for fault in report.faults] == [kind], report.text()
    assert file in report.faults[0].file.name or file in str(report.faults[0].file)
    assert words in report.faults[0].message
    assert not report.warnings
