"""The networks: sizes, parameters (Table 3 of the paper), blocks, dropout, frozen boxes; and the box block by hand."""

import pytest
import torch
from torch import nn

from box_convolution import BoxBottleneck, BoxConv2d, box_conv2d, networks
from box_convolution.networks.erfnet import NonBottleneck1d
from box_convolution.networks.padding import padded
from box_convolution.networks.resampling import halve

SIZE = (96, 200)


def table3_parameters(network):
    """Number of parameters as in Table 3, without those of BatchNorm."""
    modules = [module for module in network.modules() if not isinstance(module, nn.BatchNorm2d)]
    return sum(p.numel() for module in modules for p in module._parameters.values() if p is not None)


def boxes_of(network):
    return [module for module in network.modules() if isinstance(module, BoxConv2d)]


@pytest.mark.parametrize(
    "name, parameters, coordinates",
    [
        ("enet", 355_959, 0),
        ("boxenet", 242_539, 4928),
        ("boxenet_frozen", 242_539, 4928),
        ("enet_minus", 201_331, 0),
        ("boxonlyenet", 124_419, 9792),
        ("erfnet", 2_059_119, 0),
        ("boxerfnet", 1_040_319, 2304),
        ("boxerfnet_frozen", 1_040_319, 2304),
        ("erfnet_minus", 1_020_463, 0),
    ],
)
def test_parameters_are_those_of_table_3(name, parameters, coordinates):
    with torch.device("meta"):
        network = networks.create(name, 19, (512, 1024))
    assert table3_parameters(network) == parameters
    assert sum(layer.scaled_boxes.numel() for layer in boxes_of(network)) == coordinates


def test_the_names():
    assert networks.names() == [
        "enet", "boxenet", "boxenet_frozen", "enet_minus", "boxonlyenet",
        "erfnet", "boxerfnet", "boxerfnet_frozen", "erfnet_minus",
    ]  # fmt: skip


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pooling_in_inference_is_pooling(memory_format):
    image = torch.randn(2, 3, 8, 12).contiguous(memory_format=memory_format)
    image[0, 1, 3, 5] = torch.nan
    image[1, 0, :2, :2] = -torch.inf
    with torch.no_grad():
        torch.testing.assert_close(
            halve(image), nn.functional.max_pool2d(image, 2), rtol=0, atol=0, equal_nan=True, check_stride=True
        )


@pytest.mark.parametrize("name", ["enet", "boxenet", "boxerfnet"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (37, 53), (64, 1), SIZE])
def test_logits_have_the_size_of_the_image(name, size):
    network = networks.create(name, 5, SIZE).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("size", [(21, 34), (24, 40)], ids=["padded", "as it is"])
def test_compiled_padding_is_the_same(size):
    # With gradients, padding is compiled from other operators.
    image = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(padded, backend="aot_eager", fullgraph=True)
    weights = torch.rand_like(padded(image, 3, 8))
    (compiled(image, 3, 8) * weights).sum().backward()
    found, image.grad = image.grad, None
    (padded(image, 3, 8) * weights).sum().backward()
    torch.testing.assert_close(found, image.grad)
    assert torch.equal(compiled(image, 3, 8), padded(image, 3, 8))


def test_padding_does_not_change_what_needs_none():
    network = networks.create("boxenet", 5, (32, 48)).eval()
    image = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(network(image), network.logits(image.contiguous(memory_format=torch.channels_last)))


def test_boxes_know_the_size_at_their_depth():
    network = networks.create("boxenet", 5, (90, 200))  # padded to 96 x 200
    found = {
        stage: {(layer.max_input_h, layer.max_input_w) for layer in boxes_of(getattr(network, stage))}
        for stage in ("stage1", "stage2", "stage3", "stage4")
    }
    assert found == {"stage1": {(24, 50)}, "stage2": {(12, 25)}, "stage3": {(24, 50)}, "stage4": {(48, 100)}}


