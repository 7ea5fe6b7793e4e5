"""boxconv predict and boxconv evaluate: --size, --tile, --overlap, --tta."""

import json

import data_trees
import numpy as np
import pytest
import torch
from command import boxconv
from PIL import Image

from boxconv.data import large_images, tiff_strips
from boxconv.data.scenes.dataset import SCENE_CLASSES, draw_scene

OPTIONS = [
    ["--size", "64", "96"],
    ["--tile", "32"],
    ["--tile", "32", "--overlap", "16"],
    ["--size", "48", "96", "--tile", "32"],
    ["--tta"],
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from boxconv.cli import main

    folder = tmp_path_factory.mktemp("trained") / "run"
    small = ["--size", "32", "64", "--batch-size", "2", "--epochs", "1", "--quiet", "--network", "boxenet"]
    assert main(["train", "--out", str(folder), "--scenes-per-epoch", "4", "--scenes-for-validation", "2", *small]) == 0
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two labelled scenes of 80 x 120."""
    return data_trees.scenes(tmp_path / "data", {"val": range(2)}, (80, 120), suffix=".tif")


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_predictions_score_what_evaluate_says(run, folder, tmp_path, capsys, options):
    out, scores = tmp_path / "out", tmp_path / "scores.json"
    status, printed, errors = boxconv(capsys, "predict", run, folder / "images", "--out", out, "--quiet", *options)
    assert (status, errors) == (0, "")
    assert "2 images labelled by" in printed
    assert " images a second" in printed
    status, printed, errors = boxconv(
        capsys, "evaluate", run / "best.pt", "--data", "folder", "--root", folder, "--split", "val",
        "--full-resolution", "--json", scores, "--quiet", *options,
    )  # fmt: skip
    assert (status, errors) == (0, "")
    assert ("in tiles of 32 that share" in printed) == ("--tile" in options)
    assert ("six views averaged" in printed) == ("--tta" in options)
    counts = torch.zeros(len(SCENE_CLASSES), len(SCENE_CLASSES), dtype=torch.int64)
    for seed in range(2):
        label = torch.from_numpy(draw_scene(seed, 80, 120)[1]).long()
        found = torch.from_numpy(np.array(Image.open(out / "val" / f"{seed}.png"))).long()
        for true, predicted in zip(label[label != 255].tolist(), found[label != 255].tolist(), strict=True):
            counts[true, predicted] += 1
    apart = (counts - torch.tensor(json.loads(scores.read_text())["counts"])).abs().sum() / 2
    assert apart <= 3, "pixels where rounding decides"


@pytest.mark.parametrize("options", [*OPTIONS, []], ids=" ".join)
def test_a_file_read_in_parts_gets_the_same_labels(run, folder, tmp_path, capsys, monkeypatch, options):
    labels = []
    for limit in (None, 1000):
        if limit is not None:
            for module in (large_images, tiff_strips):
                monkeypatch.setattr(module, "PIXEL_LIMIT", limit)
            monkeypatch.setattr("boxconv.data.image_files.PIXEL_LIMIT", limit)  # Pillow may not open it whole
            monkeypatch.setattr("boxconv.inference.score_patches.PIXEL_LIMIT", limit)
        out = tmp_path / f"out-{limit}"
        done = boxconv(capsys, "predict", run, folder / "images/val/0.tif", "--out", out, "--quiet", *options)
        assert (done[0], done[2]) == (0, "")
        labels.append(np.array(Image.open(out / "0.png")))
    assert (labels[0] != labels[1]).mean() < 0.01, "the resized image may differ by rounding"


def test_an_image_too_large_that_has_no_parts(run, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    monkeypatch.setattr("boxconv.data.image_files.PIXEL_LIMIT", 1000)
    status, _, errors = boxconv(capsys, "predict", run, tmp_path / "a.png", "--out", tmp_path / "out", "--quiet")
    assert status == 1
    assert "a.png: 80 x 60 pixels are more than 1000; only TIFF files and .npy arrays are read in parts" in errors


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_help_says_what_tiles_cost(command, capsys):
    text = " ".join(boxconv(capsys, command, "--help")[1].replace("│", " ").split())
    assert "the network sees no farther than a tile" in text
    assert "takes six times as long" in text
