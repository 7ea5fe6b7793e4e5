"""The operators in PyTorch: registration, dtypes, memory formats, choice of an implementation."""

import concurrent.futures
import itertools

import pytest
import torch
from cases import EXTENTS, boxes_beyond, formats
from tolerances import assert_gradient, assert_values
from torch import Tensor
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from box_convolution import box_conv2d, ops, torch_internals
from box_convolution import boxes as box
from box_convolution.ops import reference
from box_convolution.ops.dispatch import eager

FORWARD = torch.ops.box_convolution.box_conv2d
BACKWARD = torch.ops.box_convolution.box_conv2d_backward
LIMITS = torch.ops.box_convolution.projected_boxes
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def image_and_boxes(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    image = torch.randn(2, 3, 5, 7, dtype=dtype, requires_grad=True)
    centre, half = torch.randn(3, 4, 2), 3 * torch.rand(3, 4, 2) + 0.5
    boxes = torch.stack((centre - half, centre + half), -1).flatten(-2)
    return image, (boxes.double() if dtype == torch.float64 else boxes).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("normalize", "stride"), [(True, 1), (False, 3)])
def test_opcheck_forward(dtype: torch.dtype, normalize: bool, stride: int) -> None:
    image, boxes = image_and_boxes(dtype)
    opcheck(FORWARD, (image, boxes, normalize, stride))
    opcheck(FORWARD, (image.detach()[:0], boxes.detach()), {"stride": stride})
    opcheck(FORWARD, (image.detach().contiguous(memory_format=torch.channels_last), boxes.detach()))


@pytest.mark.parametrize("mask", list(itertools.product([True, False], repeat=2)))
def test_opcheck_backward(mask: tuple[bool, bool]) -> None:
    image, boxes = image_and_boxes()
    grad = torch.randn_like(box_conv2d(image, boxes, stride=2)).requires_grad_()
    requires_grad = any(mask)
    arguments = [tensor if requires_grad else tensor.detach() for tensor in (grad, image, boxes)]
    opcheck(BACKWARD, (*arguments, True, 2, list(mask)))


