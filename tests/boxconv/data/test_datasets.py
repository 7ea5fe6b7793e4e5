"""Folders of pairs: what is found, what is refused, and random numbers that depend only on the sample."""

import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from data_trees import THREE, pair
from PIL import Image
from torch.utils.data import DataLoader

from boxconv.data.bands import Bands
from boxconv.data.class_table import DataError
from boxconv.data.datasets import SegmentationFolder, evenly_spaced, seeded
from boxconv.data.layouts.pairing import find_pairs
from boxconv.data.statistics import channel_statistics


def noise(image: Image.Image, label: Image.Image) -> tuple[float, float, float]:
    return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002


def test_seeded() -> None:
    def draw() -> tuple[float, float, float]:
        return noise(None, None)  # type: ignore[arg-type]

    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = [draw(), draw()]
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    outside = [draw()]
    with seeded(1, 2, 3):
        inside = draw()
    with pytest.raises(ZeroDivisionError), seeded(-1, 2**80):
        sum(draw()) / 0
    outside.append(draw())
    assert outside == expected
    with seeded(1, 2, 3):
        assert draw() == inside
    with seeded(1, 2, 4):
        assert draw() != inside
    with seeded(1, 23):
        assert draw() != inside


def test_pairs(tmp_path: Path) -> None:
    pair(tmp_path, "train", "b", suffix=".JPG")
    pair(tmp_path, "train", "a b.c", suffix=".tiff")
    for name in (".DS_Store", "._b.JPG", "Thumbs.db", "notes.txt"):
        (tmp_path / "images" / "train" / name).touch()
    data = SegmentationFolder(str(tmp_path), "train", THREE)
    assert len(data) == 2
    assert data.names == ["a b.c", "b"]
    assert data.name(1) == "b"
    assert (data.root, data.split, data.classes) == (tmp_path, "train", THREE)
    image, label = data[0]
    assert (image.mode, label.mode, image.size, label.size) == ("RGB", "L", (20, 12), (20, 12))
    assert data.label(0) == label
    assert data[-1][1] == data[1][1] == data[5, 1][1]
    assert len(list(data)) == 2
    with pytest.raises(IndexError):
        data[2]


def test_void_becomes_255(tmp_path: Path) -> None:
    pair(tmp_path, "train", "a")
    Image.new("L", (20, 12), 11).save(tmp_path / "labels" / "train" / "a.png")
    assert SegmentationFolder(tmp_path, "train", THREE)[0][1].getextrema() == (255, 255)


def test_random_numbers_depend_on_the_sample_alone(tmp_path: Path) -> None:
    for name in "abcd":
        pair(tmp_path, "train", name)
    data = SegmentationFolder(tmp_path, "train", THREE, transform=noise, seed=3)
    expected = [data[2, i] for i in range(4)]
    assert len(set(expected)) == 4
    torch.rand(7)
    assert [data[2, i] for i in reversed(range(4))] == expected[::-1]
    assert data[1, 0] != data[2, 0]
    assert data[0] == data[0, 0]
    assert SegmentationFolder(tmp_path, "train", THREE, transform=noise, seed=4)[2, 0] != data[2, 0]
    keys = [(2, i) for i in range(4)]
    loader = DataLoader(data, batch_size=None, sampler=keys, num_workers=2)
    assert [tuple(numbers) for numbers in loader] == expected
    assert pickle.loads(pickle.dumps(data))[2, 0] == expected[0]


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist[^$]*expected ROOT/images/SPLIT"):
        SegmentationFolder(tmp_path / "nowhere", "train", THREE)
    with pytest.raises(DataError, match="has no splits"):
        SegmentationFolder(tmp_path, "train", THREE)
    pair(tmp_path, "train", "a")
    pair(tmp_path, "val", "a")
    with pytest.raises(DataError, match="images/trian and labels/trian: no such folder; splits there: train, val"):
        SegmentationFolder(tmp_path, "trian", THREE)
    (tmp_path / "images" / "test").mkdir()
    with pytest.raises(DataError, match=r"  labels/test: no such folder"):
        SegmentationFolder(tmp_path, "test", THREE)
    for split in ("", "..", "a/b", "/etc"):
        with pytest.raises(DataError, match="name of a folder"):
            SegmentationFolder(tmp_path, split, THREE)


