"""Predictions for the Cityscapes benchmark: names, size, values, and what is refused."""

from pathlib import Path

import data_trees
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from boxconv.data.class_table import DataError
from boxconv.data.layouts.cityscapes import CITYSCAPES, LABEL_IDS
from boxconv.data.transforms import EvalTransform
from boxconv.errors import UsageError
from boxconv.inference.predict import Prediction, pending, predict
from boxconv.inference.submission import check_classes, label_ids, plan, write

CPU = torch.device("cpu")


class Columns(nn.Module):
    """Class k in column k of the 19 columns of its output."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[3] == 19
        return torch.eye(19)[None, :, None].expand(len(image), 19, image.shape[2], 19)


def ids(image: Image.Image) -> np.ndarray:
    return label_ids(Columns(), image, EvalTransform((8, 19)), CPU)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return data_trees.cityscapes(tmp_path / "data", size=(16, 57))


def test_every_image_gets_a_prediction_in_its_size_with_label_ids(root: Path, tmp_path: Path) -> None:
    data_trees_labels = root / "gtFine" / "test"
    data_trees_labels.rename(tmp_path / "labels-are-not-needed")
    out = tmp_path / "out"
    jobs = plan(root, "test", out)
    results = list(
        predict(
            jobs, lambda image: Prediction(ids(image)), lambda job, _, found: write(job, found.labels), progress=False
        )
    )
    assert [(result.job, result.error) for result in results] == [(job, None) for job in jobs]
    assert sorted(path.name for path in out.iterdir()) == [
        "berlin_000000_000019_pred_labelIds.png",
        "berlin_000000_000020_pred_labelIds.png",
    ]
    for job in jobs:
        image = Image.open(*job.outputs)
        assert (image.mode, image.size) == ("L", (57, 16))
        assert np.array_equal(np.asarray(image), np.tile(np.repeat(LABEL_IDS, 3), (16, 1)))


def test_a_perfect_prediction_scores_as_such_with_the_labels(root: Path) -> None:
    """The ids that are written are those in the label files."""
    image = Image.fromarray(data_trees.noise("a", (16, 57)))
    path = next((root / "gtFine/val").rglob("*_labelIds.png"))
    Image.fromarray(ids(image)).save(path)
    from boxconv.data.datasets import SegmentationFolder
    from boxconv.data.layouts.cityscapes import CityscapesLayout

    label = SegmentationFolder(root, "val", CITYSCAPES, layout=CityscapesLayout()).label(0)
    assert np.array_equal(np.asarray(label), np.tile(np.repeat(np.arange(19), 3), (16, 1)))


def test_nothing_is_replaced_unasked(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    kept = out / "lindau_000000_000019_pred_labelIds.png"
    kept.write_bytes(b"old")
    with pytest.raises(DataError, match=r"1 of 2 outputs exists already, the first is .*/lindau_000000_000019_pred"):
        pending(plan(root, "val", out), "refuse")
    jobs = pending(plan(root, "val", out), "resume")
    assert [job.image.name for job in jobs] == ["lindau_000000_000020_leftImg8bit.png"]
    assert len(pending(plan(root, "val", out), "overwrite")) == 2


def test_refusals(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "gtFine").mkdir(parents=True)
    for out in (root / "results", tmp_path / "other" / "gtFine" / "val"):
        with pytest.raises(UsageError, match=r"--out: .* is in the data folder .*, which is never written to"):
            plan(root, "test", out)
    with pytest.raises(DataError, match=r"no such folder[^$]*leftImg8bit"):
        plan(tmp_path / "nowhere", "test", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="in the place of the output folder"):
        plan(root, "test", tmp_path / "file")
    (root / "leftImg8bit/test/berlin/photo_leftImg8bit.png").touch()
    with pytest.raises(DataError, match="odd name: 1"):
        plan(root, "test", tmp_path / "out")
    with pytest.raises(DataError, match=r"3 classes \(road, car, tree"):
        check_classes(data_trees.THREE)
    check_classes(CITYSCAPES)
