"""Importance compared with the definition computed by hand, and neighbours found in many kinds of networks."""

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from box_convolution import BoxConv2d, networks
from boxconv.analysis.box_neighbours import find_neighbours
from boxconv.analysis.importance import importance

IMAGE = torch.rand(1, 3, 16, 24)


class Wired(nn.Module):
    """Modules, with a forward pass that is a function of them and the image."""

    def __init__(self, wiring, **modules):
        super().__init__()
        self.wiring = wiring
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, image):
        return self.wiring(self, image)


def box(channels=2, boxes=3):
    return BoxConv2d(channels, boxes, 16, 24)


def conv(channels_in, channels_out, kernel=1, **options):
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, **options)


def only(model):
    (found,) = importance(model, IMAGE)
    return found


def test_the_papers_definition_by_hand():
    model = nn.Sequential(conv(3, 2), nn.ReLU(), box(), nn.BatchNorm2d(6), nn.Dropout2d(0.5), nn.PReLU(6), conv(6, 5))
    before, after = model[0].weight.detach()[..., 0, 0], model[6].weight.detach()[..., 0, 0]
    found = only(model)
    for c in range(2):
        for m in range(3):
            read = sum(abs(after[o, 3 * c + m].item()) for o in range(5)) / 5
            written = max(abs(before[c, i].item()) for i in range(3))
            assert found.importance[3 * c + m].item() == pytest.approx(read * written)
    assert (found.name, found.preceding, found.following, found.remark) == ("2", ("0",), ("6", (1, 1)), "")
    assert found.map_size == found.limits == (16, 24)
    assert torch.equal(found.boxes, model[2].boxes.detach().flatten(0, 1).double())


def test_gammas_of_the_batch_norms_only_if_asked_for():
    model = nn.Sequential(conv(3, 2), nn.BatchNorm2d(2), nn.ReLU(), box(), nn.BatchNorm2d(6), conv(6, 5))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([2.0, -3.0]))
        model[4].weight.copy_(torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0, 6.0]))
    plain, with_gamma = (importance(model, IMAGE, gamma=gamma)[0].importance for gamma in (False, True))
    factor = torch.tensor([2.0, 4.0, 6.0, 12.0, 15.0, 18.0], dtype=torch.float64)
    torch.testing.assert_close(with_gamma, plain * factor)


def test_larger_kernels_count_with_their_largest_tap_and_say_so():
    model = nn.Sequential(conv(3, 2, 3), box(), conv(6, 5, 3))
    found = only(model)
    largest = [layer.weight.detach().abs().amax((2, 3)) for layer in (model[0], model[2])]
    expected = largest[1].mean(0) * largest[0].amax(1).repeat_interleave(3)
    torch.testing.assert_close(found.importance, expected.double())
    assert found.following == ("2", (3, 3))
    assert found.remark == "read by a 3x3 convolution (2): largest tap taken"


def test_transposed_and_grouped_convolutions():
    """Setting all weights of a group or an input to 0 must change the channels that it reads, and no others."""
    model = nn.Sequential(conv(3, 2), box(), nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2))
    with torch.no_grad():
        model[2].weight[4] = 0  # input channel 4
    assert (only(model).importance == 0).nonzero().flatten().tolist() == [4]
    model = nn.Sequential(conv(3, 2, groups=1), box(), conv(6, 4, groups=2))
    with torch.no_grad():
        model[2].weight[2:, 1] = 0  # second group, its second input: channel 4
        model[2].weight[:2] = 7
        model[0].weight[0] = 1
    assert (only(model).importance == 0).nonzero().flatten().tolist() == [4]
    torch.testing.assert_close(only(model).importance[:3], torch.full((3,), 7.0, dtype=torch.float64))


def test_the_first_executed_reader_after_a_residual_sum():
    def wiring(net, image):
        wide = net.first(image)
        summed = torch.relu(wide + net.box(net.narrow(wide)))
        late = net.late(summed)
        return late + net.later(summed)

    model = Wired(wiring, later=conv(6, 4), late=conv(6, 4), box=box(), narrow=conv(6, 2), first=conv(3, 6))
    found = only(model)
    assert found.following == ("late", (1, 1))
    assert found.preceding == ("narrow",)


@pytest.mark.parametrize("order", ["box first", "box last"])
def test_concatenation_shifts_the_channels(order):
    def wiring(net, image):
        parts = [net.box(net.before(image)), net.other(image)]
        return net.after(torch.cat(parts if order == "box first" else parts[::-1], 1))

    model = Wired(wiring, before=conv(3, 2), box=box(), other=conv(3, 4), after=conv(10, 5))
    with torch.no_grad():
        model.after.weight[:, 2 if order == "box first" else 6] = 0
    assert (only(model).importance == 0).nonzero().flatten().tolist() == [2]


