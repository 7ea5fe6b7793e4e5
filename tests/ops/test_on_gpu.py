"""The Triton kernels on a GPU; skipped if there is none. Compiling takes most of the time, a second or two per kernel.

BOX_CONVOLUTION_TEST_CASES is the number of random cases for each dtype.
"""

import functools
import gc
import os

import oracle
import pytest
import torch
from cases import EXTENTS, Case, boxes_beyond, cases, check, in_poison
from hypothesis import given, settings
from tolerances import assert_gradient, assert_values
from torch import Tensor

from box_convolution import BoxConv2d, box_conv2d, ops
from box_convolution import boxes as box
from box_convolution.ops.projected_boxes import projected_boxes

CASES = int(os.environ.get("BOX_CONVOLUTION_TEST_CASES", "1000"))
BACKWARD = torch.ops.box_convolution.box_conv2d_backward
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


to_gpu = functools.partial(in_poison, device="cuda")


def problem(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Image, boxes and a gradient of the output; ``shape`` is (B, C, M, H, W)."""
    b, c, m, h, w = shape
    edges = torch.randn(c, m, 4, device="cuda") * torch.tensor([h, h, w, w], device="cuda") / 3
    images = (
        torch.randn(b, c, h, w, device="cuda", dtype=dtype),
        torch.randn(b, c * m, h, w, device="cuda", dtype=dtype),
    )
    return images[0], edges, images[1]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@settings(max_examples=CASES)
@given(case=cases(size=(6, 7)))
def test_against_the_oracle(case: Case, dtype: str) -> None:
    boxes_dtype = torch.float64 if dtype == "float64" else torch.float32
    check(case, "triton", getattr(torch, dtype), boxes_dtype, place=to_gpu)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("extent", EXTENTS)
def test_limits_bit_for_bit(dtype: torch.dtype, extent: tuple[int, int]) -> None:
    boxes = boxes_beyond(extent, dtype).cuda()
    expected = box.project(boxes, *extent)
    for place in (to_gpu(boxes), boxes):
        torch.testing.assert_close(projected_boxes(place, *extent), expected, rtol=0, atol=0, equal_nan=True)


# Rows of one warp, and of several; unaligned rows; few planes, in strips; many small planes.
SHAPES = [(8, 32, 4, 64, 128), (2, 3, 4, 37, 53), (1, 4, 2, 512, 1024), (1, 1, 3, 1024, 2048), (40, 64, 2, 9, 130)]
TALL = (1, 1, 2, 70_001, 5)  # more rows than 65535


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [1, 2], ids=["dense", "strided"])
def test_against_the_reference(shape: tuple[int, ...], stride: int) -> None:
    image, boxes, grad = problem(*shape)
    image += 1
    grad = grad[..., ::stride, ::stride]
    with ops.use("triton"):
        output, gradients = box_conv2d(image, boxes, stride=stride), BACKWARD(grad, image, boxes, True, stride)
    wide = [tensor.double() for tensor in (grad, image, boxes)]
    with ops.use("reference"):
        assert_values(output, box_conv2d(*wide[1:], stride=stride), image.abs().max().item())
        for actual, truth in zip(gradients, BACKWARD(*wide, True, stride), strict=True):
            assert_gradient(actual, truth)


@pytest.mark.parametrize("shape", [*SHAPES, (8, 16, 4, 128, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_gives_what_its_parts_give(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image, boxes, residual = problem(*shape, dtype=dtype)
    scale, shift = torch.randn(2, shape[1] * shape[2], device="cuda")
    scale[1], boxes[0, 1, 0] = 0, float("nan")  # where a scale is 0, its box is not looked at
    actual = torch.ops.box_convolution.box_conv2d_fused(image, boxes, scale, shift, residual, True)
    boxes[0, 1] = 0
    truth = box_conv2d(image.double(), boxes.double()) * scale.double()[:, None, None] + shift.double()[:, None, None]
    assert_values(actual, (truth + residual.double()).relu(), 10.0)


@pytest.mark.parametrize("stride", [1, 2], ids=["dense", "strided"])
def test_more_rows_than_65535(stride: int) -> None:
    """The last rows equal those of a small plane: boxes are low, and only the last outputs have a gradient."""
    image, boxes, grad = problem(*TALL)
    boxes = boxes.clamp(-50, 50)
    start, seen = 69_600, 69_600 // stride + 100
    grad = grad[..., ::stride, ::stride].contiguous()
    grad[..., :seen, :] = 0
    parts = [tensor.double() for tensor in (grad[..., start // stride :, :], image[..., start:, :], boxes)]
    with ops.use("triton"):
        output, gradients = box_conv2d(image, boxes, stride=stride), BACKWARD(grad, image, boxes, True, stride)
    with ops.use("reference"):
        truth, by_image_and_boxes = box_conv2d(*parts[1:], stride=stride), BACKWARD(*parts, True, stride)
    assert_values(output[..., seen:, :], truth[..., 100:, :], image.abs().max().item())
    assert_gradient(gradients[0][..., start:, :], by_image_and_boxes[0])
    assert_gradient(gradients[1], by_image_and_boxes[1])
    assert gradients[0][..., : start - 100, :].count_nonzero() == 0


@pytest.mark.parametrize("shape", [*SHAPES, TALL])
def test_runs_repeat_to_the_bit(shape: tuple[int, ...]) -> None:
    image, boxes, grad = problem(*shape)
    first = box_conv2d(image, boxes), *BACKWARD(grad, image, boxes)
    for _ in range(20):
        assert all(map(torch.equal, (box_conv2d(image, boxes), *BACKWARD(grad, image, boxes)), first))


@pytest.mark.parametrize(
    "shape", [(1, 70_000, 1, 1, 1), (70_000, 1, 1, 2, 1), (3, 50, 500, 1, 2), (2, 1, 70_000, 1, 1)]
)
def test_more_planes_than_a_grid_of_65535(shape: tuple[int, ...]) -> None:
    image, boxes, grad = problem(*shape)
    output, gradients = box_conv2d(image, boxes), BACKWARD(grad, image, boxes)
    arrays = [tensor[..., -9:, :, :].double().cpu().numpy() for tensor in (grad, image)]
    some = boxes[-9:, -9:].double().cpu().numpy()
    if shape[1] >= 9:
        arrays[0] = grad[:, -9 * shape[2] :].double().cpu().numpy()
        some = boxes[-9:].double().cpu().numpy()
        assert_values(output[:, -9 * shape[2] :], oracle.box_conv2d(arrays[1], some), image.abs().max().item())
        grad_image, grad_boxes = oracle.gradients(*arrays, some)
        assert_gradient(gradients[0][:, -9:], grad_image)
        assert_gradient(gradients[1][-9:], grad_boxes)
    else:
        last = oracle.box_conv2d(image.double().cpu().numpy(), some)
        assert_values(output[:, -some.shape[1] :], last, image.abs().max().item())


def test_more_than_2_to_the_31_numbers() -> None:
    """The output has at least 2**31 numbers; its last images must be equal to those of a small batch."""
    free, _ = torch.cuda.mem_get_info()
    if free < 24 * 2**30:
        pytest.skip(f"needs 24 GB of free GPU memory, there are {free / 2**30:.0f}")
    batch = 2**31 // (8 * 512 * 512) + 2
    image, boxes, _ = problem(batch, 2, 4, 512, 512, dtype=torch.bfloat16)
    output = box_conv2d(image, boxes)
    assert output.numel() > 2**31
    assert torch.equal(output[-2:], box_conv2d(image[-2:], boxes))
    grad_image, _ = BACKWARD(output, image, boxes)
    assert torch.equal(grad_image[-2:], BACKWARD(output[-2:], image[-2:], boxes)[0])
    del output, grad_image
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize(
    "shape", [(8, 32, 4, 64, 128), (2, 3, 5, 37, 53), (1, 70, 1, 9, 7), (2, 1, 3, 1, 5), (1, 8, 2, 8, 1)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_channels_last_gives_the_same_bits(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    def last(tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=torch.channels_last)

    image, boxes, grad = problem(*shape, dtype=dtype)
    fused = torch.ops.box_convolution.box_conv2d_fused
    output, gradients = box_conv2d(image, boxes), BACKWARD(grad, image, boxes)
    moved, moved_gradients = box_conv2d(last(image), boxes), BACKWARD(last(grad), last(image), boxes)
    assert torch.equal(moved, output)
    assert all(map(torch.equal, moved_gradients, gradients))
    if not last(image).is_contiguous():  # an image of a single channel is both
        assert moved.is_contiguous(memory_format=torch.channels_last)
        assert moved_gradients[0].is_contiguous(memory_format=torch.channels_last)
    assert all(map(torch.equal, BACKWARD(grad, last(image), boxes), gradients))
    assert torch.equal(fused(last(image), boxes, residual=last(grad)), fused(image, boxes, residual=grad))
    if dtype == torch.float32:
        shifted = last(torch.cat([image.flatten(), image.new_zeros(1)])[1:].view_as(image))  # aligned again
        odd = torch.empty(image.numel() + 1, device="cuda")[1:].view(shape[0], *shape[3:], shape[1]).permute(0, 3, 1, 2)
        assert torch.equal(box_conv2d(odd.copy_(shifted), boxes), box_conv2d(shifted, boxes)), "not aligned"


def test_in_a_cuda_graph() -> None:
    image, boxes, grad = problem(2, 8, 4, 64, 128)
    for _ in range(2):
        box_conv2d(image, boxes)
        BACKWARD(grad, image, boxes)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = box_conv2d(image, boxes), *BACKWARD(grad, image, boxes)
    image.normal_()
    boxes.mul_(0.7)
    graph.replay()
    assert all(map(torch.equal, results, (box_conv2d(image, boxes), *BACKWARD(grad, image, boxes))))


def test_compiled_and_under_autocast() -> None:
    layer = BoxConv2d(8, 4, 32, 64).cuda()
    image = torch.randn(2, 8, 32, 64, device="cuda", requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True)
    with torch.autocast("cuda", torch.bfloat16):
        expected, actual = layer(image), compiled(image)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected)
    for output in (expected, actual):
        image.grad = None
        output.float().square().mean().backward()
        assert image.grad.isfinite().all()


def test_nothing_waits_for_the_gpu() -> None:
    image, boxes, grad = problem(2, 8, 4, 64, 128)
    box_conv2d(image, boxes)
    BACKWARD(grad, image, boxes)
    torch.cuda.set_sync_debug_mode("error")
    try:
        box_conv2d(image, boxes)
        BACKWARD(grad, image, boxes)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two GPUs here")
def test_on_the_tensors_gpu() -> None:
    image, boxes, grad = (tensor.to("cuda:1") for tensor in problem(2, 8, 4, 64, 128))
    assert torch.cuda.current_device() == 0
    output, gradients = box_conv2d(image, boxes), BACKWARD(grad, image, boxes)
    here = [tensor.to("cuda:0") for tensor in (grad, image, boxes)]
    assert torch.equal(output.to("cuda:0"), box_conv2d(*here[1:]))
    assert all(torch.equal(one.to("cuda:0"), other) for one, other in zip(gradients, BACKWARD(*here), strict=True))
