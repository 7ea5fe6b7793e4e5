"""Prediction: files in, files out, nothing replaced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from box_convolution.segmentation.classes import ClassTable, DataError
from box_convolution.segmentation.predict import plan, predict, predict_image
from box_convolution.segmentation.transforms import Prepare

CPU = torch.device("cpu")
CLASSES = ClassTable(("dark", "bright"), ((0, 0, 90), (255, 220, 0)))


class Brightness(nn.Module):
    """Class 1 where the image is brighter than the mean colour."""

    def forward(self, image):
        mean = image.mean(1, keepdim=True)
        return torch.cat((-mean, mean), 1)


@pytest.fixture
def photo(tmp_path):
    """Left half dark, right half bright, 30 x 50."""
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[:, 25:] = 255
    path = tmp_path / "photos" / "a photo.jpg"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path, quality=95)
    return path


@pytest.mark.parametrize("size", [None, (16, 24), (60, 100)])
def test_the_label_has_the_size_of_the_image(photo, size):
    label = predict_image(Brightness(), Image.open(photo), Prepare(size), CPU)
    assert label.shape == (30, 50)
    assert label.dtype == np.uint8
    assert (label[:, :22] == 0).all()
    assert (label[:, 28:] == 1).all()


def test_writes_indices_and_a_picture(photo, tmp_path):
    out = tmp_path / "out"
    jobs = plan([photo.parent], out)
    assert not out.exists()
    assert [job.image for job in predict(Brightness(), jobs, CLASSES, Prepare(), device=CPU, progress=False)] == [photo]
    assert {path.name for path in out.iterdir()} == {"a photo.png", "a photo_colour.png"}
    label = np.asarray(Image.open(out / "a photo.png"))
    assert set(np.unique(label)) == {0, 1}
    assert tuple(np.asarray(Image.open(out / "a photo_colour.png"))[0, -1]) == (255, 220, 0)


@pytest.mark.parametrize(
    "inputs, out, message",
    [
        (["missing"], "out", "missing: no such file or folder"),
        (["empty"], "out", "empty: no images in this folder"),
        (["photos", "other"], "out", r"would be written for both .*photos.*other"),
        (["labels"], "labels", r"would replace an input"),
        (["photos"], "photos/a photo.jpg", "a file is in the place of the output folder"),
        (["photos"], "done", r"a photo\.png: exists already; .*--overwrite"),
    ],
)
def test_refuses_before_anything_is_written(photo, tmp_path, inputs, out, message):
    (tmp_path / "empty").mkdir()
    for name in ("other/a photo.png", "labels/a.png", "done/a photo.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message):
        plan([tmp_path / name for name in inputs], tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


def test_overwrite_is_possible_when_asked(photo, tmp_path):
    for _ in range(2):
        jobs = plan([photo], tmp_path / "out", overwrite=True)
        list(predict(Brightness(), jobs, CLASSES, Prepare(), device=CPU, progress=False))


def test_an_unreadable_image_is_named(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        list(
            predict(
                Brightness(), plan([broken], Path(tmp_path / "out")), CLASSES, Prepare(), device=CPU, progress=False
            )
        )