def test_blocks_follow_the_paper():
    network = networks.create("boxenet", 5, SIZE)

    def kinds(stage):
        return "".join("X" if isinstance(block, BoxBottleneck) else "D" for block in stage)

    assert kinds(network.stage1) == "DXDX"
    assert kinds(network.stage2) == "DXDXDXDX" * 2
    assert kinds(network.stage3) == "DX"
    assert kinds(network.stage4) == "X"
    assert [layer.num_filters for layer in boxes_of(network)] == [4] * 11 + [2]
    dilations = {m.dilation for m in networks.create("enet", 5, SIZE).modules() if isinstance(m, nn.Conv2d)}
    assert dilations == {(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)}
    assert {m.dilation for m in network.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}  # boxes replaced all dilated


def dilations(network):
    """Dilation of each non-bottleneck-1D block at 1/8 resolution, in the pair of convolutions that may be dilated."""
    blocks = [block for block in network.stage2 if isinstance(block, NonBottleneck1d)]
    assert all(block.branch[0].dilation == block.branch[2].dilation == (1, 1) for block in blocks)
    assert all(block.branch[5].dilation[0] == block.branch[7].dilation[1] for block in blocks)
    return [block.branch[5].dilation[0] for block in blocks]


def test_erfnet_blocks_follow_the_paper():
    def kinds(network):
        stages = (network.stage1, network.stage2, network.stage3, network.stage4)
        return ["".join("X" if isinstance(block, BoxBottleneck) else "N" for block in stage) for stage in stages]

    made = {name: networks.create(name, 5, SIZE) for name in ("erfnet", "boxerfnet", "erfnet_minus")}
    assert {name: kinds(network) for name, network in made.items()} == {
        "erfnet": ["NNNNN", "NNNNNNNN", "NN", "NN"],
        "boxerfnet": ["NX", "NXNXNXNX", "N", "N"],
        "erfnet_minus": ["N", "NNNN", "N", "N"],
    }
    assert {name: dilations(network) for name, network in made.items()} == {
        "erfnet": [2, 4, 8, 16, 2, 4, 8, 16], "boxerfnet": [1, 1, 1, 1], "erfnet_minus": [1, 1, 1, 1],
    }  # fmt: skip
    assert not any(m.inner_relu for m in made["boxerfnet"].modules() if isinstance(m, BoxBottleneck))
    assert [layer.num_filters for layer in boxes_of(made["boxerfnet"])] == [4] * 5
    assert all(
        m.bias is not None for m in made["boxerfnet"].modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))
    )


@pytest.mark.parametrize("name", ["boxerfnet", "erfnet_minus"])
def test_remaining_dilations_are_an_option(name):
    assert dilations(networks.create(name, 5, SIZE, remaining_dilations=(2, 4, 2, 4))) == [2, 4, 2, 4]


def test_enets_dilations_are_an_option():
    network = networks.create("enet", 5, SIZE, dilations=(4, 8, 16, 32))
    found = [m.dilation[0] for m in network.stage2.modules() if isinstance(m, nn.Conv2d) and m.dilation != (1, 1)]
    assert found == [4, 8, 16, 32] * 2
    assert network(torch.rand(1, 3, *SIZE)).shape == (1, 5, *SIZE)


@pytest.mark.parametrize(
    "name, factor", [("boxenet", 0.86), ("boxenet_frozen", 0.86), ("boxonlyenet", 0.51), ("boxerfnet", 1.5625)]
)
def test_reparametrization_factor_is_the_authors_and_an_option(name, factor):
    assert {layer.reparametrization_factor for layer in boxes_of(networks.create(name, 5, SIZE))} == {factor}
    other = networks.create(name, 5, SIZE, reparametrization_factor=3.0)
    assert {layer.reparametrization_factor for layer in boxes_of(other)} == {3.0}


@pytest.mark.parametrize("name", ["boxenet", "boxerfnet"])
@pytest.mark.parametrize("inner_relu", [True, False])
def test_inner_relu_is_an_option(name, inner_relu):
    network = networks.create(name, 5, SIZE, inner_relu=inner_relu)
    assert {m.inner_relu for m in network.modules() if isinstance(m, BoxBottleneck)} == {inner_relu}


