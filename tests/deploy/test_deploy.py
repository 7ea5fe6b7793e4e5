"""A deployed network computes the same as the trained one, without what only training needs."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.fx
from deployment import NORMS, assert_same_answer, lived_in, types_in
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from box_convolution import BoxBottleneck, BoxConv2d, networks, project_boxes
from box_convolution.deploy import FusedBoxBottleneck, FusedBoxConv2d, deploy, snap_boxes
from box_convolution.networks.enet import Bottleneck


@pytest.mark.parametrize("name", networks.names())
def test_every_network_of_the_paper(name: str) -> None:
    network = lived_in(networks.create(name, 5, (40, 64)), 2, 3, 40, 64)
    before = copy.deepcopy(network.state_dict())
    deployed = deploy(network)
    for shape in ((2, 3, 40, 64), (1, 3, 37, 70)):
        assert_same_answer(network, deployed, *shape)
    left = types_in(deployed)
    assert not any(issubclass(kind, (NORMS, nn.modules.dropout._DropoutNd, BoxConv2d, BoxBottleneck)) for kind in left)
    assert not any(weight.requires_grad for weight in deployed.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert sum(isinstance(m, FusedBoxBottleneck) for m in deployed.modules()) == sum(
        isinstance(m, BoxBottleneck) for m in network.modules()
    )


def test_training_mode_is_left_behind() -> None:
    network = lived_in(networks.create("boxenet", 3, (32, 32)), 2, 3, 32, 32)
    deployed = deploy(network.train())
    assert not deployed.training
    assert network.training
    assert_same_answer(network.eval(), deployed, 1, 3, 32, 32)


def test_snapped() -> None:
    network = lived_in(networks.create("boxonlyenet", 5, (40, 64)), 2, 3, 40, 64)
    deployed = deploy(network, snap=True)
    boxes = [module.boxes for module in deployed.modules() if isinstance(module, FusedBoxConv2d)]
    assert len(boxes) == 23
    for edges in boxes:
        assert torch.equal((edges + 0.5).round(), edges + 0.5)
        assert ((edges[..., 1] - edges[..., 0] >= 1) & (edges[..., 3] - edges[..., 2] >= 1)).all()
    snapped = copy.deepcopy(network)
    for module in snapped.modules():
        if isinstance(module, BoxConv2d):
            module.snap_()
    assert_same_answer(snapped, deployed, 1, 3, 40, 64)
    with pytest.raises(AssertionError):
        assert_same_answer(network, deployed, 1, 3, 40, 64)


def test_memory_formats(pair: tuple[nn.Module, nn.Module], set_threads: Callable[[int], None]) -> None:
    """Neither the memory format of the image nor the number of threads changes more than rounding."""
    network, last = pair
    image = torch.randn(2, 3, 32, 48)
    for count in (1, 2):
        set_threads(count)
        with torch.no_grad():
            expected = network(image)
            for deployed in (last, deploy(network, channels_last=False)):
                memory_format = torch.channels_last if deployed is last else torch.contiguous_format
                for given in (image, image.contiguous(memory_format=torch.channels_last)):
                    output = deployed(given)
                    atol = 1e-5 * (expected.max() - expected.min()).item()
                    torch.testing.assert_close(output, expected, rtol=0, atol=atol)
                assert output.is_contiguous(memory_format=memory_format) or given is not image


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["enet", "boxenet", "boxonlyenet", "erfnet", "boxerfnet"])
def test_deployed_networks_take_no_images_and_work_in_vmap(name: str) -> None:
    network = networks.create(name, 5, (32, 64)).eval()
    for deployed in (deploy(network), deploy(network, channels_last=False)):
        assert deployed(torch.ones(0, 3, 32, 64)).shape == (0, 5, 32, 64)
        images = torch.randn(2, 1, 3, 32, 64)
        together = torch.func.vmap(deployed)(images)
        torch.testing.assert_close(together, torch.stack([deployed(image) for image in images]))


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_derivatives_by_the_parameters_of_the_last_layer(name: str) -> None:
    deployed: Any = deploy(networks.create("enet", 5, (32, 32)))
    parameter = getattr(deployed.head, name).requires_grad_()
    deployed(torch.randn(1, 3, 32, 32)).sum().backward()
    assert parameter.grad.abs().sum() > 0


def test_traced_by_fx() -> None:
    deployed = deploy(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)).eval())
    image = torch.randn(1, 3, 6, 7)
    torch.testing.assert_close(torch.fx.symbolic_trace(deployed)(image), deployed(image))


def test_dropped_classes() -> None:
    network = lived_in(networks.create("boxenet", 6, (32, 32)), 2, 3, 32, 32)
    deployed = deploy(network, drop_classes=[0, 4])
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(deployed(image), network(image)[:, [1, 2, 3, 5]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function, name", [(deploy, "network"), (snap_boxes, "network"), (project_boxes, "model")])
def test_what_is_no_module_is_named(function: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an nn.Module, got int"):
        function(3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"drop_classes": [6]}, r"drop_classes must be some of the 6 outputs 0 ... 5, got \[6\]"),
        ({"drop_classes": [1.5]}, r"drop_classes\[0\] must be an int, got float 1.5"),
        ({"drop_classes": 3}, "drop_classes must be a sequence of ints, got int 3"),
        ({"drop_classes": "12"}, "drop_classes must be a sequence of ints, got str '12'"),
        ({"snap": 1}, "snap must be a bool, got int 1"),
        ({"drop_classes": range(6)}, "drop_classes must be some of the 6 outputs"),
        ({"drop_classes": [0], "head": "tail"}, "drop_classes needs head=NAME, .*'tail' is none"),
        ({"drop_classes": [0], "head": "up1"}, "drop_classes needs head=NAME, .*'up1' is none"),
    ],
)
def test_arguments_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        deploy(networks.create("enet_minus", 6, (32, 32)), **options)


class Readable(nn.Module):
    """A user's network, with branches, concatenations and boxes outside of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.Dropout(0.3), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.up = nn.ConvTranspose2d(8, 12, 2, stride=2, groups=2)
        self.norm_grouped, self.norm_up = nn.BatchNorm2d(8, affine=False), nn.SyncBatchNorm(12)
        self.narrow = nn.Conv2d(12, 4, 1)
        self.box = BoxConv2d(4, 3, 8, 8, normalize=False, stride=2)
        self.norm_box, self.act = nn.BatchNorm2d(12), nn.ReLU()
        self.left, self.right = nn.Conv2d(12, 5, 1), nn.Conv2d(12, 3, 1)
        self.norm_cat = nn.BatchNorm2d(20)
        self.last = BoxBottleneck(20, boxes_per_channel=5, max_input_h=8, max_input_w=8, inner_relu=False, bias=True)

    def forward(self, image: Tensor) -> Tensor:
        first = self.norm_grouped(self.grouped(self.first(image)))
        up = self.norm_up(self.up(first))
        box = self.act(self.norm_box(self.box(torch.tanh(self.narrow(up)))))
        return self.last(self.norm_cat(torch.cat([self.left(box), self.right(box), box], dim=1)))


