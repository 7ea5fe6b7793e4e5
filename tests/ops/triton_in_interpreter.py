"""The Triton kernels against the oracle in Triton's interpreter. test_triton.py runs this in a separate process.

To run it alone: `PYTHONPATH=tests python -m pytest -p interpreter tests/ops/triton_in_interpreter.py`.
"""

import os

import hypothesis.strategies as st
import oracle
import pytest
import torch
from cases import EXTENTS, INF, Case, boxes_beyond, cases, check, formats, in_poison
from fences import check_fences
from hypothesis import given, settings
from interpreter import limits, without_overflow_checks
from tolerances import assert_gradient, assert_values
from torch import Tensor

from box_convolution import box_conv2d, ops
from box_convolution import boxes as box
from box_convolution.ops.epilogue import Epilogue
from box_convolution.ops.projected_boxes import projected_boxes
from box_convolution.ops.triton import launch

ALL = bool(os.environ.get("BOX_CONVOLUTION_TEST_ALL_KERNELS"))
"""`make test-kernels`: more cases."""
BACKWARD = torch.ops.box_convolution.box_conv2d_backward
# Whole rows, all boxes; rows cut into tiles, boxes in groups; also planes cut into strips; one program for all; and
# several warps with short rows, in one or two pieces.
CUTS: list[dict[str, int]] = [
    {},
    {"warp": 1, "threads": 2},
    {"warp": 1, "threads": 1, "processors": 64, "rows": 2},
    {"processors": 1, "warps": 1, "threads": 2},
    {"warp": 2, "threads": 8},
]
# The interpreter takes 0.05 s for each box on a plane, and several times as long if the plane is divided.
SMALL = st.one_of(*[cases(most=1)] * 5, cases(most=2))
CUT = st.sampled_from([CUTS[0]] * 4 + CUTS[1:4] + [CUTS[4]] * 5)


def check_here(case: Case, cut: dict[str, int], dtype: torch.dtype, boxes_dtype: torch.dtype) -> None:
    with limits(**cut), without_overflow_checks():
        check(case, "triton", dtype, boxes_dtype, place=in_poison)
    check_fences()


@settings(max_examples=150 if ALL else 40)
@given(case=SMALL, cut=CUT)
def test_float64(case: Case, cut: dict[str, int]) -> None:
    check_here(case, cut, torch.float64, torch.float64)


@settings(max_examples=200 if ALL else 40)
@given(case=SMALL, cut=CUT)
def test_float32(case: Case, cut: dict[str, int]) -> None:
    check_here(case, cut, torch.float32, torch.float32)


