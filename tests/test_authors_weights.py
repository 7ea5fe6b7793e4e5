"""State dicts of the authors' package, with inclusive coordinates x_min ... y_max divided by factor * image size."""

import copy
import pickle
from typing import Any

import oracle
import pytest
import torch
from tolerances import assert_values
from torch import Tensor, nn

from box_convolution import BoxConv2d
from box_convolution import boxes as box
from box_convolution.deploy import deploy

H, W = 11, 13
NAMES = ("x_min", "x_max", "y_min", "y_max")


def theirs(factor: float, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """A state dict of their layer with (3, 2) boxes, and the same boxes in pixels, float64; their x is vertical."""
    generator = torch.Generator().manual_seed(seed)
    low = 5 * torch.rand(2, 3, 2, generator=generator) - 5
    high = low + 5 * torch.rand(2, 3, 2, generator=generator)
    stored = [low[0] / (factor * H), high[0] / (factor * H), low[1] / (factor * W), high[1] / (factor * W)]
    pixels = [edge.double() * factor * size for edge, size in zip(stored, (H, H, W, W), strict=True)]
    return dict(zip(NAMES, stored, strict=True)), torch.stack(pixels, -1)


def paper(image: Tensor, inclusive: Tensor) -> Tensor:
    """Equations (3) and (4): a box covers rows x_min ... x_max + 1 in their coordinates, where pixel 0 begins at 0."""
    edges = inclusive + torch.tensor([-0.5, 0.5, -0.5, 0.5], dtype=torch.float64)
    return torch.from_numpy(oracle.box_conv2d(image.double().numpy(), edges.numpy()))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [0.51, 0.86, 1.5625, 8.0])
def test_outputs_are_those_of_the_papers_formulas(factor: float) -> None:
    state, inclusive = theirs(factor)
    layer = BoxConv2d(3, 2, H, W, reparametrization_factor=factor)
    result = layer.load_state_dict(state)
    assert not result.missing_keys
    assert not result.unexpected_keys
    image = torch.randn(2, 3, H, W)
    truth = paper(image, inclusive)
    # The edges are rounded to float32 once more than theirs: that moves a mean by 1e-6 of a pixel's share of it.
    assert_values(layer(image), truth, image.abs().max().item())
    precise = BoxConv2d(3, 2, H, W, reparametrization_factor=factor, dtype=torch.float64)
    precise.load_state_dict(state)
    assert_values(precise(image.double()), truth, image.abs().max().item())


def test_single_pixel() -> None:
    layer = BoxConv2d(3, 2, H, W)
    layer.load_state_dict({name: torch.zeros(3, 2) for name in NAMES})
    assert torch.equal(layer.boxes, torch.tensor([-0.5, 0.5, -0.5, 0.5]).expand(3, 2, 4))


def test_inside_a_network() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.Sequential(BoxConv2d(3, 2, H, W), nn.BatchNorm2d(6)), BoxConv2d(6, 1, H, W)
    )
    expected = network.state_dict()
    state = {key: value.clone() for key, value in expected.items() if not key.endswith("scaled_boxes")}
    first, inclusive = theirs(8.0)
    state |= {f"1.0.{name}": value for name, value in first.items()}
    second = {
        name: torch.full((6, 1), edge / (8 * size))
        for name, edge, size in zip(NAMES, (-1, 2, 0, 3), (H, H, W, W), strict=True)
    }
    state |= {f"2.{name}": value for name, value in second.items()}
    keys, copies = list(state), {key: value.clone() for key, value in state.items()}
    network.load_state_dict(state)
    assert list(state) == keys, "the user's dict stays as it is"
    assert all(torch.equal(state[key], copies[key]) for key in keys)
    torch.testing.assert_close(network[1][0].boxes.double(), inclusive + torch.tensor([-0.5, 0.5, -0.5, 0.5]).double())
    torch.testing.assert_close(network[2].boxes, torch.tensor([-1.5, 2.5, -0.5, 3.5]).expand(6, 1, 4))
    with pytest.raises(RuntimeError, match=r"Unexpected key.*1\.0\.z_min"):
        network.load_state_dict(state | {"1.0.z_min": torch.zeros(3, 2)})


def test_missing_sister_and_wrong_shape() -> None:
    layer = BoxConv2d(3, 2, H, W)
    before = layer.scaled_boxes.detach().clone()
    state, _ = theirs(8.0)
    partial = {name: edge for name, edge in state.items() if name != "y_min"}
    with pytest.raises(RuntimeError, match=r"y_min: expected shape \(3, 2\) like the other three .*, got nothing"):
        layer.load_state_dict(partial)
    with pytest.raises(RuntimeError, match=r"box\.y_min: expected shape"):
        nn.ModuleDict({"box": layer}).load_state_dict({f"box.{name}": edge for name, edge in partial.items()})
    with pytest.raises(RuntimeError, match=r"x_max: expected shape \(3, 2\) .*, got shape \(2, 3\)"):
        layer.load_state_dict(state | {"x_max": torch.zeros(2, 3)})
    assert torch.equal(layer.scaled_boxes, before)
    assert "y_min" not in partial