def test_no_images(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind / "train" / "aachen").mkdir(parents=True)
    with pytest.raises(DataError, match=r"in this folder; sub-folders \(aachen\) are not searched: move"):
        SegmentationFolder(tmp_path, "train", THREE)


def test_partners_missing(tmp_path: Path) -> None:
    for i in range(12):
        pair(tmp_path, "train", f"{i:02}")
    for i in range(7):
        (tmp_path / "labels" / "train" / f"{i:02}.png").unlink()
    (tmp_path / "images" / "train" / "11.png").unlink()
    with pytest.raises(DataError) as caught:
        SegmentationFolder(tmp_path, "train", THREE)
    text = str(caught.value)
    assert "image without label: 7\n" in text
    assert "images/train/04.png: expected a label labels/train/04.png" in text
    assert "images/train/05.png" not in text
    assert "... and 2 more" in text
    assert "label without image: 1\n  labels/train/11.png: no image of this name" in text
    assert [pair.image.stem for pair in find_pairs(tmp_path, "train")[0]] == ["07", "08", "09", "10"]


def test_duplicate_names_and_other_labels(tmp_path: Path) -> None:
    pair(tmp_path, "train", "a")
    pair(tmp_path, "train", "a", suffix=".jpg")
    pair(tmp_path, "train", "b")
    os.rename(tmp_path / "labels" / "train" / "b.png", tmp_path / "labels" / "train" / "b.webp")
    with pytest.raises(DataError, match=r"a\.png: has the same name, but for the suffix, as .*a\.jpg") as caught:
        SegmentationFolder(tmp_path, "train", THREE)
    assert "b.webp: labels must be PNG, TIFF or BMP files" in str(caught.value)


def test_pipes_are_found_without_hanging(tmp_path: Path) -> None:
    pair(tmp_path, "train", "a")
    (tmp_path / "labels" / "train" / "a.png").unlink()
    os.mkfifo(tmp_path / "labels" / "train" / "a.png")
    with pytest.raises(DataError, match=r"labels/train/a\.png: expected a file, found a pipe"):
        SegmentationFolder(tmp_path, "train", THREE)


def test_faults_in_files_are_named(tmp_path: Path) -> None:
    pair(tmp_path, "train", "a")
    pair(tmp_path, "train", "b")
    data = SegmentationFolder(tmp_path, "train", THREE)
    Image.new("RGB", (12, 20)).save(tmp_path / "images" / "train" / "a.png")
    with pytest.raises(DataError, match=r"labels/train/a\.png: the label is 20 x 12 pixels.*a\.png is 12 x 20.*EXIF"):
        data[0]
    (tmp_path / "images" / "train" / "b.png").unlink()
    with pytest.raises(DataError, match=r"images/train/b\.png: cannot be read: No such file"):
        data[1]
    loader = DataLoader(data, batch_size=None, num_workers=1)
    with pytest.raises(DataError, match=r"labels/train/a\.png"):
        list(loader)


def test_evenly_spaced() -> None:
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]
    assert evenly_spaced(3, 4) == [0, 1, 2]
    assert evenly_spaced(0, 4) == []


def test_statistics_of_channels_whose_values_are_small_or_constant() -> None:
    values = np.random.default_rng(0).integers(0, 4, (4, 6, 9)).astype(np.float32) / 65535
    values[1], values[2] = 0.3, 0
    mean, std = channel_statistics([(Bands.of(values), None)])
    np.testing.assert_allclose(mean, values.mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(std, np.where(values.std((1, 2)) > 1e-6, values.std((1, 2)), 1), rtol=1e-4)
