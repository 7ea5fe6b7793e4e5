"""symmetric=True: three numbers per box; everything else is as with four."""

import re

import pytest
import torch
from torch import Tensor

from box_convolution import BoxConv2d, box_conv2d, networks
from box_convolution import boxes as box

H, W = 11, 13
NAMES = ("x_min", "x_max", "y_min", "y_max")


def layer(**options) -> BoxConv2d:
    return BoxConv2d(3, 2, H, W, **{"symmetric": True} | options)


def assert_symmetric(module: BoxConv2d) -> None:
    boxes = module.boxes
    assert torch.equal(boxes[..., 2], -boxes[..., 3])
    assert box.is_valid(boxes, H, W).all()


def test_three_numbers_a_box_and_it_says_so():
    module = layer()
    assert module.scaled_boxes.shape == (3, 2, 3)
    assert module.boxes.shape == (3, 2, 4)
    assert repr(module) == "BoxConv2d(3, 2, max_input_h=11, max_input_w=13, out_channels=6, symmetric=True)"
    assert_symmetric(module)
    with pytest.raises(TypeError, match="symmetric must be a bool, got int 1"):
        layer(symmetric=1)


def test_conversion_finds_the_nearest():
    boxes = 5 * torch.randn(50, 4, dtype=torch.float64)
    three = box.to_symmetric(boxes)
    assert torch.equal(three[:, 2], boxes[:, 3] - boxes[:, 2])
    nearest = (box.from_symmetric(three) - boxes).square().sum(-1)
    for change in (-1e-3, 1e-3):
        other = box.from_symmetric(three + torch.tensor([0, 0, change]))
        assert ((other - boxes).square().sum(-1) > nearest).all()
    torch.testing.assert_close(box.to_symmetric(box.from_symmetric(three)), three)


def test_same_draw_same_sizes():
    torch.manual_seed(3)
    three = layer().boxes
    torch.manual_seed(3)
    four = layer(symmetric=False).boxes
    assert torch.equal(three[..., :2], four[..., :2])
    torch.testing.assert_close(three[..., 3] - three[..., 2], four[..., 3] - four[..., 2])


@pytest.mark.parametrize("factor", [0.51, 0.86, 8.0])
def test_gradients_are_those_of_four_edges_with_tied_sides(factor):
    module = layer(dtype=torch.float64, reparametrization_factor=factor)
    image = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    weight = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    (module(image) * weight).sum().backward()
    boxes = module.boxes.detach().requires_grad_()
    (box_conv2d(image, boxes) * weight).sum().backward()
    h, w = box.scale_of(H, factor), box.scale_of(W, factor)
    top, bottom, left, right = boxes.grad.unbind(-1)
    torch.testing.assert_close(module.scaled_boxes.grad, torch.stack((h * top, h * bottom, w * (right - left)), -1))


def test_a_step_moves_an_edge_as_far_as_in_the_plain_layer():
    """Adam moves every number by its learning rate, so the unit of the width must be twice that of an edge."""
    for symmetric in (True, False):
        module = layer(symmetric=symmetric)
        module.set_boxes(torch.tensor([-3.0, 3, -4, 4]).expand(3, 2, 4))
        optimizer = torch.optim.Adam([module.scaled_boxes], lr=1e-3)
        (module.boxes[..., 1].sum() + module.boxes[..., 3].sum() - module.boxes[..., 2].sum()).backward()
        optimizer.step()
        moved = module.boxes[0, 0] - torch.tensor([-3.0, 3, -4, 4])
        expected = [0, -1e-3 * box.scale_of(H, 8.0), 1e-3 * box.scale_of(W, 8.0), -1e-3 * box.scale_of(W, 8.0)]
        torch.testing.assert_close(moved, torch.tensor(expected), rtol=1e-3, atol=1e-5)


