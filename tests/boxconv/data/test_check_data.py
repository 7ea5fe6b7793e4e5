"""The data check finds every planted fault in a single run, and changes nothing."""

import os
from pathlib import Path

import numpy as np
import pytest
from data_trees import THREE, fingerprint, pair
from PIL import Image

from boxconv.data.checks.check import Report, check


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            pair(tmp_path, split, f"scene{i}")
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
    report = check(tree, THREE)
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


def test_faults_and_warnings_of_all_files_in_a_single_run(tree: Path) -> None:
    planted = {name: pair(tree, "train", name) for name in "abcde"}
    planted["a"][1].unlink()
    planted["b"][0].write_bytes(b"")
    values = np.zeros((12, 20), np.uint8)
    values[7, 5:8] = 9
    Image.fromarray(values).save(planted["c"][1])
    planted["d"][0].unlink()
    os.mkfifo(planted["d"][0])
    # Two faults in one pair: the label is missing, and the image is damaged as well.
    planted["e"][1].unlink()
    planted["e"][0].write_bytes(b"\x89PNG")
    (tree / "images" / "train" / "notes.txt").touch()
    (tree / "labels" / "train" / "old").mkdir()

    report = check(tree, THREE)
    assert kinds(report) == {
        "image without label": ["images/train/a.png", "images/train/e.png"],
        "damaged file": ["images/train/b.png"],
        "not an image": ["images/train/e.png"],
        "label value": ["labels/train/c.png"],
        "not a file": ["images/train/d.png"],
    }
    assert [(fault.kind, fault.file.name) for fault in report.warnings] == [
        ("ignored", "notes.txt"),
        ("ignored", "old"),
    ]
    text = report.text()
    assert "found 9 (first at row 7, column 5; 3 pixels)" in text
    assert "6 faults, 2 warnings" in text
    assert "  images/train/d.png: expected a file, found a pipe" in text


def test_long_lists_are_cut(tree: Path) -> None:
    for path in (tree / "labels" / "train").iterdir():
        path.write_bytes(b"")
    text = check(tree, THREE).text()
    assert "damaged file: 6" in text
    assert "scene4.png" in text
    assert "scene5.png" not in text
    assert "... and 1 more" in text
    assert "expected ROOT" not in text, "no file is missing"


def test_names_only(tree: Path) -> None:
    image, _ = pair(tree, "train", "a")
    image.write_bytes(b"")
    (tree / "labels" / "val" / "scene1.png").unlink()
    report = check(tree, THREE, decode=False)
    assert kinds(report) == {"image without label": ["images/val/scene1.png"]}
    assert "FAULTS (expected ROOT/images/SPLIT/NAME.jpg" in report.text()
    assert not report.sizes


def test_chosen_and_missing_splits(tree: Path) -> None:
    report = check(tree, THREE, ["val", "test"])
    assert report.pairs == {"val": 3, "test": 0}
    assert [fault.message for fault in report.faults] == [
        f"{tree}/images/test and {tree}/labels/test: no such folder; splits there: train, val"
    ]
    assert "no such folder" in check(tree / "nowhere", THREE).text()
    assert "no split in this folder" in check(tree / "images" / "val", THREE).text()
    assert "does not exist" in check(tree / "nowhere", THREE, ["val"]).text()


def test_an_empty_split(tree: Path) -> None:
    for kind in ("images", "labels"):
        (tree / kind / "test").mkdir()
    report = check(tree, THREE)
    assert kinds(report) == {"no images": ["images/test"]}


def test_masks_are_pointed_out(tmp_path: Path) -> None:
    _, label = pair(tmp_path, "train", "a")
    mask = np.zeros((12, 20), np.uint8)
    mask[:4] = 255
    Image.fromarray(mask).save(label)
    report = check(tmp_path, THREE)
    assert [fault.kind for fault in report.faults] == ["class 0 only"]
    assert [warning.kind for warning in report.warnings] == ["class without a pixel"]
    assert "write into classes.csv what 255 is: a row 255,car,... or 255,void,0,0,0" in report.text()


def test_absent_classes_and_odd_names_in_the_text(tmp_path: Path) -> None:
    _, label = pair(tmp_path, "a split\nof mine", "a")
    Image.new("L", (20, 12), 1).save(label)
    lines = check(tmp_path, THREE, progress=True).text().splitlines()
    assert "share of pixels  a split\\nof mine" in lines
    assert "  0 road                     none" in lines
    assert "  1 car                    1.0000" in lines
    assert len({len(line) for line in lines[lines.index("share of pixels  a split\\nof mine") :][:5]}) == 1
