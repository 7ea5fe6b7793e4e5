"""The cost of networks: Table 3 of the paper to the last printed digit, the usual convention, blocks, memory."""

import pytest
import torch
from torch import nn

from box_convolution import BoxBottleneck, BoxConv2d, networks
from box_convolution.networks.erfnet import NonBottleneck1d
from boxconv.profiling.cost import blocks_of, cost, forward_times

CITYSCAPES = (1, 3, 512, 1024)


def counted(name, classes=19):
    with torch.device("meta"):
        network = networks.create(name, classes, CITYSCAPES[2:])
    return network, cost(network, CITYSCAPES, name)


@pytest.mark.parametrize(
    "name, millions, billions",
    [
        ("enet", "0.356", "4.601"),
        ("boxenet", "0.243", "3.468"),
        ("enet_minus", "0.201", "2.950"),
        ("boxonlyenet", "0.124", "2.290"),
        ("erfnet", "2.059", "30.876"),
        ("boxerfnet", "1.040", "16.042"),
        ("erfnet_minus", "1.020", "15.827"),
    ],
)
def test_table_3_as_printed(name, millions, billions):
    total = counted(name)[1].total
    assert f"{total.parameters.paper / 1e6:.3f}" == millions
    assert f"{total.operations.paper / 1e9:.3f}" == billions


@pytest.mark.parametrize(
    "name, parameters, norm, macs, with_boxes",
    [
        ("enet", 363_618, 8352, 3.9221, 3.9221),
        ("boxenet", 249_586, 7744, 2.7036, 2.7802),
        ("enet_minus", 205_602, 4656, 2.3177, 2.3177),
        ("boxonlyenet", 131_466, 7128, 1.4621, 1.6037),
        ("erfnet", 2_059_490, 6592, 26.8036, 26.8036),
        ("boxerfnet", 1_041_986, 4640, 12.0732, 12.1015),
        ("erfnet_minus", 1_020_834, 3200, 11.9054, 11.9054),
    ],
)
def test_the_usual_convention(name, parameters, norm, macs, with_boxes):
    network, found = counted(name)
    total = found.total
    # The authors' PyTorch ERFNet, which these figures are of, has no biases before an inner ReLU either; ours has, as
    # Table 3 needs, and they are not redundant.
    before_relu = sum(
        block.branch[i].bias.numel()
        for block in network.modules()
        if isinstance(block, NonBottleneck1d)
        for i in (0, 5)
    )
    assert total.parameters.standard - before_relu == parameters
    assert total.parameters.norm == norm
    assert round(total.operations.macs / 1e9, 4) == macs
    assert round((total.operations.macs + total.operations.box) / 1e9, 4) == with_boxes


def test_macs_are_half_the_operations_of_pytorchs_own_counter():
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("enet", "erfnet", "boxerfnet"):
        network, found = counted(name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(torch.empty(CITYSCAPES, device="meta"))
        operations = found.total.operations
        assert counter.get_total_flops() == 2 * operations.macs + operations.box


def test_frozen_boxes_are_not_trainable():
    frozen, free = (counted(name)[1].total.parameters for name in ("boxenet_frozen", "boxenet"))
    assert (frozen.standard, frozen.boxes) == (free.standard, free.boxes) == (249_586, 4928)
    assert (free.trainable, frozen.trainable) == (249_586, 249_586 - 4928)


@pytest.mark.parametrize("name", ["enet", "boxerfnet"])
def test_blocks_add_up(name):
    network, found = counted(name)
    assert [block.name for block in found.blocks] == list(blocks_of(network))
    assert {"initial", "stage1.0", "head"} < {block.name for block in found.blocks}
    for field in ("paper", "macs", "box"):
        assert sum(getattr(b.operations, field) for b in found.blocks) == getattr(found.total.operations, field)
    for field in ("paper", "standard", "norm", "boxes", "trainable"):
        assert sum(getattr(b.parameters, field) for b in found.blocks) == getattr(found.total.parameters, field)


def test_a_box_block_by_hand():
    block = BoxBottleneck(8, boxes_per_channel=2, max_input_h=6, max_input_w=9, bias=True)
    found = cost(block, (3, 8, 6, 9))
    narrow, wide = 3 * 4 * 54, 3 * 8 * 54
    assert found.total.operations.macs == 8 * narrow
    assert found.total.operations.box == 2 * narrow + 4 * wide
    assert found.total.operations.paper == (8 + 1) * narrow + narrow + (narrow + 5 * wide) + wide + wide
    assert found.total.parameters.paper == 8 * 4 + 4 + 4 * 2 * 4
    assert found.total.parameters.standard == 8 * 4 + 4 * 2 * 4 + 2 * (4 + 8)


def test_transposed_and_grouped_convolutions_by_hand():
    layer = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    operations = cost(layer, (1, 8, 5, 7)).total.operations
    assert operations.macs == 9 * 3 * 8 * 35
    assert operations.paper == 9 * 4 * (6 * 140) + 6 * 140
    assert cost(nn.Conv2d(8, 6, 3, groups=2, bias=False), (1, 8, 5, 7)).total.operations.macs == 9 * 4 * 6 * 15


def test_peak_memory_by_hand():
    class Steps(nn.Module):
        def forward(self, image):
            wide = torch.cat((image, image, image, image), 1)  # 4 images
            sums = wide.sum(1, keepdim=True) + image  # 1/3 and 1 more
            del wide
            return sums * 2  # 1 + 1

    size = 4 * 3 * 10 * 20
    assert cost(Steps(), (1, 3, 10, 20)).total.memory == size * 4 + size // 3 + size


def test_counting_changes_nothing():
    network = networks.create("boxenet", 3, (32, 48)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cost(network, (2, 3, 32, 48))
    times = forward_times(network, torch.rand(2, 3, 32, 48), rounds=2)
    assert set(times) == {"", *blocks_of(network)}
    assert all(0 < ms < times[""] for name, ms in times.items() if name)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert forward_times(network, torch.rand(2, 3, 32, 48), rounds=0) == {}


def test_any_network_can_be_counted():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), BoxConv2d(4, 2, 8, 8)))
    found = cost(network, (1, 3, 8, 8))
    assert [block.name for block in found.blocks] == ["0", "1.0", "1.1"]
    assert found.total.name == "Sequential"