class Own(Readable):
    """Its code depends on sizes, too."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.mT if image.shape[2] > image.shape[3] else image)


def test_a_network_of_the_users_own() -> None:
    network = lived_in(Own(), 3, 3, 6, 7)
    assert_same_answer(network, deploy(network), 1, 3, 6, 9)
    assert_same_answer(network, deploy(network), 1, 3, 9, 6)


def test_nothing_is_left_to_normalise_where_the_code_can_be_read() -> None:
    network = lived_in(Readable(), 3, 3, 6, 7)
    deployed = deploy(network)
    assert_same_answer(network, deployed, 1, 3, 6, 9)
    assert not any(issubclass(kind, (NORMS, BoxConv2d, BoxBottleneck, nn.Dropout)) for kind in types_in(deployed))
    assert deployed.box.relu, "BatchNorm and ReLU are in the box convolution's write"


def test_a_single_layer_and_a_single_block() -> None:
    for network in (BoxConv2d(4, 2, 8, 8), BoxBottleneck(4, boxes_per_channel=2, max_input_h=8, max_input_w=8)):
        assert_same_answer(lived_in(network, 2, 4, 8, 8), deploy(network), 1, 4, 8, 8)


class Traps(nn.Module):
    """A network with layers that look foldable but are not."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.a, self.b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.used_twice, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.hooked, self.after_hook = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.hooked.register_forward_hook(lambda module, inputs, output: output.square())
        self.tied, self.owner, self.after_tied = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.tied.weight = self.owner.weight
        self.parametrised, self.after_parametrised = weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)
        self.before, self.later = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)
        self.by_batch, self.no_statistics = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        self.first, self.second, self.other_cat = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(9)
        self.bottom = nn.Conv2d(9, 3, 1)
        self.rows = nn.BatchNorm2d(3)
        self.box, self.box_act, self.box_norm = BoxConv2d(3, 1, 4, 4), nn.ReLU(), nn.BatchNorm2d(3)

    def forward(self, image: Tensor) -> Tensor:
        image = self.a(self.shared(image)) + self.b(self.shared(image.flip(2)))
        image = image + self.norm(used := self.used_twice(image)) * used
        image = self.after_hook(self.hooked(image))
        image = self.after_tied(self.tied(image)) + self.owner(image)
        image = self.after_parametrised(self.parametrised(image))
        image = self.later(self.before(image))
        image = self.no_statistics(self.by_batch(image))
        image = self.bottom(self.other_cat(torch.cat((self.first(image), image, self.second(image)), 1)))
        image = self.rows(torch.cat((self.first(image), image), 2))
        return self.box_norm(self.box_act(self.box(image)))


