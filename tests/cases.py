"""Random and difficult cases of the operator, and their check against the oracle: values and all gradients."""

import os
from collections.abc import Callable
from typing import NamedTuple

import hypothesis.strategies as st
import oracle
import torch
from tolerances import assert_gradient, assert_values
from torch import Tensor, nn

from box_convolution import box_conv2d, ops

INF = float("inf")
# Multiplies the usual number of random cases: `make test-long`.
TIMES = float(os.environ.get("BOX_CONVOLUTION_TIMES_THE_CASES", "1"))


class Case(NamedTuple):
    """A case of the operator. Pixels are drawn from ``seed``, because not they but boxes are difficult."""

    batch: int
    channels: int
    per_channel: int
    height: int
    width: int
    stride: int
    normalize: bool
    boxes: list[tuple[float, float, float, float]]
    seed: int


def intervals(size: int) -> st.SearchStrategy[tuple[float, float]]:
    """Two edges on an axis of ``size`` pixels, in any order.

    Reals are multiples of 1/1000: most are not exact in binary, and an edge is either exactly on a pixel border or
    clearly off it.
    """
    reals = st.integers(-3000 * size, 3000 * size).map(lambda n: n / 1000)
    halves = st.integers(-3 * size, 3 * size).map(lambda n: n - 0.5)
    integers = st.integers(-3 * size, 3 * size).map(float)
    huge = st.sampled_from([-INF, -1e30, -1e6, 1e6, 1e30, INF])
    edge = reals | halves | integers | huge
    thin = st.tuples(reals | halves, st.integers(1, 999)).map(lambda e: (e[0], e[0] + e[1] / 1000))
    near = st.integers(-1000 * size, 1000 * size).map(lambda n: n / 1000)
    return st.one_of(
        st.tuples(edge, edge),
        st.tuples(near, near),
        thin,
        edge.map(lambda e: (e, e)),
        st.tuples(st.integers(-9, 9), st.integers(1, 9)).map(lambda e: (e[0] - 0.5, e[0] + e[1] - 0.5)),
        st.tuples(reals, reals).map(lambda e: (abs(e[0]) + 2 * size, abs(e[0]) + abs(e[1]) + 2 * size)),
        st.tuples(reals, reals).map(lambda e: (-abs(e[0]) - size, abs(e[1]) + size)),
    )


@st.composite
def cases(draw: st.DrawFn, *, most: int = 3, size: tuple[int, int] | None = None) -> Case:
    """Cases with at most ``most`` channels, and boxes per channel.

    ``size`` (h, w) limits the number of shapes, for implementations that compile a kernel for each.
    """
    batch, channels, per_channel = draw(st.integers(0, 2)), draw(st.integers(1, most)), draw(st.integers(1, most))
    height, width = size or (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    stride = draw(st.integers(1, 2 if size else 4))
    vertical, horizontal = intervals(height), intervals(width)
    boxes = [(*draw(vertical), *draw(horizontal)) for _ in range(channels * per_channel)]
    normalize, seed = draw(st.booleans()), draw(st.integers(0, 2**16))
    return Case(batch, channels, per_channel, height, width, stride, normalize, boxes, seed)


def in_poison(tensor: Tensor, device: str | None = None) -> Tensor:
    """The same numbers surrounded by NaN: three elements on each side of every dimension."""
    padded = tensor.new_full([size + 6 for size in tensor.shape], float("nan"), device=device)
    return padded[tuple(slice(3, -3) for _ in tensor.shape)].copy_(tensor)


def formats(tensor: Tensor) -> dict[str, Tensor]:
    """The same numbers (B, C, H, W) in other memory layouts."""
    return {
        "channels last": tensor.contiguous(memory_format=torch.channels_last),
        "transposed": tensor.mT.contiguous().mT,
        "batch inside": tensor.transpose(0, 1).contiguous().transpose(0, 1),
        "slice with an offset": in_poison(tensor),
        "every second number": tensor.repeat_interleave(2, -1)[..., ::2],
        "not a view of its base": tensor.flip(3).flip(3),
    }


Place = Callable[[Tensor], Tensor]


def tensors(case: Case, dtype: torch.dtype, boxes_dtype: torch.dtype, place: Place) -> tuple[Tensor, Tensor, Tensor]:
    """Image, boxes and the incoming gradient; ``place`` decides on their layout in memory."""
    generator = torch.Generator().manual_seed(case.seed)
    image = torch.randn(case.batch, case.channels, case.height, case.width, generator=generator, dtype=torch.float64)
    boxes = torch.tensor(case.boxes, dtype=torch.float64).view(case.channels, case.per_channel, 4)
    h, w = -(-case.height // case.stride), -(-case.width // case.stride)
    grad = torch.randn(case.batch, boxes.shape[0] * boxes.shape[1], h, w, generator=generator, dtype=torch.float64)
    image, boxes, grad = place(image.to(dtype)), place(boxes.to(boxes_dtype)), place(grad.to(dtype))
    return image.requires_grad_(), boxes.requires_grad_(), grad


def check(
    case: Case, implementation: str, dtype: torch.dtype, boxes_dtype: torch.dtype, place: Place = Tensor.clone
) -> None:
    image, boxes, grad = tensors(case, dtype, boxes_dtype, place)
    with ops.use(implementation):
        output = box_conv2d(image, boxes, normalize=case.normalize, stride=case.stride)
        output.backward(grad)
    assert output.dtype == dtype
    assert output.is_contiguous()
    arrays = [tensor.detach().double().cpu().numpy() for tensor in (grad, image, boxes)]
    largest = image.abs().max().item() if image.numel() else 0.0
    pixels = 1 if case.normalize else case.height * case.width
    truth = oracle.box_conv2d(*arrays[1:], normalize=case.normalize, stride=case.stride)
    grad_image, grad_boxes = oracle.gradients(*arrays, normalize=case.normalize, stride=case.stride)
    assert_values(output, truth, largest * pixels)
    assert_gradient(image.grad, grad_image)
    assert_gradient(boxes.grad, grad_boxes)


EXTENTS = [(5, 40), (257, 1), (1, 3000)]
"""Limits of boxes, in pixels."""


def boxes_beyond(extent: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Boxes (40, 3, 4): some within the limits ``extent``, others beyond, narrow, inverted, infinite or NaN."""
    h, w = extent
    largest = torch.tensor([h, h, w, w], dtype=torch.float64)
    boxes = torch.randn(40, 3, 4, dtype=torch.float64) * largest
    boxes[10:] = boxes[10:, :, [0, 0, 2, 2]] + torch.randn(30, 3, 4) / 3
    boxes[20:] = boxes[20:, :, [1, 0, 3, 2]]
    boxes[30] = torch.stack([-largest, largest, largest.flip(0)])
    boxes[31] = torch.tensor([[float("nan"), 1, -1, 1], [-INF, INF, 0, 0], [-1, 1, -INF, -INF]])
    return boxes.to(dtype)


class CallsOperator(nn.Module):
    """A network that calls `box_conv2d` directly, for sums over its own boxes in images of three channels."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.edges = nn.Parameter(torch.tensor([-2.5, 1.25, -3.0, 0.5]).repeat(3, 2, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return box_conv2d(image, self.edges, normalize=False, stride=self.stride)