def test_training_keeps_boxes_valid_and_symmetric():
    module = layer()
    optimizer = torch.optim.SGD([module.scaled_boxes], lr=3.0, weight_decay=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        (module(torch.randn(2, 3, 9, 8)) * torch.randn(2, 6, 9, 8)).sum().backward()
        optimizer.step()
        stored = module.scaled_boxes.detach().clone()
        assert_symmetric(module)
        module.project_()
        assert torch.equal(module.scaled_boxes, stored)


def test_invalid_numbers_are_projected_where_they_are_read():
    module = layer()
    with torch.no_grad():
        module.scaled_boxes[0] = torch.tensor([5.0, -5.0, 9.0])
        module.scaled_boxes[1] = torch.tensor([0.0, 0.0, -1.0])
    assert_symmetric(module)
    assert module.boxes[0, 0, 2:].tolist() == [-W, W]
    assert module.boxes[1, 0, 2:].tolist() == [-0.5, 0.5]


def test_set_boxes_round_trip_and_refusal():
    module = layer()
    for _ in range(20):
        pixels = box.from_symmetric(box.to_symmetric(box.project(10 * torch.randn(3, 2, 4), H, W)))
        module.set_boxes(pixels)
        assert torch.equal(module.boxes, pixels)
    pixels = pixels.clone()
    pixels[2, 1] = torch.tensor([-1.0, 1, -2, 2.25])
    before = module.boxes.detach().clone()
    message = "1 boxes that are not symmetric, the first at [2, 1]: left = -2, right = 2.25; expected left = -right"
    with pytest.raises(ValueError, match=re.escape(message)):
        module.set_boxes(pixels)
    assert torch.equal(module.boxes, before)


@pytest.mark.parametrize("width", [1.0, 2.0, 3.0, 4.9, 4.0, 26.0])
def test_snapped_boxes_are_symmetric_on_pixel_borders(width):
    module = layer()
    half = width / 2
    module.set_boxes(torch.tensor([-1.0, 1.3, -half, half]).expand(3, 2, 4))
    module.snap_()
    assert_symmetric(module)
    assert torch.equal(module.boxes % 1, torch.full((3, 2, 4), 0.5))
    assert (module.boxes[..., 3] - half).abs().max() <= 0.5
    assert not module.scaled_boxes.requires_grad


@pytest.mark.filterwarnings("error")
def test_three_load_into_four_exactly():
    module = layer()
    plain = layer(symmetric=False)
    plain.load_state_dict(module.state_dict())
    assert torch.equal(plain.boxes, module.boxes)


@pytest.mark.filterwarnings("error")
def test_four_load_into_three_with_a_warning_for_what_is_lost():
    plain, module = layer(symmetric=False), layer()
    plain.set_boxes(torch.tensor([-1.0, 1, -2, 2]).expand(3, 2, 4))
    module.load_state_dict(plain.state_dict())
    assert torch.equal(module.boxes, plain.boxes)
    pixels = plain.boxes.detach().clone()
    pixels[1, 1, 3] = 5
    plain.set_boxes(pixels)
    with pytest.warns(UserWarning, match=r"scaled_boxes: 1 of 6 boxes .* moved horizontally, by 1\.5 pixels at most"):
        module.load_state_dict(plain.state_dict())
    assert module.boxes[1, 1].tolist() == [-1, 1, -3.5, 3.5]
    assert plain.state_dict()["scaled_boxes"].shape == (3, 2, 4), "the user's dict stays as it is"


def theirs(y_min: float, y_max: float) -> dict[str, Tensor]:
    edges = zip(NAMES, (-1, 2, y_min, y_max), (H, H, W, W), strict=True)
    return {name: torch.full((3, 2), edge / (8 * size)) for name, edge, size in edges}


@pytest.mark.filterwarnings("error")
def test_the_authors_state_dicts():
    module = layer()
    module.load_state_dict(theirs(-3, 3))
    torch.testing.assert_close(module.boxes, torch.tensor([-1.5, 2.5, -3.5, 3.5]).expand(3, 2, 4))
    with pytest.warns(UserWarning, match=r"x_min\.\.\.y_max: 6 of 6 boxes were not symmetric .* by 2 pixels"):
        module.load_state_dict(theirs(-1, 5))
    torch.testing.assert_close(module.boxes, torch.tensor([-1.5, 2.5, -3.5, 3.5]).expand(3, 2, 4))


def test_inside_a_network():
    options = {"num_classes": 3, "input_size": (32, 48)}
    plain, network = networks.create("boxenet", **options), networks.create("boxenet", **options, symmetric=True)
    layers = [module for module in network.modules() if isinstance(module, BoxConv2d)]
    assert all(module.symmetric for module in layers)
    numbers = [sum(p.numel() for p in model.parameters()) for model in (plain, network)]
    assert numbers[0] - numbers[1] == 1232, "a number less for each box"
    assert network.eval()(torch.rand(1, 3, 32, 48)).shape == (1, 3, 32, 48)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_and_meta(dtype):
    assert_symmetric(layer(dtype=dtype))
    assert layer(device="meta")(torch.zeros(1, 3, 5, 7, device="meta")).shape == (1, 6, 5, 7)


def test_compiled_whole():
    module, image = layer(), torch.randn(1, 3, 5, 7)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image), module(image))
