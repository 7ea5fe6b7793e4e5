"""Every layout as downloaded: pairs of images and labels, their splits, and the classes of pixels."""

from pathlib import Path

import data_trees
import numpy as np
import pytest
from PIL import Image

from boxconv.data.class_table import DataError
from boxconv.data.config import DataConfig
from boxconv.data.datasets import SegmentationFolder
from boxconv.data.layouts.camvid import CAMVID, COLOURS, CamVidLayout
from boxconv.data.layouts.cityscapes import CITYSCAPES, LABEL_IDS, CityscapesLayout, submission_name
from boxconv.data.layouts.folder import FOLDER
from boxconv.data.layouts.pairing import splits_of
from boxconv.data.layouts.sunrgbd import SUNRGBD, SunRgbdLayout
from boxconv.data.registry import classes_of, detect, layout_of, open_split

SPLITS = {"folder": ["train", "val"], "Cityscapes": ["train", "val", "test"], "SUN RGB-D": ["train", "test"]}


@pytest.mark.parametrize("name", data_trees.TREES)
def test_every_layout_opens(name: str, tmp_path: Path) -> None:
    data, make = data_trees.TREES[name]
    root = make(tmp_path)
    config = DataConfig(data=data, root=root, size=(16, 32))  # type: ignore[arg-type]
    config.check()
    classes, layout = classes_of(config), layout_of(config)
    assert detect(root) == data
    splits = splits_of(root, layout)
    assert splits == SPLITS.get(name, splits)
    assert "train" in splits
    seen: set[int] = set()
    for split in splits:
        samples = open_split(config, split, classes, None)
        for index in range(len(samples)):  # type: ignore[arg-type]
            image, label = samples[index]
            assert (image.mode, label.mode, image.size) == ("RGB", "L", label.size)
            assert samples.label(index) == label  # type: ignore[attr-defined]
            seen |= set(np.unique(label).tolist())
    assert seen == {*range(len(classes)), 255}


def test_cityscapes_ids(tmp_path: Path) -> None:
    root = data_trees.cityscapes(tmp_path)
    data = SegmentationFolder(root, "train", CITYSCAPES, layout=CityscapesLayout())
    assert data.names == [
        f"{city}_000000_{frame}_leftImg8bit" for city in ("aachen", "jena") for frame in ("000019", "000020")
    ]
    raw, label = np.asarray(Image.open(data.pairs[0].label)), np.asarray(data[0][1])
    official = {7: "road", 8: "sidewalk", 11: "building", 19: "traffic light", 26: "car", 31: "train", 33: "bicycle"}
    for value, name in official.items():
        assert set(label[raw == value]) == {CITYSCAPES.names.index(name)}
    for value in {*range(34)} - set(LABEL_IDS):
        assert set(label[raw == value]) == {255}
    assert len(set(CITYSCAPES.categories)) == 7


def test_cityscapes_archives_in_their_own_folders(tmp_path: Path) -> None:
    root = data_trees.cityscapes(tmp_path)
    for part in ("leftImg8bit", "gtFine"):
        (root / f"{part}_trainvaltest").mkdir()
        (root / part).rename(root / f"{part}_trainvaltest" / part)
    assert len(SegmentationFolder(root, "val", CITYSCAPES, layout=CityscapesLayout())) == 2
    assert detect(root) == "cityscapes"


def test_label_ids_are_preferred_to_train_ids(tmp_path: Path) -> None:
    root = data_trees.cityscapes(data_trees.cityscapes(tmp_path), kind="labelTrainIds")
    pairs = SegmentationFolder(root, "val", CITYSCAPES, layout=CityscapesLayout()).pairs
    assert {pair.label.name.split("_gtFine_")[1] for pair in pairs} == {"labelIds.png"}


def test_a_license_plate_is_void(tmp_path: Path) -> None:
    root = data_trees.cityscapes(tmp_path)
    path = next((root / "gtFine" / "val").rglob("*_labelIds.png"))
    values = np.asarray(Image.open(path)).copy()
    values[3, 4] = 255
    data_trees.save(path, values)
    assert SegmentationFolder(root, "val", CITYSCAPES, layout=CityscapesLayout())[0][1].getpixel((4, 3)) == 255


def test_submission_names() -> None:
    name = submission_name(Path("leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png"))
    assert name == "berlin_000000_000019_pred_labelIds.png"