def test_erfnet_by_hand():
    """A non-bottleneck-1D block, a downsampler and an upsampler compared with their definitions."""

    def normal(norm, planes):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return planes * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]

    network = networks.create("erfnet", 5, (32, 64)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 2)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values)
    image = torch.randn(2, 3, 32, 64)
    down = network.initial
    joined = torch.cat((down.conv(image), nn.functional.max_pool2d(image, 2)), 1)
    torch.testing.assert_close(down(image), normal(down.norm, joined).relu())
    block = network.stage2[1]
    planes = torch.randn(2, 128, 4, 8)
    conv = [block.branch[index] for index in (0, 2, 5, 7)]
    first = normal(block.branch[3], conv[1](conv[0](planes).relu())).relu()
    second = normal(block.branch[8], conv[3](conv[2](first).relu()))
    torch.testing.assert_close(block(planes), (planes + second).relu())
    deconv, norm = network.up1[0], network.up1[1]
    doubled = nn.functional.conv_transpose2d(planes, deconv.weight, deconv.bias, 2, 1, 1)
    torch.testing.assert_close(network.up1(planes), normal(norm, doubled).relu())


def test_dropout_follows_the_paper_and_is_an_option():
    def rates(network):
        return {
            stage: {m.p for m in getattr(network, stage).modules() if isinstance(m, nn.Dropout2d)}
            for stage in ("down1", "stage1", "down2", "stage2", "stage3", "stage4")
        }

    assert rates(networks.create("boxenet", 5, SIZE)) == {
        "down1": {0.01}, "stage1": {0.01, 0.15}, "down2": {0.1}, "stage2": {0.1, 0.25}, "stage3": {0.0, 0.15},
        "stage4": {0.15},
    }  # fmt: skip
    assert rates(networks.create("enet", 5, SIZE, dropout=(0.0, 0.3)))["stage2"] == {0.3}
    assert rates(networks.create("boxonlyenet", 5, SIZE, box_dropout=(0.15, 0.4, 0.15, 0.05))) == {
        "down1": {0.01}, "stage1": {0.15}, "down2": {0.1}, "stage2": {0.4}, "stage3": {0.15}, "stage4": {0.05},
    }  # fmt: skip
    replaced = {"down1": {0.03}, "stage1": {0.03}, "down2": {0.3}, "stage2": {0.3}, "stage3": {0.0}, "stage4": {0.0}}
    for name in ("erfnet", "boxerfnet"):
        assert rates(networks.create(name, 5, SIZE)) == replaced
    assert rates(networks.create("boxerfnet", 5, SIZE, box_dropout=(0.1, 0.2)))["stage2"] == {0.2, 0.3}


@pytest.mark.parametrize("name", ["boxenet_frozen", "boxerfnet_frozen"])
def test_frozen_boxes_get_no_gradient_and_no_decay(name):
    network = networks.create(name, 5, (32, 32))
    before = [layer.boxes.clone() for layer in boxes_of(network)]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, weight_decay=0.1)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    assert all(layer.scaled_boxes.grad is None for layer in boxes_of(network))
    assert all(torch.equal(layer.boxes, boxes) for layer, boxes in zip(boxes_of(network), before, strict=True))


