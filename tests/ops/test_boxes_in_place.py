"""Boxes that are added in place in deployed networks: `add_boxes_` and `box_block_`, compared with their parts."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from box_convolution import ops

OPERATORS = torch.ops.box_convolution
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.usefixtures("threads")
# Planes for which there are kernels in channels_last, too few channels for three threads, and rows for two groups.
@pytest.mark.parametrize("shape", [(2, 16, 40, 60), (1, 4, 9, 7), (1, 3, 5, 6), (1, 32, 130, 1), (0, 4, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_boxes_are_added_in_place(
    memory_format: torch.memory_format, dtype: torch.dtype, shape: tuple[int, ...], implementation: str
) -> None:
    boxes = (torch.rand(shape[1], 4, 4) - 0.5) * 20
    input, residual = torch.randn(shape).to(dtype), torch.randn(shape[0], 4 * shape[1], *shape[2:]).to(dtype)
    input, residual = input.to(memory_format=memory_format), residual.to(memory_format=memory_format)
    before = input.clone()
    for numbers in ((None, None), (torch.randn(4 * shape[1]), torch.randn(4 * shape[1]))):
        for relu in (False, True):
            image = residual.clone()
            with ops.use(implementation):
                expected = OPERATORS.box_conv2d_fused(input, boxes, *numbers, residual, relu)
                stride, pointer = image.stride(), image.data_ptr()
                OPERATORS.add_boxes_(image, input, boxes, *numbers, relu)
            assert torch.equal(image, expected)
            assert torch.equal(input, before)
            assert (image.stride(), image.data_ptr()) == (stride, pointer)


def test_boxes_are_added_in_place_with_every_instruction_set(isa: str) -> None:
    """Also where a huge pixel leaves a group of planes to float64 sums: nothing may have been written before."""
    input = torch.randn(2, 16, 40, 60)
    input[1, 5, 20, 30] = 1e6
    boxes = (torch.rand(16, 4, 4) - 0.5) * 30
    image = torch.randn(2, 64, 40, 60).to(memory_format=torch.channels_last)
    expected = OPERATORS.box_conv2d_fused(input, boxes, None, None, image)
    OPERATORS.add_boxes_(image, input, boxes)
    assert torch.equal(image, expected)


@pytest.mark.usefixtures("threads")
# Pixels in whole tiles and chunks, one pixel more, and fewer than a tile; outputs in one vector, and in two.
@pytest.mark.parametrize("shape", [(2, 32, 24, 40), (1, 64, 41, 25), (1, 32, 1, 9), (0, 32, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("inner_relu", [False, True])
def test_box_block_gives_what_its_parts_give(
    inner_relu: bool,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    implementation: str,
) -> None:
    channels = shape[1] // 4
    boxes = torch.randint(-9, 9, (channels, 4, 4)) + 0.5
    weight, bias = torch.randn(channels, shape[1], 1, 1).to(dtype) / 8, torch.randn(channels).to(dtype)
    image = torch.randn(shape).to(dtype).to(memory_format=memory_format)
    rest = boxes, torch.randn(shape[1]), torch.randn(shape[1]), True
    with ops.use(implementation):
        expected, changed = image.clone(), image.clone()
        OPERATORS.add_boxes_(expected, OPERATORS.pointwise_planes(image, weight, bias, inner_relu), *rest)
        OPERATORS.box_block_(changed, weight, bias, inner_relu, *rest)
    torch.testing.assert_close(changed, expected)
    assert changed.stride() == image.stride()


@pytest.mark.parametrize("pixel", [(0, 0), (20, 3), (40, 24)])
@pytest.mark.parametrize("value", [1e6, -1e6, float("nan"), float("inf")])
def test_box_block_sees_the_pixels_that_fixed_point_cannot_hold(value: float, pixel: tuple[int, int], isa: str) -> None:
    """What the 1x1 convolution knows of its planes decides which are summed in fixed point; the last pixel counts."""
    image = torch.randn(1, 64, 41, 25).to(memory_format=torch.channels_last)
    image[0, 3, pixel[0], pixel[1]] = value
    boxes = torch.randint(-9, 9, (16, 4, 4)) + 0.5
    weight, bias = torch.randn(16, 64, 1, 1) / 8, torch.randn(16)
    planes = OPERATORS.pointwise_planes(image, weight, bias, False)
    exact = OPERATORS.box_conv2d(planes.double(), boxes.double()) + image
    OPERATORS.box_block_(image, weight, bias, False, boxes)
    torch.testing.assert_close(image.double(), exact, equal_nan=True, rtol=1e-5, atol=1e-4)


# A plane that fixed point cannot hold, and one at the limit, where the last bit of its root mean square would decide.
@pytest.mark.parametrize("value", [1e6, 126.131355])
def test_boxes_in_place_do_not_depend_on_threads(value: float, isa: str, set_threads: Callable[[int], None]) -> None:
    """Three threads get planes in NCHW, because groups of 16 channels would be too few for them."""
    input, boxes = torch.randn(1, 8, 24, 40), torch.randint(-9, 9, (8, 4, 4)) + 0.5
    input[0, 0, 5, 7] = value
    empty = torch.zeros(1, 32, 24, 40).to(memory_format=torch.channels_last)
    image = empty.clone()
    image[:, :8] = input
    weight, bias = torch.zeros(8, 32, 1, 1), torch.zeros(8)
    weight[:, :8, 0, 0] = torch.eye(8)
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        added, changed = empty.clone(), image.clone()
        OPERATORS.add_boxes_(added, input, boxes)
        OPERATORS.box_block_(changed, weight, bias, False, boxes)
        results.append((added, changed))
    for added, changed in results[1:]:
        assert torch.equal(added, results[0][0])
        assert torch.equal(changed, results[0][1])


def test_operations_of_boxes_in_place_are_counted() -> None:
    input, boxes, image = torch.randn(1, 4, 6, 5), torch.randn(4, 2, 4), torch.zeros(1, 8, 6, 5)
    counts = []
    for call in (lambda: OPERATORS.box_conv2d_fused(input, boxes), lambda: OPERATORS.add_boxes_(image, input, boxes)):
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    weight = torch.randn(4, 8, 1, 1)
    with FlopCounterMode(display=False) as counter:
        OPERATORS.box_block_(image, weight, torch.zeros(4), True, boxes)
    assert counter.get_total_flops() == counts[0] + 2 * weight.numel() * 6 * 5


def test_boxes_that_do_not_fit_the_image_are_refused(implementation: str) -> None:
    image, boxes = torch.zeros(1, 8, 5, 5).to(memory_format=torch.channels_last), torch.zeros(4, 4, 4)
    with ops.use(implementation):
        with pytest.raises(ValueError, match="residual"):
            OPERATORS.add_boxes_(image, torch.zeros(1, 4, 5, 5), boxes)
        with pytest.raises(ValueError, match="residual"):
            OPERATORS.box_block_(image, torch.ones(4, 8, 1, 1), torch.ones(4), True, boxes)
        with pytest.raises(ValueError, match="channels"):
            OPERATORS.box_block_(image, torch.ones(2, 8, 1, 1), torch.ones(2), True, boxes)
    assert not image.any()


@pytest.mark.parametrize("channels", [8, 24])
@pytest.mark.parametrize("huge", [False, True])
def test_threads_do_not_change_boxes_in_place_on_cpu(
    huge: bool, channels: int, isa: str, set_threads: Callable[[int], None]
) -> None:
    """However many threads share out the channels of one image, or its rows where channels do not come out even."""
    edges = torch.randint(-9, 9, (channels, 4, 2, 2)).sort(-1).values + torch.tensor([-0.5, 0.5])
    boxes = edges.flatten(-2)
    input = torch.randn(1, channels, 30, 45)
    if huge:
        input[0, 5, 7, 11] = 1e8
    residual = torch.randn(1, 4 * channels, 30, 45).to(memory_format=torch.channels_last)
    numbers = torch.randn(4 * channels), torch.randn(4 * channels)
    results = []
    for threads in (1, 2, 3, 4, 7, 40):
        set_threads(threads)
        image = residual.clone()
        OPERATORS.add_boxes_(image, input, boxes, *numbers, True)
        results.append(image)
    for result in results[1:]:
        assert torch.equal(result, results[0])
    expected = OPERATORS.box_conv2d_fused(input.double(), boxes, *numbers, residual.double(), True)
    torch.testing.assert_close(results[0].double(), expected, rtol=1e-5, atol=1e-4)
