"""Trained networks that come with the package."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from box_convolution import BoxConv2d, networks
from box_convolution.boxes import project
from box_convolution.networks import pretrained, weights
from box_convolution.networks.transfer import transfer

DESCRIPTION = {"name": "boxenet", "num_classes": 5, "input_size": [32, 48], "options": {"dropout": [0.0, 0.2]}}


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network with fresh weights, in a file that takes the place of the package's own."""
    torch.manual_seed(0)
    network = networks.create("boxenet", 5, (32, 48), dropout=(0.0, 0.2))
    weights.save(network, tmp_path / "boxenet-towns.safetensors", DESCRIPTION)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return network


def boxes(network: nn.Module) -> list[torch.Tensor]:
    return [layer.boxes.detach() for layer in network.modules() if isinstance(layer, BoxConv2d)]


def test_what_there_is(trained: nn.Module) -> None:
    assert pretrained.available() == [("boxenet", "towns")]
    network = networks.create("boxenet", pretrained="towns")
    assert network.training
    image = torch.rand(1, 3, 32, 48)
    assert torch.equal(network.eval()(image), trained.eval()(image))
    for name, data in (("enet", "towns"), ("boxenet", "camvid"), ("boxenet", 3)):
        with pytest.raises(ValueError, match=r"pretrained must be one of .* boxenet on towns; got"):
            networks.create(name, pretrained=data)


def test_classes_of_ones_own(trained: nn.Module) -> None:
    network = networks.create("boxenet", 3, pretrained="towns")
    assert network(torch.rand(2, 3, 32, 48)).shape == (2, 3, 32, 48)
    theirs = trained.state_dict()
    ours = networks.create("boxenet", 3, pretrained="towns").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if not name.startswith("head."))
    assert ours["head.bias"].shape == (3,)


def test_other_classes_of_the_same_number(trained: Any) -> None:
    network: Any = networks.create("boxenet", 5, (32, 48), dropout=(0.0, 0.2))
    fresh = network.head.weight.clone()
    transfer(trained, network, head=False)
    assert torch.equal(network.head.weight, fresh)
    assert torch.equal(network.stage1[0].branch[0].weight, trained.stage1[0].branch[0].weight)
    with pytest.raises(RuntimeError, match="size mismatch for head"):
        transfer(trained, networks.create("boxenet", 3, (32, 48)), head=True)


@pytest.mark.parametrize("size", [(64, 100), (200, 300), (24, 48)])
def test_boxes_keep_their_pixels(trained: nn.Module, size: tuple[int, int]) -> None:
    network = networks.create("boxenet", input_size=size, pretrained="towns", dropout=(0.0, 0.0))
    for ours, theirs, layer in zip(
        boxes(network), boxes(trained), (m for m in network.modules() if isinstance(m, BoxConv2d)), strict=True
    ):  # fmt: skip
        if size[0] >= 32:
            assert torch.equal(ours, theirs)
        else:
            extent = float(layer.max_input_h), float(layer.max_input_w)
            assert torch.equal(ours, project(theirs, *extent)), "limits of the smaller size"


def test_symmetric_boxes(trained: nn.Module) -> None:
    network = networks.create("boxenet", pretrained="towns", symmetric=True)
    ours, theirs = boxes(network)[0], boxes(trained)[0]
    assert torch.equal(ours[..., 2], -ours[..., 3])
    assert torch.allclose(ours[..., 3] - ours[..., 2], theirs[..., 3] - theirs[..., 2])


def test_half_precision_keeps_boxes(trained: nn.Module, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    trained(torch.rand(4, 3, 32, 48))
    trained.eval()
    weights.save(trained, whole, DESCRIPTION)
    weights.save(trained, half, DESCRIPTION, half=True)
    assert half.stat().st_size < 0.65 * whole.stat().st_size
    network: Any = weights.load(half)[0].eval()
    stored = load_file(half)
    names = ("head.weight", "stage1.1.box.scaled_boxes", "stage1.1.norm_in.running_var")
    assert [stored[name].dtype for name in names] == [torch.float16, torch.float32, torch.float32]
    assert all(torch.equal(value, stored[name]) for name, value in trained.state_dict().items() if "running" in name)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(boxes(network), boxes(trained), strict=True))
    image = torch.rand(1, 3, 32, 48)
    expected = trained(image)
    assert (network(image) - expected).abs().max() < 1e-2 * (expected.max() - expected.min())


def test_numbers_beyond_half_precision(trained: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        trained.head.bias[0] = 1e5
    with pytest.raises(weights.WeightsError, match=r"head\.bias holds numbers beyond the range of half precision"):
        weights.save(trained, tmp_path / "half.safetensors", DESCRIPTION, half=True)
    assert not (tmp_path / "half.safetensors").exists()


def test_every_file_of_the_package() -> None:
    assert {("boxenet", "camvid"), ("boxonlyenet", "camvid")} <= set(pretrained.available())
    card = (pretrained.FOLDER / "README.md").read_text()
    for name, data in pretrained.available():
        file = pretrained.file_of(name, data)
        assert file.stat().st_size < 1e6
        assert file.name in card
        _, content = weights.load(file)
        row = next(line for line in card.splitlines() if line.startswith(f"| `{file.name}`"))
        scores = [content["scores"][key] for key in ("class_iou", "category_iou", "class_accuracy", "pixel_accuracy")]
        assert row.split("|")[5:9] == [f" {100 * score:.1f} " for score in scores]
        assert content.keys() >= {"network", "classes", "size", "mean", "std", "scores", "licence"}
        logits = networks.create(name, pretrained=data).eval()(torch.rand(1, 3, 40, 56))
        assert logits.shape == (1, len(content["classes"]["names"]), 40, 56)
        assert logits.isfinite().all()


def test_the_metadata_of_the_card() -> None:
    """The metadata as huggingface_hub reads it. (The Hub's own check of a card needs the internet.)"""
    hub = pytest.importorskip("huggingface_hub")
    card = (pretrained.FOLDER / "README.md").read_text()
    data = hub.ModelCard(card).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "cc-by-nc-4.0", "box-convolution", "image-segmentation",
    )  # fmt: skip
    assert (data.datasets, data.metrics) == (["camvid"], ["mean_iou", "accuracy"])
    expected = []
    for line in card.splitlines():
        if ".safetensors` | " in line:
            columns = line.split("|")
            expected += [
                (metric, name, float(columns[column]))
                for metric, name, column in (
                    ("mean_iou", "class IoU", 5), ("mean_iou", "category IoU", 6), ("accuracy", "pixel accuracy", 8),
                )
            ]  # fmt: skip
    assert len(expected) == 3 * len(pretrained.available())
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in data.eval_results] == expected


def test_other_channels_take_all_but_the_first_block() -> None:
    trained = networks.create("boxenet", pretrained="camvid").state_dict()
    network = networks.create("boxenet", pretrained="camvid", in_channels=4)
    assert network(torch.randn(2, 4, 32, 48)).shape == (2, 11, 32, 48)
    ours = network.state_dict()
    same = [name for name in ours if torch.equal(ours[name], trained[name])]
    apart = {name for name in ours if name not in same and "num_batches" not in name}
    assert "initial.conv.weight" in apart
    assert all(name.startswith("initial.") or "norm" in name or "running" in name for name in apart), apart
