"""Images without folders for splits: `--val-share` keeps some of them for validation."""

import data_trees
import pytest
from command import boxconv
from data_trees import THREE, noise, pick, save

from boxconv.data.class_table import DataError, write_classes
from boxconv.data.config import DataConfig
from boxconv.data.datasets import SegmentationFolder
from boxconv.data.layouts.folder import FOLDER, FolderLayout
from boxconv.data.layouts.pairing import splits_of
from boxconv.errors import UsageError

FIFTH = FolderLayout(val_share=0.2)


def flat(root, count, first=0):
    """images/NAME.png and labels/NAME.png, with a class file."""
    for i in range(first, first + count):
        save(root / "images" / f"photo{i}.png", noise(f"photo{i}"))
        save(root / "labels" / f"photo{i}.png", pick(f"photo{i}", (0, 1, 2, 11)))
    write_classes(root / "classes.csv", THREE)
    return root


def names(root, split, layout=FIFTH):
    return set(SegmentationFolder(root, split, THREE, layout=layout).names)


def test_every_image_is_in_one_split_and_about_a_fifth_in_val(tmp_path):
    root = flat(tmp_path, 200)
    train, val = names(root, "train"), names(root, "val")
    assert len(train) + len(val) == len(train | val) == 200
    assert 25 <= len(val) <= 55
    assert splits_of(root, FIFTH) == ["train", "val"]
    more = FolderLayout(val_share=0.5)
    assert val < names(root, "val", more), "a larger share keeps those that a smaller one has"


def test_an_image_stays_where_it_is_when_others_come(tmp_path):
    before = names(flat(tmp_path, 40), "val")
    after = names(flat(tmp_path, 40, first=40), "val")
    assert before < after
    assert len(after & {f"photo{i}" for i in range(40)}) == len(before)


def test_folders_of_splits_come_first(tmp_path):
    root = data_trees.folder(tmp_path)
    assert names(root, "train") == names(root, "train", FOLDER)
    assert splits_of(root, FIFTH) == splits_of(root, FOLDER)


def test_a_split_that_gets_no_image_is_a_fault(tmp_path):
    with pytest.raises(DataError, match=r"--val-share 1e-09: none of the 5 images in .*images is in val"):
        names(flat(tmp_path, 5), "val", FolderLayout(val_share=1e-9))


def test_without_it_the_message_names_it(tmp_path):
    with pytest.raises(DataError, match=r"images/train.*no such folder(.|\n)*--val-share 0\.2"):
        names(flat(tmp_path, 5), "train", FOLDER)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": "folder", "val_share": 1.0}, "--val-share: expected a share between 0 and 1, got 1.0"),
        ({"data": "folder", "val_share": 0.0}, "--val-share: expected a share between 0 and 1, got 0.0"),
        ({"data": "camvid", "val_share": 0.2}, "--val-share: got 0.2, but --data camvid has its own splits"),
        (
            {"data": "folder", "val_share": 0.2},
            "--val-share: got 0.2, but .*/images has folders for splits already: train",
        ),
    ],
)
def test_wrong_settings(tmp_path, changes, message):
    (tmp_path / "images" / "train").mkdir(parents=True)
    with pytest.raises(UsageError, match=message):
        DataConfig(root=tmp_path, **changes).check_new()


def test_a_run_that_was_saved_with_a_share_without_use(tmp_path):
    (tmp_path / "images" / "train").mkdir(parents=True)
    DataConfig(root=tmp_path, data="folder", val_share=0.2).check()


def test_from_photos_to_scores_by_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = flat(tmp_path / "photos", 12)
    (root / "classes.csv").unlink()
    status, out, errors = boxconv(capsys, "train", "--out", "run", "--data", "folder", "--root", root)
    assert (status, "--write-classes FILE drafts one" in errors) == (2, True), out + errors
    assert boxconv(capsys, "check-data", root, "--write-classes", "classes.csv")[0] == 0
    status, out, _ = boxconv(capsys, "check-data", root, "--classes", "classes.csv")
    remedy = "12 images are in images/ itself: --val-share 0.2 divides them"
    assert (status, f"no split in this folder; {remedy}" in out) == (1, True), out
    status, _, errors = boxconv(
        capsys, "train", "--out", "run", "--data", "folder", "--root", root, "--classes", "classes.csv"
    )
    assert (status, remedy in errors) == (1, True), errors
    options = ("--classes", "classes.csv", "--val-share", "0.3")
    status, out, _ = boxconv(capsys, "check-data", root, *options)
    assert status == 0, out
    small = ("--size", "16", "32", "--epochs", "1", "--batch-size", "2", "--network", "enet_minus", "--quiet")
    status, out, errors = boxconv(capsys, "train", "--out", "run", "--data", "folder", "--root", root, *options, *small)
    assert status == 0, out + errors
    count = len(names(root, "val", FolderLayout(val_share=0.3)))
    status, out, errors = boxconv(capsys, "evaluate", "run/best.pt", "--quiet")
    assert (status, f"val: {count} images" in out) == (0, True), out + errors
    for kind in ("images", "labels"):
        (tmp_path / "sorted" / kind).mkdir(parents=True)
        (root / kind).rename(tmp_path / "sorted" / kind / "val")
    status, out, errors = boxconv(capsys, "evaluate", "run/best.pt", "--quiet", "--root", "sorted")
    assert (status, "val: 12 images" in out) == (0, True), errors
