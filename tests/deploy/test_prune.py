"""Pruning: boxes without effect are removed exactly; others are replaced by their mean."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from box_convolution import BoxBottleneck, BoxConv2d
from box_convolution.deploy import Pruned, deploy, prune


def block(**options: bool) -> BoxBottleneck:
    """A box block of 8 channels, 4 inside with 2 boxes each, for images of at most 6 x 9 pixels."""
    block = BoxBottleneck(8, boxes_per_channel=2, max_input_h=12, max_input_w=18, bias=True, **options)
    for norm in (block.norm_in, block.norm_out):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    with torch.no_grad():
        block(torch.randn(4, 8, 6, 9))
    return block.eval()


def images(count: int = 3) -> list[Tensor]:
    return [torch.randn(2, 8, 6, 9) for _ in range(count)]


def assert_same(one: nn.Module, other: nn.Module, image: Tensor) -> None:
    torch.testing.assert_close(one(image), other(image), rtol=1e-5, atol=1e-5)


def test_nothing_to_remove() -> None:
    deployed = deploy(block())
    pruned, report = prune(deployed, images())
    assert report == [Pruned("box", 8, 0, 4, 0)]
    assert_same(pruned, deployed, images(1)[0])


@pytest.mark.parametrize(
    ("edges", "out"),
    [
        ((5.5, 7.0, -1, 1), True),
        ((5.4, 7.0, -1, 1), False),
        ((-9, -5.5, -1, 1), True),
        ((-9, -5.4, -1, 1), False),
        ((-1, 1, 8.5, 12), True),
        ((-1, 1, 8.4, 12), False),
        ((-1, 1, -18, -8.5), True),
        ((-1, 1, -18, -8.4), False),
    ],
)
def test_a_box_that_reaches_no_pixel(edges: tuple[float, ...], out: bool) -> None:
    network = block()
    boxes = torch.tensor([-1.5, 1.5, -2, 2]).repeat(4, 2, 1)
    boxes[2, 1] = torch.tensor(edges)
    network.box.set_boxes(boxes)
    pruned, report = prune(deploy(network), images(1))
    assert report == [Pruned("box", 8, int(out), 4, 0)]
    assert_same(pruned, network, images(1)[0])
    larger = torch.randn(1, 8, 12, 18)
    assert out == (not torch.allclose(pruned(larger), network(larger), atol=1e-4)), (
        "it does reach pixels of larger images"
    )


@pytest.mark.parametrize("inner_relu", [True, False])
def test_channels_that_nobody_needs(inner_relu: bool) -> None:
    network = block(inner_relu=inner_relu)
    with torch.no_grad():
        network.norm_out.weight[[0, 1, 4]] = 0.0  # both boxes of channel 0, one of channel 2
        network.norm_in.weight[3] = 0.0  # what is left of channel 3 is its shift
        network.norm_in.bias[3] = -0.7 if inner_relu else 0.0
    for drop_channels in (False, True):
        pruned, report = prune(deploy(network), images(), drop_channels=drop_channels)
        assert report == [Pruned("box", 8, 5, 4, 2)]
        assert pruned.conv.weight.shape[:2] == (2 if drop_channels else 4, 8)
        for image in (*images(), torch.randn(1, 8, 12, 18).contiguous(memory_format=torch.channels_last)):
            assert_same(pruned, network, image)
        assert pruned(image).is_contiguous(memory_format=torch.channels_last)


def test_a_constant_channel_is_not_nothing() -> None:
    """Because of the zeros outside the image, the outputs of its boxes are smaller near the border."""
    network = block()
    with torch.no_grad():
        network.norm_in.weight[3], network.norm_in.bias[3] = 0.0, 0.7
    pruned, report = prune(deploy(network), images())
    assert report[0].removed_boxes == 0
    assert_same(pruned, network, images(1)[0])


def test_a_whole_block_without_effect() -> None:
    network = block()
    nn.init.zeros_(network.norm_out.weight)
    for drop_channels in (False, True):
        pruned, report = prune(deploy(network), images(), drop_channels=drop_channels)
        assert report == [Pruned("box", 8, 8, 4, 4)]
        assert_same(pruned, network, images(1)[0])


def test_outputs_that_are_multiplied_by_zero() -> None:
    network = nn.Sequential(BoxConv2d(3, 2, 6, 9), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1), nn.Sigmoid())
    with torch.no_grad():
        network[3].weight[:, [1, 4]] = 0.0
    network.eval()
    pruned, report = prune(deploy(network), [torch.randn(1, 3, 6, 9)])
    assert report == [Pruned("0", 6, 2, 3, 0)]
    assert (pruned[0].scale[[1, 4]] == 0).all()
    assert_same(pruned, network, torch.randn(1, 3, 6, 9))


def test_weak_boxes_leave_their_mean() -> None:
    network = block()
    network.box.set_boxes(torch.tensor([-1.5, 1.5, -2, 2]).repeat(4, 2, 1))
    with torch.no_grad():
        network.norm_out.weight[:] = 1.0
        network.norm_out.weight[[2, 3]] = 1e-3  # both of channel 1
    deployed, batches = deploy(network), images(20)
    assert prune(deployed, batches)[1][0].removed_boxes == 0
    pruned, report = prune(deployed, batches, threshold=0.02)
    assert report == [Pruned("box", 8, 2, 4, 1)]
    differences = torch.cat([pruned(batch) - deployed(batch) for batch in batches])
    assert 0 < differences.abs().max() < 0.02
    shift = pruned.box.shift[2] - deployed.box.shift[2]
    plain = copy.deepcopy(deployed.box)
    plain.relu, plain.shift = False, None
    contribution = torch.cat([plain(deployed.conv(batch).relu()) for batch in batches])
    torch.testing.assert_close(shift, contribution[:, 2].mean())


def test_boxes_that_shrank_leave_their_mean() -> None:
    network = block()
    boxes = torch.tensor([-1.5, 1.5, -2, 2]).repeat(4, 2, 1)
    boxes[1, 0] = torch.tensor([-0.25, 0.75, -1.5, -0.5])  # a pixel
    boxes[3, 1] = torch.tensor([-1, 0.5, -0.75, 0.75])  # 1.5 x 1.5 of them
    network.box.set_boxes(boxes)
    deployed, batches = deploy(network), images(20)
    assert prune(deployed, batches)[1][0].removed_boxes == 0
    for min_area, removed in ((1.0, []), (1.1, [2]), (2.3, [2, 7])):
        pruned, report = prune(deployed, batches, min_area=min_area)
        assert report[0].removed_boxes == len(removed)
        assert (pruned.box.scale == 0).nonzero().flatten().tolist() == removed
    plain = copy.deepcopy(deployed.box)
    plain.relu, plain.shift = False, None
    contribution = torch.cat([plain(deployed.conv(batch).relu()) for batch in batches])
    torch.testing.assert_close(pruned.box.shift[2] - deployed.box.shift[2], contribution[:, 2].mean())


def test_a_network_pruned_twice_compiled_and_restored() -> None:
    network, batches = nn.Sequential(block(), block()).eval(), images()
    deployed = deploy(network)
    pruned, report = prune(deployed, batches, threshold=1.0, drop_channels=True)
    assert [(layer.name, layer.boxes) for layer in report] == [("0.box", 8), ("1.box", 8)]
    assert sum(layer.idle_channels for layer in report) > 0
    assert sum(w.numel() for w in pruned.parameters()) < sum(w.numel() for w in deployed.parameters())
    again, second = prune(pruned, batches, threshold=1.0)
    assert all(one.removed_boxes <= two.removed_boxes for one, two in zip(report, second, strict=True))
    assert not torch.allclose(again(batches[0]), deployed(batches[0]), atol=1e-3)
    torch._dynamo.reset()
    assert_same(torch.compile(pruned, backend="aot_eager", fullgraph=True), pruned, batches[0])
    assert_same(torch.export.export(pruned, (batches[0],)).module(), pruned, batches[0])
    other = copy.deepcopy(pruned)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(pruned.state_dict())
    assert torch.equal(other(batches[0]), pruned(batches[0]))


def test_one_batch_by_itself() -> None:
    deployed, (batch,) = deploy(block()), images(1)
    _, report = prune(deployed, batch, 0.9)
    assert report == prune(deployed, [batch], 0.9)[1]


def test_errors() -> None:
    deployed: Any = deploy(block())
    for network, given, message in (
        (3, images(), "network must be an nn.Module, got int"),
        (deployed, 3, "images must be batches of images, got int"),
        (deployed, [(images(1)[0], 3)], "images must be .*, got a tuple"),
    ):
        with pytest.raises(TypeError, match=message):
            prune(network, given)
    with pytest.raises(ValueError, match=r"no deployed box convolutions: call deploy\(\) first"):
        prune(block(), images())
    with pytest.raises(ValueError, match="images must hold at least one batch"):
        prune(deploy(block()), [])
    with pytest.raises(ValueError, match="threshold must be at least 0, got -1"):
        prune(deploy(block()), images(), -1)
    with pytest.raises(ValueError, match="min_area must be at least 0, got nan"):
        prune(deploy(block()), images(), min_area=float("nan"))
