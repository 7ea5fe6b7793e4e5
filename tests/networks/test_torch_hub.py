"""The networks from `torch.hub`, loaded from a folder with this repository."""

import runpy
from pathlib import Path

import pytest
import torch

from box_convolution import networks

ROOT = str(Path(__file__).parents[2])


def load(name: str, *args, **options):
    return torch.hub.load(ROOT, name, *args, source="local", **options)


def test_every_network_is_an_entry() -> None:
    """There are no other entries: `torch.hub.list` shows every callable without a leading underscore."""
    hubconf = runpy.run_path(str(Path(ROOT) / "hubconf.py"))
    entries = {name: value for name, value in hubconf.items() if callable(value) and not name.startswith("_")}
    assert sorted(entries) == sorted(networks.names())
    assert "networks.create" in entries["boxenet"].__doc__
    assert hubconf["dependencies"] == ["torch"]


@pytest.mark.parametrize("name", networks.names())
def test_fresh_networks(name: str) -> None:
    network = load(name, num_classes=4, input_size=(32, 48))
    assert network.eval()(torch.rand(1, 3, 32, 48)).shape == (1, 4, 32, 48)


@pytest.mark.parametrize("name", ["boxenet", "boxonlyenet"])
def test_trained_networks(name: str) -> None:
    image = torch.rand(1, 3, 32, 48)
    expected = networks.create(name, pretrained="camvid").eval()(image)
    torch.testing.assert_close(load(name, pretrained="camvid").eval()(image), expected, rtol=0, atol=0)