def test_same_seed_same_network():
    one, other = [], []
    for states in (one, other):
        torch.manual_seed(3)
        states.extend(networks.create("boxenet", 5, SIZE).state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_steps_lower_the_loss():
    network = networks.create("boxenet", 4, (32, 64))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    label = torch.randint(4, (2, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    image = label[:, None].expand(2, 3, 32, 64) / 4 + 0.1 * torch.rand(2, 3, 32, 64)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(network(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (("resnet", 5, SIZE), {}, ValueError, "name must be one of enet, boxenet.*got 'resnet'"),
        ((None, 5, SIZE), {}, ValueError, "name must be one of"),
        ((["enet"], 5, SIZE), {}, (TypeError, ValueError), "name"),
        (("enet", 0, SIZE), {}, ValueError, "num_classes must be at least 1, got 0"),
        (("enet", 2.5, SIZE), {}, TypeError, "num_classes must be an int, got float 2.5"),
        (("enet", 5, (96,)), {}, ValueError, r"input_size must be \(height, width\).*got \(96,\)"),
        (("enet", 5, 96), {}, (TypeError, ValueError), "input_size"),
        (("enet", 5, (96.0, 96)), {}, ValueError, "input_size must be"),
        (("enet", 5, (96, -1)), {}, ValueError, r"input_size must be \(height, width\).*-1"),
        (("enet", 5, SIZE), {"width": 2}, TypeError, "width is none of the options of enet: in_channels, dropout"),
        (("enet", 5, SIZE), {"in_channels": 0}, ValueError, "in_channels must be at least 1, got 0"),
        (("erfnet", 5, SIZE), {"in_channels": 1.0}, TypeError, "in_channels must be an int, got float 1.0"),
        (("enet", 5, SIZE), {"dilations": (4, 8)}, ValueError, r"dilations must be 4 numbers.*got \(4, 8\)"),
        (("enet", 5, SIZE), {"dilations": (4, 8, 0, 2)}, ValueError, "dilations must be at least 1, got 0"),
        (("boxenet", 5, SIZE), {"dilations": (4, 8, 16, 32)}, ValueError, "this network has no dilated blocks"),
        (("enet", 5), {}, TypeError, "num_classes and input_size must be given, unless pretrained= knows them"),
        (("boxenet", 5, SIZE), {"reparametrization_factor": 0}, ValueError, "reparametrization_factor"),
        (("boxenet", 5, SIZE), {"box_dropout": (1.5, 0, 0, 0)}, ValueError, "box_dropout must be 4 probabilities.*1.5"),
        (("enet", 5, SIZE), {"dropout": (0.1, 1.5)}, ValueError, "dropout must be 2 probabilities"),
        (("enet", 5, SIZE), {"dropout": 0.1}, ValueError, "dropout must be 2 probabilities.*got 0.1"),
        (("enet", 5, SIZE), {"remaining_dilations": (2, 4, 2, 4)}, TypeError, "remaining_dilations is none of"),
        (("boxerfnet", 5, SIZE), {"wide": 2}, TypeError, "wide is none of the options.*remaining_dilations"),
        (("boxerfnet", 5, SIZE), {"remaining_dilations": (2, 4)}, ValueError, r"must be 4 positive ints.*got \(2, 4\)"),
        (("boxerfnet", 5, SIZE), {"box_dropout": (0.1,) * 4}, ValueError, "box_dropout must be 2 probabilities"),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        networks.create(*arguments, **options)


@pytest.mark.parametrize("shape", [(32, 32), (4, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)])
def test_bad_images(shape):
    with pytest.raises(ValueError, match=r"image must have shape \(batch, 3, height, width\), got"):
        networks.create("enet", 5, (32, 32))(torch.rand(shape))


@pytest.mark.parametrize("inner_relu", [True, False])
def test_box_block_by_hand(inner_relu):
    block = BoxBottleneck(12, boxes_per_channel=3, max_input_h=6, max_input_w=9, inner_relu=inner_relu, bias=True)
    for norm in (block.norm_in, block.norm_out):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    block.eval()
    image = torch.randn(2, 12, 6, 9)
    narrow = nn.functional.conv2d(image, block.conv.weight, block.conv.bias) / (1 + 1e-5) ** 0.5
    narrow = narrow * block.norm_in.weight[:, None, None] + block.norm_in.bias[:, None, None]
    averaged = box_conv2d(narrow.relu() if inner_relu else narrow, block.box.boxes) / (1 + 1e-5) ** 0.5
    averaged = averaged * block.norm_out.weight[:, None, None] + block.norm_out.bias[:, None, None]
    torch.testing.assert_close(block(image), (image + averaged).relu())


def test_box_block_arguments():
    with pytest.raises(ValueError, match="multiple of boxes_per_channel, got channels=10, boxes_per_channel=4"):
        BoxBottleneck(10, max_input_h=8, max_input_w=8)
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        BoxBottleneck(8, max_input_h=8, max_input_w=8, dropout=1.0)
    with pytest.raises(ValueError, match="boxes_per_channel must be at least 1, got 0"):
        BoxBottleneck(8, boxes_per_channel=0, max_input_h=8, max_input_w=8)
    with pytest.raises(TypeError, match="max_input_w"):
        BoxBottleneck(8, max_input_h=8)
