"""Training on images with other channels than red, green and blue, and using the network afterwards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import printed
from data_trees import THREE, pick, save
from PIL import Image

from boxconv.data.class_table import write_classes

SETTINGS = ["--size", 16, 32, "--batch-size", 2, "--epochs", 1, "--network", "enet_minus", "--data", "folder"]


def folder(root: Path, suffix: str, channels: int) -> Path:
    """Three training images and two others, with 12 bits, or with 8 bits for PNG files with alpha."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            path = root / "images" / split / f"{i}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == ".npy":
                np.save(path, draw.integers(0, 4096, (channels, 20, 40), dtype=np.uint16))
            elif channels == 1:
                save(path, draw.integers(0, 4096, (20, 40), dtype=np.uint16))
            else:
                save(path, draw.integers(0, 256, (20, 40, channels), dtype=np.uint8))
            save(root / "labels" / split / f"{i}.png", pick(f"{i}", (0, 1, 2, 11), (20, 40)))
    write_classes(root / "classes.csv", THREE)
    return root


@pytest.mark.parametrize("suffix, channels, white", [(".png", 1, ["--white", 4095]), (".png", 4, []), (".npy", 5, [])])
def test_from_training_to_the_exported_network(
    suffix: str, channels: int, white: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = folder(tmp_path / "data", suffix, channels), tmp_path / "run"
    status, text = printed(
        capsys, "train", *SETTINGS, "--root", root, "--in-channels", channels, *white, "--out", run, "--rotate", 5,
        "--blur", 0.5,
    )  # fmt: skip
    assert status == 0, text
    assert "measured on the training images: --mean 0." in text
    config = json.loads((run / "config.json").read_text())["config"]
    assert len(config["mean"]) == len(config["std"]) == channels
    divisor = 255 if suffix == ".png" and channels == 4 else 4095 if white else 65535
    expected = np.mean([_values(path).mean() for path in (root / "images/train").iterdir()]) / divisor
    assert np.mean(config["mean"]) == pytest.approx(expected, abs=1e-4)

    assert printed(capsys, "evaluate", run / "best.pt", "--quiet", "--picture", tmp_path / "seen.png")[0] == 0
    assert printed(capsys, "analyze", run, "--positions", 0, "--quiet")[0] == 0
    assert printed(capsys, "check-data", root, "--in-channels", channels, "--quiet")[0] == 0
    images = root / "images" / "val"
    assert printed(capsys, "predict", run, images, "--out", tmp_path / "checkpoint", "--quiet")[0] == 0
    exported = tmp_path / "network.safetensors"
    assert printed(capsys, "export", run, "--out", exported)[0] == 0
    status, text = printed(capsys, "evaluate", exported, "--data", "folder", "--root", root, "--quiet")
    assert status == 0, text
    assert printed(capsys, "predict", exported, images, "--out", tmp_path / "exported", "--quiet")[0] == 0
    for name in ("0.png", "1.png"):
        ours, theirs = (np.asarray(Image.open(tmp_path / where / name)) for where in ("checkpoint", "exported"))
        assert np.array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("suffix, package", [(".onnx", "onnxruntime"), (".pt2", "torch")])
def test_deployed_networks_keep_their_channels(
    suffix: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(package)
    root, run = folder(tmp_path / "data", ".npy", 5), tmp_path / "run"
    train = ["train", *SETTINGS, "--root", root, "--in-channels", 5, "--out", run, "--quiet"]
    assert printed(capsys, *train)[0] == 0
    assert printed(capsys, "export", run, "--out", tmp_path / f"network{suffix}")[0] == 0
    for network, out in ((run, "trained"), (tmp_path / f"network{suffix}", "deployed")):
        assert printed(capsys, "predict", network, root / "images/val", "--out", tmp_path / out, "--quiet")[0] == 0
    for name in ("0.png", "1.png"):
        ours, theirs = (np.asarray(Image.open(tmp_path / where / name)) for where in ("trained", "deployed"))
        assert (ours == theirs).mean() > 0.99


def _values(path: Path) -> np.ndarray:
    return np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "data", ".npy", 5)
    train = ["train", *SETTINGS, "--root", root, "--out", tmp_path / "run", "--quiet"]
    table: list[tuple[list[Any], int, str]] = [
        ([], 1, "of 3 channels, found 5 x 20 x 40"),
        (["--in-channels", 4], 1, "of 4 channels, found 5 x 20 x 40"),
        (["--in-channels", 0], 2, "--in-channels: expected at least 1, got 0"),
        (["--in-channels", 5, "--mean", 0.5, 0.5], 2, "--mean: expected 5 numbers, as many as --in-channels, got 0.5"),
        (["--in-channels", 5, "--std", 1, 1, 1, 1, 1], 2, "--mean: expected 5 numbers"),
        (["--in-channels", 5, "--white", 0], 2, "--white: expected a positive number, got 0"),
        (["--in-channels", 5, "--white", 255], 1, "values must lie between 0 and 255"),
        (["--in-channels", 5, "--cache", tmp_path / "cache"], 2, "--cache: keeps images of 3 channels of 8 bits only"),
    ]
    for options, status, words in table:
        found, text = printed(capsys, *train, *options)
        assert (found, words in text) == (status, True), (options, text)
    found, text = printed(capsys, "train", "--in-channels", 4, "--out", tmp_path / "run")
    assert (found, "drawn scenes are red, green and blue" in text) == (2, True)
    found, text = printed(capsys, "check-data", root, "--quiet")
    assert (found, "image channels: 5" in text) == (1, True)
    assert not (tmp_path / "run").exists()


def test_twelve_bits_are_not_labelled_as_black(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = np.asarray(Image.linear_gradient("L").resize((64, 48))).astype(np.uint16)
    save(tmp_path / "eight.png", deep.astype(np.uint8))
    save(tmp_path / "twelve.png", deep * 16 + 15)
    out = tmp_path / "out"
    status, text = printed(capsys, "predict", tmp_path / "eight.png", tmp_path / "twelve.png", "--out", out, "--quiet")
    assert status == 0, text
    assert f"note: {tmp_path}/twelve.png: 16 bits a pixel, but no value above" in text
    assert "read as 12 bits, white is 4095" in text
    labels = {name: np.asarray(Image.open(out / f"{name}.png")) for name in ("eight", "twelve")}
    assert np.array_equal(labels["eight"], labels["twelve"])
    twelve = ["predict", tmp_path / "twelve.png", "--out", out, "--quiet", "--overwrite"]
    status, text = printed(capsys, *twelve, "--white", 65535)
    assert (status, "note" in text) == (0, False)
    assert not np.array_equal(np.asarray(Image.open(out / "twelve.png")), labels["eight"])
    assert printed(capsys, *twelve, "--white", -1)[0] == 2
