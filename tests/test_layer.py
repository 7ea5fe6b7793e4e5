"""BoxConv2d: its construction and its boxes; reading, copying and evaluating do not change them."""

import random
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from box_convolution import BoxConv2d, box_conv2d
from box_convolution import boxes as box

H, W = 11, 13


def layer(**options: Any) -> BoxConv2d:
    return BoxConv2d(3, 2, H, W, **options)


def bits(tensor: Tensor) -> tuple[bytes, int]:
    """The bytes of a tensor, and its version, which counts writes."""
    return tensor.detach().numpy().tobytes(), tensor._version


BAD_ARGUMENTS = [
    ((0, 2, H, W), {}, ValueError, "in_channels must be at least 1, got 0"),
    ((3.0, 2, H, W), {}, TypeError, "in_channels must be an int, got float 3.0"),
    ((True, 2, H, W), {}, TypeError, "in_channels must be an int, got bool True"),
    ((3, 0, H, W), {}, ValueError, "num_filters must be at least 1, got 0"),
    ((3, "2", H, W), {}, TypeError, "num_filters must be an int, got str '2'"),
    ((3, 2, 0, W), {}, ValueError, "max_input_h must be at least 1, got 0"),
    ((3, 2, 11.5, W), {}, TypeError, "max_input_h must be an int, got float 11.5"),
    ((3, 2, H, -1), {}, ValueError, "max_input_w must be at least 1, got -1"),
    ((3, 2, H, None), {}, TypeError, "max_input_w must be an int, got NoneType None"),
    ((3, 2, H), {}, TypeError, "max_input_w"),
    ((3, 2, H, W), {"padding": 1}, TypeError, "padding"),
    ((3, 2, H, W), {"initial_boxes": "small"}, ValueError, "initial_boxes must be one of uniform, log-uniform, mixed"),
    ((3, 2, H, W), {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
    ((3, 2, H, W), {"stride": 1.5}, TypeError, "stride must be an int, got float 1.5"),
    ((3, 2, H, W), {"normalize": 1}, TypeError, "normalize must be a bool, got int 1"),
    ((3, 2, H, W), {"reparametrization_factor": 0}, ValueError, "reparametrization_factor must lie in"),
    ((3, 2, H, W), {"reparametrization_factor": float("nan")}, ValueError, "got nan"),
    ((3, 2, H, W), {"reparametrization_factor": 1e300}, ValueError, "got 1e+300"),
    ((3, 2, H, W), {"reparametrization_factor": "8"}, TypeError, "reparametrization_factor must be a number, got str"),
    ((3, 2, H, W), {"dtype": torch.int64}, TypeError, "dtype must be a floating-point dtype, got torch.int64"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD_ARGUMENTS, ids=lambda value: str(value)[:40])
def test_bad_arguments(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        BoxConv2d(*arguments, **options)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"normalize": False}, {"reparametrization_factor": 0.86}])
@pytest.mark.parametrize("size", [(H, W), (1, 1), (40, 2)])
def test_forward_is_the_operator_on_its_boxes(options: dict[str, Any], size: tuple[int, int]) -> None:
    module, image = layer(**options), torch.randn(2, 3, *size)
    keyword = {key: value for key, value in options.items() if key != "reparametrization_factor"}
    output = module(image)
    assert torch.equal(output, box_conv2d(image, module.boxes, **keyword))
    stride = options.get("stride", 1)
    assert output.shape == (2, 6, -(-size[0] // stride), -(-size[1] // stride))


def test_repr_says_what_it_is() -> None:
    assert repr(layer()) == "BoxConv2d(3, 2, max_input_h=11, max_input_w=13, out_channels=6)"
    odd = layer(stride=2, normalize=False).freeze()
    assert repr(odd) == (
        "BoxConv2d(3, 2, max_input_h=11, max_input_w=13, out_channels=6, stride=2, normalize=False, frozen)"
    )


def test_initial_boxes_come_from_torch_alone() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    torch.manual_seed(3)
    one = layer()
    torch.manual_seed(3)
    assert torch.equal(layer().scaled_boxes, one.scaled_boxes)
    assert not torch.equal(layer().scaled_boxes, one.scaled_boxes)
    torch.manual_seed(3)
    assert torch.equal(layer(dtype=torch.float64).boxes.float(), one.boxes)
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == states  # noqa: NPY002
    assert box.is_valid(one.boxes, H / 2, W / 2).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_of_the_stored_boxes(dtype: torch.dtype) -> None:
    module = layer(dtype=dtype)
    assert module.scaled_boxes.dtype == module.boxes.dtype == dtype
    assert box.is_valid(module.boxes, H, W).all()
    for image in (torch.randn(1, 3, 5, 7), torch.randn(1, 3, 5, 7, dtype=dtype)):
        assert module(image).dtype == image.dtype
    assert layer().to(dtype).boxes.dtype == dtype


def test_meta_device_and_back() -> None:
    module = layer(device="meta")
    assert module(torch.zeros(2, 3, 5, 7, device="meta")).shape == (2, 6, 5, 7)
    module.to_empty(device="cpu")
    torch.manual_seed(3)
    module.reset_parameters()
    torch.manual_seed(3)
    assert torch.equal(module.boxes, layer().boxes)
    with torch.device("meta"):
        assert layer().scaled_boxes.is_meta
    target = layer(device="meta")
    target.load_state_dict(module.state_dict(), assign=True)
    assert torch.equal(target.boxes, module.boxes)


@pytest.mark.parametrize("factor", [0.51, 0.86, 1.0, 1.5625, 8.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_set_boxes_round_trip(factor: float, dtype: torch.dtype) -> None:
    """Bit for bit: the scale is a power of two, and a valid box is not projected."""
    module = layer(reparametrization_factor=factor, dtype=dtype)
    for _ in range(20):
        pixels = box.project(10 * torch.randn(3, 2, 4, dtype=dtype), H, W)
        module.set_boxes(pixels)
        assert torch.equal(module.boxes, pixels)
        with torch.no_grad():
            assert torch.equal(module.boxes, pixels)
    assert module.scaled_boxes.requires_grad
    module.set_boxes(torch.tensor([[[-1, 1, -2, 2]] * 2] * 3))
    assert module.boxes[2, 1].tolist() == [-1, 1, -2, 2]


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (torch.zeros(3, 2, 5), ("shape (3, 2, 4)", "got (3, 2, 5)")),
        (torch.zeros(2, 3, 4), ("shape (3, 2, 4)", "got (2, 3, 4)")),
        (torch.tensor([-1.0, 1, -2, 2]), ("shape (3, 2, 4)", "got (4,)")),
        (torch.zeros(3, 2, 4), ("6 invalid boxes", "[0, 0]", "(0.0, 0.0, 0.0, 0.0)", "bottom - top >= 1")),
        (torch.full((3, 2, 4), float("nan")), ("6 invalid boxes", "nan")),
        (torch.tensor([-1.0, 1, -14, 2]).expand(3, 2, 4), ("-14.0", "max_input_w = 13", "max_input_h = 11")),
        (torch.tensor([-1.0, float("inf"), -1, 2]).expand(3, 2, 4), ("inf", "max_input_h = 11")),
        (torch.tensor([1.0, -1, -1, 2]).expand(3, 2, 4), ("(1.0, -1.0, -1.0, 2.0)",)),
    ],
    ids=lambda value: "",
)
def test_set_boxes_refuses(pixels: Tensor, says: tuple[str, ...]) -> None:
    module = layer()
    before = bits(module.scaled_boxes)
    with pytest.raises(ValueError) as caught:
        module.set_boxes(pixels)
    for part in says:
        assert part in str(caught.value)
    assert bits(module.scaled_boxes) == before


def test_set_boxes_names_the_bad_one() -> None:
    pixels = torch.tensor([-1.0, 1, -2, 2]).repeat(3, 2, 1)
    pixels[2, 1] = torch.tensor([0.0, 0.5, -2, 2])
    with pytest.raises(ValueError, match=r"1 invalid boxes, the first at \[2, 1\]"):
        layer().set_boxes(pixels)


def test_reading_and_evaluating_write_nothing() -> None:
    module = layer()
    with torch.no_grad():
        module.scaled_boxes[0, 0] = torch.tensor([5.0, -5.0, 9.0, 9.0])  # invalid, as a hand-written loop may leave it
    before = bits(module.scaled_boxes)
    image = torch.randn(2, 3, 5, 7)
    for mode in (True, False):
        module.train(mode)
        module(image).sum().backward()
        with torch.no_grad():
            module(image)
        with torch.inference_mode():
            module(image)
        assert box.is_valid(module.boxes, H, W).all()
        repr(module)
        module.state_dict()
        assert bits(module.scaled_boxes) == before


def test_boxes_can_be_regularised() -> None:
    """Boxes are differentiable: the gradient of a penalty on their size reaches the stored numbers, scaled."""
    module = layer()
    (module.boxes**2).sum().backward()
    scale = module.boxes.detach() / module.scaled_boxes.detach()
    torch.testing.assert_close(module.scaled_boxes.grad, 2 * module.boxes.detach() * scale)


def test_boxes_do_not_share_memory_with_the_weights() -> None:
    module = layer()
    before = bits(module.scaled_boxes)
    with torch.no_grad():
        module.boxes.zero_()
    module.freeze().boxes.zero_()
    assert bits(module.scaled_boxes) == before


def test_freeze() -> None:
    module = layer()
    module(torch.randn(1, 3, 5, 7)).sum().backward()
    assert module.freeze() is module
    assert module.scaled_boxes.grad is None
    assert not module.boxes.requires_grad
    image = torch.randn(1, 3, 5, 7, requires_grad=True)
    module(image).sum().backward()
    assert module.scaled_boxes.grad is None
    assert image.grad is not None
    optimizer = torch.optim.AdamW([module.scaled_boxes, nn.Parameter(torch.zeros(1))], lr=1, weight_decay=0.5)
    before = bits(module.scaled_boxes)
    optimizer.step()
    assert bits(module.scaled_boxes) == before


class _Triple(nn.Module):
    def forward(self, third: Tensor) -> Tensor:
        return 3 * third

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / 3


def test_parametrised_boxes_are_set_and_frozen() -> None:
    module, pixels = layer(dtype=torch.float64), layer().boxes.detach()
    register_parametrization(module, "scaled_boxes", _Triple())
    module.set_boxes(pixels)
    torch.testing.assert_close(module.boxes.float(), pixels)
    module(torch.ones(1, 3, H, W, dtype=torch.float64)).sum().backward()
    stored = next(module.parameters())
    assert stored.grad.abs().sum() > 0
    module.snap_()
    torch.testing.assert_close(module.boxes, box.snap(pixels.double(), H, W))
    assert not stored.requires_grad
    assert stored.grad is None
    assert "frozen" in repr(module)


def test_boxes_that_a_parametrisation_cannot_have_are_refused() -> None:
    module = layer()
    register_parametrization(module, "scaled_boxes", nn.Tanh())
    with pytest.raises(RuntimeError, match="right_inverse"):
        module.set_boxes(layer().boxes)


def test_snap() -> None:
    module = layer()
    for _ in range(20):
        module.reset_parameters()
        expected = box.snap(module.boxes.detach(), H, W)
        assert module.snap_() is module
        assert torch.equal(module.boxes, expected)
        assert torch.equal(module.boxes - module.boxes.floor(), torch.full((3, 2, 4), 0.5)), "exact half-integers"
        assert not module.scaled_boxes.requires_grad
        assert box.is_valid(module.boxes, H, W).all()
        module.scaled_boxes.requires_grad_()


def test_project() -> None:
    module = layer()
    before = module.boxes.detach().clone()
    module.project_()
    assert torch.equal(module.boxes, before)
    with torch.no_grad():
        module.scaled_boxes.fill_(99)
    read = module.boxes.detach().clone()
    module.project_()
    assert torch.equal(module.boxes, read)
    assert module.scaled_boxes.max() < 1


@pytest.mark.parametrize("far", [float("inf"), torch.finfo(torch.float32).max])
def test_edges_beyond_every_number_are_projected(far: float) -> None:
    module = layer()
    with torch.no_grad():
        module.scaled_boxes[0, 0] = torch.tensor([-far, far, 0.0, far])
    boxes = module.boxes
    assert boxes[0, 0].tolist() == [-H, H, 0, W]
    boxes.sum().backward()
    assert (module.scaled_boxes.grad[1:] > 0).all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_state_dict_of_a_layer_for_other_sizes_keeps_pixels(symmetric: bool) -> None:
    one = nn.Sequential(BoxConv2d(3, 2, 64, 24, symmetric=symmetric))
    for size, factor in (((16, 100), 8.0), ((64, 24), 1.5), ((640, 240), 0.86)):
        for target in (symmetric, True):
            other = nn.Sequential(BoxConv2d(3, 2, *size, reparametrization_factor=factor, symmetric=target))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore" if target != symmetric else "error")
                other.load_state_dict(one.state_dict())
            expected = one[0].boxes if target == symmetric else box.from_symmetric(box.to_symmetric(one[0].boxes))
            torch.testing.assert_close(other[0].boxes, expected)


@pytest.mark.parametrize("shape", [(3, 2, 1), (3, 2, 5), (2,), ()])
def test_a_wrong_shape_from_a_layer_for_other_sizes(shape: tuple[int, ...]) -> None:
    state = BoxConv2d(3, 2, 64, 24).state_dict()
    state["scaled_boxes"] = torch.zeros(shape)
    with pytest.raises(RuntimeError, match="size mismatch for scaled_boxes"):
        layer().load_state_dict(state)


def test_parametrised_boxes_of_a_layer_for_other_sizes_are_refused() -> None:
    one, other = BoxConv2d(3, 2, 64, 24), layer()
    for module in (one, other):
        register_parametrization(module, "scaled_boxes", _Triple())
    with pytest.raises(RuntimeError, match=r"scaled_boxes\.original: .* other sizes load only as scaled_boxes"):
        other.load_state_dict(one.state_dict())


@pytest.mark.parametrize("state", [{}, {"scaled_boxes": torch.zeros(3, 5, 4)}], ids=["without", "that do not fit"])
def test_loading_no_boxes_moves_none(state: dict[str, Tensor]) -> None:
    module, wide = layer(), BoxConv2d(3, 2, 5 * H, 5 * W)
    module.load_state_dict(wide.state_dict())
    try:
        module.load_state_dict(state, strict=False)
    except RuntimeError:
        assert state
    torch.testing.assert_close(module.boxes, wide.boxes)


def test_state_dict_round_trip_and_what_does_not_fit() -> None:
    one, other = layer(), layer()
    assert list(one.state_dict()) == ["scaled_boxes"]
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.boxes, other.boxes)
    with pytest.raises(RuntimeError, match=r"size mismatch for scaled_boxes.*\[3, 2, 4\].*\[3, 5, 4\]"):
        BoxConv2d(3, 5, H, W).load_state_dict(one.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*scaled_boxes"):
        layer().load_state_dict({})
    with pytest.raises(ValueError, match="input has 4 channels and boxes are for 3 channels"):
        one(torch.zeros(1, 4, 5, 7))


@pytest.mark.parametrize("symmetric", [False, True])
def test_small_boxes_about_the_output_pixel(symmetric: bool) -> None:
    torch.manual_seed(0)
    layer = BoxConv2d(16, 4, 64, 128, initial_boxes="log-uniform", symmetric=symmetric)
    top, bottom, left, right = layer.boxes.detach().unbind(-1)
    assert ((top <= -0.5 + 1e-4) & (bottom >= 0.5 - 1e-4) & (left <= -0.5 + 1e-4) & (right >= 0.5 - 1e-4)).all()
    fresh = BoxConv2d(16, 4, 64, 128)
    areas = [((b[..., 1] - b[..., 0]) * (b[..., 3] - b[..., 2])).median() for b in (layer.boxes, fresh.boxes)]
    assert areas[0] < areas[1] / 2