def test_opcheck_limits() -> None:
    opcheck(LIMITS, (boxes_beyond(EXTENTS[0], torch.float32).nan_to_num(), *EXTENTS[0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_limits(dtype: torch.dtype) -> None:
    for extent in EXTENTS:
        boxes = boxes_beyond(extent, dtype)
        expected = box.project(boxes, *extent)
        for place in (boxes, boxes.mT.contiguous().mT):
            torch.testing.assert_close(LIMITS(place, *extent), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("device", ["meta", "fake"])
@pytest.mark.parametrize("stride", [1, 2, 100])
def test_shapes_without_data(device: str, stride: int) -> None:
    image, boxes = image_and_boxes(torch.bfloat16)
    expected = box_conv2d(image, boxes, stride=stride)
    if device == "meta":
        output = box_conv2d(image.to("meta"), boxes.to("meta"), stride=stride)
    else:
        with torch._subclasses.FakeTensorMode() as mode:
            output = box_conv2d(mode.from_tensor(image), mode.from_tensor(boxes), stride=stride)
            output.sum().backward()
    assert (output.shape, output.dtype, output.stride()) == (expected.shape, expected.dtype, expected.stride())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("boxes_dtype", DTYPES)
def test_every_pair_of_dtypes(dtype: torch.dtype, boxes_dtype: torch.dtype, implementation: str) -> None:
    """The output has the image's dtype, gradients have the dtypes of image and boxes, and boxes are never rounded."""
    image, boxes = image_and_boxes()
    image, boxes = image.detach().to(dtype).requires_grad_(), boxes.detach().to(boxes_dtype).requires_grad_()
    grad = torch.randn(2, 12, 5, 7).to(dtype)
    with ops.use(implementation):
        output = box_conv2d(image, boxes)
        output.backward(grad)
    assert (output.dtype, image.grad.dtype, boxes.grad.dtype) == (dtype, dtype, boxes_dtype)
    wide = [tensor.detach().double().requires_grad_() for tensor in (image, boxes)]
    truth = reference.box_conv2d(*wide, True, 1)
    truth.backward(grad.double())
    assert_values(output, truth.detach(), image.abs().max().item())
    assert_gradient(image.grad, wide[0].grad)
    # Half-precision images are summed in float32, whatever the boxes' dtype.
    coarse = boxes.grad.float() if dtype.itemsize == 2 and boxes_dtype == torch.float64 else boxes.grad
    assert_gradient(coarse, wide[1].grad)


def test_half_precision_sums_may_pass_its_largest_number(implementation: str) -> None:
    """An integral image in float16 would be infinite after 17 of these 16,384 pixels."""
    image = torch.full((1, 1, 128, 128), 4000.0, dtype=torch.float16)
    boxes = torch.tensor([[[-1.5, 1.5, -1.5, 1.5], [-128.0, 128, -128, 128]]])
    with ops.use(implementation):
        mean = box_conv2d(image, boxes)
        total = box_conv2d(image, boxes, normalize=False)
    assert (mean[0, 0, 1:-1, 1:-1] == 4000).all()
    assert (mean[0, 1] == 1000).all()
    assert (total[0, 0, 1:-1, 1:-1] == 36000).all()
    assert total[0, 1].isposinf().all(), "65,536,000 is beyond float16, and says so"


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_memory_format_gives_the_same_bits(dtype: torch.dtype, batch: int, implementation: str) -> None:
    image, boxes = (tensor.detach() for tensor in image_and_boxes(dtype))
    image, other = image[:batch], torch.randn(batch, 12, 5, 7, dtype=dtype)
    with ops.use(implementation):
        output, grads = box_conv2d(image, boxes), BACKWARD(other, image, boxes)
        for name, moved in formats(image).items():
            assert torch.equal(box_conv2d(moved, boxes), output), name
            assert all(map(torch.equal, BACKWARD(other, moved, boxes), grads)), name
            # As a convolution does it: channels_last in, channels_last out; other formats give contiguous results.
            memory_format = torch.channels_last if name == "channels last" else torch.contiguous_format
            assert box_conv2d(moved, boxes).is_contiguous(memory_format=memory_format), name
            assert BACKWARD(other, moved, boxes)[0].is_contiguous(memory_format=memory_format), name
        for name, moved in formats(boxes[None]).items():
            assert torch.equal(box_conv2d(image, moved[0]), output), f"boxes {name}"
            assert all(map(torch.equal, BACKWARD(other, image, moved[0]), grads)), f"boxes {name}"
        for name, moved in formats(other).items():
            assert all(map(torch.equal, BACKWARD(moved, image, boxes), grads)), f"gradient {name}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_expanded_image_and_boxes(dtype: torch.dtype, implementation: str) -> None:
    """Expanded tensors have strides of zero: their memory is much smaller than their shape."""
    number, plane = torch.randn(1, 1, 1, 1, dtype=dtype), torch.randn(1, 1, 5, 7, dtype=dtype)
    box = torch.tensor([-1.2, 2.1, -3.3, 0.4], dtype=dtype)
    for small in (number, plane):
        image, boxes = small.expand(2, 3, 5, 7), box.expand(3, 4, 4)
        grad = torch.ones(1, 1, 1, 1, dtype=dtype).expand(2, 12, 5, 7)
        dense = [tensor.contiguous() for tensor in (grad, image, boxes)]
        with ops.use(implementation):
            assert torch.equal(box_conv2d(image, boxes), box_conv2d(*dense[1:]))
            assert all(map(torch.equal, BACKWARD(grad, image, boxes), BACKWARD(*dense)))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5, 7), (2, 0, 4, 5, 7), (2, 3, 0, 5, 7), (0, 0, 0, 1, 1)])
def test_empty_inputs_give_empty_outputs(shape: tuple[int, ...], implementation: str) -> None:
    batch, channels, per_channel, height, width = shape
    image = torch.randn(batch, channels, height, width, requires_grad=True)
    boxes = torch.randn(channels, per_channel, 4, requires_grad=True)
    with ops.use(implementation):
        output = box_conv2d(image, boxes, stride=2)
        output.sum().backward()
    assert output.shape == (batch, channels * per_channel, -(-height // 2), -(-width // 2))
    for tensor in (image, boxes):
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


def test_strides_beyond_the_image_look_at_the_first_pixel(implementation: str) -> None:
    image, boxes = image_and_boxes()
    with ops.use(implementation):
        first = box_conv2d(image, boxes)[..., :1, :1]
        for stride in (7, 2**31, 2**62):
            assert_values(box_conv2d(image, boxes, stride=stride), first.detach(), image.abs().max().item())


def test_runs_repeat_to_the_bit(implementation: str) -> None:
    image, boxes = torch.randn(2, 4, 40, 50, requires_grad=True), torch.randn(4, 3, 4, requires_grad=True)
    grad = torch.randn(2, 12, 40, 50)

    def run() -> list[Tensor]:
        output = box_conv2d(image, boxes)
        return [output, *torch.autograd.grad(output, (image, boxes), grad)]

    with ops.use(implementation):
        first = run()
        assert all(all(map(torch.equal, run(), first)) for _ in range(3))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(run) for _ in range(6)]:
                assert all(map(torch.equal, future.result(timeout=60), first))


def test_backend_and_use() -> None:
    image = torch.zeros(1, 1, 1, 1)
    default = ops.backend(image)
    with ops.use("reference"):
        assert ops.backend(image) == "reference"
        with pytest.raises(ZeroDivisionError), ops.use("reference"):
            raise ZeroDivisionError
        assert ops.backend(image) == "reference"
    assert ops.backend(image) == default
    with pytest.raises(ValueError, match=r"name must be one of .*reference.*, got 'fastest'"), ops.use("fastest"):
        pass
    assert ops.backend(image) == default


def test_flop_counter() -> None:
    """2 operations per input pixel for the integral image and 4 per output; backward, 10 more per output."""
    image, boxes = image_and_boxes()
    with FlopCounterMode(display=False) as counter:
        output = box_conv2d(image, boxes)
    assert counter.get_total_flops() == 2 * image.numel() + 4 * output.numel()
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    assert counter.get_total_flops() == 2 * image.numel() + 14 * output.numel()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_the_image_and_never_the_boxes(dtype: torch.dtype) -> None:
    image, boxes = image_and_boxes()
    wide = torch.randn(1, 3, 5, 300)
    # Half precision would move these edges by a fifth of a pixel.
    boxes = (boxes.detach() + torch.tensor([0, 0, 100.013, 100.013])).requires_grad_()
    expected = box_conv2d(wide.to(dtype), boxes)
    assert not torch.equal(box_conv2d(wide.to(dtype), boxes.to(dtype)), expected)
    with torch.autocast("cpu", dtype):
        assert torch.equal(box_conv2d(wide, boxes), expected)
        assert_values(torch.func.vjp(box_conv2d, wide, boxes)[0], expected.detach(), wide.abs().max().item())
        assert box_conv2d(image.detach().double(), boxes).dtype == torch.float64, "autocast leaves float64 alone"
        with torch.autocast("cpu", enabled=False):
            assert box_conv2d(wide, boxes).dtype == torch.float32
        output = box_conv2d(image, boxes)
    output.float().sum().backward()
    assert image.grad.dtype == boxes.grad.dtype == torch.float32


class Plain(Tensor):
    pass


def called(arguments: tuple[object, ...]) -> str:
    def kernel(*_: object) -> str:
        return "kernel"

    def operator(*_: object) -> str:
        return "operator"

    choice: str = eager(operator, kernel)(*arguments)
    return choice


def test_the_dispatcher_is_passed_by_only_where_nothing_intervenes(monkeypatch: pytest.MonkeyPatch) -> None:
    image, learned = torch.ones(1, 1, 2, 2), torch.ones(1, requires_grad=True)
    for plain in ((image, None, 1), (image, learned.detach()), (image.mT, torch.nn.Parameter(image, False))):
        assert called(plain) == "kernel"
    with torch.no_grad():
        assert called((image, learned)) == "kernel"
    with torch.inference_mode():
        assert called((image + 1, learned)) == "kernel"

    assert called((image, learned)) == "operator"
    others = [image.to("meta"), torch.zeros(2, dtype=torch.complex64).conj().imag, image.as_subclass(Plain)]
    for other in [*others, image.to_sparse(), torch._efficientzerotensor(1)]:
        assert called((image, other)) == "operator"
    fake = torch._subclasses.FakeTensorMode()
    for watcher in (FlopCounterMode(display=False), fake, torch.autocast("cpu"), torch.profiler.profile()):
        with watcher:
            assert called((image,)) == "operator"
    assert called((fake.from_tensor(image),)) == "operator"
    seen = []
    torch.vmap(lambda x: seen.append(called((x,))) or x)(image)
    torch.func.grad(lambda x: seen.append(called((x,))) or x.sum())(image)
    torch.jit.trace(lambda x: seen.append(called((x,))) or x + 1, image, check_trace=False)
    assert seen == ["operator"] * 3

    monkeypatch.setattr(torch_internals, "_PLAIN", None)
    assert called((image,)) == "operator"


def test_values_of_a_negative_view(implementation: str) -> None:
    """Its memory has the other sign; the dispatcher makes it plain."""
    numbers = torch.randn(1, 2, 5, 7, dtype=torch.complex64)
    image, boxes = numbers.conj().imag, image_and_boxes()[1].detach()[:2]
    with ops.use(implementation):
        assert torch.equal(box_conv2d(image, boxes), box_conv2d(-numbers.imag, boxes))
