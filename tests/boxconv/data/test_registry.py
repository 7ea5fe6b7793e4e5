"""From settings to data: recognising data sets on disk, and preparing images as the settings say."""

import re
from pathlib import Path

import data_trees
import numpy as np
import pytest
import torch

import boxconv
from boxconv.data.registry import classes_of, detect, open_split, prepare_of
from boxconv.training.config import TrainConfig
from boxconv.training.loading import augment_of


def test_images_are_normalised_as_configured(tmp_path: Path) -> None:
    root = data_trees.folder(tmp_path)
    config = TrainConfig(data="folder", root=root, size=data_trees.SIZE, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    image, label = open_split(config, "val", classes_of(config), None)[1]
    seen, classes = prepare_of(config)(image, label)
    expected = (np.asarray(image) / 255 - config.mean) / config.std
    torch.testing.assert_close(seen, torch.from_numpy(expected).permute(2, 0, 1).float())
    assert torch.equal(classes, torch.from_numpy(np.array(label)).long())
    still = TrainConfig(**{**vars(config), "flip": False, "scale": (1.0, 1.0), "brightness": 0.0})
    assert torch.equal(augment_of(still)(image, label)[0], seen)


def test_augmentation_is_as_configured() -> None:
    config = TrainConfig(size=(64, 96), crop=(32, 48), rotate=3.0, blur=0.25, flip=False, brightness=0.1)
    augment = augment_of(config)
    assert (augment.size, augment.whole, augment.rotate, augment.blur) == ((32, 48), (64, 96), 3.0, 0.25)
    assert (augment.flip, augment.brightness, augment.contrast, augment.scale) == (False, 0.1, 0.1, config.scale)


def test_a_folder_with_classes_of_its_own_is_no_camvid(tmp_path: Path) -> None:
    root = data_trees.camvid_folders(tmp_path)
    (root / "classes.csv").write_text("label,name,red,green,blue\n0,road,1,2,3\n")
    assert detect(root) == "folder"
    assert detect(data_trees.folder(tmp_path / "other")) == "folder"


@pytest.mark.parametrize("path", sorted(Path(boxconv.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_code_uses_the_configured_normalisation(path: Path) -> None:
    """Code must call `prepare_of`: `EvalTransform(config.size)` would ignore the configured mean and std."""
    assert not re.search(r"EvalTransform\([^,()]*(\([^()]*\))?\.size\)", path.read_text())