def beyond(h: int = H, w: int = W) -> tuple[dict[str, Tensor], Tensor]:
    """Boxes at the limits of their layer: inclusive coordinates from -(size + 1) to size - 1, at least 1.001 pixels."""
    top, bottom = torch.full((3, 2), -(h + 1.0)), torch.full((3, 2), h - 1.0)
    left, right = torch.full((3, 2), -(w + 1.0)), torch.full((3, 2), w - 1.0)
    bottom[0, 0], top[0, 1], right[1, 0], left[1, 1] = top[0, 0] + 0.0011, h - 1.0011, left[1, 0] + 0.5, w - 2.5
    inclusive = torch.stack((top, bottom, left, right), -1).double()
    scale = torch.tensor([h, h, w, w]).double() * 8
    return dict(zip(NAMES, (inclusive / scale).float().unbind(-1), strict=True)), inclusive


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(H, W), (1, 13), (11, 1), (1, 1)])
@pytest.mark.parametrize(
    "mode", ["training", "evaluation", "no_grad", "compiled", "copied", "loaded again", "deployed"]
)
def test_boxes_beyond_the_limits_compute_what_they_were_saved_with(size: tuple[int, int], mode: str) -> None:
    state, inclusive = beyond(*size)
    layer: Any = BoxConv2d(3, 2, *size)
    layer.load_state_dict(state)
    image = torch.randn(2, 3, *size)
    layer.train(mode == "training")
    if mode == "copied":
        layer = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    elif mode == "loaded again":
        fresh = BoxConv2d(3, 2, *size)
        fresh.load_state_dict(layer.state_dict())
        layer = fresh
    elif mode == "compiled":
        torch._dynamo.reset()
        layer = torch.compile(layer, backend="eager", fullgraph=True)
    elif mode == "deployed":
        layer = deploy(nn.Sequential(layer))
    with torch.set_grad_enabled(mode != "no_grad"):
        for _ in range(2):  # the second time the boxes are known
            assert_values(layer(image).detach(), paper(image, inclusive), image.abs().max().item())


def test_the_next_training_step_projects_them() -> None:
    state, _ = beyond()
    layer, frozen = BoxConv2d(3, 2, H, W), BoxConv2d(3, 2, H, W).freeze()
    for module in (layer, frozen):
        module.load_state_dict(state)
    before = frozen.boxes.clone()
    assert layer.boxes.min() < -W
    optimizer = torch.optim.SGD([*layer.parameters(), *frozen.parameters()], lr=1e-6)
    layer(torch.randn(1, 3, H, W)).sum().backward()
    optimizer.step()
    assert box.is_valid(layer.boxes, H, W).all()
    assert torch.equal(frozen.boxes, before)
    with torch.no_grad():
        layer.scaled_boxes.fill_(-99)
    assert box.is_valid(layer.boxes, H, W).all(), "the limits are the layer's own again"


@pytest.mark.parametrize("way", ["set_boxes", "reset_parameters", "project_", "snap_"])
def test_setting_boxes_restores_the_limits(way: str) -> None:
    layer = BoxConv2d(3, 2, H, W)
    layer.load_state_dict(beyond()[0])
    getattr(layer, way)(*([torch.tensor([-1.0, 1, -2, 2]).expand(3, 2, 4)] if way == "set_boxes" else []))
    with torch.no_grad():
        layer.scaled_boxes.fill_(-99)
    assert layer.boxes.min() == -W


def test_what_is_written_after_loading_is_projected_into_the_wider_limits() -> None:
    layer = BoxConv2d(3, 2, H, W)
    layer.load_state_dict(beyond()[0])
    with torch.no_grad():
        layer.scaled_boxes[0, 0] = torch.tensor([5.0, -5.0, 9.0, 9.0])
    assert box.is_valid(layer.boxes, H + 2, W + 2).all()


def test_boxes_that_their_layer_would_not_have_are_loaded_with_a_warning() -> None:
    layer = BoxConv2d(3, 2, H, W)
    state, _ = theirs(8.0)
    state["x_max"][1, 1] = 2.0
    state["y_max"][2, 0] = state["y_min"][2, 0] - 1.5 / (8 * W)
    with pytest.warns(UserWarning, match=r"x_min\.\.\.y_max: 2 of 6 boxes .* 11 x 13: .*max_input_h"):
        layer.load_state_dict(state)
    assert layer.boxes[1, 1, 1] == 2 * 8 * H + 0.5, "computed with all the same"
    size = layer.boxes[2, 0, 3] - layer.boxes[2, 0, 2]
    assert size == 1, "but no box is under a pixel in size"


def test_not_a_number_among_them() -> None:
    layer = BoxConv2d(3, 2, H, W)
    state, _ = beyond()
    state["x_min"][0, 0] = float("nan")
    layer.load_state_dict(state)
    output = layer(torch.randn(1, 3, H, W))
    assert output[:, 0].isnan().all()
    assert output[:, 1:].isfinite().all()
    assert abs(layer.boxes[2, 0, 2].item() + W + 1.5) < 1e-5


def test_onto_meta_with_assign() -> None:
    """The layer's own parameters have no data then."""
    state, _ = theirs(8.0)
    layer, plain = BoxConv2d(3, 2, H, W, device="meta"), BoxConv2d(3, 2, H, W)
    layer.load_state_dict(state, assign=True)
    plain.load_state_dict(state)
    assert torch.equal(layer.boxes, plain.boxes)
    assert layer.scaled_boxes.requires_grad