def test_layers_that_only_look_foldable() -> None:
    network = lived_in(Traps(), 4, 3, 5, 6)
    assert_same_answer(network, deploy(network), 2, 3, 5, 6)


def test_layers_with_hooks_are_still_called() -> None:
    layers = BoxConv2d(3, 1, 4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 3, 1), nn.ReLU()
    for layer in layers:
        layer.register_forward_hook(lambda module, inputs, output: 2 * output + 0.5)
    network = nn.Sequential(*layers).eval()
    assert_same_answer(network, deploy(network), 2, 3, 5, 6)


def test_what_a_hook_of_a_blocks_dropout_saw_is_not_overwritten() -> None:
    block = Bottleneck(16, dropout=0.1).eval()
    dropout = next(module for module in block.modules() if isinstance(module, nn.Dropout2d))
    seen: list[Tensor] = []
    dropout.register_forward_hook(lambda module, inputs, output: seen.append(output))
    image = torch.randn(1, 16, 6, 5)
    with torch.no_grad():
        block(image)
        deploy(block)(image)
    torch.testing.assert_close(seen[1], seen[0])


def test_a_module_in_two_places_stays_one() -> None:
    block = BoxBottleneck(4, boxes_per_channel=2, max_input_h=8, max_input_w=8)
    network = lived_in(nn.Sequential(block, nn.Sequential(block), nn.Conv2d(4, 4, 1)), 2, 4, 8, 8)
    deployed = deploy(network)
    assert deployed[0] is deployed[1][0]
    assert_same_answer(network, deployed, 2, 4, 8, 8)


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    network = lived_in(networks.create("boxenet", 5, (32, 48)), 2, 3, 32, 48)
    return network, deploy(network)


def test_state_dict_goes_into_another_deployed_network(pair: tuple[nn.Module, nn.Module]) -> None:
    other = deploy(networks.create("boxenet", 5, (32, 48)))
    other.load_state_dict(pair[1].state_dict())
    assert_same_answer(pair[0], other, 1, 3, 32, 48)


def test_compiled_and_exported() -> None:
    network = lived_in(Readable(), 3, 3, 6, 7)
    deployed = deploy(network)
    torch._dynamo.reset()
    assert_same_answer(network, torch.compile(deployed, backend="aot_eager", fullgraph=True), 1, 3, 6, 9)
    size = torch.export.Dim("height", min=3, max=64), torch.export.Dim("width", min=3, max=64)
    image = torch.randn(1, 3, 8, 12)
    program = torch.export.export(deployed, (image,), dynamic_shapes=({2: 2 * size[0], 3: 2 * size[1]},))
    assert_same_answer(network, program.module(), 1, 3, 14, 6)


def test_scripted(pair: tuple[nn.Module, nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(pair[1])
    assert_same_answer(pair[0], scripted, 2, 3, 30, 41)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_moves_no_edge(dtype: torch.dtype, pair: tuple[nn.Module, nn.Module]) -> None:
    low = copy.deepcopy(pair[1]).to(dtype)
    for one, other in zip(pair[1].modules(), low.modules(), strict=True):
        if isinstance(one, FusedBoxConv2d):
            assert torch.equal(one.boxes, other.boxes)
            assert other.scale.dtype == torch.float32
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected, output = pair[0](image), low(image.to(dtype))
    assert output.dtype == dtype
    assert (output - expected).abs().mean() < 0.02 * (expected.max() - expected.min())
    assert low.double()(image.double()).dtype == torch.float64


@pytest.mark.parametrize("inner_relu", [False, True])
def test_box_blocks_of_channels_last_images_convolve_to_planes(inner_relu: bool) -> None:
    block = lived_in(BoxBottleneck(32, max_input_h=40, max_input_w=50, inner_relu=inner_relu), 2, 32, 20, 30)
    deployed = deploy(block)
    image = torch.randn(2, 32, 20, 30).to(memory_format=torch.channels_last)
    with torch.no_grad():
        output, expected = deployed(image), block(image)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, expected)
    hooked = []
    for module in deployed.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_: hooked.append(1))
    with torch.no_grad():
        torch.testing.assert_close(deployed(image), expected)
    assert hooked == [1]
