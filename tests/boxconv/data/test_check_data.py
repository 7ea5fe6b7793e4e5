"""The data check finds every planted fault in a single run, and changes nothing."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_trees import fingerprint
from PIL import Image

from boxconv.data.checks.check import Report, check
from boxconv.data.class_table import ClassTable

CLASSES = ClassTable(("road", "car", "tree"), ((1, 0, 0), (2, 0, 0), (3, 0, 0)), void=frozenset({11}))


def write_pair(root: Path, split: str, name: str, *, size: tuple[int, int] = (20, 12)) -> tuple[Path, Path]:
    values = np.random.default_rng(sum(map(ord, split + name))).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image, label = root / "images" / split / f"{name}.png", root / "labels" / split / f"{name}.png"
    for path, content in ((image, values), (label, values[..., 0] % 3)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(path)
    return image, label


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            write_pair(tmp_path, split, f"scene{i}")
    return tmp_path


def kinds(report: Report) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fault in report.faults:
        found.setdefault(fault.kind, []).append(str(fault.file.relative_to(report.root)))
    return found


def test_clean_tree(tree: Path) -> None:
    for name in (".DS_Store", "._scene0.png", "Thumbs.db"):
        (tree / "images" / "train" / name).touch()
    before = fingerprint(tree)
    report = check(tree, CLASSES)
    assert fingerprint(tree) == before
    assert report.ok
    assert not report.warnings
    assert report.pairs == {"train": 6, "val": 3}
    assert report.sizes == {(12, 20): 9}
    assert sum(report.pixels["train"]) == 6 * 12 * 20
    assert len(report.pixels["val"]) == 4
    assert "6 pairs in train, 3 pairs in val" in report.text()
    assert "12 x 20 (9)" in report.text()
    assert "0 faults, 0 warnings" in report.text()


def test_every_fault_at_once(tree: Path) -> None:
    images, labels = tree / "images" / "train", tree / "labels" / "train"
    planted = {name: write_pair(tree, "train", name) for name in "abcdefghijklmnop"}
    planted["a"][1].unlink()
    planted["b"][0].unlink()
    shutil.copy(planted["c"][0], images / "c.bmp")
    planted["d"][0].write_bytes(b"")
    planted["e"][0].write_bytes(planted["e"][0].read_bytes()[:300])
    planted["f"][1].write_text("<html>not found</html>")
    shutil.copy(planted["a"][0], planted["g"][1])
    Image.new("L", (20, 13)).save(planted["h"][1])
    values = np.zeros((12, 20), np.uint8)
    values[7, 5:8] = 9
    Image.fromarray(values).save(planted["i"][1])
    Image.new("L", (20, 12), 11).save(planted["j"][1])
    planted["k"][0].unlink()
    planted["k"][0].mkdir()
    planted["l"][0].unlink()
    os.mkfifo(planted["l"][0])
    planted["m"][1].unlink()
    planted["m"][1].symlink_to("nowhere.png")
    planted["n"][1].rename(planted["n"][1].with_suffix(".jpg"))
    # Two faults in one pair: the label is missing, and the image is damaged as well.
    planted["o"][1].unlink()
    planted["o"][0].write_bytes(b"\x89PNG")
    shutil.copy(planted["p"][0], tree / "images" / "val" / "scene0.png")
    (images / "notes.txt").touch()
    (labels / "old").mkdir()
    (tree / "images" / "test").mkdir()

    before = fingerprint(tree)
    report = check(tree, CLASSES)
    assert fingerprint(tree) == before
    assert not report.ok
    assert kinds(report) == {
        "missing folder": ["labels/test"],
        "image without label": ["images/train/a.png", "images/train/o.png"],
        "label without image": ["labels/train/b.png"],
        "duplicate name": ["images/train/c.png"],
        "damaged file": ["images/train/d.png", "images/train/e.png"],
        "not an image": ["labels/train/f.png", "images/train/o.png"],
        "label mode": ["labels/train/g.png"],
        "sizes differ": ["labels/train/h.png"],
        "label value": ["labels/train/i.png"],
        "label all void": ["labels/train/j.png"],
        "not a file": ["images/train/k.png", "images/train/l.png"],
        "unreadable file": ["labels/train/m.png"],
        "label format": ["labels/train/n.jpg"],
    }
    assert [(fault.kind, fault.file.name) for fault in report.warnings] == [
        ("ignored", "notes.txt"),
        ("ignored", "old"),
        ("wrong suffix", "c.bmp"),
        ("image twice in a split", "c.png"),
        ("image in two splits", "scene0.png"),
    ]
    text = report.text()
    assert "found 9 (first at row 7, column 5; 3 pixels)" in text
    assert "17 faults, 5 warnings" in text
    assert "  images/train/l.png: expected a file, found a pipe" in text


def test_long_lists_are_cut(tree: Path) -> None:
    for path in (tree / "labels" / "train").iterdir():
        path.write_bytes(b"")
    text = check(tree, CLASSES).text()
    assert "damaged file: 6" in text
    assert "scene4.png" in text
    assert "scene5.png" not in text
    assert "... and 1 more" in text
    assert "expected ROOT" not in text, "no file is missing"


def test_names_only(tree: Path) -> None:
    image, _ = write_pair(tree, "train", "a")
    image.write_bytes(b"")
    (tree / "labels" / "val" / "scene1.png").unlink()
    report = check(tree, CLASSES, decode=False)
    assert kinds(report) == {"image without label": ["images/val/scene1.png"]}
    assert "FAULTS (expected ROOT/images/SPLIT/NAME.jpg" in report.text()
    assert not report.sizes


def test_chosen_and_missing_splits(tree: Path) -> None:
    report = check(tree, CLASSES, ["val", "test"])
    assert report.pairs == {"val": 3, "test": 0}
    assert [fault.message for fault in report.faults] == [
        f"{tree}/images/test and {tree}/labels/test: no such folder; splits there: train, val"
    ]
    assert "no such folder" in check(tree / "nowhere", CLASSES).text()
    assert "no split in this folder" in check(tree / "images" / "val", CLASSES).text()
    assert "does not exist" in check(tree / "nowhere", CLASSES, ["val"]).text()


def test_an_empty_split(tree: Path) -> None:
    for kind in ("images", "labels"):
        (tree / kind / "test").mkdir()
    report = check(tree, CLASSES)
    assert kinds(report) == {"no images": ["images/test"]}


def test_masks_are_pointed_out(tmp_path: Path) -> None:
    _, label = write_pair(tmp_path, "train", "a")
    mask = np.zeros((12, 20), np.uint8)
    mask[:4] = 255
    Image.fromarray(mask).save(label)
    report = check(tmp_path, CLASSES)
    assert [fault.kind for fault in report.faults] == ["class 0 only"]
    assert [warning.kind for warning in report.warnings] == ["class without a pixel"]
    assert "write into classes.csv what 255 is: a row 255,car,... or 255,void,0,0,0" in report.text()


def test_absent_classes_and_odd_names_in_the_text(tmp_path: Path) -> None:
    _, label = write_pair(tmp_path, "a split\nof mine", "a")
    Image.new("L", (20, 12), 1).save(label)
    lines = check(tmp_path, CLASSES, progress=True).text().splitlines()
    assert "share of pixels  a split\\nof mine" in lines
    assert "  0 road                     none" in lines
    assert "  1 car                    1.0000" in lines
    assert len({len(line) for line in lines[lines.index("share of pixels  a split\\nof mine") :][:5]}) == 1
