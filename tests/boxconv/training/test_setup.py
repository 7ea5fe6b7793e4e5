"""Building a run from settings, with any network, and opening the trained network again."""

from collections import Counter

import data_trees
import pytest
import torch
from PIL import Image
from torch import nn

import boxconv
from box_convolution.networks import weights
from boxconv.data import datasets
from boxconv.data.checks import inspect
from boxconv.data.class_table import DataError
from boxconv.data.label_files import open_label
from boxconv.data.scenes.dataset import SCENE_CLASSES, draw_scene
from boxconv.errors import UsageError
from boxconv.inference.new_network import network_for
from boxconv.inference.open import open_layers
from boxconv.training.checkpoint import CheckpointError
from boxconv.training.config import TrainConfig
from boxconv.training.distributed import DistributedContext
from boxconv.training.loop import train
from boxconv.training.run_folder import RunFolder
from boxconv.training.setup import build_run


def config(**changes):
    small = {"size": (32, 64), "epochs": 1, "batch_size": 2, "scenes_per_epoch": 2, "scenes_for_validation": 1}
    return TrainConfig(**small | changes)


def own_network(classes):
    return nn.Conv2d(3, len(classes), 1), {"name": "mine"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of the fastest network."""
    path = tmp_path_factory.mktemp("runs") / "run"
    settings, create_network = network_for(config(network="enet_minus"))
    with RunFolder(path) as folder:
        train(build_run(settings, create_network), folder, progress=False)
    return path


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(draw_scene(1, 40, 70)[0])


def test_a_network_of_ones_own(tmp_path):
    run, again = build_run(config(), own_network), build_run(config(), own_network)
    assert torch.equal(run.model.weight, again.model.weight), "fresh weights depend on the seed alone"
    assert not torch.equal(run.model.weight, build_run(config(seed=1), own_network).model.weight)
    assert run.class_weight.shape == (len(SCENE_CLASSES),)
    assert str(run).startswith("mine, 44 parameters, 11 classes; 2 training and 1 validation images at 32 x 64; cpu, ")
    with RunFolder(tmp_path / "run") as folder:
        assert [record["epoch"] for record in train(run, folder, progress=False)] == [1]
    assert not torch.equal(run.model.weight, again.model.weight)


@pytest.mark.parametrize("border", [0, 2])
def test_the_check_counts_the_pixels_for_the_class_weights(tmp_path, monkeypatch, border):
    """A run counts the same pixels as without a check, and decodes no label twice."""
    decoded = Counter()
    for module in (inspect, datasets):
        monkeypatch.setattr(module, "open_label", lambda path, *rest: decoded.update([path]) or open_label(path, *rest))
    settings = config(data="folder", root=data_trees.folder(tmp_path), border=border)
    counts = [build_run(settings, own_network, check_files=check, progress=False) for check in (True, False)]
    assert torch.equal(counts[0].class_weight, counts[1].class_weight)
    assert list(decoded.values()) == [2] * 6, "four labels to train and two to validate, once in each run"


def test_the_check_names_images_that_are_too_small_for_the_border(tmp_path):
    settings = config(data="folder", root=data_trees.folder(tmp_path), border=6)
    with pytest.raises(DataError, match=r"image too small: 6(.|\n)*20 x 12 pixels leave nothing without a border of 6"):
        build_run(settings, own_network, progress=False)


def test_a_batch_has_an_image_for_every_process():
    with pytest.raises(UsageError, match="--batch-size: 2 images are too few for 4 processes with 1 parts each"):
        build_run(config(), own_network, context=DistributedContext(rank=0, world_size=4))


def test_a_trained_network_is_opened_from_every_kind_of_file(folder, image, tmp_path):
    network = boxconv.open_network(folder)
    weights.save(network.model, tmp_path / "net.safetensors", network.network, **network.about)
    labels = network.predict(image)
    assert (labels.shape, labels.dtype, labels.max() < len(network.classes)) == ((40, 70), "uint8", True)
    for path in (str(folder), folder / "best.pt", tmp_path / "net.safetensors"):
        opened = boxconv.open_network(path)
        assert opened.classes == SCENE_CLASSES
        assert opened.transform == network.transform
        assert not opened.model.training
        assert (opened.predict(image) == labels).all()
    assert open_layers(folder).config == config(network="enet_minus")
    assert network.predict(image.convert("L")).shape == (40, 70), "any Pillow image"


@pytest.mark.parametrize("crop, told", [(None, False), ((16, 32), False), ((16, 40), True), ((32, 16), True)])
def test_a_crop_larger_than_the_images_is_told(capsys, crop, told):
    build_run(config(crop=crop, size=(16, 32), scale=(0.5, 1.5)), own_network)
    printed = capsys.readouterr().out
    assert ("--scale enlarges images to at most 24 x 48, and the rest of a crop is padding" in printed) == told
    assert ("note: --crop" in printed) == told


def test_files_without_a_network():
    with pytest.raises(CheckpointError, match="nothing: no such file, nor one of the package's networks, boxenet-cam"):
        boxconv.open_network("nothing")


@pytest.mark.parametrize("given", [123, None])
def test_what_is_no_path_is_named(given):
    with pytest.raises(TypeError, match=f"path_or_name must be a path or a name, got .* {given}"):
        boxconv.open_network(given)
