"""box_conv2d_fused compared with the operations that it replaces, one after the other."""

import itertools

import pytest
import torch
from tolerances import assert_values
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from box_convolution import box_conv2d, ops
from box_convolution.ops import reference

FUSED = torch.ops.box_convolution.box_conv2d_fused
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
PARTS = list(itertools.product([True, False], repeat=4))  # scale, shift, residual, relu


def arguments(
    dtype: torch.dtype = torch.float32, scale: bool = True, shift: bool = True, residual: bool = True, stride: int = 1
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    image = torch.randn(2, 3, 5, 7).to(dtype)
    centre, half = torch.randn(3, 4, 2), 3 * torch.rand(3, 4, 2) + 0.5
    boxes = torch.stack((centre - half, centre + half), -1).flatten(-2)
    other = torch.randn(2, 12, -(-5 // stride), -(-7 // stride)).to(dtype)
    parts = (torch.randn(12), scale), (torch.randn(12), shift), (other, residual)
    return image, boxes, *(part if wanted else None for part, wanted in parts)


def composed(
    image: Tensor,
    boxes: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    relu: bool = False,
    normalize: bool = True,
    stride: int = 1,
) -> Tensor:
    """The result in float64, from the plain operator of the reference and separate operations."""
    output = reference.box_conv2d(image.double(), boxes.double(), normalize, stride)
    output = output * (1 if scale is None else scale.double()[:, None, None])
    output = output + (0 if shift is None else shift.double()[:, None, None])
    output = output + (0 if residual is None else residual.double())
    return output.relu() if relu else output


def size_of(image: Tensor, normalize: bool, *parts: Tensor | None) -> float:
    """Largest possible intermediate result, which tolerances are relative to."""
    scale, shift, residual = (0.0 if part is None else part.abs().max().item() for part in parts)
    pixels = 1 if normalize else image.shape[2] * image.shape[3]
    return float(image.abs().max()) * pixels * (scale if parts[0] is not None else 1) + shift + residual


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scale", "shift", "residual", "relu"), PARTS)
def test_equals_the_operations_one_by_one(
    dtype: torch.dtype, scale: bool, shift: bool, residual: bool, relu: bool, implementation: str
) -> None:
    for normalize, stride in ((True, 1), (False, 1), (True, 2)):
        image, boxes, *parts = arguments(dtype, scale, shift, residual, stride)
        with ops.use(implementation):
            output = FUSED(image, boxes, *parts, relu, normalize, stride)
        assert output.dtype == dtype
        truth = composed(image, boxes, *parts, relu, normalize, stride)
        assert_values(output, truth, size_of(image, normalize, *parts))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [3, 9])  # few planes are shared out by rows, many are not
@pytest.mark.parametrize("stride", [1, 2])
def test_boxes_with_a_scale_of_zero(dtype: torch.dtype, channels: int, stride: int, implementation: str) -> None:
    """Single boxes, and all boxes of a channel."""
    image = torch.randn(1, channels, 40, 9).to(dtype)
    boxes = torch.tensor([-3.2, 4.1, -2.0, 5.5]).expand(channels, 2, 4)
    scale, shift = torch.rand(2 * channels) + 0.1, torch.randn(2 * channels)
    scale[[0, 2, 3]] = 0.0
    for other in (None, torch.randn(1, 2 * channels, -(-40 // stride), -(-9 // stride)).to(dtype)):
        for relu in (False, True):
            with ops.use(implementation):
                output = FUSED(image, boxes, scale, shift, other, relu, True, stride)
            truth = composed(image, boxes, scale, shift, other, relu, True, stride)
            assert_values(output, truth, size_of(image, True, scale, shift, other))


def test_without_parts_it_is_the_plain_operator(implementation: str) -> None:
    image, boxes, *_ = arguments()
    with ops.use(implementation):
        assert torch.equal(FUSED(image, boxes), box_conv2d(image, boxes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_memory_format(dtype: torch.dtype, implementation: str) -> None:
    """The output is channels_last if the image or the residual is. At most the last two roundings depend on it."""
    image, boxes, scale, shift, residual = arguments(dtype)
    wide = torch.randn(24)
    wide[::2], spaced = scale, torch.randn(2, 12, 5, 14).to(dtype)
    spaced[..., ::2] = residual
    with ops.use(implementation):
        expected = FUSED(image, boxes, scale, shift, residual, True)
        last, other_last = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (image, residual))
        for i, r in itertools.product(
            (image, last), (residual, other_last, spaced[..., ::2], residual.flip(0).flip(0))
        ):
            output = FUSED(i, boxes, wide[::2], shift, r, True)
            assert_values(output, expected, size_of(image, True, scale, shift, residual))
            expects_last = i is last or r is other_last
            assert output.is_contiguous(memory_format=torch.channels_last if expects_last else torch.contiguous_format)
        constant = torch.full((1, 1, 1, 1), 0.5, dtype=dtype).expand(2, 12, 5, 7)
        assert torch.equal(FUSED(image, boxes, residual=constant), FUSED(image, boxes, residual=constant.contiguous()))


def test_arguments_are_only_read(implementation: str) -> None:
    """Also if one tensor is both input and residual, with one box per channel."""
    image = torch.randn(2, 3, 5, 7)
    boxes = torch.tensor([-1.5, 1.5, -2.0, 0.3]).expand(3, 1, 4)
    before = image.clone()
    with ops.use(implementation):
        output = FUSED(image, boxes, residual=image, relu=True)
    assert torch.equal(image, before)
    assert_values(output, composed(image, boxes, None, None, image, True), 2 * image.abs().max().item())


def test_not_a_number_is_not_hidden(implementation: str) -> None:
    image, boxes, scale, shift, residual = arguments()
    boxes[0, 0, 0], shift[5], residual[1, 7, 2, 3] = float("nan"), float("nan"), float("nan")
    with ops.use(implementation):
        broken = FUSED(image, boxes, scale, shift, residual, True).isnan()
    assert broken[:, [0, 5]].all()
    assert broken[1, 7, 2, 3]
    assert broken.sum() == 2 * 2 * 35 + 1


@pytest.mark.parametrize("shape", [(0, 3, 4, 5, 7), (2, 0, 4, 5, 7), (2, 3, 0, 5, 7)])
def test_empty_inputs_give_empty_outputs(shape: tuple[int, ...], implementation: str) -> None:
    batch, channels, per_channel, h, w = shape
    image, out = torch.randn(batch, channels, h, w), channels * per_channel
    with ops.use(implementation):
        output = FUSED(
            image, torch.randn(channels, per_channel, 4), torch.ones(out), None, torch.ones(batch, out, h, w), True
        )
    assert output.shape == (batch, out, h, w)


@pytest.mark.parametrize(("scale", "shift", "residual", "relu"), PARTS)
def test_opcheck(scale: bool, shift: bool, residual: bool, relu: bool) -> None:
    opcheck(FUSED, (*arguments(torch.float32, scale, shift, residual), relu))


def test_opcheck_of_strides_dtypes_and_formats() -> None:
    opcheck(FUSED, (*arguments(torch.bfloat16, stride=3), True, False, 3))
    image, *others = arguments()
    opcheck(FUSED, (image.contiguous(memory_format=torch.channels_last), *others))
    opcheck(FUSED, (image[:0], *others[:3]))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        _, boxes, scale, shift, _ = arguments()
        for name, tensor in (("boxes", boxes), ("scale", scale), ("shift", shift)):
            self.register_buffer(name, tensor)

    def forward(self, image: Tensor) -> Tensor:
        return FUSED(image[:, :3].sin(), self.boxes, self.scale, self.shift, image, True) + 1


def test_compiled_and_exported_for_any_size() -> None:
    block = Block()
    torch._dynamo.reset()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True, dynamic=True)
    dim = torch.export.Dim
    sizes = {0: dim("batch", max=1024), 2: dim("height", max=4096), 3: dim("width", max=4096)}
    program = torch.export.export(block, (torch.randn(2, 12, 5, 7),), dynamic_shapes=(sizes,))
    names = [str(node.target) for node in program.graph.nodes]
    assert names.count("box_convolution.box_conv2d_fused.default") == 1
    for size in ((2, 12, 5, 7), (3, 12, 9, 4)):
        image = torch.randn(size)
        for served in (compiled, program.module()):
            assert torch.equal(served(image), block(image))


def test_flop_counter_agrees_with_the_plain_operator() -> None:
    image, boxes, *parts = arguments()
    counts = []
    for function in (lambda: box_conv2d(image, boxes), lambda: FUSED(image, boxes, *parts, True)):
        with FlopCounterMode(display=False) as counter:
            function()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_autocast_casts_images_and_nothing_else() -> None:
    image, boxes, *parts = arguments()
    boxes = boxes + 100.013  # half precision would move these edges
    low = [image.bfloat16(), boxes, *parts[:2], parts[2].bfloat16()]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(FUSED(image, boxes, *parts), FUSED(*low))
        assert FUSED(image, boxes).dtype == torch.bfloat16
    assert torch.equal(FUSED(image, boxes, *parts, True), torch.relu(FUSED(image, boxes, *parts)))


@pytest.mark.parametrize("index", range(5))
def test_refuses_where_a_gradient_would_be_needed(index: int) -> None:
    plain = arguments()
    tensors = list(plain)
    tensors[index] = tensors[index].clone().requires_grad_()
    with pytest.raises(NotImplementedError, match="for inference and has no derivative"):
        FUSED(*tensors)
    with torch.no_grad():
        assert torch.equal(FUSED(*tensors), FUSED(*plain))
    with torch.inference_mode():
        assert torch.equal(FUSED(*tensors), FUSED(*plain))
    torch._dynamo.reset()
    with pytest.raises(Exception, match="for inference and has no derivative"):
        torch.compile(FUSED, backend="aot_eager", fullgraph=True)(*tensors)

    def of_one(tensor: Tensor) -> Tensor:
        return FUSED(*plain[:index], tensor, *plain[index + 1 :]).sum()

    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="for inference and has no derivative"):
        of_one(forward_ad.make_dual(plain[index], torch.ones_like(plain[index])))
    with pytest.raises(NotImplementedError, match="for inference and has no derivative"):
        torch.func.jvp(of_one, (plain[index],), (torch.ones_like(plain[index]),))
    with pytest.raises(RuntimeError, match="setup_context"):  # PyTorch's own words
        torch.func.grad(of_one)(plain[index])


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"scale": torch.ones(3)}, ValueError, r"scale must have shape \(12,\), a number for each .*, got .*\(3,\)"),
        ({"shift": torch.ones(12, 1, 1)}, ValueError, r"shift must have shape \(12,\), a number for each output chan"),
        ({"scale": torch.ones(12).double()}, TypeError, "scale must be float32, got .*float64"),
        ({"shift": torch.ones(12, device="meta")}, ValueError, "shift must be on the input's device cpu, got meta"),
        ({"residual": torch.ones(2, 12, 5, 6)}, ValueError, r"residual must have the output's shape \(2, 12, 5, 7\)"),
        ({"residual": torch.ones(12, 1, 1)}, ValueError, "residual must have the output's shape"),
        ({"residual": torch.ones(2, 12, 5, 7).half()}, TypeError, "residual must have the input's dtype torch.float32"),
        ({"residual": torch.ones(2, 12, 5, 7, device="meta")}, ValueError, "residual must be on the input's device"),
        ({"residual": torch.ones(2, 12, 5, 7).to_sparse()}, TypeError, "residual must be a dense tensor"),
        ({"boxes": torch.ones(2, 4, 4)}, ValueError, "input has 3 channels and boxes are for 2"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
    ],
)
def test_errors_name_the_argument(changes: dict, error: type, message: str) -> None:
    image, boxes, scale, shift, residual = arguments()
    given = {"input": image, "boxes": boxes, "scale": scale, "shift": shift, "residual": residual} | changes
    with pytest.raises(error, match=message):
        FUSED(**given)