def test_a_layer_that_reads_two_convolutions_side_by_side():
    model = Wired(
        lambda net, image: net.after(net.box(torch.cat((net.one(image), net.two(image)), 1))),
        one=conv(3, 1), two=conv(3, 1), box=box(), after=conv(6, 5),
    )  # fmt: skip
    found = only(model)
    assert found.preceding == ("one", "two")
    with torch.no_grad():
        model.two.weight.zero_()
    assert (only(model).importance == 0).tolist() == [False] * 3 + [True] * 3


def test_padding_pooling_cropping_and_resizing_keep_channels_apart():
    def wiring(net, image):
        boxes = net.box(net.before(image))
        smaller = nn.functional.max_pool2d(pad(boxes, (0, 1, 0, 1)), 2)
        grown = interpolate(smaller, scale_factor=2, mode="nearest")[:, :, 1:, :-1]
        return net.after(pad(grown, (0, 0, 0, 0, 2, 1)))  # two channels in front, one behind

    model = Wired(wiring, before=conv(3, 2), box=box(), after=conv(9, 5))
    with torch.no_grad():
        model.after.weight[:, 2] = 0
    assert (only(model).importance == 0).nonzero().flatten().tolist() == [0]


def test_layers_without_a_convolution_beside_them_are_reported():
    last = nn.Sequential(conv(3, 2), box())
    found = only(last)
    assert found.following is None
    assert found.importance.isnan().all()
    assert found.remark == "no convolution after it: its boxes have no importance"
    first = nn.Sequential(box(3, 2), conv(6, 1))
    assert only(first).importance.isnan().all()
    assert only(first).remark == "no convolution before it: its boxes have no importance"


def test_two_box_layers_in_a_row_have_no_convolution_between_them():
    one, two = importance(nn.Sequential(conv(3, 2), box(2, 1), box(2, 2), conv(4, 1)), IMAGE)
    assert one.following is None
    assert two.preceding == ()


def test_boxenet():
    torch.manual_seed(1)
    model = networks.create("boxenet", 5, input_size=(32, 48))
    layers = importance(model, torch.rand(1, 3, 32, 48))
    assert [layer.name for layer in layers] == [name for name, m in model.named_modules() if isinstance(m, BoxConv2d)]
    assert sum(len(layer.boxes) for layer in layers) == 1232
    assert all(layer.preceding == (layer.name.removesuffix("box") + "conv",) for layer in layers)
    assert {layer.name: layer.following for layer in layers if layer.remark} == {
        "stage1.3.box": ("down2.branch.0", (2, 2)),
        "stage4.0.box": ("head", (2, 2)),
    }
    assert layers[0].following == ("stage1.2.branch.0", (1, 1))
    assert [layers[i].map_size for i in (0, 2, -1)] == [(8, 12), (4, 6), (16, 24)]
    assert all((layer.importance > 0).all() for layer in layers)


def test_it_leaves_the_network_as_it_was():
    model = nn.Sequential(conv(3, 2), nn.BatchNorm2d(2), box().freeze(), conv(6, 5))
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    with torch.no_grad():  # works all the same
        find_neighbours(model, IMAGE)
    assert [module.training for module in model.modules()] == [True, False, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_networks_that_return_several_results_or_cut_a_layer_off():
    def wiring(net, image):
        boxes = net.box(net.before(image))
        with torch.no_grad():
            aside = net.cut(image)
        return {"one": [net.after(boxes)], "other": aside}

    model = Wired(wiring, before=conv(3, 2), box=box(), after=conv(6, 5), cut=box(3, 1))
    found = {layer.name: layer for layer in importance(model, IMAGE)}
    assert found["box"].following == ("after", (1, 1))
    assert (found["box"].importance > 0).all()
    assert found["cut"].importance.isnan().all()


def test_inside_inference_mode():
    model = nn.Sequential(conv(3, 2), box(), conv(6, 5))
    expected = only(model).importance
    with torch.inference_mode():
        found = importance(model, torch.rand(1, 3, 16, 24))
    assert torch.equal(found[0].importance, expected)


def test_networks_without_boxes():
    assert importance(networks.create("enet_minus", 3, input_size=(16, 16)), torch.rand(1, 3, 16, 16)) == []