@pytest.mark.parametrize("images, labels", [(0, 0), (0, 5050), (5050, 5050)])
def test_sunrgbd_pairs_by_sample(images: int, labels: int, tmp_path: Path) -> None:
    """The pairs are the same whether training images and labels are numbered from 1 or from 5051."""
    for number in (1, 2, 285):
        data_trees.save(tmp_path / "images/train" / f"img-{number + images:06}.jpg", data_trees.noise(f"{number}"))
        values = data_trees.pick(f"{number}", range(38))
        data_trees.save(tmp_path / "labels/train" / f"img-{number + labels:06}.png", values)
    data = SegmentationFolder(tmp_path, "train", SUNRGBD, layout=SunRgbdLayout())
    assert len(data) == 3
    for (image, label), number in zip(data, (1, 2, 285), strict=True):
        assert np.abs(np.asarray(image).mean() - data_trees.noise(f"{number}").mean()) < 3
        assert np.array_equal(np.asarray(label), data_trees.pick(f"{number}", range(38)) - np.uint8(1))


def test_sunrgbd_splits_are_the_published_ones(tmp_path: Path) -> None:
    root = data_trees.sunrgbd(tmp_path)
    labels = {
        split: [pair.label.stem for pair in SegmentationFolder(root, split, SUNRGBD, layout=SunRgbdLayout()).pairs]
        for split in ("train", "test")
    }
    assert labels == {
        "train": ["img-005051", "img-005052", "img-005053", "img-010335"],
        "test": ["img-000001", "img-000002", "img-005050"],
    }
    assert len(SUNRGBD) == 37
    assert (SUNRGBD.names[0], SUNRGBD.names[36]) == ("wall", "bag")


def test_the_official_sunrgbd_archives_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "SUNRGBD" / "kv1" / "NYUdata").mkdir(parents=True)
    with pytest.raises(DataError, match=r"run `boxconv import-sunrgbd` first[^$]*ankurhanda"):
        SegmentationFolder(tmp_path, "train", SUNRGBD, layout=SunRgbdLayout())


def test_the_original_camvid_is_split_as_by_segnet(tmp_path: Path) -> None:
    root = data_trees.camvid_original(tmp_path)
    names = {
        split: SegmentationFolder(root, split, CAMVID, layout=CamVidLayout()).names for split in CamVidLayout.published
    }
    assert names == {
        "train": ["0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_00390", "0016E5_08640"],
        "val": ["0016E5_07959", "0016E5_08159"],
        "test": ["0001TP_008550", "Seq05VD_f00000"],
    }


def test_camvid_colours(tmp_path: Path) -> None:
    root = data_trees.camvid_coloured(tmp_path)
    data = SegmentationFolder(root, "val", CAMVID, layout=CamVidLayout())
    raw, label = np.asarray(Image.open(data.pairs[0].label)), np.asarray(data[0][1])
    assert sum(map(len, COLOURS.values())) == 32
    for name, members in COLOURS.items():
        expected = 255 if name == "void" else CAMVID.names.index(name)
        for colour in members.values():
            assert set(label[(raw == colour).all(-1)]) == {expected}


def test_renamed_test_images_of_segnet(tmp_path: Path) -> None:
    root = data_trees.camvid_segnet(tmp_path)
    (pair,) = SegmentationFolder(root, "test", CAMVID, layout=CamVidLayout()).pairs
    assert (pair.image.name, pair.label.name) == ("test_00001.png", "testannot_00001.png")


def test_the_border_is_cut_off_both(tmp_path: Path) -> None:
    root = data_trees.sunrgbd(tmp_path)
    whole = SegmentationFolder(root, "test", SUNRGBD, layout=SunRgbdLayout())[0]
    image, label = SegmentationFolder(root, "test", SUNRGBD, layout=SunRgbdLayout(), border=1)[0]
    assert image.size == label.size == (18, 10)
    for cut, full in zip((image, label), whole, strict=True):
        assert np.array_equal(np.asarray(cut), np.asarray(full)[1:-1, 1:-1])
    with pytest.raises(DataError, match="20 x 12 pixels leave nothing without a border of 6"):
        SegmentationFolder(root, "test", SUNRGBD, layout=SunRgbdLayout(), border=6)[0]


@pytest.mark.parametrize("layout", [FOLDER, CityscapesLayout(), SunRgbdLayout(), CamVidLayout()])
def test_what_is_missing_is_named(layout, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist[^$]*expected"):
        SegmentationFolder(tmp_path / "nowhere", "train", CAMVID, layout=layout)
    with pytest.raises(DataError, match=r"no such folder; .* has no splits[^$]*expected"):
        SegmentationFolder(tmp_path, "train", CAMVID, layout=layout)