@settings(max_examples=150 if ALL else 25)
@given(case=SMALL, cut=CUT, dtype=st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_beside_float32_boxes(case: Case, cut: dict[str, int], dtype: torch.dtype) -> None:
    check_here(case, cut, dtype, torch.float32)


@settings(max_examples=20)
@given(case=cases(most=2), cut=CUT, present=st.tuples(*[st.booleans()] * 4))
def test_fused(case: Case, cut: dict[str, int], present: tuple[bool, bool, bool, bool]) -> None:
    """relu(residual + scale * box + shift), in which every part may be absent."""
    generator = torch.Generator().manual_seed(case.seed)
    image = torch.randn(case.batch, case.channels, case.height, case.width, generator=generator)
    boxes = torch.tensor(case.boxes).view(case.channels, case.per_channel, 4)
    expected = torch.from_numpy(
        oracle.box_conv2d(image.numpy(), boxes.numpy(), normalize=case.normalize, stride=case.stride)
    )
    scale, shift = (in_poison(torch.randn(boxes.shape[0] * boxes.shape[1], generator=generator)) for _ in range(2))
    residual = in_poison(torch.randn(expected.shape, generator=generator))
    scaled, shifted, added, rectified = present
    with limits(**cut):
        actual = launch.box_conv2d_fused(
            in_poison(image),
            boxes,
            Epilogue(scale if scaled else None, shift if shifted else None, residual if added else None, rectified),
            case.normalize,
            case.stride,
        )
    pixels = 1 if case.normalize else case.height * case.width
    largest = pixels * (image.abs().max().item() if image.numel() else 0.0)
    if scaled:
        expected = expected * scale.double()[:, None, None]
        largest *= scale.abs().max().item()
    if shifted:
        expected = expected + shift.double()[:, None, None]
    if added:
        expected = expected + residual.double()
    assert_values(actual, expected.relu() if rectified else expected, largest + 3)


@pytest.mark.parametrize("width", [300, 512])
def test_rows_that_several_warps_share(width: int) -> None:
    boxes = [(-1.3, 0.8, -200.7, 31.4), (-9.0, 9.0, 150.5, width + 3.0)]
    check_here(Case(1, 1, 2, 3, width, 1, True, boxes, seed=1), {}, torch.float32, torch.float32)


# Not in bfloat16, to which the interpreter does not round: see test_on_gpu.py.
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("extent", EXTENTS)
def test_limits_bit_for_bit(dtype: torch.dtype, extent: tuple[int, int]) -> None:
    boxes = boxes_beyond(extent, dtype)
    expected = box.project(boxes, *extent)
    with ops.use("triton"):
        for place in (in_poison(boxes), boxes):
            torch.testing.assert_close(projected_boxes(place, *extent), expected, rtol=0, atol=0, equal_nan=True)
        assert projected_boxes(torch.empty(0, 3, 4), *extent).shape == (0, 3, 4)


@pytest.mark.parametrize("cut", [CUTS[0], CUTS[4]])
def test_fused_keeps_a_nan(cut: dict[str, int]) -> None:
    boxes = torch.tensor([[[float("nan"), 1, -1, 1], [-1, 1, -1, 1]]])
    with limits(**cut):
        actual = launch.box_conv2d_fused(torch.ones(1, 1, 2, 2), boxes, Epilogue(relu=True), True, 1)
    assert actual[0, 0].isnan().all()
    assert actual[0, 1].isfinite().all()


@pytest.mark.parametrize("cut", [CUTS[0], CUTS[4]])
def test_fused_neither_computes_nor_sees_a_box_with_scale_0(cut: dict[str, int]) -> None:
    image, boxes = torch.randn(1, 1, 3, 4), torch.tensor([[[float("nan"), 1, -1, 1], [-1, 1, -1, 1]]])
    image[0, 0, 1, 2] = float("inf")
    scale, shift, residual = torch.tensor([0.0, 0.0]), torch.tensor([0.5, -2]), torch.randn(1, 2, 3, 4)
    for added in (residual, None):
        with limits(**cut):
            actual = launch.box_conv2d_fused(image, boxes, Epilogue(scale, shift, added, True), True, 1)
        expected = shift[:, None, None] + (0 if added is None else added)
        assert torch.equal(actual, expected.relu().expand(actual.shape))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("stride", [1, 2])
def test_identity_and_sums_of_integers_are_exact(cut: dict[str, int], stride: int) -> None:
    """For any other values in the plane, and also for a box that is a single pixel elsewhere."""
    image = torch.randn(1, 1, 5, 6) * torch.logspace(-30, 30, 6)
    image[0, 0, 1, 2] = float("inf")
    boxes = torch.tensor([[[-0.5, 0.5, -0.5, 0.5], [0.5, 1.5, -1.5, -0.5]]])
    pixels = torch.randint(256, (1, 1, 5, 6)).float()
    whole = torch.tensor([[[-1.5, 2.5, -9.5, 1.5]]])
    with limits(**cut), ops.use("triton"):
        one, other = box_conv2d(image, boxes, stride=stride).unbind(1)
        sums = box_conv2d(pixels, whole, normalize=False, stride=stride)
    assert torch.equal(one, image[:, 0, ::stride, ::stride])
    moved = torch.nn.functional.pad(image[0, 0], (1, 0, 0, 1))[1:, :-1]
    assert torch.equal(other[0], moved[::stride, ::stride])
    truth = oracle.box_conv2d(pixels.numpy(), whole.numpy(), normalize=False, stride=stride)
    assert torch.equal(sums.double(), torch.from_numpy(truth))


def one_huge_pixel(h: int, w: int) -> Tensor:
    return torch.randn(h, w).index_put((torch.tensor(h // 2), torch.tensor(w // 3)), torch.tensor(1e8))


RANGES = {
    "one huge pixel": one_huge_pixel,
    "heavy tails": lambda h, w: torch.randn(h, w) / torch.rand(h, w) ** 3,
    "half of it a million times smaller": lambda h, w: (
        torch.randn(h, w) * torch.where(torch.arange(w) < w // 2, 1, 1e-6)
    ),
    "an offset": lambda h, w: torch.randn(h, w) + 1e4,
}


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize(("boxes", "cut"), [(1, CUTS[0]), (1, CUTS[2]), (2, {"warp": 8, "threads": 32})])
def test_range(name: str, boxes: int, cut: dict[str, int]) -> None:
    """Values and gradients for the image are right up to the rounding of float32 and 1e-9 of the root mean square."""
    h, w = 20, 30
    image, grad = RANGES[name](h, w)[None, None], torch.stack([RANGES[name](h, w) for _ in range(boxes)])[None]
    edges = torch.tensor([[[-3.3, 2.4, -4.1, 5.2], [-7.6, -1.2, 2.9, 11.5]][:boxes]])
    with limits(**cut), ops.use("triton"):
        output, (grad_image, grad_boxes) = box_conv2d(image, edges), BACKWARD(grad, image, edges)
    arrays = [tensor.double().numpy() for tensor in (grad, image, edges)]
    true_image, true_boxes = map(torch.from_numpy, oracle.gradients(*arrays))
    truth = torch.from_numpy(oracle.box_conv2d(*arrays[1:]))
    for actual, expected, scale in ((output, truth, image), (grad_image, true_image, grad)):
        limit = 2**-24 * expected.abs() + 1e-9 * scale.double().square().mean().sqrt()
        assert ((actual.double() - expected).abs() <= limit).all()
    assert_gradient(grad_boxes, true_boxes)


@pytest.mark.parametrize(("plane", "in_strips"), [("mean 1", False), ("halves", True)])
def test_float32_keeps_its_digits_on_a_big_plane(plane: str, in_strips: bool) -> None:
    """What is added to what is nearly the same; and what is left of a running sum after 256 rows."""
    image, grad = torch.randn(1, 1, 256, 1024), torch.randn(1, 2, 256, 1024)
    if plane == "mean 1":
        image += 1
    else:
        image[..., :512], image[..., 512:] = -1, 1
    boxes = torch.tensor([[[-0.3, 1.9, -2.2, 0.7], [-40.25, 3.5, 7.1, 90.6]]])
    with ops.use("reference"):
        wide = [tensor.double().requires_grad_() for tensor in (image, boxes)]
        truth = box_conv2d(*wide)
        truth.backward(grad.double())
    leaves = [tensor.requires_grad_() for tensor in (image, boxes)]
    cut = {"rows": 128, "processors": 8} if in_strips else {"processors": 1, "warps": 1}
    with limits(**cut), ops.use("triton"):
        output = box_conv2d(*leaves)
        output.backward(grad)
    assert_values(output, truth.detach(), image.abs().max().item())
    for leaf, expected in zip(leaves, wide, strict=True):
        assert_gradient(leaf.grad, expected.grad)


def test_rows_longer_than_65535() -> None:
    """Columns that long take the interpreter minutes, row by row: they are tested on a GPU."""
    image = torch.randn(1, 1, 1, 70_001, requires_grad=True)
    boxes = torch.tensor([[[-0.7, 0.6, -0.9, 1.2], [-40_000.3, 50_000.4, -69_999.5, 69_999.5]]], requires_grad=True)
    with limits(threads=2**15), ops.use("triton"):
        output = box_conv2d(image, boxes, stride=10_000)
        grad = torch.randn_like(output)
        output.backward(grad)
    arrays = [tensor.detach().double().numpy() for tensor in (grad, image, boxes)]
    assert_values(output, oracle.box_conv2d(*arrays[1:], stride=10_000), image.abs().max().item())
    grad_image, grad_boxes = oracle.gradients(*arrays, stride=10_000)
    assert_gradient(image.grad, grad_image)
    assert_gradient(boxes.grad, grad_boxes)


@pytest.mark.parametrize(
    ("strides", "cut"),
    [((2**31, 9, 3, 1), {}), ((9, 2**31, 3, 1), {}), ((6, 3, 2**31, 1), {}), ((2**31 + 5, 2**29, 2**30, 1), CUTS[2])],
)
def test_more_than_2_to_the_31_numbers(strides: tuple[int, ...], cut: dict[str, int]) -> None:
    """Pixels that are gigabytes apart. Only the pages with pixels take real memory."""
    shape = (2, 2, 3, 3)
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    image = torch.empty(last + 1, dtype=torch.bfloat16).as_strided(shape, strides)
    dense = torch.randn(shape).bfloat16()
    image.copy_(dense)
    boxes = torch.tensor([[[-0.7, 0.6, -0.9, 1.2]], [[-1.3, 1.6, -2.4, 1.5]]])
    grad = image.view_as(image)  # has the output's shape, too
    with limits(**cut), ops.use("triton"):
        output, gradients = box_conv2d(image, boxes), BACKWARD(grad, image, boxes)
        assert torch.equal(box_conv2d(dense, boxes), output)
        assert all(map(torch.equal, BACKWARD(dense, dense, boxes), gradients))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_memory_format_gives_the_same_bits(dtype: torch.dtype) -> None:
    image, boxes, grad = torch.randn(2, 2, 3, 5).to(dtype), torch.randn(2, 1, 4) * 2, torch.randn(2, 2, 3, 5).to(dtype)
    with ops.use("triton"):
        output, gradients = box_conv2d(image, boxes), BACKWARD(grad, image, boxes)
        assert torch.equal(box_conv2d(image, boxes), output), "a second time"
        assert all(map(torch.equal, BACKWARD(grad, image, boxes), gradients)), "a second time"
        for name, moved in formats(image).items():
            assert torch.equal(box_conv2d(moved, boxes), output), name
            memory_format = torch.channels_last if name == "channels last" else torch.contiguous_format
            assert box_conv2d(moved, boxes).is_contiguous(memory_format=memory_format), name
            assert all(map(torch.equal, BACKWARD(formats(grad)[name], moved, boxes), gradients)), name
        one = torch.ones(1, dtype=dtype).expand(2, 2, 3, 5)
        assert torch.equal(box_conv2d(one, boxes), box_conv2d(one.contiguous(), boxes)), "stride 0"


@pytest.mark.parametrize("mask", [[True, False], [False, True], [False, False]])
@pytest.mark.parametrize("cut", [*CUTS[:3], CUTS[4]])
def test_output_mask(mask: list[bool], cut: dict[str, int]) -> None:
    image, boxes, grad = torch.randn(1, 1, 5, 4), torch.randn(1, 2, 4) * 2, torch.randn(1, 2, 5, 4)
    with limits(**cut), ops.use("triton"):
        both = BACKWARD(grad, image, boxes)
        for wanted, one, other in zip(mask, BACKWARD(grad, image, boxes, output_mask=mask), both, strict=True):
            assert torch.equal(one, other) if wanted else not one.numel()


def test_out() -> None:
    image, boxes, out = torch.randn(2, 1, 3, 4), torch.randn(1, 2, 4), torch.empty(2, 2, 3, 4)
    with ops.use("triton"):
        assert box_conv2d(image, boxes, out=out) is out
        assert torch.equal(out, box_conv2d(image, boxes))


# Boxes that no pixel is in for some outputs, at the left, or that some pixels are not in.
@pytest.mark.parametrize(("columns", "cut"), [([-3.6, -1.4], CUTS[0]), ([-3.6, -1.4], CUTS[4]), ([1.4, 3.6], CUTS[4])])
@pytest.mark.parametrize("edge", range(4))
def test_a_nan_edge_spoils_its_own_filter_only(edge: int, columns: list[float], cut: dict[str, int]) -> None:
    image, boxes = torch.randn(1, 2, 4, 5), torch.tensor([-1.2, 0.8, *columns]).repeat(2, 2, 1)
    with limits(**cut), ops.use("triton"):
        clean = box_conv2d(image, boxes)
        clean_image, clean_boxes = BACKWARD(torch.ones_like(clean), image, boxes)
        boxes[0, 1, edge] = float("nan")
        output = box_conv2d(image, boxes)
        grad_image, grad_boxes = BACKWARD(torch.ones_like(clean), image, boxes)
    assert output[:, 1].isnan().all()
    assert torch.equal(output[:, [0, 2, 3]], clean[:, [0, 2, 3]])
    assert grad_image[:, 0].isnan().all()
    assert torch.equal(grad_image[:, 1], clean_image[:, 1])
    assert grad_boxes[0, 1].isnan().all()
    assert torch.equal(grad_boxes[[0, 1, 1], [0, 0, 1]], clean_boxes[[0, 1, 1], [0, 0, 1]])


@pytest.mark.parametrize("cut", [CUTS[0], CUTS[4]])
@pytest.mark.parametrize("normalize", [True, False])
def test_edges_beyond_every_number(normalize: bool, cut: dict[str, int]) -> None:
    boxes = torch.tensor([[[-INF, INF, -INF, INF], [1e30, INF, -1, 1], [-1e30, 1e30, -1, 1], [INF, INF, -1, 1]]])
    image = torch.randn(1, 1, 3, 4)
    with limits(**cut), ops.use("triton"):
        output = box_conv2d(image, boxes, normalize=normalize)
    truth = oracle.box_conv2d(image.numpy(), boxes.numpy(), normalize=normalize)
    assert_values(output, truth, 12 * image.abs().max().item())
