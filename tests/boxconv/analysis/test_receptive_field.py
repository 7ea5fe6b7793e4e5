"""Receptive fields that are known in advance, and response maps compared with a Jacobian."""

import pytest
import torch
from torch import nn

from box_convolution import BoxConv2d, networks
from boxconv.analysis.receptive_field import cumulative_energy, draw_positions, gradient_responses, receptive_field

H, W = 13, 16


def images(count=3):
    return torch.rand(count, 3, H, W)


def uniform_conv(size, stride=1):
    layer = nn.Conv2d(3, 2, size, padding=size // 2, stride=stride, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    return layer


def test_maps_are_the_jacobians_norms():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), BoxConv2d(4, 1, H, W), nn.Conv2d(4, 3, 1)
    ).eval()
    pictures, positions = images(2), draw_positions(2, 3, (H, W))
    maps, channels, size = gradient_responses(model, pictures, positions)
    assert (channels, size, maps.shape) == (3, (H, W), (2, 3, H, W))
    for b in range(2):
        jacobian = torch.autograd.functional.jacobian(model, pictures[b : b + 1])[0, :, :, :, 0]  # (K, h, w, 3, h, w)
        for k in range(3):
            p, q = positions[b, k]
            expected = jacobian[:, p, q].double().norm(dim=1).mean(0)
            torch.testing.assert_close(maps[b, k], expected, rtol=1e-4, atol=1e-6)


def test_a_uniform_kernel_has_a_square_field():
    positions = torch.tensor([[[6, 8]], [[6, 8]], [[5, 7]]])
    field = receptive_field(uniform_conv(5), images(), positions)
    torch.testing.assert_close(field.energy[:4], torch.tensor([1 / 25, 9 / 25, 1, 1], dtype=torch.float64))
    assert [field.radius(share) for share in (0.03, 0.3, 0.9, 1.0)] == [0, 1, 2, 2]
    assert (field.channels, field.size, field.curves, field.dead) == (2, (H, W), 3, 0)
    assert field.spread.max() < 1e-9
    assert len(field.energy) == max(H, W)


def test_the_field_of_a_box_is_the_box():
    layer = BoxConv2d(3, 1, H, W)
    layer.set_boxes(torch.tensor([-2.5, 2.5, -4.5, 4.5]).expand(3, 1, 4))
    field = receptive_field(layer, images(1), torch.tensor([[[6, 8]]]))
    expected = [min(2 * r + 1, 5) * min(2 * r + 1, 9) / 45 for r in range(6)]
    torch.testing.assert_close(field.energy[:6], torch.tensor(expected, dtype=torch.float64))


def test_windows_are_clipped_at_the_border():
    """At a corner, the square of radius r has (r + 1)^2 pixels in the image, of a field clipped to (n/2 + 1)^2."""
    field = receptive_field(uniform_conv(7), images(1), torch.tensor([[[0, 0]]]))
    torch.testing.assert_close(field.energy[:4], torch.tensor([1, 4, 9, 16], dtype=torch.float64) / 16)


def test_levels_of_lower_resolution():
    model = nn.Sequential(uniform_conv(3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(2, 1, 3, padding=1))
    for q in (8, 9):
        maps, channels, size = gradient_responses(model, images(1), torch.tensor([[[5, q]]]), level="0")
        assert (channels, size) == (2, (7, 8))
        nonzero = maps[0, 0].nonzero()
        assert nonzero.min(0).values.tolist() == [3, 7], "unit (2, 4) looks at rows 3 ... 5 and columns 7 ... 9"
        assert nonzero.max(0).values.tolist() == [5, 9]


def test_a_level_is_what_its_module_returns_not_what_works_in_place_on_it():
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(inplace=True))
    nn.init.constant_(model[0].weight, -1.0)
    nn.init.constant_(model[0].bias, -1.0)
    assert receptive_field(model, images(1), torch.tensor([[[3, 3]]]), level="0").curves == 1
    with pytest.raises(ValueError, match="none of the 1 positions has a gradient"):
        receptive_field(model, images(1), torch.tensor([[[3, 3]]]))


def test_positions_without_gradient_are_left_out_and_counted():
    model = nn.Sequential(uniform_conv(3), nn.ReLU())
    pictures = images(2)
    pictures[0] = -1
    field = receptive_field(model, pictures, draw_positions(2, 4, (H, W)))
    assert (field.curves, field.dead) == (4, 4)
    assert field.energy.isfinite().all()


def test_batches_change_nothing_and_progress_counts_positions():
    model = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
    pictures, positions, told = images(5), draw_positions(5, 2, (H, W)), []
    one = receptive_field(model, pictures, positions, batch_size=1)
    many = receptive_field(model, pictures, positions, batch_size=4, advance=told.append)
    torch.testing.assert_close(one.energy, many.energy)
    assert sum(told) == 10


def test_positions_are_the_same_for_a_seed_and_cover_the_image():
    positions = draw_positions(50, 20, (H, W), seed=3)
    assert torch.equal(positions, draw_positions(50, 20, (H, W), seed=3))
    assert not torch.equal(positions, draw_positions(50, 20, (H, W), seed=4))
    assert positions.flatten(0, 1).min(0).values.tolist() == [0, 0]
    assert positions.flatten(0, 1).max(0).values.tolist() == [H - 1, W - 1]


def test_energy_ends_at_one():
    energy = cumulative_energy(torch.rand(2, 3, H, W), draw_positions(2, 3, (H, W)))
    assert energy.shape == (2, 3, max(H, W))
    torch.testing.assert_close(energy[..., -1], torch.ones(2, 3, dtype=torch.float64))
    assert (energy.diff(dim=-1) >= 0).all()


def test_box_networks_see_farther_already_when_fresh():
    size = (48, 64)
    positions, pictures = draw_positions(2, 3, size), torch.rand(2, 3, *size)
    radii = {}
    for name in ("boxenet", "enet"):
        torch.manual_seed(0)
        model = networks.create(name, 3, input_size=size)
        radii[name] = receptive_field(model, pictures, positions, level="stage1.1").radius(0.99)
    assert radii["boxenet"] > 2 * radii["enet"]


def test_it_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        receptive_field(model, images(1), torch.tensor([[[3, 3]]]))
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "level, message",
    [
        ("stage9", r"level 'stage9': the network has no module of this name; it has 0, 1"),
        ("1", r"level '1': expected a module whose output is \(B, C, h, w\)"),
    ],
)
def test_impossible_levels(level, message):
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten())
    with pytest.raises(ValueError, match=message):
        receptive_field(model, images(1), torch.tensor([[[3, 3]]]), level=level)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"positions \(N, P, 2\), got \(3, 3, 13, 16\) and \(2, 4, 2\)"):
        gradient_responses(uniform_conv(3), images(3), draw_positions(2, 4, (H, W)))
